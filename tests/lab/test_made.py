"""Made data: ends, seeds, and ids that the package's config has."""

import pytest
import torch

from lab import made
from modeling_vanilla import VanillaConfig


def test_special_ids_are_the_configs():
    config = VanillaConfig()
    ids = (config.pad_token_id, config.decoder_start_token_id, config.eos_token_id)
    assert ids == (made.PAD, made.START, made.END)


@pytest.mark.parametrize("task", ["copy", "reverse"])
def test_pairs(task):
    rows, lengths = made.pairs(task, 5, 3, 2, 6, symbols=7), set()
    for _ in range(40):
        source, target = next(rows)
        tokens = source[:, :-1]
        lengths.add(tokens.shape[1])
        assert (
            source[:, -1].eq(made.END).all() and target[:, 0].eq(made.START).all() and target[:, -1].eq(made.END).all()
        )
        assert torch.equal(target[:, 1:-1], tokens.flip(1) if task == "reverse" else tokens)
        assert tokens.min() >= made.FIRST and tokens.max() < made.FIRST + 7
    assert lengths == {2, 3, 4, 5, 6}
    first, again, other = (next(made.pairs(task, seed, 3, 6, 6))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_unknown_task():
    with pytest.raises(ValueError, match="'sort'; one of copy, reverse"):
        next(made.pairs("sort", 0, 1, 1, 2))
