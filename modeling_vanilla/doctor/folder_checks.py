# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What must agree between a model, its folder, its configurations and its tokenizer."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedModel

from .subject import Measure, Skip, Subject, difference

SAMPLE = "The quick brown fox jumps over the lazy dog."
FLOATS = ("F16", "BF16", "F32", "F64")  # as safetensors calls them


def count(wrong: Iterable[str], note: str = "") -> Measure:
    """Return how many things are wrong, with the first two of them; none may be."""
    wrong = list(wrong)
    more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
    return Measure(len(wrong), 0, ", ".join(wrong[:2]) + more if wrong else note)


def weights(s: Subject) -> Measure:
    """Look for weights that the folder lacks or that are not what its files hold, and for layers that are left over."""
    wrong = [f"{key} is missing" for key in sorted(s.report.get("missing_keys", ()))]
    wrong += [f"{entry[0]} has another size" for entry in s.report.get("mismatched_keys", ())]
    numbers = re.compile(r"\.\d+\.")
    known = {numbers.sub(".N.", key) for key in s.model.state_dict()}
    unexpected = sorted(s.report.get("unexpected_keys", ()))
    wrong += [f"{key} is ignored" for key in unexpected if numbers.search(key) and numbers.sub(".N.", key) in known]
    wrong += [f"{key} is not what the file holds" for key in _changed(s)]
    return count(wrong, f"{len(unexpected)} unused" if unexpected else "")


def _changed(s: Subject) -> list[str]:
    """Name the weights that are other numbers than their file's; read anew, without the loader of transformers."""
    from safetensors import safe_open  # of transformers itself

    held, changed = s.model.state_dict(), []
    for path in s.weight_files:
        with safe_open(path, framework="pt") as file:
            for key in sorted(held.keys() & file.keys()):
                entry = file.get_slice(key)
                # Numbers of other types are no plain weights; another size is in the report of loading.
                if entry.get_dtype() not in FLOATS or entry.get_shape() != [*held[key].shape]:
                    continue
                stored = file.get_tensor(key).to(held[key])
                if not torch.allclose(held[key], stored, rtol=0, atol=0, equal_nan=True):
                    changed.append(key)
    return changed


def finite(s: Subject) -> Measure:
    """Count the weights that are NaN or infinite, and buffers that hold NaN: a mask may hold -inf."""
    wrong = {name: int((~value.isfinite()).sum()) for name, value in s.model.named_parameters()}
    wrong |= {name: int(value.isnan().sum()) for name, value in s.model.named_buffers()}
    named = [name for name, number in wrong.items() if number]
    return Measure(sum(wrong.values()), 0, f"in {', '.join(named[:2])}" if named else "")


def _tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def _unlike(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> list[str]:
    """Name the tensors that are not the same to the bit; NaN equals NaN."""
    wrong = sorted(got.keys() ^ expected.keys())
    for name in got.keys() & expected.keys():
        a, b = got[name], expected[name]
        if a.shape != b.shape or a.dtype != b.dtype or not torch.allclose(a, b, rtol=0, atol=0, equal_nan=True):
            wrong.append(name)
    return wrong


def save_load(s: Subject) -> Measure:
    """Save and load; compare buffers with a new model's too: what is in no file has to be computed again."""
    again = s.reloaded
    wrong = [f"{name} changed" for name in _unlike(_tensors(again.model), _tensors(s.model))]
    outside = dict(s.model.named_buffers()).keys() - s.model.state_dict().keys()
    new, old = dict(s.fresh.named_buffers()), dict(s.model.named_buffers())
    computed = {name: new[name] for name in outside & new.keys()}
    for name in _unlike({name: old[name] for name in computed}, computed):
        wrong.append(f"{name} is not what the constructor computes")
    for kind in ("missing_keys", "unexpected_keys"):
        wrong += [f"{key} is in {kind}" for key in sorted(again.report.get(kind, ()))]
    ids = s.ids(2, s.lengths[0])
    if not wrong and difference(again.scores(ids), s.scores(ids)) > 0:
        wrong.append("the output changed")
    return count(wrong, f"{len(_tensors(s.model))} tensors")


def _shared(model: Any) -> dict[str, bool]:
    """Say of each pair of tensors that the config ties whether they share memory."""
    tensors = _tensors(model)
    pairs = model.get_expanded_tied_weights_keys(all_submodels=True)
    return {
        f"{target} and {source}": tensors[target].data_ptr() == tensors[source].data_ptr()
        for target, source in pairs.items()
        if target in tensors and source in tensors
    }


def tied(s: Subject) -> Measure:
    """Compare what the config says about tying with the memory, before and after a round trip."""
    says, wrong = bool(getattr(s.model.config, "tie_word_embeddings", False)), []
    has_ties = False
    models: dict[str, Any] = {"": s.model, " after loading again": s.reloaded.model}
    for when, model in models.items():
        pairs = _shared(model)
        inner, outer = model.get_input_embeddings().weight, model.get_output_embeddings()
        has_ties |= bool(pairs) or outer is not None
        wrong += [f"{pair} are two tensors{when}" for pair, together in pairs.items() if not together]
        if outer is not None and not wrong:
            together = outer.weight.data_ptr() == inner.data_ptr()
            if together != says:
                wrong.append(f"input and output embeddings are {'one tensor' if together else 'two tensors'}{when}")
    if not has_ties:
        raise Skip("nothing to tie: no output embeddings")
    return count(wrong, f"tie_word_embeddings={says}")


def _ids(value: int | list[int] | None) -> set[int]:
    return set() if value is None else set(value) if isinstance(value, list) else {value}


def special_ids(s: Subject) -> Measure:
    """Compare the special ids of config, generation config and tokenizer with each other and with the vocabulary."""
    config = s.core.config
    settings = getattr(s.core, "generation_config", None) if s.core.can_generate() else None
    roles = ["pad", "bos", "eos"] + ["decoder_start"] * (s.layout == "encoder-decoder")
    wrong, notes, ends = [], [], set()
    for role in roles:
        name = f"{role}_token_id"
        configured, generating = (_ids(getattr(holder, name, None)) for holder in (config, settings))
        known, text = configured | generating, _ids(getattr(s.tokenizer, name, None))
        everyone = {"config": configured, "generation_config": generating, "tokenizer": text}
        for holder, values in everyone.items():
            outside = [value for value in sorted(values) if not 0 <= value < s.rows]
            wrong += [f"{holder}'s {name} {value} is not in 0..{s.rows - 1}" for value in outside]
        if configured and generating and not configured <= generating:
            wrong.append(f"{name} is {sorted(configured)} in config, {sorted(generating)} in generation_config")
        if text and known and not text <= known:
            wrong.append(f"{name} is {sorted(known)} in the configs, {sorted(text)} in the tokenizer")
        ends = known if role == "eos" else ends
    pads = _ids(config.pad_token_id)
    starts = [
        getattr(holder, f"{role}_token_id", None) for holder in (config, settings) for role in ("decoder_start", "bos")
    ]
    if settings and s.layout == "encoder-decoder" and not any(map(_ids, starts)):
        wrong.append("neither decoder_start_token_id nor bos_token_id")
    if not pads:
        notes.append("no pad_token_id")
    elif pads & ends:
        notes.append("pad is eos: labels that hide padding hide the end too")
    return count(wrong, "; ".join(notes))


def _letters(text: str) -> str:
    """Return what of a text has to come back: spaces and capitals may get lost."""
    return "".join(text.casefold().split())


def tokenizer(s: Subject) -> Measure:
    """Compare the tokenizer's ids with the embedding, and take a sentence to ids and back."""
    if (s.tokenizer_error or "").startswith("ImportError"):
        raise Skip(s.tokenizer_error)
    if s.tokenizer_error:
        return Measure(1, 0, s.tokenizer_error)
    if s.tokenizer is None:
        raise Skip("the folder holds no tokenizer")
    wrong, ids = [], s.tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
    if len(s.tokenizer) > s.rows:
        wrong.append(f"{len(s.tokenizer)} tokens for {s.rows} embeddings")
    largest = max([*s.tokenizer.get_vocab().values(), *ids])
    if largest >= s.rows:
        wrong.append(f"id {largest} has no embedding")
    if not ids or s.tokenizer.unk_token_id in ids:
        return count(wrong, "no round trip: it does not know the words of the sample")
    again = s.tokenizer(s.tokenizer.decode(ids), add_special_tokens=False)["input_ids"]
    # The sentence itself too: what is lost on the way in is lost again the second time.
    if again != ids or _letters(s.tokenizer.decode(ids)) != _letters(SAMPLE):
        wrong.append(f"{SAMPLE!r} comes back as {s.tokenizer.decode(ids)!r}")
    return count(wrong, f"{len(s.tokenizer)} tokens for {s.rows} embeddings")
