# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A Trainer with label_smoothing_factor takes the labels away and computes the loss itself: it must be the right one."""

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

E = 0.3


def smoothed(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean over real labels of (1 - E) NLL + E * mean over the vocabulary (Vaswani et al. 2017, sec. 5.4)."""
    logits, labels = logits[labels != -100], labels[labels != -100]
    log_p = F.log_softmax(logits, -1)
    return -((1 - E) * log_p.gather(-1, labels[:, None]).squeeze(-1) + E * log_p.mean(-1)).mean()


def arguments(folder, kind=TrainingArguments):
    return kind(
        output_dir=str(folder),
        label_smoothing_factor=E,
        max_steps=2,
        per_device_train_batch_size=3,
        learning_rate=0.0,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )


@pytest.fixture
def tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    vocabulary = {"<pad>": 0} | {f"t{i}": i for i in range(1, 31)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="t1")), pad_token="<pad>"
    )


def rows_of(tokens, lengths: tuple[int, ...]) -> list[dict[str, list[int]]]:
    return [
        {"input_ids": tokens(1, n, seed=n)[0].tolist(), "labels": tokens(1, n, seed=n)[0].tolist()} for n in lengths
    ]


def test_causal_labels_are_shifted(build, tokens, tmp_path):
    """All rows are one batch; with learning rate 0 and no dropout, the logged loss is the formula's."""
    model = build("decoder", dropout=0.0)
    ids = tokens(3, 6)
    rows = [{"input_ids": row.tolist(), "labels": row.tolist()} for row in ids]
    trainer = Trainer(model, arguments(tmp_path), train_dataset=rows)
    trainer.train()
    expected = smoothed(model(ids).logits[:, :-1], ids[:, 1:]).item()
    assert abs(smoothed(model(ids).logits, ids).item() - expected) > 0.05  # off by one is another number
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == pytest.approx([expected] * 2, abs=1e-3)
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(expected, abs=1e-3)


def test_target_labels_are_not_shifted(build, tokens, tokenizer, tmp_path):
    model = build("encoder-decoder", dropout=0.0)
    rows = rows_of(tokens, (6, 4, 3))
    collator = DataCollatorForSeq2Seq(tokenizer, model=model)
    batch = collator([dict(row) for row in rows])
    assert (batch["labels"] == -100).sum() == 5
    options = {"args": arguments(tmp_path, Seq2SeqTrainingArguments), "train_dataset": rows, "data_collator": collator}
    trainer = Seq2SeqTrainer(model, **options)
    trainer.train()
    labels = batch.pop("labels")
    expected = smoothed(model(**batch).logits, labels).item()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == pytest.approx([expected] * 2, abs=1e-3)


def test_without_decoder_inputs_the_reason_is_named(build, tokens, tokenizer, tmp_path):
    """Only a collator that knows the model can make them, once the labels are gone."""
    options = {"train_dataset": rows_of(tokens, (6, 4, 3)), "data_collator": DataCollatorForSeq2Seq(tokenizer)}
    trainer = Seq2SeqTrainer(build("encoder-decoder"), arguments(tmp_path, Seq2SeqTrainingArguments), **options)
    with pytest.raises(ValueError, match="decoder_input_ids.*label_smoothing_factor.*DataCollatorForSeq2Seq"):
        trainer.train()
