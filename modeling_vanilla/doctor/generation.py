# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What a cache and `generate` must not change, each compared with whole passes that know neither; and unknown inputs.

`generate` hands the cache over under a name of its own, which transformers 5.24 changed. The checks here use that name,
and their other side uses no cache at all: two results that both need the cache are wrong alike when it is lost.

Dimension letters: B batch, T length, N new tokens, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from ..cache_name import CACHE
from .checks import pad
from .subject import LIMIT, Measure, Skip, Subject, difference

STEPS = 6
"""New tokens of a text, where its positions allow so many."""


class Steps:
    """A decoder that is fed in pieces, with a cache."""

    def __init__(self, s: Subject, rows: int):
        if s.layout == "encoder":
            raise Skip("an encoder has no cache")
        self.s, self.cache, self.length = s, None, 0
        self.source = s.ids(rows, s.lengths[0], salt=5)
        self.memory = s.core.get_encoder()(self.source) if s.layout == "encoder-decoder" else None

    def reorder(self, order: torch.Tensor) -> None:
        """Take other rows, as beam search does: `order` (B) holds their numbers."""
        if not hasattr(self.cache, "reorder_cache"):
            raise Skip(f"{type(self.cache).__name__} has no reorder_cache")
        self.cache.reorder_cache(order)
        self.source = self.source[order]
        if self.memory is not None:
            self.memory["last_hidden_state"] = self.memory.last_hidden_state[order]

    def feed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, T, V) of the next ids (B, T)."""
        self.length += ids.shape[1]
        inputs: dict[str, Any] = {CACHE: self.cache, "use_cache": True}
        if self.memory is not None:
            mask = torch.ones_like(self.source)
            inputs |= {"encoder_outputs": self.memory, "attention_mask": mask, "decoder_input_ids": ids}
        else:
            inputs |= {"input_ids": ids, "attention_mask": torch.ones(len(ids), self.length, dtype=torch.long)}
        out = self.s.core(**inputs)
        self.cache = getattr(out, CACHE, None)
        if self.cache is None:
            raise Skip(f"{type(self.s.core).__name__} returns no {CACHE}")
        return self.s.read(out)

    def whole(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of all ids (B, T) at once, without a cache."""
        if self.memory is None:
            return self.s.scores(ids, use_cache=False)
        return self.s.scores(self.source, target=ids, use_cache=False)


def cache(s: Subject) -> Measure:
    """Feed a text in pieces of several lengths, and at once."""
    steps, ids = Steps(s, 2), s.ids(2, s.lengths[0])
    half = s.lengths[0] // 2
    pieces = [steps.feed(piece) for piece in ids.split([half, 2] + [1] * (s.lengths[0] - half - 2), dim=1)]
    return Measure(difference(torch.cat(pieces, 1), steps.whole(ids)))


def cache_reorder(s: Subject) -> Measure:
    """Exchange the rows of a cache, and go on."""
    steps, ids, order = Steps(s, 3), s.ids(3, s.lengths[0]), torch.tensor([2, 0, 0])
    steps.feed(ids[:, :-2])
    steps.reorder(order)
    kept = torch.cat([ids[order, :-2], ids[:, -2:]], 1)
    return Measure(difference(steps.feed(ids[:, -2:]), steps.whole(kept)[:, -2:]))


@contextmanager
def plain_settings(s: Subject) -> Iterator[None]:
    """Let `generate` choose the likeliest token and nothing else: no end, no forbidden words, no other search."""
    usual = s.core.generation_config
    starts = {}
    for name in ("bos_token_id", "decoder_start_token_id"):
        token_id = getattr(usual, name, None)
        starts[name] = getattr(s.core.config, name, None) if token_id is None else token_id
    s.core.generation_config = GenerationConfig(pad_token_id=s.padding, **starts)
    try:
        yield
    finally:
        s.core.generation_config = usual


def whole_passes(s: Subject, source: torch.Tensor, text: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the logits (N, V) of each of the last `steps` tokens of a text (1, T), each by a pass over all before it.

    No cache, no padding, no mask; in an encoder-decoder the source (1, S) is encoded anew each time.
    """
    prefixes = [text[:, :end] for end in range(text.shape[1] - steps, text.shape[1])]
    if s.layout == "encoder-decoder":
        return torch.stack([s.scores(source, target=prefix, use_cache=False)[0, -1] for prefix in prefixes])
    return torch.stack([s.scores(prefix, use_cache=False)[0, -1] for prefix in prefixes])


def greedy(s: Subject, rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Generate for rows (1, ...) in one batch with a cache, and pass over what came out without one.

    Returns:
        New tokens (B, N), the logits (B, N, V) they were chosen by, and the logits of whole passes over the same tokens,
        each row alone.
    """
    if not s.head or not s.core.can_generate() or s.layout == "encoder":
        raise Skip(f"{type(s.model).__name__} does not generate")
    width = s.lengths[1]
    ids, mask = pad(rows, padded_side(s), torch.full((1, width), s.padding))
    settings = dict(do_sample=False, num_beams=1, max_new_tokens=min(STEPS, width), use_cache=True)
    with plain_settings(s):
        out = s.core.generate(
            ids.to(s.core.device),
            attention_mask=mask.to(s.core.device),
            return_dict_in_generate=True,
            output_logits=True,
            **settings,
        )
    steps, texts = len(out.logits), out.sequences.cpu()
    if s.layout == "decoder":  # without the padding
        texts = [text[None, ids.shape[1] - row.shape[1] :] for text, row in zip(texts, rows, strict=True)]
    else:
        texts = list(texts.split(1))
    whole = [whole_passes(s, row, text, steps) for row, text in zip(rows, texts, strict=True)]
    new = torch.cat([text[:, -steps:] for text in texts])
    return new, torch.stack(out.logits, 1).float().cpu(), torch.stack(whole)


def padded_side(s: Subject) -> str:
    """Return where a batch is padded for `generate`: a decoder goes on after its last token."""
    return "left" if s.layout == "decoder" else "right"


def apart(s: Subject, logits: torch.Tensor, whole: torch.Tensor) -> float:
    """Return the difference of logits (B, N, V), beside those of other texts: six new tokens may all be one."""
    usual = s.scores(s.ids(2, s.lengths[0], salt=5)).flatten(0, 1)
    return difference(torch.cat([logits.flatten(0, 1), usual]), torch.cat([whole.flatten(0, 1), usual]))


def parted(
    s: Subject, new: torch.Tensor, logits: torch.Tensor, whole: torch.Tensor, limit: float
) -> tuple[float, str]:
    """Return how far the logits (B, N, V) of new tokens (B, N) are from those of whole passes, and where they part.

    Near ties may part: a token counts as wrong by what its logit lacks to the largest.
    """
    best = whole.argmax(-1, keepdim=True)
    chosen = whole.scatter(-1, best, whole.gather(-1, new[..., None]))
    value = max(apart(s, logits, whole), apart(s, chosen, whole))
    wrong = (new != best[..., 0]).nonzero().tolist()
    if value <= limit or not wrong:
        return value, ""
    row, step = min(wrong, key=lambda token: token[1])
    return value, f"new token {step + 1} is {int(new[row, step])}, a whole pass says {int(best[row, step])}"


def generate_forward(s: Subject, limit: float = LIMIT) -> Measure:
    """Compare greedy search with a cache with whole passes without one: a text alone, and two in a padded batch."""
    length, width = s.lengths
    value, note = parted(s, *greedy(s, [s.ids(1, length, salt=1)]), limit)
    if not value <= limit:
        return Measure(value, limit, note)
    new, logits, whole = greedy(s, [s.ids(1, length, salt=1), s.ids(1, length - width // 2, salt=2)])
    # The first step reads no cache: what is wrong there is padding, which the check "generation" is for.
    if not apart(s, logits[:, :1], whole[:, :1]) <= limit:
        return Measure(value, limit, "without padding, which the model cannot have")
    padded, note = parted(s, new, logits, whole, limit)
    return Measure(max(value, padded), limit, note or f"also with padding on the {padded_side(s)}")


def generation(s: Subject) -> Measure:
    """Compare greedy search in a padded batch with whole passes over each row alone."""
    length, width = s.lengths
    value, note = parted(s, *greedy(s, [s.ids(1, length, salt=1), s.ids(1, length - width // 2, salt=2)]), LIMIT)
    return Measure(value, note=f"padding on the {padded_side(s)}" + (f"; {note}" if note else ""))


def unknown_input(s: Subject) -> Measure:
    """Hand over a mask and a cache under names that no model knows; only an error, or another result, is right."""
    length = s.lengths[0]
    ids, half = s.ids(2, length), length // 2
    mask = torch.ones_like(ids)
    mask[:, -3:] = 0
    told = {"a mistyped mask": _told(s, ids, {"atention_mask": mask})}
    if s.layout != "encoder":
        try:
            steps = Steps(s, 2)
            steps.feed(ids[:, :half])
            told["a cache by another name"] = _told(s, ids[:, half:], {"cached_keys_and_values": steps.cache})
        except Skip:  # it has no cache to lose
            pass
    note = ", ".join(f"{name} {reaction or 'is swallowed'}" for name, reaction in told.items())
    return Measure(sum(not reaction for reaction in told.values()), 0, note)


def _told(s: Subject, ids: torch.Tensor, unknown: dict[str, Any]) -> str:
    """Return in words how a call shows that it has seen an input, or nothing."""
    call = {"ids": ids}
    if s.layout == "encoder-decoder":
        call = {"ids": s.ids(len(ids), s.lengths[0], salt=5), "target": ids}
    expected = s.scores(**call)
    try:
        got = s.scores(**call, **unknown)
    except Exception as error:  # noqa: BLE001 - whatever a model says to it
        return f"raises {type(error).__name__}"
    changed = got.shape != expected.shape or difference(got, expected) > 0
    return "changes the result" if changed else ""
