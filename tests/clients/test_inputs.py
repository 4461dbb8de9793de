# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Which tensors other programs hand to a forward beside its own arguments, recorded from real calls.

What is not in `input_checks.KERNEL_INPUTS` is refused. A transformers that hands in another name fails here, with the name;
one that stops handing in a name fails here too, so that the table does not grow old.
"""

import pytest
import torch
from transformers import (
    DataCollatorWithFlattening,
    GenerationConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from modeling_vanilla import input_checks, modeling_vanilla, stacks

# The caller, and what it handed in from transformers 5.17 to 5.24. vLLM hands in modules, PEFT and TRL no other names
# than these: their own tests run them, and fail where a name is refused.
RECORDED = {
    "generate_batch": {
        "cu_seq_lens_q",
        "cu_seq_lens_k",
        "logits_indices",
        "logits_processor_args",
        "read_index",
        "write_index",
    },
    "flattening": {"cu_seq_lens_q", "cu_seq_lens_k", "seq_idx"},
    "seq2seq": {"labels"},
}
ARGUMENTS = dict(report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", max_steps=1)


@pytest.fixture
def recorded(monkeypatch) -> set[str]:
    """Return the names that hold a tensor, in a set that fills while models run."""
    names: set[str] = set()
    check = input_checks.check_unknown

    def record(inputs, of_generate=False):
        names.update(name for name, value in inputs.items() if input_checks._holds_tensor(value))
        return check(inputs, of_generate)

    for module in (stacks, modeling_vanilla):
        monkeypatch.setattr(module, "check_unknown", record)
    return names


def generate_batch(build, tokens, folder):
    config = GenerationConfig(max_new_tokens=2, do_sample=False, pad_token_id=0)
    settings = ContinuousBatchingConfig(num_blocks=32, max_batch_tokens=8)
    prompts = [tokens(1, 3)[0].tolist(), tokens(1, 4)[0].tolist()]
    build("decoder").generate_batch(
        prompts, generation_config=config, continuous_batching_config=settings, progress_bar=False
    )


def flattening(build, tokens, folder):
    """Train a step on rows without padding, with all that the collator can hand to the kernels."""
    rows = [{"input_ids": tokens(1, size)[0].tolist()} for size in (3, 5)]
    collator = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)
    arguments = TrainingArguments(folder, per_device_train_batch_size=2, remove_unused_columns=False, **ARGUMENTS)
    Trainer(build("decoder"), arguments, data_collator=collator, train_dataset=rows).train()


def seq2seq(build, tokens, folder):
    """Predict by generating."""
    rows = [{"input_ids": tokens(1, 5)[0], "labels": tokens(1, 4, seed=1)[0]} for _ in range(2)]
    arguments = Seq2SeqTrainingArguments(folder, predict_with_generate=True, generation_max_length=4, **ARGUMENTS)
    Seq2SeqTrainer(build("encoder-decoder"), arguments).predict(rows)


@pytest.mark.parametrize("call", [generate_batch, flattening, seq2seq], ids=lambda call: call.__name__)
def test_the_names_are_those_of_the_table(build, tokens, tmp_path, recorded, call):
    torch.manual_seed(0)
    call(build, tokens, str(tmp_path))
    assert recorded == RECORDED[call.__name__]


def test_no_row_of_the_table_is_without_a_caller():
    """The rest of it needs a GPU: pages for flash attention, and lengths that are tensors there."""
    known = set(input_checks.KERNEL_INPUTS) | set(input_checks.GENERATES_ENCODER_INPUTS)
    on_a_gpu = {"block_table", "max_length_q", "max_length_k", "max_seqlen_q", "max_seqlen_k"}
    assert known - on_a_gpu - {"cross_attention_mask"} == set.union(*RECORDED.values())
