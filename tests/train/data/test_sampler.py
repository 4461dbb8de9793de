"""`TokenBatchSampler` in a DataLoader and in the Trainer: each row once, the budget kept, resumed where it stopped."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from modeling_vanilla import VanillaConfig, VanillaForMaskedLM
from train.data.batching import TokenBatchSampler

LENGTHS = np.random.default_rng(0).integers(3, 30, 203)


def test_each_epoch_holds_every_row_once_in_another_order_and_as_many_batches():
    sampler, seen = TokenBatchSampler(LENGTHS, 128, max_rows=9), []
    for epoch in range(4):
        assert sampler.epoch == epoch  # goes on by itself
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(itertools.chain(*batches)) == list(range(203))
        assert all(len(batch) * LENGTHS[batch].max() <= 128 and len(batch) <= 9 for batch in batches)
        seen.append(batches)
    assert seen[0] != seen[1]
    sampler.set_epoch(1)
    assert list(sampler) == seen[1]


@pytest.mark.parametrize("stopped", [0, 1, 10])
def test_a_state_brings_back_the_rest_of_the_epoch_and_the_next(stopped):
    def loader(sampler):
        return DataLoader(range(203), batch_sampler=sampler, collate_fn=list)

    whole = TokenBatchSampler(LENGTHS, 128, seed=4)
    whole.set_epoch(2)
    expected = [*loader(whole), *loader(whole)]
    first = TokenBatchSampler(LENGTHS, 128, seed=4)
    first.set_epoch(2)
    begun = list(itertools.islice(loader(first), stopped))
    state = json.loads(json.dumps(first.state_dict()))
    second = TokenBatchSampler(LENGTHS, 128, seed=4)
    second.load_state_dict(state)
    second.set_epoch(2)  # a loop that names the epoch it is in does not start it again
    assert [*begun, *loader(second), *loader(second)] == expected


@pytest.mark.parametrize("world", [2, 3])
def test_processes_take_different_batches_and_equally_many(world):
    ranks = [list(TokenBatchSampler(LENGTHS, 128, rank=rank, world=world)) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    rows = [row for batches in ranks for batch in batches for row in batch]
    assert len(rows) == len(set(rows))
    assert len(rows) > 203 - world * 43  # what is left out is less than a round of batches


class TokensTrainer(Trainer):
    """A Trainer whose training batches are those of a sampler; it notes which rows it was given."""

    def get_train_dataloader(self):
        sampler = TokenBatchSampler(LENGTHS, 256, seed=self.args.seed)
        return DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=self.data_collator)

    def training_step(self, model, inputs, *rest):
        self.seen.append(inputs.pop("rows").tolist())
        return super().training_step(model, inputs, *rest)


def collate(rows):
    """Pad; the row numbers come along."""
    ids = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {
        "input_ids": ids,
        "attention_mask": ids.ne(0).long(),
        "labels": ids.masked_fill(ids == 0, -100),
        "rows": torch.tensor([row["row"] for row in rows]),
    }


def trainer(folder, steps, **more):
    """Return a Trainer over rows of those lengths."""
    torch.manual_seed(0)
    model = VanillaForMaskedLM(VanillaConfig.tiny(variant="encoder", vocab_size=40, dropout=0.1))
    draw = torch.Generator().manual_seed(1)
    rows = [
        {"row": i, "input_ids": torch.randint(7, 40, (int(length),), generator=draw)}
        for i, length in enumerate(LENGTHS)
    ]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        save_strategy="no" if steps == WHOLE else "steps",
        save_steps=steps,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        lr_scheduler_type="constant",
        **more,
    )
    made = TokensTrainer(model, arguments, train_dataset=rows, data_collator=collate)
    made.seen = []
    return made


EPOCH, WHOLE = 15, 33


@pytest.mark.parametrize(
    ("accumulate", "stopped"), [(1, 15), (1, 17), (2, 11)], ids=["epoch's end", "inside", "halves"]
)
def test_the_trainer_goes_on_with_the_remaining_batches(tmp_path, accumulate, stopped):
    more = {"gradient_accumulation_steps": accumulate}
    epoch = len(TokenBatchSampler(LENGTHS, 256))
    assert epoch == EPOCH
    whole = trainer(tmp_path / "whole", WHOLE, **more)
    whole.train()
    first = trainer(tmp_path / "again", stopped, **more)
    first.train()
    again = trainer(tmp_path / "again", WHOLE, **more)
    again.train(resume_from_checkpoint=True)
    assert first.seen + again.seen == whole.seen
    for begin in (0, epoch):
        assert sorted(itertools.chain(*whole.seen[begin : begin + epoch])) == list(range(203))
    assert whole.seen[:epoch] != whole.seen[epoch : 2 * epoch]
