# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Seq2SeqTrainer on the encoder-decoder: what it generates while it evaluates, and what its losses are."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import DataCollatorForSeq2Seq, GenerationConfig, Seq2SeqTrainer, Seq2SeqTrainingArguments

from modeling_vanilla import VanillaForConditionalGeneration

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def rows(pairs, seq2seq_tokenizer):
    """Return sources and labels of uneven lengths."""
    found = [seq2seq_tokenizer(source, text_target=target) for source, target in pairs]
    return [{name: row[name] for name in ("input_ids", "attention_mask", "labels")} for row in found]


@pytest.fixture
def trainer_of(tiny, rows, seq2seq_tokenizer, tmp_path):
    """Return a factory of trainers; `model` options make the model where none is given."""

    def make(model=None, compute_metrics=None, folder="run", dropout=0.0, train_rows=None, **options):
        model = model if model is not None else tiny("encoder-decoder", len(seq2seq_tokenizer), dropout=dropout)
        given = dict(
            output_dir=str(tmp_path / folder),
            max_steps=4,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=3,
            learning_rate=3e-3,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            predict_with_generate=True,
        )
        return Seq2SeqTrainer(
            model,
            Seq2SeqTrainingArguments(**(given | options)),
            train_dataset=train_rows or rows,
            eval_dataset=rows,
            data_collator=DataCollatorForSeq2Seq(seq2seq_tokenizer, model=model),
            processing_class=seq2seq_tokenizer,
            compute_metrics=compute_metrics,
        )

    return make


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def difference(one, other) -> float:
    theirs = dict(other.named_parameters())
    return max((p - theirs[name]).abs().max().item() for name, p in one.named_parameters())


def strip(row, pad: int) -> list[int]:
    """Return ids without the padding at their end."""
    row = list(row)
    while row and row[-1] in (pad, -100):
        row.pop()
    return row


@pytest.mark.parametrize("beams", [1, 3])
def test_predictions_are_what_generate_gives(trainer_of, tiny, rows, seq2seq_tokenizer, beams):
    """Row by row, without a batch and without padding, each model's own `generate` writes the same ids."""
    model = tiny("encoder-decoder", len(seq2seq_tokenizer), jitter=0.15)
    settings = dict(num_beams=beams, max_new_tokens=9, no_repeat_ngram_size=1)
    trainer = trainer_of(model, generation_config=GenerationConfig.from_dict(model.generation_config.to_dict()))
    trainer.model.generation_config.update(**settings)
    found = trainer.predict(rows)
    expected = [model.generate(torch.tensor([row["input_ids"]]), **settings)[0].tolist() for row in rows]
    pad = seq2seq_tokenizer.pad_token_id
    assert [strip(row, pad) for row in found.predictions] == [strip(row, pad) for row in expected]
    assert [strip(row, pad) for row in found.label_ids] == [row["labels"] for row in rows]
    assert len({tuple(row) for row in found.predictions.tolist()}) > 4, "rows that are all alike prove nothing"
    other = settings | {"num_beams": 4 - beams}
    assert [model.generate(torch.tensor([row["input_ids"]]), **other)[0].tolist() for row in rows] != expected


def test_learned_translations_are_scored(trainer_of, rows, pairs, seq2seq_tokenizer):
    """A model that has learned its pairs by heart; what compute_metrics decodes are the sentences themselves."""
    seen = {}
    pad = seq2seq_tokenizer.pad_token_id

    def decode(ids):
        # The Trainer fills up with -100 where batches differ in length: labels, and generated ids too.
        return seq2seq_tokenizer.batch_decode(np.where(ids == -100, pad, ids), skip_special_tokens=True)

    def compute(prediction):
        assert prediction.predictions.dtype.kind == "i", "ids, not logits"
        seen["texts"], seen["labels"] = decode(prediction.predictions), decode(prediction.label_ids)
        return {"exact": float(np.mean([a == b for a, b in zip(seen["texts"], seen["labels"], strict=True)]))}

    trainer = trainer_of(
        compute_metrics=compute,
        max_steps=150,
        learning_rate=5e-3,
        lr_scheduler_type="linear",
        generation_num_beams=2,
        generation_max_length=30,
    )
    before = trainer.evaluate()
    assert before["eval_exact"] == 0
    trainer.train()
    after = trainer.evaluate()
    assert seen["labels"] == [target for _, target in pairs]
    assert after["eval_exact"] == 1.0, seen["texts"]
    assert after["eval_loss"] < 0.1 * before["eval_loss"]
    assert losses(trainer)[-1] < 0.1 * losses(trainer)[0]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_beside_generation(trainer_of, tiny, rows, seq2seq_tokenizer, smoothing):
    """The evaluation that generates reports the loss of the labels, smoothed where the arguments say so."""
    model = tiny("encoder-decoder", len(seq2seq_tokenizer), jitter=0.15)
    trainer = trainer_of(
        model, label_smoothing_factor=smoothing, per_device_eval_batch_size=8, generation_max_length=12
    )
    reported = trainer.evaluate()["eval_loss"]
    total, count = 0.0, 0
    for row in rows:
        labels = torch.tensor([row["labels"]])
        start = torch.tensor([[model.config.decoder_start_token_id]])
        with torch.no_grad():
            logits = model.eval()(
                input_ids=torch.tensor([row["input_ids"]]), decoder_input_ids=torch.cat([start, labels[:, :-1]], 1)
            ).logits
        log_p = F.log_softmax(logits.double(), -1)
        nll = -log_p.gather(-1, labels[..., None]).sum()
        total += ((1 - smoothing) * nll - smoothing * log_p.mean(-1).sum()).item()
        count += labels.numel()
    assert reported == pytest.approx(total / count, rel=1e-5)


def test_micro_batches_add_up(trainer_of):
    """Eight rows of uneven targets in one batch, in four, in eight."""
    found = [
        trainer_of(
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            optim="sgd",
            learning_rate=0.5,
            max_steps=2,
        )
        for size in (8, 2, 1)
    ]
    for trainer in found:
        trainer.train()
    assert losses(found[0])[0] - losses(found[0])[1] > 0.01
    for other in found[1:]:
        assert difference(found[0].model, other.model) < 1e-6


def test_an_interrupted_run_ends_with_the_same_weights(trainer_of, tiny, seq2seq_tokenizer, tmp_path):
    """With dropout, and with generation between the steps, which both runs need: each evaluation draws a number."""
    steps = dict(max_steps=6, save_strategy="steps", save_steps=3, per_device_train_batch_size=3)
    steps |= dict(eval_strategy="steps", eval_steps=2, generation_max_length=9)
    whole = trainer_of(dropout=0.2, folder="whole", **steps)
    whole.train()
    other = tiny("encoder-decoder", len(seq2seq_tokenizer), dropout=0.2, jitter=0.3)
    again = trainer_of(other, folder="again", **steps)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert losses(again)[3:] == losses(whole)[3:]
    assert difference(whole.model, again.model) == 0
    saved = VanillaForConditionalGeneration.from_pretrained(tmp_path / "whole" / "checkpoint-6")
    assert difference(saved, again.model) == 0
