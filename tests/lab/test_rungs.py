"""The rungs together: sizes, one interface, and the short way to an exact match."""

import pytest
import torch

from lab import made
from lab.rungs import RUNGS, Transformer, config_of, exact, fitted, greedy, loss_of, weights_of
from lab.tasks import padded
from lab.training import count, train


@pytest.mark.parametrize("vocabulary", [24, 300])
def test_rungs_have_equal_numbers_of_weights(vocabulary):
    weights = weights_of(vocabulary, 64)
    for build in RUNGS.values():
        assert count(fitted(build, vocabulary, 64, 32, weights)) == pytest.approx(weights, rel=0.03)


def test_the_same_seed_builds_the_same_rung():
    def make():
        torch.manual_seed(3)
        return fitted(RUNGS["additive"], 24, 16, 32, weights_of(24, 16))

    assert all(torch.equal(a, b) for a, b in zip(make().parameters(), make().parameters()))


def test_transformer_is_the_packages_own():
    torch.manual_seed(0)
    model = Transformer(config_of(11, 8)).eval()
    source, target = torch.randint(4, 11, (2, 5)), torch.randint(4, 11, (2, 4))
    source[1, 3:] = made.PAD
    out = model.translator(source, source.ne(made.PAD), decoder_input_ids=target[:, :-1], labels=target[:, 1:])
    assert torch.equal(model(source, target[:, :-1]), out.logits)
    assert loss_of(model, (source, target)).item() == pytest.approx(out.loss.item(), rel=1e-5)


def test_without_positions_the_order_of_the_source_changes_nothing():
    torch.manual_seed(0)
    source, written = torch.randint(4, 11, (2, 5)), torch.randint(4, 11, (2, 3))
    for positions, same in ((False, True), (True, False)):
        model = Transformer(config_of(11, 8), positions).double().eval()
        assert torch.allclose(model(source, written), model(source.flip(1), written), atol=1e-9) == same


@pytest.mark.parametrize("name", ["fixed context", "additive", "convolution", "four heads"])
def test_exact_match_in_one_pass_is_that_of_writing(name):
    """What a model writes is an exact match, and no longer one when any token of it is another."""
    torch.manual_seed(0)
    model = fitted(RUNGS[name], 8, 16, 32, weights_of(8, 16))
    train(model, made.pairs("copy", 0, 32, 1, 3, symbols=4), loss_of, 30, lr=5e-3, warmup=5)
    source, _ = next(made.pairs("copy", 99, 20, 3, 3, symbols=4))
    rows = [([], row + [made.END] * (len(row) < 6)) for row in greedy(model, source, 6)]
    assert len({tuple(row) for _, row in rows}) > 1
    _, target = padded([(ids, [made.START, *row]) for ids, row in rows])
    assert exact(model, source, target).all()
    for place in range(1, target.shape[1]):
        other = target.clone()
        changed = (made.FIRST + target[:, place].eq(made.FIRST)).where(target[:, place].ne(made.PAD), made.PAD)
        other[:, place] = changed
        assert torch.equal(exact(model, source, other), target[:, place].eq(made.PAD))
