"""FLOPs against torch's own counter, and the paper's base model against what others count for it."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
)
from train.cost import flops, gpus
from train.measure import provenance

SIZES = {"d_model": 24, "num_heads": 2, "head_dim": 8, "v_head_dim": 6, "d_ff": 40, "attn_implementation": "eager"}
MODELS = {
    "translation": (VanillaForConditionalGeneration, "encoder-decoder"),
    "causal": (VanillaForCausalLM, "decoder"),
    "masked": (VanillaForMaskedLM, "encoder"),
    "classification": (VanillaForSequenceClassification, "encoder"),
    "tagging": (VanillaForTokenClassification, "encoder"),
    "answering": (VanillaForQuestionAnswering, "encoder"),
}


def batch_of(task, config, rows=3, source=7, target=5):
    """Return a batch without padding."""
    ids = torch.randint(5, config.vocab_size, (rows, source))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if task == "translation":
        return inputs | {"labels": torch.randint(5, config.vocab_size, (rows, target))}
    if task == "answering":
        places = torch.zeros(rows, dtype=torch.long)
        return inputs | {"start_positions": places, "end_positions": places + 1}
    if task == "classification":
        return inputs | {"labels": torch.zeros(rows, dtype=torch.long)}
    labels = ids % config.num_labels if task == "tagging" else ids.clone()
    if task in ("masked", "tagging"):
        labels[:, 2:] = -100
    return inputs | {"labels": labels}


@pytest.mark.parametrize("task", MODELS)
def test_forward_and_training_are_what_torch_counts(task):
    torch.manual_seed(0)
    kind, variant = MODELS[task]
    config = VanillaConfig.tiny(variant=variant, **SIZES)
    model, inputs = kind(config).train(), batch_of(task, config)
    with FlopCounterMode(display=False) as forward:
        loss = model(**inputs).loss
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    counted = flops.of_batch(config, task, inputs)
    assert counted == 3 * forward.get_total_flops()
    # The backward pass of torch is two products for each one of the forward pass, exactly.
    assert counted == forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize("task", ["translation", "causal", "masked", "tagging"])
def test_padding_costs_nothing_and_rows_add_up(task):
    config = VanillaConfig.tiny(variant=MODELS[task][1], **SIZES)
    short, long = batch_of(task, config, 1, 4, 3), batch_of(task, config, 1, 9, 6)
    together = {}
    for name, value in long.items():
        padding = value.shape[1] - short[name].shape[1]
        filling = {"labels": -100}.get(name, 0)
        together[name] = torch.cat([torch.nn.functional.pad(short[name], (0, padding), value=filling), value])
    if task == "causal":
        together["labels"][0, 4:] = -100
    expected = flops.of_batch(config, task, short) + flops.of_batch(config, task, long)
    assert flops.of_batch(config, task, together) == expected


def test_packed_rows_cost_as_much_as_their_sequences():
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 0, 0]])  # sequences of 4 and 6 tokens, then padding
    owners = torch.tensor([[0] * 4 + [1] * 6 + [-1] * 2])
    mask = (owners[:, :, None] == owners[:, None, :])[:, None]
    ids = torch.full((1, 12), 5)
    labels = torch.where(owners >= 0, ids, -100)
    for task in ("causal", "masked", "translation"):
        config = VanillaConfig.tiny(variant=MODELS[task][1], **SIZES)
        packed = {"input_ids": ids, "position_ids": places, "labels": labels}
        if task != "causal":
            packed["attention_mask"] = mask
        apart = [batch_of(task, config, 1, 4, 3), batch_of(task, config, 1, 6, 2)]
        if task == "masked":
            apart = [batch | {"labels": batch["input_ids"]} for batch in apart]
        if task == "translation":
            packed["labels"] = torch.tensor([[5, 5, 5, 5, 5, -100]])
            packed["decoder_position_ids"] = torch.tensor([[0, 1, 2, 0, 1, 0]])
        assert flops.of_batch(config, task, packed) == sum(flops.of_batch(config, task, batch) for batch in apart)


def test_a_token_nears_six_times_the_matrices():
    # Kaplan et al. 2020, sec. 2.1: 6 N per token of a decoder, where attention over the context is small beside it.
    config = VanillaConfig.gpt2(variant="decoder")
    matrices = 12 * config.num_layers * config.d_model**2 + config.vocab_size * config.d_model

    def per_token(length):
        return flops.of_batch(config, "causal", batch_of("causal", config, 1, length)) / length

    assert per_token(1) == pytest.approx(6 * matrices, rel=1e-3)
    # ... and 12 * layers * context * width beside it (Chowdhery et al. 2022, appendix B).
    assert per_token(1024) - 6 * matrices == pytest.approx(12 * config.num_layers * 1024 * config.d_model)


@pytest.mark.parametrize(
    ("name", "precision", "matmul", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16", "highest", 312e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", "high", 156e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", "highest", 19.5e12),
        ("NVIDIA H100 80GB HBM3", "bf16", "highest", 989.4e12),
        ("NVIDIA H100 PCIe", "bf16", "highest", None),
        ("NVIDIA L4", "bf16", "highest", 121e12),
        ("NVIDIA L40S", "bf16", "highest", None),
        ("NVIDIA A10", "bf16", "highest", None),
        ("NVIDIA A10G", "bf16", "highest", 70e12),
        ("Some other device", "bf16", "highest", None),
    ],
)
def test_the_peak_is_that_of_the_device_and_the_precision(name, precision, matmul, expected):
    gpu = gpus.of_device(name)
    assert (None if gpu is None else gpus.peak(gpu, precision, matmul)[0]) == expected


def part(step: int, seconds: float, processes: int, hardware: str | None) -> dict:
    """Return a part of a run's way, as results.json has it."""
    return {"step": step, "seconds": seconds, "processes": processes} | ({"hardware": hardware} if hardware else {})


A100, H100, CPU = "8 x NVIDIA A100-SXM4-80GB", "8 x NVIDIA H100 80GB HBM3", "x86_64 CPU, 8 threads"


@pytest.mark.parametrize(
    ("history", "teraflops"),
    [
        ([part(0, 0.0, 1, A100)], 100 * 19.5),
        ([part(0, 0.0, 8, A100)], 100 * 8 * 19.5),  # of the processes, whatever the machine has
        ([part(0, 0.0, 8, A100), part(50, 30.0, 2, A100)], (30 * 8 + 70 * 2) * 19.5),
        ([part(0, 0.0, 4, A100), part(9, 25.0, 4, H100)], 25 * 4 * 19.5 + 75 * 4 * 67.0),
        (
            [part(0, 0.0, 1, H100), part(5, 10.0, 4, H100), part(7, 40.0, 2, A100)],
            10 * 67.0 + 30 * 4 * 67.0 + 60 * 2 * 19.5,
        ),
        ([part(0, 0.0, 1, CPU)], None),
        ([part(0, 0.0, 2, A100), part(8, 60.0, 1, CPU)], None),  # a sum without a part of the way would be a wrong one
        ([part(0, 0.0, 2, None), part(8, 60.0, 2, A100)], None),  # begun by a version that did not note it
        ([], None),
    ],
)
def test_the_arithmetic_by_time_counts_each_part_of_the_way(history, teraflops):
    """The paper's way (sec. 6.1, footnote): seconds x GPUs x their peak, the GPUs of each part with its own seconds."""
    found = provenance.cost(12345, 100.0, history)
    assert found["flops"] == 12345
    assert found.get("flops_by_time") == (None if teraflops is None else pytest.approx(teraflops * 1e12))
