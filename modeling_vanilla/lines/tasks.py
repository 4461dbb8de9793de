# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What each word of the command line asks of its pipeline: which models fit, its options, what an answer is."""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from .writing import one_line


@dataclass(frozen=True)
class Answer:
    """One answer to a line: a text or a label, and its score where there is one."""

    text: str
    score: float | None = None


class Task:
    """What the words share.

    Attributes:
        pipeline: The name of its task in transformers.
        does: What it does with a line, in words.
        example: A command.
        heads: Endings of the names of the classes that it takes.
        best: What several answers to a line are.
        ways: What may be done with a line that is too long; the first by default.
    """

    pipeline = ""
    does = ""
    example = ""
    heads: tuple[str, ...] = ()
    best = ""
    ways: tuple[str, ...] = ("refuse",)

    def add_options(self, parser: ArgumentParser) -> None:
        """Add the options of this word alone."""

    def check(self, options: Namespace) -> None:
        """See that the options fit together.

        Raises:
            ValueError: They do not.
        """

    def fits(self, config: PreTrainedConfig) -> bool:
        """Tell whether a model has the head that answers."""
        return any(name.endswith(self.heads) for name in getattr(config, "architectures", None) or ())

    def arguments(self, options: Namespace, limit: int | None) -> dict[str, Any]:
        """Return the arguments of the pipeline's call, for a model that reads so many tokens."""
        raise NotImplementedError

    def places(self, options: Namespace) -> int:
        """Return how many places a line has to leave free for what is written behind it."""
        return 0

    def wrong(self, text: str, tokenizer: Any) -> str | None:
        """Return what is wrong with a line, whatever its length; None where nothing is."""
        return None

    def answers(self, result: Any) -> Iterable[Answer]:
        """Return what the pipeline has answered to one line, best first."""
        raise NotImplementedError


class Translate(Task):
    """Translation, as by `pipeline_text2text.TranslationPipeline`."""

    pipeline = "translation"
    does = "Translate each line with an encoder-decoder, by beam search, as pipeline('translation') does."
    example = "translate runs/dates-en-ko dates.txt --output dates.ko.txt --beams 4"
    best = "the N best translations, by beam search"
    ways = ("split", "refuse", "cut")

    def add_options(self, parser: ArgumentParser) -> None:
        """Add beams, lengths, sentences, languages."""
        parser.add_argument("--beams", metavar="N", type=int, help="default: what the model's folder says")
        parser.add_argument("--length-penalty", metavar="X", type=float, help="likewise; the paper's form: --paper")
        parser.add_argument(
            "--paper", action="store_true", help="divide scores by ((5 + n) / 6)^X, as the paper does, not by n^X"
        )
        parser.add_argument("--max-new-tokens", metavar="N", type=int, help="likewise; else 50 more than the line has")
        parser.add_argument("--sentences", action="store_true", help="translate every sentence of a line by itself")
        parser.add_argument("--src-lang", metavar="NAME", help="of the lines, for a tokenizer of several languages")
        parser.add_argument("--tgt-lang", metavar="NAME", help="to write in, likewise")

    def check(self, options: Namespace) -> None:
        """Several translations cannot be those of sentences; there are as many as beams."""
        for name in ("beams", "max_new_tokens"):
            value = getattr(options, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')}: {value} must be at least 1")
        if options.length_penalty is not None and not math.isfinite(options.length_penalty):
            raise ValueError(f"--length-penalty: {options.length_penalty} must be a finite number")
        if options.n_best > 1 and options.sentences:
            raise ValueError(
                "--n-best and --sentences exclude each other: translations of sentences cannot be combined"
            )
        if options.beams is not None and options.beams < options.n_best:
            raise ValueError(f"--n-best: {options.n_best} must be at most --beams, {options.beams}")
        if options.long == "split" and options.n_best > 1:
            options.long = "refuse"
        if options.long != "split" and options.sentences:
            raise ValueError(f"--long: {options.long} and --sentences exclude each other")

    def fits(self, config: PreTrainedConfig) -> bool:
        """Any encoder-decoder that generates."""
        names = getattr(config, "architectures", None) or ()
        return bool(config.is_encoder_decoder) and any(
            n.endswith(("Generation", "MTModel", "LMHeadModel")) for n in names
        )

    def arguments(self, options: Namespace, limit: int | None) -> dict[str, Any]:
        """Return what was asked for; the folder's settings hold for the rest."""
        beams = options.beams or (options.n_best if options.n_best > 1 else None)
        asked = {
            "num_beams": beams,
            "num_return_sequences": options.n_best if options.n_best > 1 else None,
            "length_penalty": options.length_penalty,
            "length_penalty_form": "paper" if options.paper else None,
            "max_new_tokens": options.max_new_tokens,
            "split_sentences": True if options.sentences else None if options.long == "split" else False,
            "truncation": True if options.long == "cut" else None,
            "return_scores": options.scores,
            "src_lang": options.src_lang,
            "tgt_lang": options.tgt_lang,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def answers(self, result: Any) -> Iterable[Answer]:
        """Return translations."""
        return [Answer(one["translation_text"], one.get("score")) for one in result]


class Generate(Task):
    """What a decoder writes behind a line."""

    pipeline = "text-generation"
    does = "Go on writing behind each line with a decoder, as pipeline('text-generation') does."
    example = "generate runs/shakespeare-char prompts.txt --sample --max-new-tokens 100"
    heads = ("ForCausalLM", "LMHeadModel")
    best = "N texts: drawn with --sample, else the N best beams"

    def add_options(self, parser: ArgumentParser) -> None:
        """Add the length, beams, and what is drawn."""
        parser.add_argument("--max-new-tokens", metavar="N", type=int, default=50, help="default: 50")
        parser.add_argument("--beams", metavar="N", type=int, help="default: 1, or that of --n-best without --sample")
        parser.add_argument("--sample", action="store_true", help="draw each token")
        parser.add_argument("--temperature", metavar="X", type=float, default=1.0, help="with --sample; default: 1")
        parser.add_argument("--seed", metavar="N", type=int, default=0, help="with --sample; default: 0")

    def check(self, options: Namespace) -> None:
        """What is drawn has no beams, and beams have no temperature."""
        if options.max_new_tokens < 1:
            raise ValueError(f"--max-new-tokens: {options.max_new_tokens} must be at least 1")
        if not options.temperature > 0:
            raise ValueError(f"--temperature: {options.temperature} must be above 0")
        options.beams = options.beams or (1 if options.sample else options.n_best)
        if options.sample and options.beams > 1:
            raise ValueError("--beams and --sample exclude each other")
        if not options.sample and options.beams < options.n_best:
            raise ValueError(f"--n-best: {options.n_best} must be at most --beams, {options.beams}")

    def arguments(self, options: Namespace, limit: int | None) -> dict[str, Any]:
        """Return the settings of `generate`."""
        drawn = {"temperature": options.temperature} if options.sample else {}
        return drawn | {
            "max_new_tokens": options.max_new_tokens,
            "num_beams": options.beams,
            "do_sample": options.sample,
            "num_return_sequences": options.n_best,
        }

    def places(self, options: Namespace) -> int:
        """Return the new tokens, less the last, which is not read."""
        return options.max_new_tokens - 1

    def answers(self, result: Any) -> Iterable[Answer]:
        """Return texts, each with its beginning."""
        return [Answer(one["generated_text"]) for one in result]


class Fill(Task):
    """What an encoder puts in the place of the mask."""

    pipeline = "fill-mask"
    does = "Put the likeliest token in the place of the mask of each line, as pipeline('fill-mask') does."
    example = "fill runs/wikitext-2-mlm lines.txt --n-best 5"
    heads = ("ForMaskedLM",)
    best = "the N likeliest"

    def wrong(self, text: str, tokenizer: Any) -> str | None:
        """One mask is what the line asks about."""
        count = text.count(tokenizer.mask_token)
        return None if count == 1 else f"{count} times {tokenizer.mask_token}, expected once"

    def arguments(self, options: Namespace, limit: int | None) -> dict[str, Any]:
        """Return how many are asked for."""
        return {"top_k": options.n_best}

    def answers(self, result: Any) -> Iterable[Answer]:
        """Return whole lines with their probabilities."""
        return [Answer(one["sequence"], one["score"]) for one in result]


class Classify(Task):
    """The class of a line."""

    pipeline = "text-classification"
    does = "Name the class of each line, as pipeline('text-classification') does."
    example = "classify runs/nsmc reviews.txt --scores"
    heads = ("ForSequenceClassification",)
    best = "the N likeliest classes"
    ways = ("refuse", "cut")

    def arguments(self, options: Namespace, limit: int | None) -> dict[str, Any]:
        """Return how many are asked for, and whether a line is cut."""
        cut = {"truncation": True, "max_length": limit} if options.long == "cut" and limit else {}
        return {"top_k": options.n_best} | cut

    def answers(self, result: Any) -> Iterable[Answer]:
        """Return labels with their probabilities."""
        return [Answer(one["label"], one["score"]) for one in result]


def plain(answers: Iterable[Answer], scores: bool) -> list[str]:
    """Return a line for each answer: the text, behind its score where that is asked for."""
    return [
        f"{answer.score:.4f}\t{one_line(answer.text)}"
        if scores and answer.score is not None
        else one_line(answer.text)
        for answer in answers
    ]
