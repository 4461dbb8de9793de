# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The beam search, seen: every hypothesis with its score, where it branched, when it died and why.

A `Recorder` takes what a search does, one token of one hypothesis at a time; any search can fill it. `replay` fills it
from what transformers' search returns, or ours (`decoding.search`): the search is played again on its own scores, with
the same operations, and must end in the same beams and the same score.

Dimension letters: N steps, k beams, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from .labels import labels
from .reading import NEW_TOKENS, longest, read
from .view import Hypothesis, Search

Label = Callable[[int], str]


class Recorder:
    """Takes down a search of one text while it runs.

    Args:
        beams: Hypotheses kept at each step.
        length_penalty: The exponent of the length that divides a finished score.
    """

    def __init__(self, beams: int, length_penalty: float):
        self.tree = Search(beams, length_penalty)
        self.ended: list[int] = []

    def add(self, parent: int | None, label: str, score: float) -> int:
        """Take down a token that a hypothesis could go on with, whether it will be kept or not.

        Args:
            parent: The number that the hypothesis before it got; None at the first step.
            label: The token.
            score: Sum of the logarithms of the probabilities so far, in nats.

        Returns:
            Its number.
        """
        step = 0 if parent is None else self.tree.nodes[parent].step + 1
        self.tree.nodes.append(Hypothesis(parent, step, label, score, "worse"))
        return len(self.tree.nodes) - 1

    def end(self, node: int) -> None:
        """Say that a hypothesis is finished and enters the list of answers."""
        self.ended.append(node)

    def final_score(self, node: int) -> float:
        """Return the score that finished hypotheses are compared by: score / length ** length_penalty."""
        hypothesis = self.tree.nodes[node]
        return hypothesis.score / (hypothesis.step + 1) ** self.tree.length_penalty

    def close(self) -> Search:
        """Give each hypothesis its fate, and return the tree.

        "kept": others grew from it. "winner": the best of the finished. "length": finished, and only the division by the
        length puts it behind the winner. "ended": finished, and worse than the winner without that division too.
        "worse": worse than the k-th of its step, or still open when the search stopped.
        """
        nodes = self.tree.nodes
        for node in nodes:
            if node.parent is not None:
                nodes[node.parent].fate = "kept"
        if self.ended:
            winner = max(self.ended, key=self.final_score)
            for number in self.ended:
                nodes[number].fate = "length" if nodes[number].score > nodes[winner].score else "ended"
            nodes[winner].fate = "winner"
        return self.tree


@dataclass
class Result:
    """One search of one text.

    Attributes:
        text: What it wrote.
        score: Sum of the logarithms of the probabilities of its tokens, the end included, in nats.
        length: How many tokens that are.
        final: score / length ** length_penalty.
        reference: (score, length) of the reference, or None where none is known.
        verdict: What a difference to the reference comes from; see `verdict_on`.
    """

    search: Search
    text: str
    score: float
    length: int
    final: float
    reference: tuple[float, int] | None = None
    verdict: str = ""


def searches(
    model: PreTrainedModel,
    tokenizer: Any,
    text: str,
    target: str | None,
    beams: Sequence[int],
    length_penalties: Sequence[float],
) -> list[Result]:
    """Search one text with each number of beams and each length penalty; a target is the reference.

    Raises:
        ValueError: The model writes nothing; see `search` and `reading.look`.
    """
    reading = read(model, tokenizer, text, target)
    if not reading.written:
        raise ValueError(f"search: {type(model).__name__} writes nothing")
    inputs = {name: value for name, value in reading.inputs.items() if name != "decoder_input_ids"}
    if not model.config.is_encoder_decoder:  # the prompt, without what was written after it
        inputs = {name: value[:, : reading.first + 1] for name, value in inputs.items()}
    reference = None if target is None else reading.written
    most = longest(model, tokenizer)
    begins = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    steps = (model.generation_config.max_new_tokens if model.generation_config else None) or NEW_TOKENS
    steps = steps if most is None else min(steps, most - begins)
    return [
        search(model, tokenizer, inputs, count, penalty, reference, steps)
        for count in beams
        for penalty in length_penalties
    ]


@torch.no_grad()
def search(
    model: PreTrainedModel,
    tokenizer: Any,
    inputs: dict[str, torch.Tensor],
    beams: int,
    length_penalty: float = 1.0,
    reference: Sequence[int] | None = None,
    max_new_tokens: int = 128,
) -> Result:
    """Write with transformers' search, and return its tree.

    Args:
        model: A model that writes.
        tokenizer: Its tokenizer, for the labels.
        inputs: What `generate` takes, of one text.
        beams: Hypotheses kept at each step; 1 is greedy search.
        length_penalty: The exponent of the length that divides a finished score.
        reference: Ids of the tokens that should be written, the end included.
        max_new_tokens: Where a search that finds no end stops.

    Raises:
        ValueError: A number is out of range, or the model searches in a way that cannot be played again.
    """
    if isinstance(beams, bool) or not isinstance(beams, int) or not 1 <= beams <= 64:
        raise ValueError(f"beams: {beams!r} must be a whole number in 1..64")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty: {length_penalty!r} must be a number")
    writer: Any = model  # a model that writes has `generate`, the base class has not
    output = writer.generate(
        **inputs,
        num_beams=beams,
        length_penalty=length_penalty if beams > 1 else None,  # greedy search warns of one
        do_sample=False,
        max_length=None,
        max_new_tokens=max_new_tokens,
        output_scores=True,
        return_dict_in_generate=True,
    )
    start = output.sequences.shape[1] - _written(output)
    tree = replay(output, _ends(model), beams, length_penalty, max_new_tokens, _labels(tokenizer))
    best = next(node for node in tree.nodes if node.fate == "winner")
    length = best.step + 1
    text = tokenizer.decode(output.sequences[0, start:], skip_special_tokens=True)
    result = Result(tree, text, best.score, length, best.score / length**length_penalty)
    if reference is not None:
        result.reference = (score_of(model, inputs, reference), len(reference))
        same = list(reference) == output.sequences[0, start:].tolist()
        result.verdict = verdict_on(result, same)
    return result


def verdict_on(result: Result, same: bool) -> str:
    """Tell whose fault a wrong answer is (Stahlberg & Byrne 2019).

    "search error": the reference would have won, had the search come by it. "model error": the model prefers what was
    found to the reference. "the reference": that was found.
    """
    if same or result.reference is None:
        return "the reference" if same else ""
    score, length = result.reference
    return "search error" if score / length**result.search.length_penalty > result.final else "model error"


@torch.no_grad()
def score_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor], target: Sequence[int]) -> float:
    """Return the sum of the logarithms of the probabilities of these tokens after the input, in nats."""
    ids = torch.tensor([list(target)], device=model.device)
    if model.config.is_encoder_decoder:
        first = torch.full_like(ids[:, :1], model.generation_config.decoder_start_token_id)
        logits = model(**inputs, decoder_input_ids=torch.cat([first, ids[:, :-1]], 1)).logits
    else:
        whole = torch.cat([inputs["input_ids"], ids], 1)
        logits = model(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[:, -ids.shape[1] - 1 : -1]
    return float(logits.float().log_softmax(-1).gather(-1, ids[..., None]).sum())


def replay(
    output: Any, ends: set[int], beams: int, length_penalty: float, max_new_tokens: int, label: Label
) -> Search:
    """Play a beam search (or greedy search) of one text again, on the scores that it returned.

    At each step the max(2, 1 + number of ends) * k best tokens are candidates. Of those that do not end the k best go
    on; of the first k those that end are finished.

    Args:
        output: What `generate` returned with `output_scores=True, return_dict_in_generate=True`.
        ends: Ids of the tokens that end a text.
        beams: k.
        length_penalty: As `generate` got it.
        max_new_tokens: As `generate` got it: at this length every hypothesis ends.
        label: Returns the label of a token's id.

    Raises:
        ValueError: The search that was played is not the one that ran: it sampled, had groups or constraints, or divided
            by the paper's length penalty.
    """
    recorder = Recorder(beams, length_penalty)
    kept: list[int | None] = [None] * beams  # the node of each hypothesis
    scores = torch.full((1, beams), -1e9)  # of one text all hypotheses start alike: only the first counts
    scores[0, 0] = 0.0
    steps = [step.float().cpu() for step in output.scores]  # N of (k, V)
    rows: dict[int, list[int]] = {}  # a node: the rows of the batch that its path went through
    for number, step in enumerate(steps):
        width = step.shape[-1]
        # Greedy search returns logits, a beam search logarithms of probabilities.
        step = step.log_softmax(-1) if beams == 1 else step
        best = torch.topk((step + scores.T).reshape(1, -1), max(2, 1 + len(ends)) * beams)
        nodes, finished = [], []
        for place, (score, index) in enumerate(zip(best.values[0].tolist(), best.indices[0].tolist(), strict=True)):
            row, token = divmod(index, width)
            is_real = score > -1e8  # not from one of the hypotheses that do not exist yet, nor forbidden
            node = recorder.add(kept[row], label(token), score) if is_real else None
            if node is not None:
                parent = kept[row]
                rows[node] = [*(rows[parent] if parent is not None else []), row]
            finished.append(token in ends or number + 1 == max_new_tokens)
            if finished[-1] and place < beams and node is not None:
                recorder.end(node)
            nodes.append(node)
        open_scores = best.values + torch.tensor(finished).float() * -1e9
        chosen = torch.topk(open_scores, beams)[1][0]
        kept, scores = [nodes[place] for place in chosen.tolist()], open_scores[:, chosen]
    tree = recorder.close()
    _compare(output, recorder, rows)
    return tree


def _compare(output: Any, recorder: Recorder, rows: dict[int, list[int]]) -> None:
    """See that the search ended as the one that was played."""
    winner = next((number for number, node in enumerate(recorder.tree.nodes) if node.fate == "winner"), None)
    if winner is None:
        raise ValueError("search: no hypothesis ended; it cannot be played again from its scores")
    if getattr(output, "beam_indices", None) is None:  # greedy: there is one path
        return
    score, path = float(output.sequences_scores[0]), output.beam_indices[0]
    if (
        abs(recorder.final_score(winner) - score) > 1e-4 * max(1.0, abs(score))
        or rows[winner] != path[path >= 0].tolist()
    ):
        raise ValueError(
            "search: it sampled, or had groups, constraints or length_penalty_form='paper', and cannot be played again "
            "from its scores"
        )


def _written(output: Any) -> int:
    """Return how many tokens were written."""
    return (
        len(output.scores)
        if getattr(output, "beam_indices", None) is None
        else int((output.beam_indices[0] >= 0).sum())
    )


def _ends(model: PreTrainedModel) -> set[int]:
    ends = model.generation_config.eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)


def _labels(tokenizer: Any) -> Label:
    return lambda token: labels(tokenizer, [token])[0]
