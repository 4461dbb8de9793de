# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Greedy search, sampling and beam search (Vaswani et al. 2017, sec. 6.1), for `generate(custom_generate=search)`.

Tokens and scores are those of transformers' own search; what is computed for them is less: see `decoding_cache`. Sources
that are done leave the batch. What is not handled here is handed to transformers.
Dimension letters: B sources, N beams of each, P prompt tokens, T tokens that may be written, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation import (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
    GenerationMode,
)

from .decoding_cache import StepDecoder, best
from .decoding_limits import OwnLimit, hand_over, leaves_no_trace, search_of, unhandled

NEVER = -1.0e9
"""The score of what may not be chosen, as in transformers."""
LEAVE = 0.75
"""Sources leave the batch when at most this share of it goes on: leaving copies the cache of those that stay."""


def search(
    model,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria,
    generation_config: GenerationConfig,
    length_penalty_form: Literal["hf", "paper"] = "hf",
    is_interrupted: Callable[[], bool] | None = None,
    streamer: Any = None,
    **kwargs,
):
    """Search as `generate(custom_generate=search)` was asked to: same tokens, same scores; no cache is returned.

    Args:
        model: Any; what is no Vanilla model with a decoder goes to transformers' search.
        input_ids: (B * N, P), or what a translator has written so far, (B * N, 1).
        length_penalty_form: What divides the sum of the log-probabilities of n tokens: "hf" n^a, "paper"
            ((5 + n) / 6)^a (Wu et al. 2016, eq. 14; Vaswani et al. 2017, sec. 6.1: beam 4, a = 0.6).
        is_interrupted: Asked at every step; True ends the search where it is.
        streamer: With one the search is transformers'.

    Raises:
        ValueError: An unknown form, or the paper's for a search that transformers has to do.
    """
    divisor(1, 1.0, length_penalty_form)
    kwargs |= dict(logits_processor=logits_processor, generation_config=generation_config)
    kwargs |= {} if streamer is None else {"streamer": streamer}
    searching = search_of(model)
    if searching is not None:
        options = dict(length_penalty_form=length_penalty_form, is_interrupted=is_interrupted)
        return searching(model, input_ids, stopping_criteria=stopping_criteria, **options, **kwargs)
    mode = generation_config.get_generation_mode()
    others = {name: value for name, value in kwargs.items() if name not in ("logits_processor", "generation_config")}
    reason = unhandled(model, input_ids, stopping_criteria, generation_config, others)
    if reason is not None:
        if length_penalty_form != "hf" and mode in (GenerationMode.BEAM_SEARCH, GenerationMode.BEAM_SAMPLE):
            raise ValueError(
                f"length_penalty_form={length_penalty_form!r} must be 'hf' for a search that is left to transformers, "
                f"as with {reason}"
            )
        return hand_over(model, input_ids, stopping_criteria, is_interrupted, kwargs)
    limits = next((one.limits for one in stopping_criteria if isinstance(one, OwnLimit)), None)
    job = Job(model, input_ids, kwargs, limits)
    job.form, job.is_interrupted = length_penalty_form, is_interrupted
    return beam_search(job) if mode == GenerationMode.BEAM_SEARCH else one_by_one(job)


def divisor(written: int, penalty: float, form: str) -> float:
    """Return what divides the score of so many tokens; see `search`."""
    if form not in ("hf", "paper"):
        raise ValueError(f"length_penalty_form={form!r} must be 'hf' or 'paper'")
    return ((5 + written) / 6 if form == "paper" else written) ** penalty


class Job:
    """One search: where it starts, and when it ends.

    Attributes:
        decoder: Reads tokens (B, N), gives logits (B * N, V).
        first: Logits (B, V) of the first token, where the prompt was read for them; else None.
        ids: (B, P).
        size: P + T.
        ends: The end tokens, maybe none.
        limits: (B,), numbers of tokens at which sources end, or None.
    """

    form: str = "hf"
    is_interrupted: Callable[[], bool] | None = None

    def __init__(self, model, input_ids: torch.Tensor, kwargs: dict, limits):
        config: GenerationConfig = kwargs["generation_config"]
        self.config, self.processors = config, kwargs["logits_processor"]
        self.beams = config.num_beams or 1
        self.ids = input_ids[:: self.beams]
        self.prompt, self.size = self.ids.shape[1], config.max_length
        self.is_translator = model.config.is_encoder_decoder
        mask = kwargs.get("attention_mask")
        mask = None if mask is None else mask[:: self.beams]
        steps = self.size - self.prompt
        self.first: torch.Tensor | None = None
        if self.is_translator:
            memory = kwargs["encoder_outputs"].last_hidden_state[:: self.beams]
            self.decoder = StepDecoder.of_translator(model, self.beams, steps, memory, mask)
        else:
            self.decoder, self.first = StepDecoder.of_writer(model, self.beams, steps, self.ids, mask)
        ends = config._eos_token_tensor
        self.ends = torch.empty(0, dtype=torch.long) if ends is None else ends
        self.ends = self.ends.to(self.ids.device)
        self.pad = None if config._pad_token_tensor is None else int(config._pad_token_tensor)
        self.limits = None if limits is None else limits.to(self.ids.device)
        # A processor that knows the rows by number, or draws in their order, needs all of them to the end.
        keeps_scores = config.return_dict_in_generate and config.output_scores
        self.may_leave = not (config.do_sample or keeps_scores) and all(map(leaves_no_trace, self.processors))

    def next_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits (B * N, V) behind tokens (B, N), in fp32."""
        logits, self.first = self.first, None
        if logits is None:
            return self.decoder.step(tokens).float()
        return logits.float().repeat_interleave(self.beams, 0)

    def ended(self, tokens: torch.Tensor, written: int) -> torch.Tensor:
        """Tell which tokens (B, ...), the last of so many written ones, end what they stand in."""
        if self.prompt + written >= self.size or (self.is_interrupted is not None and self.is_interrupted()):
            return torch.ones_like(tokens, dtype=torch.bool)
        ended = torch.isin(tokens, self.ends)
        if self.limits is None:
            return ended
        return ended | self.limits.le(written).view(-1, *[1] * (tokens.dim() - 1))

    def stay(self, rows: torch.Tensor) -> None:
        """Go on with these sources alone."""
        self.decoder.keep(rows)
        self.limits = None if self.limits is None else self.limits[rows]

    def penalty(self, written: int) -> float:
        """Return what divides the score of so many tokens."""
        return divisor(written, self.config.length_penalty, self.form)


def one_by_one(job: Job):
    """Write the likeliest token at each step, or one that is drawn (greedy search, sampling)."""
    config, ids, prompt = job.config, job.ids, job.prompt
    pad = -1 if job.pad is None else job.pad  # without an end token nothing is padded
    sequences = torch.full((len(ids), job.size), pad, dtype=torch.long, device=ids.device)
    sequences[:, :prompt] = ids
    rows = torch.arange(len(ids), device=ids.device)
    done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    tokens, scores, length = ids[:, -1], [], prompt
    while True:
        values = job.next_logits(tokens[:, None])
        if job.processors:
            values = job.processors(sequences[rows, :length], values)
        if config.return_dict_in_generate and config.output_scores:
            scores.append(values)
        if config.do_sample:
            tokens = torch.multinomial(values.softmax(-1), num_samples=1).squeeze(1)
        else:
            tokens = values.argmax(-1)
        if len(job.ends):
            tokens = tokens.masked_fill(done, pad)
        sequences[rows, length] = tokens
        length += 1
        done = done | job.ended(tokens, length - prompt)
        left = len(done) - int(done.sum())
        if left == 0:
            break
        if job.may_leave and left <= LEAVE * len(done):
            going = (~done).nonzero()[:, 0]
            job.stay(going)
            rows, tokens, done = rows[going], tokens[going], done[going]
    sequences = sequences[:, :length]
    if not config.return_dict_in_generate:
        return sequences
    output = GenerateEncoderDecoderOutput if job.is_translator else GenerateDecoderOnlyOutput
    return output(sequences=sequences, scores=tuple(scores) if scores else None)


@dataclass
class Beams:
    """The hypotheses of each source: those that go on, and the best that have ended.

    A path says which beam of the batch each token came from, as transformers numbers them; -1 behind the end.

    Attributes:
        going: (B, N, P + T), with `scores` (B, N) and `paths` (B, N, T).
        ended: (B, N, P + T), with `ended_scores`, `ended_paths`, and `is_ended` (B, N), which of them are real.
        open: (B, 1), whether one that goes on may still come to be among the best.
        rows: (B,), the numbers of the sources in the whole batch.
    """

    going: torch.Tensor
    scores: torch.Tensor
    paths: torch.Tensor
    ended: torch.Tensor
    ended_scores: torch.Tensor
    ended_paths: torch.Tensor
    is_ended: torch.Tensor
    open: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def start(cls, job: Job) -> "Beams":
        """Return N times the prompt: only the first counts, or all would write the same."""
        shape, device = (len(job.ids), job.beams), job.ids.device
        fill = job.pad or int(job.ends[0]) if len(job.ends) else -1
        going = torch.full((*shape, job.size), fill, dtype=torch.long, device=device)
        going[:, :, : job.prompt] = job.ids[:, None]
        scores = torch.zeros(shape, device=device)
        scores[:, 1:] = NEVER
        paths = torch.full((*shape, job.size - job.prompt), -1, dtype=torch.int32, device=device)
        never, no = torch.full(shape, NEVER, device=device), torch.zeros(shape, dtype=torch.bool, device=device)
        rows = torch.arange(len(job.ids), device=device)
        return cls(going, scores, paths, going.clone(), never, paths.clone(), no, ~no[:, :1], rows)

    def of(self, rows: torch.Tensor) -> "Beams":
        """Return those of some sources."""
        return Beams(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def put(self, rows: torch.Tensor, other: "Beams") -> None:
        """Set what has ended at some places."""
        for name in ("ended", "ended_scores", "ended_paths", "is_ended"):
            getattr(self, name)[rows] = getattr(other, name)


def beam_search(job: Job):
    """Keep the N best hypotheses of each source at each step (Wu et al. 2016, sec. 7)."""
    config, count = job.config, max(2, 1 + len(job.ends)) * job.beams
    beams = Beams.start(job)
    results, length, scores = beams.of(beams.rows), job.prompt, []
    while True:
        values = job.next_logits(beams.going[:, :, length - 1]).log_softmax(-1)  # (B * N, V)
        if job.processors:
            values = job.processors(beams.going[:, :, :length].flatten(0, 1), values)
        if config.return_dict_in_generate and config.output_scores:
            scores.append(values)
        totals, parents, tokens = continuations(values, beams.scores, count)  # (B, count) each
        hits = job.ended(tokens, length + 1 - job.prompt)
        finish(job, beams, totals, parents, tokens, hits, length)
        chosen = advance(job, beams, totals, parents, tokens, hits, length)
        length += 1
        going = (still_open(job, beams, length) & ~hits.all(-1)) if length < job.size else torch.zeros_like(hits[:, 0])
        left = int(going.sum())
        if left == 0:
            results.put(beams.rows, beams)
            break
        job.decoder.follow(chosen)
        if job.may_leave and left <= LEAVE * len(going):
            gone, stay = (~going).nonzero()[:, 0], going.nonzero()[:, 0]
            results.put(beams.rows[gone], beams.of(gone))
            beams = beams.of(stay)
            job.stay(stay)
    return answer(job, results, scores)


def continuations(values: torch.Tensor, scores: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """Return the best ways on of each source: their totals, the beams that they come from, their tokens, (B, count).

    Args:
        values: (B * N, V), log-probabilities of the next token.
        scores: (B, N), those so far.
    """
    rows, beams = scores.shape
    size = min(count, values.shape[-1])
    top, tokens = best(values, size)  # of each beam: no more of one can be among the best of its source
    totals = (top.view(rows, beams, size) + scores[:, :, None]).flatten(1)
    totals, places = totals.topk(count, -1)
    return totals, places // size, tokens.view(rows, -1).gather(1, places)


def grown(old: torch.Tensor, parents: torch.Tensor, values: torch.Tensor, place: int) -> torch.Tensor:
    """Return hypotheses (B, M, ...) that go on from beams (B, M) of `old`, with one more value at a place."""
    new = old.gather(1, parents[:, :, None].expand(-1, -1, old.shape[2]))
    new[:, :, place] = values
    return new


def numbered(beams: Beams, parents: torch.Tensor) -> torch.Tensor:
    """Number beams as transformers does: through the whole batch."""
    return (parents + beams.rows[:, None] * beams.scores.shape[1]).int()


def finish(job: Job, beams: Beams, totals, parents, tokens, hits, length: int) -> None:
    """Put those of the N best ways on that end among the ended ones, and keep the N best of these."""
    ended = hits & (torch.arange(hits.shape[1], device=hits.device) < job.beams)
    if not ended.any():
        return
    closed = ~beams.open
    if job.config.early_stopping is True:
        closed = closed | beams.is_ended.all(-1, keepdim=True)
    scores = totals / job.penalty(length + 1 - job.prompt) + (~ended | closed) * NEVER
    scores, order = torch.cat([beams.ended_scores, scores], 1).topk(job.beams, -1)
    place = length - job.prompt
    for name, new in (
        ("ended", grown(beams.going, parents, tokens, length)),
        ("ended_paths", grown(beams.paths, parents, numbered(beams, parents), place)),
    ):
        both = torch.cat([getattr(beams, name), new], 1)
        setattr(beams, name, both.gather(1, order[:, :, None].expand(-1, -1, both.shape[2])))
    beams.is_ended = torch.cat([beams.is_ended, ended], 1).gather(1, order)
    beams.ended_scores = scores


def advance(job: Job, beams: Beams, totals, parents, tokens, hits, length: int) -> torch.Tensor:
    """Go on with the N best ways that do not end; return the beams (B, N) that they come from."""
    beams.scores, order = (totals + hits * NEVER).topk(job.beams, -1)
    chosen = parents.gather(1, order)
    beams.going = grown(beams.going, chosen, tokens.gather(1, order), length)
    beams.paths = grown(beams.paths, chosen, numbered(beams, chosen), length - job.prompt)
    return chosen


def still_open(job: Job, beams: Beams, length: int) -> torch.Tensor:
    """Tell for each source (B,) whether its search goes on, by the rules of `early_stopping`."""
    early, penalty = job.config.early_stopping, job.config.length_penalty
    written = job.size - job.prompt if early == "never" and penalty > 0 else length - job.prompt
    possible = beams.scores[:, :1] / job.penalty(written)
    worst = torch.where(beams.is_ended, beams.ended_scores.amin(1, keepdim=True), NEVER)
    beams.open = beams.open & (possible > worst).any(-1, keepdim=True)
    going = beams.open[:, 0]
    return going & ~beams.is_ended.all(-1) if early is True else going


def answer(job: Job, results: Beams, scores: list[torch.Tensor]) -> Any:
    """Return the best ended hypotheses in the form that the caller of `generate` asked for."""
    config, number = job.config, job.config.num_return_sequences or 1
    paths = results.ended_paths[:, :number].flatten(0, 1)
    written = int(paths.ge(0).sum(-1).max())
    sequences = results.ended[:, :number].flatten(0, 1)[:, : job.prompt + written]
    if not config.return_dict_in_generate:
        return sequences
    output = GenerateBeamEncoderDecoderOutput if job.is_translator else GenerateBeamDecoderOnlyOutput
    values = results.ended_scores[:, :number].flatten() if config.output_scores else None
    return output(
        sequences=sequences,
        sequences_scores=values,
        scores=tuple(scores) if scores else None,
        beam_indices=paths[:, :written],
    )
