# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Lightning trains a model as a plain loop of torch does, to the last weight."""

import copy

import pytest
import torch
from torch.utils.data import DataLoader

lightning = pytest.importorskip("lightning")

LEARNING_RATE = 0.01
STEPS = 3


class Module(lightning.LightningModule):
    """A model that computes its own loss."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.losses = []

    def training_step(self, batch, _):
        loss = self.model(**batch).loss
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)


@pytest.fixture
def trainer(tmp_path):
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        accelerator="cpu", devices=1, max_steps=STEPS, logger=False, default_root_dir=tmp_path, **quiet
    )


@pytest.fixture
def rows_of(tokens):
    """Return a function that makes the rows of a variant's data set, the first token of each row without a loss."""

    def make(variant: str, rows: int, length: int) -> list[dict[str, torch.Tensor]]:
        ids, labels = tokens(rows, length), tokens(rows, length, seed=1)
        labels = ids.clone() if variant == "decoder" else labels
        labels[:, 0] = -100
        mask = torch.ones_like(ids)
        mask[1, -2:] = 0
        return [dict(zip(("input_ids", "attention_mask", "labels"), row)) for row in zip(ids, mask, labels)]

    return make


def plain_loop(model, batches) -> list[float]:
    """Train without Lightning and return the losses."""
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE), []
    for batch in batches:
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("variant", ["encoder-decoder", "encoder", "decoder"])
def test_three_steps_are_those_of_a_plain_loop(build, rows_of, trainer, variant):
    model = build(variant, dropout=0.0).train()
    alone = copy.deepcopy(model)
    batches = DataLoader(rows_of(variant, rows=2 * STEPS, length=5), batch_size=2)
    module = Module(model)
    trainer.fit(module, batches)
    assert module.losses == plain_loop(alone, batches)
    assert len(set(module.losses)) == STEPS
    for name, expected in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], expected), name


def test_what_comes_without_dropout_stays_so(build, rows_of, trainer):
    """`from_pretrained` gives a model in evaluation mode, which Lightning leaves as it is: `.train()` is up to the user."""
    model = build("decoder", dropout=0.5)
    assert not model.training
    trainer.fit(Module(model), DataLoader(rows_of("decoder", rows=2 * STEPS, length=5), batch_size=2))
    assert not model.training
