# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Hugging Face's Trainer on every variant: what it reports and what it trains, against sums written out by hand."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from modeling_vanilla import VanillaForCausalLM, VanillaForSequenceClassification

pytest.importorskip("accelerate")

KINDS = ("causal", "masked", "classifier", "classifier-decoder", "classifier-both")


class Task:
    """A model with the data set and the collator that belong to it."""

    def __init__(self, kind: str, tiny, tokenizers: dict, texts: list[str]):
        self.tiny = tiny
        self.variant = {"causal": "decoder", "masked": "encoder", "classifier-both": "encoder-decoder"}.get(
            kind, "decoder" if kind.endswith("decoder") else "encoder"
        )
        # On the right: with padding on the left, DataCollatorForLanguageModeling leaves the label of a row's first
        # token, which then is predicted at a padded place.
        self.tokenizer = copy.deepcopy(tokenizers[self.variant])
        self.tokenizer.padding_side = "right"
        self.rows = [{"input_ids": self.tokenizer(text)["input_ids"]} for text in texts]
        self.head = None
        if kind.startswith("classifier"):
            self.head = VanillaForSequenceClassification
            for row, text in zip(self.rows, texts, strict=True):
                row["labels"] = int("dog" in text) + 2 * int("the " in text)
            self.collator = DataCollatorWithPadding(self.tokenizer)
        else:
            self.collator = DataCollatorForLanguageModeling(self.tokenizer, mlm=kind == "masked", mlm_probability=0.3)

    def fix(self) -> None:
        """Draw the tokens to guess once, where the collator would draw them in each step."""
        if isinstance(self.collator, DataCollatorForLanguageModeling) and self.collator.mlm:
            self.rows = [{k: v[0].tolist() for k, v in self.collator([row]).items()} for row in self.rows]
            self.collator = DataCollatorForTokenClassification(self.tokenizer)

    def model(self, **options):
        extra = {"num_labels": 4} if self.head else {}
        return self.tiny(self.variant, len(self.tokenizer), self.head, **(extra | options))

    def trainer(self, folder, model=None, rows=None, callbacks=None, collator=None, **options) -> Trainer:
        model = model if model is not None else self.model()
        rows = rows or self.rows
        return Trainer(
            model,
            arguments(folder, **options),
            train_dataset=rows,
            eval_dataset=rows,
            data_collator=collator or self.collator,
            processing_class=self.tokenizer,
            callbacks=callbacks,
        )


def arguments(folder, **options) -> TrainingArguments:
    given = dict(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=16,
        learning_rate=3e-3,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    return TrainingArguments(**(given | options))


@pytest.fixture
def task(tiny, texts, causal_tokenizer, encoder_tokenizer, seq2seq_tokenizer):
    """Return the function that makes the task of a kind."""
    tokenizers = {"decoder": causal_tokenizer, "encoder": encoder_tokenizer, "encoder-decoder": seq2seq_tokenizer}
    return lambda kind: Task(kind, tiny, tokenizers, texts)


def losses(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def difference(one, other) -> float:
    """Return the largest difference of two models' weights."""
    theirs = dict(other.named_parameters())
    return max((p - theirs[name]).abs().max().item() for name, p in one.named_parameters())


def summed_loss(model, batch) -> tuple[float, int]:
    """Return the sum of -log p over the labels of a batch, and their number, from the logits alone."""
    batch = dict(batch)
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model.eval()(**batch).logits
    if isinstance(model, VanillaForCausalLM):
        logits, labels = logits[:, :-1], labels[:, 1:]
    log_p = F.log_softmax(logits.double(), -1)[labels != -100]
    labels = labels[labels != -100]
    return -log_p.gather(-1, labels[:, None]).sum().item(), labels.numel()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_is_that_of_the_labels(task, tmp_path, kind):
    """The logged loss of a step is the mean over its labels, and the evaluation's too."""
    task = task(kind)
    seen = []

    def remember(rows):
        batch = task.collator(rows)
        seen.append(batch.copy())
        return batch

    model = task.model(dropout=0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = task.trainer(tmp_path, model, collator=remember, max_steps=60, per_device_train_batch_size=16)
    trainer.train()
    assert sum(losses(trainer)[-5:]) / 5 < 0.75 * losses(trainer)[0]
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters() if "k_proj.bias" not in name)
    fresh = task.model(dropout=0.0)
    total, count = summed_loss(fresh, seen[0])
    assert losses(trainer)[0] == pytest.approx(total / count, rel=1e-4)

    seen.clear()
    reported = trainer.evaluate()["eval_loss"]
    (batch,) = seen
    total, count = summed_loss(model, batch)
    assert reported == pytest.approx(total / count, rel=1e-5)


def test_the_loss_of_several_batches_is_weighted_by_rows(task, tmp_path):
    """This is the Trainer's rule: its figure is that of all tokens only where it sees them in one batch."""
    task = task("causal")
    model = task.model(jitter=0.2)
    rows = task.rows[:7]
    parts = [summed_loss(model, task.collator(rows[i : i + 3])) for i in (0, 3, 6)]
    by_rows = sum(total / count * size for (total, count), size in zip(parts, (3, 3, 1), strict=True)) / 7
    by_tokens = sum(total for total, _ in parts) / sum(count for _, count in parts)
    trainer = task.trainer(tmp_path, model, rows, per_device_eval_batch_size=3)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(by_rows, rel=1e-5)
    assert abs(by_rows - by_tokens) > 1e-3
    whole = task.trainer(tmp_path, model, rows, per_device_eval_batch_size=7)
    assert whole.evaluate()["eval_loss"] == pytest.approx(by_tokens, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_with_the_same_weights(task, tmp_path, kind):
    """With dropout on, and from the middle of an epoch: the Trainer restores the random numbers and the order.

    It does not restore what a collator draws: the loader has collated one batch ahead when the state is saved. So the
    tokens to guess are drawn once, before.
    """
    task = task(kind)
    task.fix()
    steps = dict(max_steps=7, save_steps=3, save_strategy="steps", lr_scheduler_type="linear")
    whole = task.trainer(tmp_path / "a", task.model(dropout=0.2), **steps)
    whole.train()
    again = task.trainer(tmp_path / "b", task.model(dropout=0.2, jitter=0.3), **steps)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert again.state.global_step == 7
    assert losses(whole)[3:] == losses(again)[3:]
    assert difference(whole.model, again.model) == 0
    other = task.trainer(tmp_path / "c", task.model(dropout=0.2), **steps, seed=1)
    other.train()
    assert difference(whole.model, other.model) > 1e-4, "another order and other noise give other weights"


@pytest.mark.parametrize("kind", KINDS)
def test_one_batch_of_four_is_four_batches_of_one(task, tmp_path, kind):
    """The labels of all accumulated batches are counted together, however unevenly they are spread."""
    task = task(kind)
    task.fix()
    found = []
    for size, accumulate in ((4, 1), (1, 4), (2, 2)):
        trainer = task.trainer(
            tmp_path,
            task.model(dropout=0.0),
            max_steps=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulate,
            optim="sgd",  # which shows the size of a gradient; Adam would hide it
            learning_rate=0.5,
        )
        trainer.train()
        found.append(trainer)
    assert difference(task.model(dropout=0.0), found[0].model) > 0.01
    for other in found[1:]:
        assert difference(found[0].model, other.model) < 1e-6
        assert losses(other) == pytest.approx(losses(found[0]), abs=1e-4)


class Gradients(TrainerCallback):
    """Keeps the gradients of each step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_changes_no_gradient(task, tmp_path, kind):
    """Dropout is on: the second forward pass must draw the noise of the first one again."""
    task = task(kind)
    found = {}
    for reentrant in (None, False, True):
        keep = Gradients()
        options = {} if reentrant is None else {"gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}
        model = task.model(dropout=0.2, num_layers=3)
        calls = []
        for layer in model.modules():
            if type(layer).__name__ in ("EncoderLayer", "DecoderLayer"):
                layer.feed_forward.register_forward_hook(lambda *args, calls=calls: calls.append(1))
        task.trainer(
            tmp_path,
            model,
            callbacks=[keep],
            max_steps=2,
            learning_rate=0.0,
            max_grad_norm=0.0,
            gradient_checkpointing=reentrant is not None,
            **options,
        ).train()
        found[reentrant] = (keep.steps, len(calls))
    plain, count = found[None]
    assert len(plain) == 2
    for reentrant in (False, True):
        steps, twice = found[reentrant]
        assert twice == 2 * count, "each layer is computed a second time"
        for ours, expected in zip(steps, plain, strict=True):
            assert ours.keys() == expected.keys()
            for name, value in ours.items():
                torch.testing.assert_close(value, expected[name], atol=1e-7, rtol=1e-5, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_on_a_cpu(task, tmp_path, kind):
    """The weights stay fp32 under autocast, and the losses follow those of fp32 closely, not exactly."""
    task = task(kind)
    task.fix()
    full = task.trainer(tmp_path, task.model(dropout=0.0), max_steps=10)
    half = task.trainer(tmp_path, task.model(dropout=0.0), max_steps=10, bf16=True)
    full.train()
    half.train()
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}
    assert losses(half) != losses(full)
    assert losses(half) == pytest.approx(losses(full), rel=0.05, abs=0.05)
    assert half.evaluate()["eval_loss"] == pytest.approx(full.evaluate()["eval_loss"], rel=0.1, abs=0.1)


def test_the_best_model_is_loaded_at_the_end(task, tmp_path):
    """A learning rate that ruins the model: the best one is an earlier one, and comes back to the bit."""
    task = task("causal")
    trainer = task.trainer(
        tmp_path,
        max_steps=6,
        per_device_train_batch_size=16,
        learning_rate=0.02,
        lr_scheduler_type="linear",
        callbacks=[Ruin(step=4)],
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
    )
    trainer.train()
    scores = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    best = int(np.argmin(scores)) + 1
    assert best == 3
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-3")
    saved = VanillaForCausalLM.from_pretrained(trainer.state.best_model_checkpoint)
    assert difference(saved, trainer.model) == 0
    assert trainer.evaluate()["eval_loss"] == pytest.approx(scores[best - 1])
    assert trainer.model.lm_head.weight is trainer.model.get_input_embeddings().weight


class Ruin(TrainerCallback):
    """Spoils the weights after so many steps."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_the_logits(task, tmp_path, kind):
    """Rows in their order, batches of another length padded with -100, and the labels beside them."""
    task = task(kind)
    model = task.model(jitter=0.2)
    task.fix()
    rows = task.rows[:5]
    trainer = task.trainer(tmp_path, model, rows, per_device_eval_batch_size=2)
    trainer.compute_metrics = lambda p: {"rows": len(p.predictions)}
    found = trainer.predict(rows)
    assert found.metrics["test_rows"] == 5
    for index, row in enumerate(rows):
        batch = task.collator([row])
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = model.eval()(**batch).logits[0].numpy()
        place = (slice(len(row["input_ids"])),) if task.head is None else ()
        np.testing.assert_allclose(found.predictions[index][place], logits, atol=1e-5)
        np.testing.assert_array_equal(found.label_ids[index][place], labels[0].numpy())
