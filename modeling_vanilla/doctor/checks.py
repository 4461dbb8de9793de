# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What must not change a model's logits: padding, company, kernel, cache, packing, the future; and what its loss is.

Dimension letters: B batch, S source length, T length, V vocabulary.
"""

import torch
from torch.nn import functional as F

from ..losses import IGNORE
from .subject import LIMIT, Measure, Skip, Subject, difference


def worst(parts: dict[str, float]) -> Measure:
    """Return the largest of several differences; the note has those that are too large, where there are several."""
    wrong = {name: value for name, value in parts.items() if not value <= LIMIT}
    note = ", ".join(f"{name} {value:.1e}" for name, value in wrong.items()) if len(parts) > 1 else ""
    return Measure(max(parts.values()), note=note)


def pad(rows: list[torch.Tensor], side: str, filler: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask (B, T) of rows (1, ...) that are filled up on one side, from the ids of `filler`."""
    longest = max(row.shape[1] for row in rows)
    ids, masks = [], []
    for row in rows:
        empty = filler[:, : longest - row.shape[1]]
        parts = [(empty, 0), (row, 1)] if side == "left" else [(row, 1), (empty, 0)]
        ids.append(torch.cat([part for part, _ in parts], 1))
        masks.append(torch.cat([torch.full_like(part, real) for part, real in parts], 1))
    return torch.cat(ids), torch.cat(masks)


def texts(s: Subject, salt: int = 0) -> list[torch.Tensor]:
    """Return a long and a short row, (1, T + padding) and (1, T)."""
    length, width = s.lengths
    return [s.ids(1, length + width, salt), s.ids(1, length, salt + 1)]


def sides(s: Subject) -> list[str]:
    """Return where padding can stand: the text; or the source, and the target if it can have a mask."""
    if s.layout != "encoder-decoder":
        return ["text"]
    return ["source", "target"] if s.accepts("decoder_attention_mask") else ["source"]


def in_batch(s: Subject, part: str, side: str, filler: torch.Tensor) -> torch.Tensor:
    """Return the logits (N, V) of all real places of two texts in one padded batch."""
    rows = texts(s)
    ids, mask = pad(rows, side, filler)
    if part == "text":
        return s.scores(ids, mask)[mask.bool()]
    if part == "source":
        return s.scores(ids, mask, target=s.ids(2, 6, salt=7)).flatten(0, 1)
    source = s.ids(2, s.lengths[0], salt=5)
    return s.scores(source, target=ids, target_mask=mask)[mask.bool()]


def alone(s: Subject, part: str) -> torch.Tensor:
    """Return the logits (N, V) of the same texts, each alone and without padding."""
    target, source, logits = s.ids(2, 6, salt=7), s.ids(2, s.lengths[0], salt=5), []
    for number, row in enumerate(texts(s)):
        at = slice(number, number + 1)
        if part == "text":
            logits.append(s.scores(row))
        else:
            logits.append(s.scores(row, target=target[at]) if part == "source" else s.scores(source[at], target=row))
    return torch.cat([one[0] for one in logits])


def padding(s: Subject, side: str) -> Measure:
    """Compare padded texts with the same texts alone."""
    filler = torch.full((1, s.lengths[1]), s.padding)
    return worst({part: difference(in_batch(s, part, side, filler), alone(s, part)) for part in sides(s)})


def left_padding(s: Subject) -> Measure:
    """forward() with a mask and without position_ids, at the real tokens."""
    return padding(s, "left")


def right_padding(s: Subject) -> Measure:
    """The same on the other side."""
    return padding(s, "right")


def padding_values(s: Subject) -> Measure:
    """Put padding, or ordinary ids, under the mask."""
    usual, other = torch.full((1, s.lengths[1]), s.padding), s.ids(1, s.lengths[1], salt=3)
    return worst(
        {
            f"{part} {side}": difference(in_batch(s, part, side, other), in_batch(s, part, side, usual))
            for part in sides(s)
            for side in ("left", "right")
        }
    )


def batch(s: Subject) -> Measure:
    """Compare each row of a batch with the row alone, and the batch with itself in another order."""
    ids, target, order = s.ids(4, s.lengths[0]), s.ids(4, 6, salt=7), torch.tensor([2, 0, 3, 1])
    together = s.scores(ids, target=target)
    # A model that reads nothing agrees with itself in this and most other checks.
    if difference(s.scores(ids[order], target=target), together) == 0:
        return Measure(torch.nan, note="another text gives the same: it is not read")
    separate = torch.cat([s.scores(ids[i : i + 1], target=target[i : i + 1]) for i in range(4)])
    shuffled = s.scores(ids[order], target=target[order])
    return worst({"alone": difference(together, separate), "order": difference(shuffled, together[order])})


def wrong_mask(s: Subject) -> Measure:
    """Give a mask that is three places short; only an error is right."""
    ids = s.ids(2, s.lengths[0])
    try:
        s.scores(ids, torch.ones_like(ids)[:, :-3])
    except Exception as error:  # noqa: BLE001 - whatever a model says to it
        return Measure(0, 0, f"it raises {type(error).__name__}")
    return Measure(1, 0)


def empty_row(s: Subject) -> Measure:
    """Mask all of a row, as a collator does that fills up a batch; every kernel must give numbers."""
    ids = s.ids(2, s.lengths[0])
    mask = torch.ones_like(ids)
    mask[1] = 0
    return Measure(int((~s.scores(ids, mask).isfinite()).sum()), 0)


def kernels(s: Subject) -> Measure:
    """Compare the attention kernels eager and sdpa over padding on both sides, and over an empty row."""
    if not s.core._supports_sdpa:
        raise Skip(f"{type(s.core).__name__} has no sdpa attention")
    usual, logits = s.core.config._attn_implementation, {}
    filler = torch.full((1, s.lengths[1]), s.padding)
    try:
        for kernel in ("eager", "sdpa"):
            s.core.set_attn_implementation(kernel)
            if s.core.config._attn_implementation != kernel:
                raise Skip(f"{type(s.core).__name__} cannot change its attention kernel")
            logits[kernel] = torch.cat([in_batch(s, p, side, filler) for p in sides(s) for side in ("left", "right")])
            if empty_row(s).value:
                return Measure(torch.inf, note=f"{kernel} is not finite for a row without a token")
    finally:
        s.core.set_attn_implementation(usual)
    return Measure(difference(logits["sdpa"], logits["eager"]))


@torch.enable_grad()
def future(s: Subject) -> Measure:
    """Differentiate the logits up to a place by the vectors after it, without a mask and with one."""
    if s.layout == "encoder":
        raise Skip("an encoder reads the whole text")
    name = "decoder_inputs_embeds" if s.layout == "encoder-decoder" else "inputs_embeds"
    if not s.accepts(name):
        raise Skip(f"forward() takes no {name}")
    length, share = s.lengths[0], 0.0
    core = s.core.get_decoder() if s.layout == "encoder-decoder" else s.core
    vectors = core.get_input_embeddings()(s.ids(2, length)).detach().requires_grad_()  # (B, T, D)
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, -2:] = 0
    before = {"input_ids": s.ids(2, length, salt=5)} if s.layout == "encoder-decoder" else {}
    masks = ("decoder_attention_mask",) if s.layout == "encoder-decoder" else ("attention_mask",)
    for padding_mask in (None, mask):
        more = {masks[0]: padding_mask} if padding_mask is not None and s.accepts(masks[0]) else {}
        logits = s.read(s.core(**before, **more, **{name: vectors}))
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(s.seed))
        for last in (0, length // 2, length - 3):
            seen = (logits * weights)[:, : last + 1].sum()
            (gradient,) = torch.autograd.grad(seen, vectors, retain_graph=True)
            if not gradient.any() or not gradient.isfinite().all():
                return Measure(torch.nan, 0, "the gradient is 0 or not finite")
            share = max(share, float(gradient[:, last + 1 :].abs().max() / gradient.abs().max()))
    return Measure(share, 0)


def packing(s: Subject) -> Measure:
    """Put three texts into one row with positions that restart."""
    if s.layout != "decoder":
        raise Skip("packing is for a decoder alone")
    if not s.accepts("position_ids"):
        raise Skip("forward() takes no position_ids")
    if not s.core._supports_attention_backend:
        raise Skip(f"{type(s.core).__name__} does not build its mask from position_ids")
    ids = s.ids(1, s.lengths[0])
    parts = ids.split([2, s.lengths[0] - 3, 1], dim=1)
    positions = torch.cat([torch.arange(part.shape[1]) for part in parts])[None]
    packed = s.scores(ids, position_ids=positions, use_cache=False)
    return Measure(difference(packed, torch.cat([s.scores(part, use_cache=False) for part in parts], 1)))


def likelihood(logits: torch.Tensor, labels: torch.Tensor, shift: int) -> float:
    """Return the mean loss of labels (B, T) in nats where logits (B, T, V) at t predict the label at t + shift."""
    last = logits.shape[1]
    logits = logits[:, max(0, -shift) : last - max(0, shift)]
    labels = labels[:, max(0, shift) : last + min(0, shift)]
    return float(F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE))


def labelled(s: Subject, labels: torch.Tensor):
    """Call a language model with labels (B, T)."""
    if not s.head:
        raise Skip(f"{type(s.model).__name__} has no language modelling head")
    source = s.ids(2, s.lengths[0], salt=5)
    if s.head == "seq2seq":  # the target is made from the labels
        return s.core(input_ids=source, labels=labels)
    return s.core(input_ids=s.ids(2, s.lengths[0]), labels=labels)


def targets(s: Subject, labels: torch.Tensor) -> list[torch.Tensor]:
    """Return what a decoder may read to predict labels (B, T): its start, then the labels before each place."""
    before = labels.masked_fill(labels == IGNORE, s.padding)[:, :-1]
    # mBART starts with the language, which is its last label.
    last = torch.stack([row[row != IGNORE][-1:] for row in labels])
    config, settings = s.core.config, getattr(s.core, "generation_config", None)
    named = [getattr(holder, "decoder_start_token_id", None) for holder in (config, settings)]
    starts = [torch.full_like(last, start) for start in named if isinstance(start, int)]
    return [torch.cat([start, before], 1) for start in (*starts, last)]


def label_alignment(s: Subject) -> Measure:
    """Recompute the loss from the logits with each alignment; and the logits from what may be read without labels."""
    right = {"causal": 1}.get(s.head, 0)
    for salt in (0, 11, 12):
        labels = s.ids(2, s.lengths[0], salt)
        labels[0, 1] = labels[1, -1] = IGNORE  # not the first, which stands for padding on the left in some models
        out = labelled(s, labels)
        logits = s.read(out)
        expected = {shift: likelihood(logits, labels, shift) for shift in (-1, 0, 1)}
        if all(abs(expected[right] / value - 1) > LIMIT for shift, value in expected.items() if shift != right):
            break
    else:
        raise Skip("every alignment has the same loss: the model gives all tokens alike")
    errors = {shift: abs(float(out.loss) / value - 1) for shift, value in expected.items()}
    best = min(errors, key=lambda shift: errors[shift])
    moved = best != right and errors[best] <= LIMIT  # false for NaN
    note = f"it is that of labels moved by {best}, not by {right}" if moved else ""
    if s.head == "seq2seq":
        source = s.ids(2, s.lengths[0], salt=5)
        plain = min(difference(logits, s.scores(source, target=target)) for target in targets(s, labels))
        change = "the logits are not those of the start and the labels before each place"
        other, middle = labels.clone(), s.lengths[0] // 2
        other[:, middle] = labels[:, middle - 1].where(labels[:, middle - 1] != labels[:, middle], labels[:, 2])
        if difference(s.read(labelled(s, other))[:, : middle + 1], logits[:, : middle + 1]) > LIMIT:
            change = "the target holds the label that it predicts"
    else:
        plain = difference(logits, s.scores(s.ids(2, s.lengths[0])))
        change = "the logits depend on the labels"
    return Measure(max(errors[right], plain), note=change if plain > LIMIT else note)


def ignored_labels(s: Subject) -> Measure:
    """Give a batch in which every label is -100."""
    loss = labelled(s, torch.full((2, s.lengths[0]), IGNORE)).loss
    return Measure(int(not loss.isfinite().all()), 0, f"the loss is {float(loss):.3g}")
