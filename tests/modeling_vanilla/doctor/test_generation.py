# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The doctor's checks of caches, of `generate` and of unknown inputs, on models that have the fault they look for."""

import pytest
import torch
from patients import VARIANTS, before, caught, finding
from transformers.cache_utils import DynamicCache

from modeling_vanilla.cache_name import CACHE
from modeling_vanilla.doctor import examine
from modeling_vanilla.doctor.generation import apart, parted

GENERATING = ("encoder-decoder", "decoder")


def without(*names: str):
    """Return a change that lets a model swallow inputs: they are gone, and nothing says so."""
    return lambda keywords: {name: value for name, value in keywords.items() if name not in names}


@pytest.mark.parametrize("variant", GENERATING)
def test_a_cache_under_a_name_that_is_swallowed(subject, variant):
    """As code does that was written before transformers 5.24, from 5.24 on."""
    patient = subject(variant)
    assert finding(patient, "generate-forward").outcome == "pass"
    # A decoder's mask would say that something is missing.
    before(patient.model, without(CACHE, *["attention_mask"] * (variant == "decoder")))
    for name in ("generate-forward", "generation", "cache"):
        assert caught(patient, name).measured > 0.05


@torch.no_grad()
def test_a_cache_that_is_lost_behind_padding_alone(subject):
    """Positions are counted from the mask for the first tokens only: right for a row without padding."""
    patient = subject("decoder")

    def count_all(keywords):
        if keywords.get(CACHE) is not None and (seen := int(keywords[CACHE].get_seq_length())):
            keywords["position_ids"] = torch.full_like(keywords["input_ids"], seen)
        return keywords

    before(patient.model, count_all)
    assert caught(patient, "generate-forward").measured > 0.01
    assert finding(patient, "cache").outcome == "FAIL"  # pieces of two tokens
    row = patient.ids(1, 12, salt=1)
    ids = patient.model.generate(row, do_sample=False, max_new_tokens=6, eos_token_id=None)
    assert torch.equal(patient.scores(ids)[0, 11:-1].argmax(-1), ids[0, 12:])


@pytest.mark.parametrize("variant", GENERATING)
def test_generate_that_chooses_other_tokens(subject, variant):
    patient = subject(variant)
    generate = patient.model.generate

    def unlikely(*args, **keywords):
        out = generate(*args, **keywords)
        out["sequences"][:, -1] = out.logits[-1].argmin(-1)
        return out

    patient.model.generate = unlikely
    found = caught(patient, "generate-forward")
    assert found.measured > 0.5
    assert "a whole pass says" in found.meaning


@torch.no_grad()
def test_near_ties_may_part(subject):
    """Two tokens with the same logit: which of them is written says nothing about the cache."""
    patient = subject("decoder")
    logits = patient.scores(patient.ids(1, 6))
    best = logits.argmax(-1)
    logits[0, 2, 0] = logits[0, 2].max()
    tied = best.clone()
    tied[0, 2] = 0
    assert parted(patient, tied, logits, logits, 1e-4) == (0.0, "")
    logits[0, 2, 0] -= 1.0
    value, note = parted(patient, tied, logits, logits, 1e-4)
    assert value > 1e-2
    assert note == f"new token 3 is 0, a whole pass says {int(best[0, 2])}"


@torch.no_grad()
def test_six_equal_tokens_are_measured_by_what_varies_elsewhere(subject):
    """Logits of places that are all alike vary by rounding alone, which would be a difference of 1."""
    patient = subject("decoder")
    alike = patient.scores(patient.ids(1, 6))[:, -1:].expand(1, 6, -1)
    assert apart(patient, alike + 1e-6 * torch.randn(alike.shape), alike) < 1e-4


def test_generation_settings_of_the_folder_are_left_out_and_come_back(subject):
    """An end, a forbidden token, beams: the check is about the cache, and leaves the settings as they were."""
    patient = subject("decoder")
    settings = patient.model.generation_config
    settings.update(suppress_tokens=list(range(20)), eos_token_id=list(range(31)), num_beams=3)
    assert finding(patient, "generate-forward").outcome == "pass"
    assert patient.model.generation_config is settings


# Unknown inputs.

KNOWN = {CACHE, "input_ids", "attention_mask", "decoder_input_ids", "encoder_outputs", "use_cache"}


def refuse(keywords):
    if unknown := sorted(keywords.keys() - KNOWN):
        raise ValueError(f"{unknown[0]} is no input")
    return keywords


@pytest.mark.parametrize("variant", VARIANTS)
def test_unknown_inputs_that_are_swallowed(subject, variant):
    patient = subject(variant)
    before(patient.model, lambda keywords: {name: value for name, value in keywords.items() if name in KNOWN})
    found = caught(patient, "unknown-input")
    assert found.measured == 1 + (variant in GENERATING)
    assert "a mistyped mask is swallowed" in found.meaning
    assert ("a cache by another name is swallowed" in found.meaning) == (variant in GENERATING)


@pytest.mark.parametrize("variant", VARIANTS)
def test_unknown_inputs_that_are_refused(subject, variant):
    patient = subject(variant)
    before(patient.model, refuse)
    found = finding(patient, "unknown-input")
    assert (found.outcome, "a mistyped mask raises ValueError" in found.meaning) == ("pass", True)


def test_a_cache_that_is_swallowed_where_a_mask_is_refused(subject):
    """`**kwargs` that are checked for tensors alone."""
    patient = subject("decoder")

    def tensors_only(keywords):
        known = {name: value for name, value in keywords.items() if name in KNOWN or torch.is_tensor(value)}
        return refuse(known)

    before(patient.model, tensors_only)
    found = caught(patient, "unknown-input")
    assert found.measured == 1
    assert "a mistyped mask raises ValueError, a cache by another name is swallowed" in found.meaning


def test_an_unknown_input_that_is_read_is_noticed(subject):
    patient = subject("encoder")

    def mend(keywords):
        if (mask := keywords.pop("atention_mask", None)) is not None:
            keywords["attention_mask"] = mask
        return keywords

    before(patient.model, mend)
    assert "changes the result" in finding(patient, "unknown-input").meaning


# Caches.


@pytest.mark.parametrize("variant", ("encoder-decoder", "decoder"))
def test_a_cache_that_forgets_the_position(subject, variant):
    patient, prefix = subject(variant), "decoder_" if variant == "encoder-decoder" else ""

    def from_zero(keywords):
        return keywords | {f"{prefix}position_ids": torch.arange(keywords[f"{prefix}input_ids"].shape[1])[None]}

    before(patient.model, from_zero)
    assert caught(patient, "cache").measured > 0.1


def test_a_piece_that_sees_itself_behind_a_cache(subject):
    """With one token at a time there is nothing ahead to see."""
    patient = subject("decoder")

    def all_of_it(keywords):
        if (past := keywords.get(CACHE)) is not None:
            rows, length = keywords["input_ids"].shape
            seen = past.get_seq_length()
            keywords["position_ids"] = torch.arange(seen, seen + length)[None]
            keywords["attention_mask"] = torch.ones(rows, 1, length, seen + length, dtype=torch.bool)
        return keywords

    before(patient.model, all_of_it)
    assert caught(patient, "cache").measured > 0.01


@pytest.mark.parametrize("variant", ("encoder-decoder", "decoder"))
def test_a_cache_that_keeps_its_order(subject, variant, monkeypatch):
    monkeypatch.setattr(DynamicCache, "reorder_cache", lambda self, order: None)
    patient = subject(variant)
    assert caught(patient, "cache-reorder").measured > 0.1
    assert finding(patient, "cache").outcome == "pass"


def test_an_error_in_one_check_does_not_end_the_others(subject):
    patient = subject("decoder")

    def refuse(keywords):
        if keywords.get(CACHE) is not None:
            raise RuntimeError("no\ncache\ntoday")
        return keywords

    before(patient.model, refuse)
    found = {f.name: f for f in examine(patient, ["batch", "cache", "future"])}
    assert found["cache"].outcome == "FAIL"
    assert found["cache"].meaning == "stopped with RuntimeError: no cache today"
    assert (found["batch"].outcome, found["future"].outcome) == ("pass", "pass")
