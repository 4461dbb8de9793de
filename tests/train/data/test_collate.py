"""The collator: padding, labels, and the corruption of masked language modelling."""

import numpy as np
import pytest
import torch

import tokenizer as tokenizers
from train.data.collate import IGNORE, Collator
from train.settings.recipe import Recipe
from train.settings.sections import BatchSection, LoopSection
from train.tasks import TASKS

TEXTS = [chr(97 + i) for i in range(26)]


def collator(task: str, probability=0.15, seed=0, **keywords) -> Collator:
    """Return a collator with a character tokenizer of 7 special and 26 ordinary tokens."""
    made = tokenizers.build("char", TEXTS, 99, TASKS[task].template, show_progress=False)
    recipe = Recipe(name="c", task=task, batch=BatchSection(mask_probability=probability), loop=LoopSection(seed=seed))
    return Collator(task, made, recipe, **keywords)


def ids(*values: int) -> np.ndarray:
    """Return ids as the examples hold them."""
    return np.array(values, dtype=np.int32)


def test_translation_pads_each_side_on_its_own():
    rows = [
        {"row": 0, "input_ids": ids(8, 9, 3), "labels": ids(10, 3)},
        {"row": 1, "input_ids": ids(3), "labels": ids(11, 12, 13, 3)},
    ]
    batch = collator("translation")(rows, 0)
    assert batch.inputs["input_ids"].tolist() == [[8, 9, 3], [3, 0, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.inputs["labels"].tolist() == [[10, 3, -100, -100], [11, 12, 13, 3]]
    assert (batch.targets, batch.real_tokens, batch.padded_tokens) == (6, 4 + 6, 2 * 3 + 2 * 4)
    assert {tensor.dtype for tensor in batch.inputs.values()} == {torch.int64}


def test_causal_labels_are_the_inputs_and_targets_leave_out_the_first():
    rows = [{"row": 0, "input_ids": ids(8, 9, 10, 11)}, {"row": 1, "input_ids": ids(12, 0)}]
    batch = collator("causal")(rows, 0)
    assert batch.inputs["labels"].tolist() == [[8, 9, 10, 11], [12, 0, -100, -100]]  # a real 0 is no padding
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert (batch.targets, batch.real_tokens, batch.padded_tokens) == (4, 4, 6)


def test_classification_has_one_label_a_row_and_token_types_on_demand():
    rows = [{"row": 0, "input_ids": ids(4, 8, 5), "labels": 1}, {"row": 1, "input_ids": ids(4, 5), "labels": 0}]
    batch = collator("classification", token_types=True)(rows, 0)
    assert batch.inputs["labels"].tolist() == [1, 0]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert (batch.targets, batch.real_tokens, batch.padded_tokens) == (2, 5, 6)
    assert "token_type_ids" not in collator("classification")(rows, 0).inputs


@pytest.mark.parametrize("task", ["translation", "causal", "masked", "classification"])
def test_filler_has_the_shapes_of_its_row_and_counts_for_nothing(task):
    row = {"row": 7, "input_ids": ids(4, 8, 9, 5), "labels": 1 if task == "classification" else ids(8, 3)}
    make = collator(task, probability=1.0)
    real, filler = make([row], 0), make.filler(row)
    assert {k: v.shape for k, v in real.inputs.items()} == {k: v.shape for k, v in filler.inputs.items()}
    assert real.targets > 0
    assert (filler.targets, filler.real_tokens) == (0, 0)
    assert set(filler.inputs["labels"].flatten().tolist()) == {IGNORE}


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="filler"):
        collator("causal")([], 0)


def masked_rows(count: int, length: int):
    """Return rows of ordinary tokens between <cls> and <sep>."""
    generator = np.random.default_rng(9)
    return [{"row": i, "input_ids": ids(4, *generator.integers(7, 33, length), 5)} for i in range(count)]


def test_masking_shares_are_15_percent_of_which_80_10_10():
    rows = masked_rows(400, 250)
    batch = collator("masked")(rows, 2)
    original = torch.tensor(np.array([row["input_ids"] for row in rows]), dtype=torch.int64)
    inputs, labels = batch.inputs["input_ids"], batch.inputs["labels"]
    chosen = labels != IGNORE
    assert (labels[chosen] == original[chosen]).all()
    assert (inputs[~chosen] == original[~chosen]).all()
    count = int(chosen.sum())
    assert batch.targets == count
    n = 400 * 250
    assert count / n == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / n) ** 0.5)
    masked = inputs[chosen] == 6
    same = inputs[chosen] == original[chosen]
    # Of the 10 % random tokens, 1 in 26 is the token itself by chance.
    for share, expected in ((masked, 0.8), (same, 0.1 + 0.1 / 26), (~masked & ~same, 0.1 - 0.1 / 26)):
        assert float(share.float().mean()) == pytest.approx(
            expected, abs=4 * (expected * (1 - expected) / count) ** 0.5
        )
    drawn = inputs[chosen][~masked & ~same]
    assert set(drawn.tolist()) == set(range(7, 33))  # every ordinary token, no special one


def test_special_tokens_are_never_hidden():
    rows = [{"row": i, "input_ids": ids(4, 0, 1, 2, 3, 6, 5, 8)} for i in range(50)]
    batch = collator("masked", probability=1.0)(rows, 1)
    assert (batch.inputs["labels"][:, :7] == IGNORE).all()
    assert (batch.inputs["labels"][:, 7] == 8).all()
    assert (batch.inputs["input_ids"][:, :7] == torch.tensor([4, 0, 1, 2, 3, 6, 5])).all()
    assert batch.targets == 50


def test_masks_depend_on_seed_epoch_and_row_only():
    rows = masked_rows(6, 40)
    whole = collator("masked")(rows, 3).inputs
    parts = [collator("masked")(rows[i::2], 3).inputs for i in range(2)]  # as two processes would see them
    for name in ("input_ids", "labels"):
        assert all(torch.equal(part[name], whole[name][i::2]) for i, part in enumerate(parts))
    labels = whole["labels"]
    assert not torch.equal(labels, collator("masked")(rows, 4).inputs["labels"])
    assert not torch.equal(labels, collator("masked", seed=1)(rows, 3).inputs["labels"])
    twins = [{"row": i, "input_ids": rows[0]["input_ids"]} for i in range(2)]
    first, second = collator("masked")(twins, 3).inputs["labels"]
    assert not torch.equal(first, second)


def test_rows_are_left_as_they_were():
    rows = masked_rows(3, 20)
    before = [row["input_ids"].copy() for row in rows]
    collator("masked", probability=1.0)(rows, 0)
    assert all((row["input_ids"] == kept).all() for row, kept in zip(rows, before, strict=True))
