"""Rows to tensors: padding, labels, and the corruption of masked language modelling."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from modeling_vanilla.losses import IGNORE
from train.settings.recipe import Recipe
from train.tasks import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


LEARNED = ("labels", "start_positions", "end_positions")
"""Arguments of a model's forward that hold what is learned."""


@dataclass
class Batch:
    """A batch, ready for the model.

    Attributes:
        inputs: arguments of the model's forward.
        targets: labels that enter the loss.
        real_tokens: tokens of the rows, on all sides.
        padded_tokens: tokens with the padding, so 1 - real_tokens / padded_tokens is the padding share.
    """

    inputs: dict[str, torch.Tensor]
    targets: int
    real_tokens: int
    padded_tokens: int


class Collator:
    """Make a batch of rows of `examples.Examples`.

    Rows are padded on the right to the longest of the batch, labels with -100. Nothing depends on the other rows of the
    batch but the padding, so the figures are the same for any number of processes.

    Args:
        task: of the recipe.
        tokenizer: gives the special ids and the size of the vocabulary.
        recipe: its `batch.mask_probability` and `loop.seed` are read.
    """

    def __init__(self, task: str, tokenizer: "PreTrainedTokenizerBase", recipe: Recipe):
        self.task = task
        self.pad, self.mask, self.start = tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.bos_token_id
        self.seed, self.probability = recipe.loop.seed, recipe.batch.mask_probability
        special = np.asarray(sorted(tokenizer.all_special_ids))
        self.is_special = np.isin(np.arange(len(tokenizer)), special)
        self.ordinary = np.flatnonzero(~self.is_special)

    def __call__(self, rows: list[dict[str, Any]], epoch: int) -> Batch:
        """Collate rows.

        Raises:
            ValueError: there is no row.
        """
        if not rows:
            raise ValueError("rows: [] must hold at least one row; use filler(row) for a process without rows")
        if "parts" in rows[0]:
            return self._packed(rows, epoch)
        if TASKS[self.task].has_spans:
            return self._spans(rows)
        pairs = [self._pair(row, epoch) for row in rows]
        ids, labels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        inputs = {
            "input_ids": _padded(ids, self.pad),
            "attention_mask": _padded([np.ones_like(one) for one in ids], 0),
        }
        if TASKS[self.task].has_classes:
            inputs["labels"] = torch.tensor(np.asarray(labels, dtype=np.int64))
            targets = len(labels)
        else:
            inputs["labels"] = _padded(labels, IGNORE)
            # A causal model predicts the second token from the first: the first label has nothing to be predicted from.
            counted = inputs["labels"][:, 1:] if self.task == "causal" else inputs["labels"]
            targets = int((counted != IGNORE).sum())
        return Batch(inputs, targets, *self._size(ids, labels))

    def _spans(self, rows: list[dict[str, Any]]) -> Batch:
        """Collate questions with their contexts: a first and a last place for each row."""
        ids = [row["input_ids"] for row in rows]
        inputs = {
            "input_ids": _padded(ids, self.pad),
            "attention_mask": _padded([np.ones_like(one) for one in ids], 0),
            "token_type_ids": _padded([row["token_type_ids"] for row in rows], 0),
        }
        inputs |= {name: torch.tensor([int(row[name]) for row in rows]) for name in LEARNED if name in rows[0]}
        return Batch(inputs, 2 * len(rows), *self._size(ids, []))

    def _packed(self, rows: list[dict[str, Any]], epoch: int) -> Batch:
        """Collate rows of several sequences: positions restart with each, masks and labels keep them apart."""
        pairs = [[self._pair(part, epoch) for part in row["parts"]] for row in rows]
        ids, labels = ([[pair[side] for pair in row] for row in pairs] for side in (0, 1))
        owners, positions = _segments(ids)
        inputs = {"input_ids": _padded([np.concatenate(row) for row in ids], self.pad), "position_ids": positions}
        widths = [inputs["input_ids"].shape]
        if self.task == "causal":
            # No sequence predicts the first token of the next. Its mask the model makes from the positions.
            labels = [[np.concatenate([[IGNORE], one[1:]]) for one in row] for row in labels]
        else:
            inputs["attention_mask"] = (owners[:, :, None] == owners[:, None, :])[:, None]
        if self.task == "translation":
            targets, inputs["decoder_position_ids"] = _segments(labels)
            inputs["cross_attention_mask"] = (targets[:, :, None] == owners[:, None, :])[:, None]
            shifted = [np.concatenate([np.append(self.start, one[:-1]) for one in row]) for row in labels]
            inputs["decoder_input_ids"] = _padded(shifted, self.pad)
            widths.append(inputs["decoder_input_ids"].shape)
        inputs["labels"] = _padded([np.concatenate(row) for row in labels], IGNORE)
        real = sum(len(one) for side in (ids, labels)[: len(widths)] for row in side for one in row)
        counted = int((inputs["labels"] != IGNORE).sum())
        return Batch(inputs, counted, real, sum(math.prod(shape) for shape in widths))

    def filler(self, row: dict[str, Any]) -> Batch:
        """Make a batch that has the shapes of one row but counts for nothing, for a process that has no rows left."""
        batch = self([row], epoch=0)
        for name in LEARNED:
            if name in batch.inputs:  # a place behind the end of a row is ignored, as the label -100 is
                batch.inputs[name].fill_(IGNORE if name == "labels" else batch.inputs["input_ids"].shape[1])
        return Batch(batch.inputs, targets=0, real_tokens=0, padded_tokens=batch.padded_tokens)

    def _pair(self, row: dict[str, Any], epoch: int) -> tuple[np.ndarray, Any]:
        """Return the input ids and the labels of a row."""
        if self.task == "masked":
            return self._corrupt(row["input_ids"], row["row"], epoch)
        return row["input_ids"], row["input_ids"] if self.task == "causal" else row["labels"]

    def _corrupt(self, ids: np.ndarray, row: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Hide tokens (Devlin et al. 2019, sec. 3.1), anew in every epoch (Liu et al. 2019, sec. 4.1).

        Of the tokens to predict 80 % become <mask>, 10 % a random ordinary token, 10 % stay. A pure function of seed, epoch
        and row number. Special tokens are neither hidden nor drawn.

        Deviates: each token is chosen on its own with the given probability, so a row may have a few more or fewer.
        """
        random = np.random.default_rng([self.seed, epoch, row])
        chosen = (random.random(len(ids)) < self.probability) & ~self.is_special[ids]
        fate = random.random(len(ids))
        drawn = random.choice(self.ordinary, len(ids))
        corrupt = np.where(chosen & (fate < 0.8), self.mask, np.where(chosen & (fate < 0.9), drawn, ids))
        return corrupt, np.where(chosen, ids, IGNORE)

    def _size(self, ids: list[np.ndarray], labels: list[Any]) -> tuple[int, int]:
        """Count tokens without and with padding; a causal row counts its predictions, as the token budget does."""
        sides = [[len(one) - (self.task == "causal") for one in ids]]
        if self.task == "translation":
            sides.append([len(one) for one in labels])
        return sum(map(sum, sides)), sum(len(side) * max(side) for side in sides)


def _segments(rows: list[list[np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which sequence of its row each place belongs to, padding to none (-1), and its place in the sequence.

    Padding has place 0, which any position table holds. It sees padding only and is seen by nothing else, so that no
    place sees nothing.
    """
    owners = [np.repeat(np.arange(len(row)), [len(one) for one in row]) for row in rows]
    positions = [np.concatenate([np.arange(len(one)) for one in row]) for row in rows]
    return _padded(owners, -1), _padded(positions, 0)


def _padded(rows: list[np.ndarray], value: int) -> torch.Tensor:
    """Pad on the right to the longest row."""
    result = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for line, row in zip(result, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(result)
