# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Each check of the doctor, on a model that has the fault it looks for: none of them is there for nothing."""

import json
import math
from pathlib import Path

import pytest
import torch
from patients import VARIANTS, after, before, caught, finding
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import PreTrainedModel

import tokenizer as tokenizers
from modeling_vanilla import VanillaForCausalLM, VanillaPreTrainedModel, attention
from modeling_vanilla import modeling_vanilla as ours
from modeling_vanilla.doctor import checks, examine, load


def rewrite(folder: Path, change) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_are_missing_or_left_out(build, tmp_path):
    build("decoder").save_pretrained(tmp_path)
    assert finding(load(str(tmp_path)), "weights").outcome == "pass"
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 1, "num_decoder_layers": 1}))
    found = caught(load(str(tmp_path)), "weights")
    assert found.measured == 16
    assert "model.decoder.layers.1" in found.meaning
    (tmp_path / "config.json").write_text(json.dumps(config))
    rewrite(tmp_path, lambda state: state.pop("model.decoder.layers.0.feed_forward.fc1.weight"))
    found = caught(load(str(tmp_path)), "weights")
    assert (found.measured, "fc1.weight is missing" in found.meaning) == (1, True)


def test_weights_that_are_not_those_of_the_file(build, tmp_path):
    """A loader that fills in what was there already: every key is in its place, and nothing is reported."""
    build("decoder").save_pretrained(tmp_path)
    patient = load(str(tmp_path))
    with torch.no_grad():
        patient.model.model.decoder.layers[1].feed_forward.fc1.bias[3] += 1e-3
    found = caught(patient, "weights")
    assert (found.measured, "layers.1.feed_forward.fc1.bias is not what the file holds" in found.meaning) == (1, True)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float64))
def test_weights_of_other_types_and_in_shards_are_read(build, tmp_path, dtype):
    build("encoder-decoder").to(dtype).save_pretrained(tmp_path, max_shard_size="20KB")
    patient = load(str(tmp_path))
    assert len(patient.weight_files) > 1
    assert finding(patient, "weights").outcome == "pass"
    with torch.no_grad():
        patient.model.model.encoder.layers[0].feed_forward.fc1.bias += 1
    assert caught(patient, "weights").measured == 1


def test_weights_that_are_no_numbers(subject):
    patient = subject("encoder")
    with torch.no_grad():
        patient.model.lm_head.bias[:2] = torch.tensor([math.nan, math.inf])
    found = caught(patient, "finite")
    assert (found.measured, "lm_head.bias" in found.meaning) == (2, True)


class Stingy(VanillaForCausalLM):
    """Does not save one of its weights."""

    _keys_to_ignore_on_save = ["model.decoder.layers.0.feed_forward.fc1.bias"]


def test_a_weight_that_is_not_saved(build, subject):
    assert finding(subject("decoder"), "save-load").outcome == "pass"
    patient = subject("decoder", build("decoder", Stingy))
    assert "feed_forward.fc1.bias" in caught(patient, "save-load").meaning


def test_a_table_that_nobody_fills_on_loading(subject, poisoned_memory, monkeypatch):
    patient = subject("decoder")
    monkeypatch.setattr(VanillaPreTrainedModel, "_init_weights", PreTrainedModel._init_weights)
    with poisoned_memory():
        assert "embeddings.positions.table changed" in caught(patient, "save-load").meaning


def test_a_table_that_was_wrong_from_the_beginning(subject):
    """What is in no file is compared with what the constructor computes, not only with itself."""
    patient = subject("decoder")
    patient.model.model.decoder.embeddings.positions.table.zero_()
    assert "not what the constructor computes" in caught(patient, "save-load").meaning


class Undeclared(VanillaForCausalLM):
    """Says that it is tied, and is not."""

    _tied_weights_keys = {}


@pytest.mark.parametrize("says", (True, False))
def test_weights_that_are_not_tied_as_the_config_says(build, subject, says):
    assert finding(subject("decoder", tie_word_embeddings=says), "tied").outcome == "pass"
    if says:
        patient = subject("decoder", build("decoder", Undeclared))
    else:
        patient = subject("decoder", tie_word_embeddings=False)
        patient.model.lm_head.weight = patient.model.get_input_embeddings().weight
        patient.reloaded = patient  # it cannot be saved: the check may not need to
    assert ("two tensors" if says else "one tensor") in caught(patient, "tied").meaning


def test_a_pair_that_parted(subject):
    patient = subject("encoder-decoder")
    decoder = patient.model.model.decoder
    decoder.embed_tokens.weight = torch.nn.Parameter(decoder.embed_tokens.weight.clone())
    assert "decoder.embed_tokens.weight" in caught(patient, "tied").meaning


@pytest.mark.parametrize(
    ("place", "values", "words"),
    [
        ("config", {"eos_token_id": 31}, "eos_token_id 31 is not in 0..30"),
        ("config", {"pad_token_id": -1}, "pad_token_id -1 is not in 0..30"),
        ("generation_config", {"eos_token_id": 9}, "eos_token_id is [3] in config, [9] in generation_config"),
        ("both", {"decoder_start_token_id": None, "bos_token_id": None}, "neither decoder_start_token_id"),
    ],
)
def test_special_ids_that_contradict(subject, place, values, words):
    patient = subject("encoder-decoder")
    for config in ("config", "generation_config") if place == "both" else (place,):
        for name, value in values.items():
            setattr(getattr(patient.model, config), name, value)
    assert words in caught(patient, "special-ids").meaning


def test_padding_that_is_the_end_is_noted(subject):
    patient = subject("decoder")
    for config in (patient.model.config, patient.model.generation_config):
        config.pad_token_id = 3
    found = finding(patient, "special-ids")
    assert (found.outcome, "pad is eos" in found.meaning) == ("pass", True)


def char_tokenizer(text: str):
    return tokenizers.build("char", [text], 99, "causal", show_progress=False)


def test_a_tokenizer_that_does_not_fit(subject, tmp_path):
    patient = subject("decoder", vocab_size=60)
    patient.tokenizer = char_tokenizer("The quick brown fox jumps over the lazy dog.")
    assert [f.outcome for f in examine(patient, ["tokenizer", "special-ids"])] == ["pass", "pass"]
    patient.tokenizer.add_tokens([f"<{i}>" for i in range(40)])
    found = caught(patient, "tokenizer")
    assert f"{len(patient.tokenizer)} tokens for 60 embeddings" in found.meaning
    patient.tokenizer = char_tokenizer("The quick brown fox jumps over the lazy dog.")
    patient.tokenizer.eos_token = "<sep>"
    assert "[5] in the tokenizer" in caught(patient, "special-ids").meaning


def test_a_tokenizer_that_loses_text(build, tmp_path):
    build("decoder", vocab_size=60).save_pretrained(tmp_path)
    char_tokenizer("The quick brown fox jumps over the lazy dog.").save_pretrained(tmp_path)
    assert finding(load(str(tmp_path)), "tokenizer").outcome == "pass"
    path = tmp_path / "tokenizer.json"
    settings = json.loads(path.read_text())
    strip = {"type": "Replace", "pattern": {"String": "q"}, "content": ""}
    path.write_text(json.dumps(settings | {"decoder": {"type": "Sequence", "decoders": [strip, {"type": "Fuse"}]}}))
    assert "comes back as" in caught(load(str(tmp_path)), "tokenizer").meaning
    path.write_text("{")
    assert caught(load(str(tmp_path)), "tokenizer").limit == 0


def test_a_tokenizer_that_loses_text_on_the_way_in(build, tmp_path):
    """Twice the same ids, because the same letter is lost both times."""
    build("decoder", vocab_size=60).save_pretrained(tmp_path)
    char_tokenizer("The quick brown fox jumps over the lazy dog.").save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    settings = json.loads(path.read_text())
    path.write_text(
        json.dumps(settings | {"normalizer": {"type": "Replace", "pattern": {"String": "q"}, "content": ""}})
    )
    found = caught(load(str(tmp_path)), "tokenizer")
    assert "comes back as 'The uick brown fox" in found.meaning


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_that_reads_nothing(subject, variant):
    """It gives each text the same, alone and in company, padded or not: agreement alone proves nothing."""
    patient = subject(variant)

    def constant(out, keywords):
        out["logits"] = torch.arange(31.0).expand_as(out.logits)

    after(patient.model, constant)
    found = caught(patient, "batch")
    assert "another text gives the same" in found.meaning


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_that_meet(subject, variant):
    patient = subject(variant)

    def mix(out, keywords):
        out["logits"] = out.logits - out.logits.mean(0, keepdim=True)  # as a batch norm does

    after(patient.model, mix)
    assert caught(patient, "batch").measured > 0.1


def no_mask(keywords):
    return {name: value for name, value in keywords.items() if not name.endswith("attention_mask")}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_mask_that_is_not_used(subject, variant):
    patient = subject(variant)
    before(patient.model, no_mask)
    names = ["left-padding", "padding-values"] + ["right-padding"] * (variant != "decoder")
    for name in names:
        assert caught(patient, name).measured > 0.1
    assert caught(patient, "wrong-mask").measured == 1
    if variant != "encoder":
        assert caught(patient, "generation").measured > 0.01


def test_positions_that_count_padding(subject):
    patient = subject("decoder")
    before(patient.model, lambda k: {"position_ids": torch.arange(k["input_ids"].shape[1])[None]} | k)
    assert caught(patient, "left-padding").measured > 0.1
    assert finding(patient, "right-padding").outcome == "pass"


def test_positions_of_the_target_that_count_padding(subject):
    patient = subject("encoder-decoder")
    before(patient.model, lambda k: {"decoder_position_ids": torch.arange(k["decoder_input_ids"].shape[1])[None]} | k)
    found = caught(patient, "left-padding")
    assert ("target" in found.meaning, "source" in found.meaning) == (True, False)


def test_a_row_without_a_token(subject):
    patient = subject("encoder")

    def mean(out, keywords):
        if (mask := keywords.get("attention_mask")) is not None:
            total = (out.logits * mask[..., None]).sum(1, keepdim=True)
            out["logits"] = out.logits + total / mask.sum(1)[:, None, None]

    after(patient.model, mean)
    found = caught(patient, "empty-row")
    assert found.measured == 12 * 31
    assert "row without a token" in caught(patient, "kernels").meaning


@pytest.mark.parametrize("variant", VARIANTS)
def test_kernels_that_disagree(subject, variant, monkeypatch):
    patient, exact = subject(variant), attention.scaled_dot_product_attention

    def unscaled(module, query, key, value, attention_mask, scaling, **more):
        return exact(module, query, key, value, attention_mask, 1.0, **more)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", unscaled)
    assert caught(patient, "kernels").measured > 1e-2
    assert patient.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("variant", ("encoder-decoder", "decoder"))
@pytest.mark.parametrize("masked", (True, False))
def test_logits_that_know_the_future(subject, variant, masked):
    """One fault shows with a mask only, the other one without."""
    patient, prefix = subject(variant), "decoder_" if variant == "encoder-decoder" else ""

    def all_of_it(keywords):
        rows, length = keywords[f"{prefix}inputs_embeds"].shape[:2]
        if (f"{prefix}attention_mask" in keywords) == masked:
            keywords[f"{prefix}attention_mask"] = torch.ones(rows, 1, length, length, dtype=torch.bool)
        return keywords

    before(patient.model, all_of_it)
    assert caught(patient, "future").measured > 1e-3


def test_packed_rows_that_meet(subject):
    patient = subject("decoder")
    before(patient.model, lambda k: k | {"attention_mask": torch.ones_like(k["input_ids"])})
    assert caught(patient, "packing").measured > 0.1


def moved_loss(shift: int):
    """Return a change that scores each label by the logits of another place."""

    def change(out, keywords):
        if keywords.get("labels") is not None:
            out["loss"] = torch.tensor(checks.likelihood(out.logits, keywords["labels"], shift))

    return change


@pytest.mark.parametrize(("variant", "right"), [("encoder-decoder", 0), ("encoder", 0), ("decoder", 1)])
@pytest.mark.parametrize("shift", (-1, 0, 1))
def test_labels_that_are_shifted_wrongly(subject, variant, right, shift):
    patient = subject(variant)
    after(patient.model, moved_loss(shift))
    if shift == right:
        assert finding(patient, "label-alignment").outcome == "pass"
    else:
        assert f"labels moved by {shift}, not by {right}" in caught(patient, "label-alignment").meaning


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loss_that_is_no_number(subject, variant):
    """NaN is not larger than any limit, and is no pass."""
    patient = subject(variant)

    def overflow(out, keywords):
        if keywords.get("labels") is not None:
            out["loss"] = out.loss * math.nan

    after(patient.model, overflow)
    found = caught(patient, "label-alignment")
    assert (math.isnan(found.measured), "moved" in found.meaning) == (True, False)


def test_the_likelihood_of_an_alignment():
    """Written out place by place, as the definition has it."""
    logits, labels = torch.randn(2, 6, 9), torch.randint(9, (2, 6))
    labels[0, 3] = -100
    for shift in (-1, 0, 1):
        terms = [
            -logits[b, t].log_softmax(-1)[labels[b, t + shift]]
            for b in range(2)
            for t in range(6)
            if 0 <= t + shift < 6 and labels[b, t + shift] != -100
        ]
        assert checks.likelihood(logits, labels, shift) == pytest.approx(float(sum(terms) / len(terms)))


def test_a_target_that_holds_its_own_label(subject, monkeypatch):
    monkeypatch.setattr(ours, "shift_right", lambda labels, config: labels.clamp(min=0))
    found = caught(subject("encoder-decoder"), "label-alignment")
    assert "the target holds the label" in found.meaning


def test_a_target_that_is_moved_twice(subject, monkeypatch):
    """Its loss is that of its own logits, and no label is among what they read: only another call can tell."""
    shift = ours.shift_right
    monkeypatch.setattr(ours, "shift_right", lambda labels, config: shift(shift(labels, config), config))
    found = caught(subject("encoder-decoder"), "label-alignment")
    assert found.measured > 0.1
    assert "not those of the start and the labels before each place" in found.meaning


def test_a_target_that_starts_with_its_last_label(subject, monkeypatch):
    """As mBART's does, whose last label is the language."""

    def turn(labels, config):
        ends = labels.ne(-100).cumsum(1).argmax(1, keepdim=True)
        return torch.cat([labels.gather(1, ends), labels[:, :-1].masked_fill(labels[:, :-1] == -100, 0)], 1)

    monkeypatch.setattr(ours, "shift_right", turn)
    assert finding(subject("encoder-decoder"), "label-alignment").outcome == "pass"


@pytest.mark.parametrize("variant", ("encoder", "decoder"))
def test_logits_that_read_the_labels(subject, variant):
    patient = subject(variant)

    def cheat(out, keywords):
        if (labels := keywords.get("labels")) is not None:
            out["logits"] = out.logits + F.one_hot(labels.clamp(min=0), 31)
            out["loss"] = torch.tensor(checks.likelihood(out.logits, labels, int(variant == "decoder")))

    after(patient.model, cheat)
    assert "the logits depend on the labels" in caught(patient, "label-alignment").meaning


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loss_without_labels(subject, variant):
    patient = subject(variant)

    def mean(out, keywords):
        out["loss"] = F.cross_entropy(out.logits.flatten(0, 1), keywords["labels"].flatten())

    after(patient.model, mean)
    assert "nan" in caught(patient, "ignored-labels").meaning
