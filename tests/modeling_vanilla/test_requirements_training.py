# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What transformers' own model tests require of losses, training, loading and saving (49 to 57).

`test_requirements_model.py` and `test_requirements_forward.py` hold 1 to 48. Tested elsewhere:

| requirement                                 | where                                                               |
|---------------------------------------------|---------------------------------------------------------------------|
| 49 num_items_in_batch                       | test_losses: micro-batches of unequal size add up                   |
| 50, 51 labels are shifted once or not       | test_losses: labels are shifted exactly once                        |
| 52 problem types, another number of classes | test_losses: the problem type follows; test_classification          |
| 53 two answers whatever num_labels          | test_fine_tuning: answers have two ends, answers beyond the text    |
| 55 round trips in every dtype               | test_saving: a round trip changes no bit                            |
"""

import pytest
import torch
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

import modeling_vanilla
from modeling_vanilla import VanillaConfig, VanillaForSequenceClassification, VanillaModel

VARIANTS = ("encoder-decoder", "encoder", "decoder")
HEADS = {
    "encoder-decoder": modeling_vanilla.VanillaForConditionalGeneration,
    "encoder": modeling_vanilla.VanillaForMaskedLM,
    "decoder": modeling_vanilla.VanillaForCausalLM,
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def test_49_class_names_tell_the_kind_of_loss():
    kinds = {"ForCausalLM", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"}
    kinds |= {"ForQuestionAnswering", "ForConditionalGeneration", "ForMultipleChoice"}
    assert {n.removeprefix("Vanilla") for n in modeling_vanilla.__all__ if n.startswith("VanillaFor")} == kinds


def test_49_the_trainer_counts_the_labels_of_a_causal_model_after_the_shift(build):
    """It looks the loss up by this name to know whether the first label of each row is predicted by anything."""
    assert LOSS_MAPPING[build("decoder").loss_type] is ForCausalLMLoss
    assert LOSS_MAPPING.get(build("encoder").loss_type) is not ForCausalLMLoss


def test_50_shifted_labels_replace_labels(build, tokens):
    model, ids = build("decoder"), tokens(2, 5)
    shifted = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], 1)
    expected = model(ids, labels=ids).loss
    for other in (None, ids.flip(1)):
        torch.testing.assert_close(model(ids, labels=other, shift_labels=shifted).loss, expected)


@variants
def test_52_another_number_of_classes_is_loaded_with_a_warning(build, tokens, tmp_path, variant):
    build(variant, VanillaForSequenceClassification, num_labels=3).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError):
        VanillaForSequenceClassification.from_pretrained(tmp_path, num_labels=42)
    model, info = VanillaForSequenceClassification.from_pretrained(
        tmp_path, num_labels=42, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {entry[0] for entry in info["mismatched_keys"]} == {
        "classifier.out_proj.weight",
        "classifier.out_proj.bias",
    }
    assert model(tokens(2, 5)).logits.shape == (2, 42)


def gradient_norm(model, inputs, labels) -> float:
    """Return the norm of the gradient without dropout, whose noise would hide it."""
    model.eval().zero_grad()
    model(**inputs, labels=labels).loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
    model.train()
    return norm


@variants
def test_54_one_pattern_is_learned_without_warm_up(variant):
    """Loss and gradient fall by nine tenths with dropout on; then greedy search gives the pattern back.

    In the paper's post-norm order, which is the hard one to start without warm-up.
    """
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_ff": 64, "num_heads": 2, "num_layers": 2, "max_position_embeddings": 80}
    config = VanillaConfig(variant=variant, vocab_size=31, label_smoothing=0.0, **sizes)
    model = HEADS[variant](config).train()
    pattern = torch.tensor([(list(range(7, 26)) * 4)[:64]])
    inputs = {"input_ids": pattern}
    if variant == "encoder":
        inputs["input_ids"] = pattern.masked_fill(torch.arange(64) % 3 == 1, 6)
    before = gradient_norm(model, inputs, pattern)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(300 if variant == "encoder" else 200):
        optimizer.zero_grad()
        loss = model(**inputs, labels=pattern).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.1 * losses[0]
    assert gradient_norm(model, inputs, pattern) < 0.1 * before

    model.eval()
    if variant == "encoder":
        assert torch.equal(model(**inputs).logits.argmax(-1), pattern)
    elif variant == "decoder":
        assert torch.equal(model.generate(pattern[:, :1], max_new_tokens=63, eos_token_id=None), pattern)
    else:
        assert torch.equal(model.generate(pattern, max_new_tokens=64, eos_token_id=None)[:, 1:], pattern)


@variants
def test_55_saved_twice_and_loaded_from_a_state_dict(build, batch_of, tmp_path, variant):
    model = build(variant)
    expected = model(**batch_of(variant)).logits
    model.save_pretrained(tmp_path / "once")
    again = type(model).from_pretrained(tmp_path / "once")
    again.save_pretrained(tmp_path / "twice")
    assert {p.name for p in (tmp_path / "once").iterdir()} == {p.name for p in (tmp_path / "twice").iterdir()}
    state = model.state_dict()
    # As when a tool loads the weights in its own way, without a folder.
    loose = type(model).from_pretrained(None, config=model.config, state_dict=state)
    for other in (type(model).from_pretrained(tmp_path / "twice"), loose):
        assert torch.equal(other(**batch_of(variant)).logits, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_55_the_dtype_is_found_and_has_an_older_name(build, tmp_path, dtype):
    build("decoder").to(dtype).save_pretrained(tmp_path)
    for options in ({"dtype": "auto"}, {"dtype": dtype}, {"torch_dtype": dtype}, {"dtype": str(dtype)[6:]}):
        assert modeling_vanilla.VanillaForCausalLM.from_pretrained(tmp_path, **options).dtype == dtype


@variants
def test_56_loaded_parameters_are_contiguous(build, tmp_path, variant):
    model = build(variant, VanillaModel)
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
    model.save_pretrained(tmp_path)
    loaded = VanillaModel.from_pretrained(tmp_path)
    assert all(p.is_contiguous() for p in loaded.parameters())


@variants
def test_57_kernels_may_be_asked_for(build, batch_of, variant):
    model = build(variant)
    expected = model(**batch_of(variant)).logits
    try:
        model.use_kernels = True
    except (ImportError, ValueError) as error:  # the optional package, which has no kernel for the CPU
        assert "kernels" in str(error)
    torch.testing.assert_close(model(**batch_of(variant)).logits, expected)
