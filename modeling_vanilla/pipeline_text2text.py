# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Text in, text out: the pipelines translation, summarization and text2text-generation, which transformers 5 dropped.

They answer as those of transformers 4 did. `pipeline_question_answering.py` has the one for questions.
Dimension letters: B batch, N hypotheses of one text, S source length, T target length.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .decoding import divisor, search
from .decoding_limits import OwnLimit
from .pipeline_calls import (
    cuts,
    end_of,
    in_new_tokens,
    language_pair,
    longest_input,
    only_given,
    settings_of_task,
    without_old_arguments,
)
from .pipeline_sentences import join, split_to_fit

logger = logging.get_logger(__name__)

EXTRA_TOKENS = 50
"""The output may be so many tokens longer than the input (Vaswani et al. 2017, sec. 6.1)."""


@dataclass
class Hypothesis:
    """The ids of an answer; where scores are asked for, the sum of their log-probabilities, and how many they are.

    No dict and no bare list: a pipeline looks through those, number by number, for tensors to move.
    """

    ids: list[int] = field(default_factory=list)
    log_prob: float = 0.0
    length: int = 0


class Text2TextGenerationPipeline(ChunkPipeline):
    """Answer a text with a text, by the encoder-decoder's `generate`.

    Each text gives a list of N dicts with the key `generated_text`; a list of texts with N = 1 gives a list of dicts.
    A generator or a data set gives an iterator. Texts are batched with `batch_size`, and a batch gives what each text
    gives alone.

    Args that the pipeline and each of its calls take:
        return_scores: add `score` to each dict; by default where N > 1. It is the sum of the log-probabilities of the
            tokens written, the end token included, divided by their number to the power of `length_penalty`: what
            `generate` ranks beams by. The probabilities are those searched or drawn from: after temperature, top-k and
            what else changes the scores.
        truncation: cut a text that is longer than the model can read. By default that is a ValueError.
        return_tensors: give token ids (`generated_token_ids`) instead of text; with `return_text`, beside it.
        clean_up_tokenization_spaces: for the tokenizer's `decode`; False by default, whatever the tokenizer says.
        stop_sequence: one token, as text, which ends an answer in place of the end token.
        Anything else goes to `generate`: `num_beams`, `num_return_sequences` (N), `max_new_tokens`, `do_sample` ...

    What config.json says of the task (`task_specific_params`, `prefix`) holds unless the caller says otherwise; a
    prefix stands before each text. A caller's `generation_config` replaces the settings of the task.

    Where neither the call nor the model's generation_config limits the length, a text's output has at most 50 tokens
    more than its input, and no more than the positions hold.
    """

    has_told_unknown = False
    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_video_processor = _load_feature_extractor = False

    result = "generated"
    can_split = False

    def __init__(self, model, tokenizer=None, *, task: str = "", **kwargs):
        task, self.prefix, settings = settings_of_task(model.config, task)
        known = vars(GenerationConfig())
        self.task_settings = in_new_tokens({name: value for name, value in settings.items() if name in known})
        super().__init__(model=model, tokenizer=tokenizer, task=task, **kwargs)
        name = type(self).__name__
        if not (self.model.config.is_encoder_decoder and self.model.can_generate()):
            raise ValueError(f"{name} needs an encoder-decoder that generates, not {type(self.model).__name__}")
        if self.tokenizer is None:
            raise ValueError(f"{name} needs a tokenizer")
        self.model.eval()  # transformers leaves a model that comes from training with its dropout

    def __call__(self, inputs, *others, **kwargs):
        """Answer a text, or each text of a list, a generator or a data set; see the class for arguments and results.

        Raises:
            ValueError: a text is too long, or an argument is wrong.
            TypeError: a text is no string, or several were given without a list.
        """
        if others:
            raise TypeError(f"{1 + len(others)} texts must be given as one list, not as {1 + len(others)} arguments")
        self.has_told_unknown = False
        if isinstance(inputs, list | tuple):
            # Texts about as long share a batch, which has little padding then; the longest first, to run out of memory soon.
            order = sorted(range(len(inputs)), key=lambda number: -len(str(inputs[number])))
            results: list = [None] * len(inputs)
            answers = super().__call__([inputs[number] for number in order], **kwargs) if inputs else []
            for number, answer in zip(order, answers, strict=True):
                results[number] = answer
            return [result[0] for result in results] if all(len(result) == 1 for result in results) else results
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        split_sentences: bool | None = None,
        truncation: Any = None,
        return_scores: bool | None = None,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        stop_sequence: str | None = None,
        **generate_kwargs,
    ) -> tuple[dict, dict, dict]:
        """Sort arguments by who needs them; what was not given is left out, so that a call adds to the pipeline's."""
        generate_kwargs = without_old_arguments(generate_kwargs)
        if split_sentences is not None and not self.can_split:
            raise ValueError(f"split_sentences={split_sentences}: only a translation can be made sentence by sentence")
        if stop_sequence is not None:
            generate_kwargs["eos_token_id"] = end_of(stop_sequence, self.tokenizer)
        reading = {"split": split_sentences, "truncation": None if truncation is None else cuts(truncation)}
        if "num_return_sequences" in generate_kwargs or generate_kwargs.get("generation_config") is not None:
            reading["hypotheses"] = self._generation_config(generate_kwargs)[0].num_return_sequences
        writing = {"return_tensors": return_tensors, "return_text": return_text}
        writing["clean_up_tokenization_spaces"] = clean_up_tokenization_spaces
        return only_given(reading), only_given({"return_scores": return_scores}) | generate_kwargs, only_given(writing)

    def _generation_config(self, generate_kwargs: dict) -> tuple[GenerationConfig, dict]:
        """Return the settings of a call, the model's own below them, and the arguments that are no such settings."""
        generate_kwargs = dict(generate_kwargs)
        config = copy.deepcopy(self.model.generation_config)
        callers = generate_kwargs.pop("generation_config", None)
        settings = in_new_tokens(only_given({} if callers is None else callers.to_diff_dict()) | generate_kwargs)
        return config, config.update(**((self.task_settings if callers is None else {}) | settings))

    def preprocess(  # type: ignore[override]
        self,
        text: str,
        split: bool | None = None,
        truncation: bool = False,
        hypotheses: int | None = None,
        **languages: str,
    ) -> Iterator[dict]:
        """Yield the pieces of a text, each as a row of ids; blank ones are marked, since there is nothing to answer."""
        if not isinstance(text, str):
            raise TypeError(f"a text must be a string, not {type(text).__name__}: {str(text)[:80]!r}")
        limit = longest_input(self.model, self.tokenizer)
        cut = {"truncation": True, "max_length": limit} if truncation and limit else {}
        whole = dict(self._encode(text, languages, **cut)) if text.strip() and not split else None
        if whole is not None and (limit is None or whole["input_ids"].shape[1] <= limit):
            pieces = [(text, "")]
        else:
            pieces, whole = self._pieces(text, limit, split, truncation) or [("", "")], None
        settings = self.task_settings | only_given({"num_return_sequences": hypotheses})
        hypotheses = settings.get("num_return_sequences") or self.model.generation_config.num_return_sequences or 1
        if hypotheses > 1 and sum(bool(piece) for piece, _ in pieces) > 1:
            raise ValueError(
                f"num_return_sequences={hypotheses} for a text that is translated in {len(pieces)} pieces: their "
                "hypotheses cannot be combined; give one sentence at a time"
            )
        for number, (piece, space) in enumerate(pieces, start=1):
            encoded = whole or dict(self._encode(piece or ".", languages, **cut))
            self._tell_unknown(encoded["input_ids"], text)
            encoded.pop("token_type_ids", None)  # many a tokenizer gives them, and `generate` takes none
            yield {"is_last": number == len(pieces), "space": space, "blank": not piece, **encoded}

    def _tell_unknown(self, ids: torch.Tensor, text: str) -> None:
        """Warn, once a call, of tokens that the model never learnt: they all mean the same to it."""
        if self.tokenizer.unk_token_id is None or self.has_told_unknown:
            return
        if count := int((ids == self.tokenizer.unk_token_id).sum()):
            self.has_told_unknown = True
            logger.warning(
                f"{count} of the tokens read are unknown to the model, in the text that begins {text[:60]!r}"
            )

    def _encode(self, text: str, languages: dict, **cut) -> dict:
        """Return the row of ids of a text behind its prefix, with or without languages."""
        return self.tokenizer(self.prefix + text, return_tensors="pt", verbose=False, **cut)

    def _pieces(self, text: str, limit: int | None, split: bool | None, truncation: bool) -> list[tuple[str, str]]:
        """Return the text in (piece, white space behind it), each of which the model can read."""
        if not text.strip():
            return [("", text)]

        def length(piece: str) -> int:
            return len(self.tokenizer(self.prefix + piece, verbose=False)["input_ids"])

        def fits(piece: str) -> bool:
            return limit is None or truncation or length(piece) <= limit

        if fits(text) and not split:
            return [(text, "")]
        if not self.can_split or split is False:
            raise ValueError(
                f"the text has {length(text)} tokens, more than the {limit} that the model reads: shorten it, or cut "
                "it off with truncation=True"
            )
        pieces, cut = split_to_fit(text, fits)
        if cut:
            logger.warning(
                f"A sentence is longer than the {limit} tokens that the model reads, in the text that begins "
                f"{text[:60]!r}. It is translated in parts; shorter sentences will be translated better."
            )
        return pieces

    def _forward(self, model_inputs: dict, return_scores: bool | None = None, **generate_kwargs) -> dict:  # type: ignore[override]
        """Generate for the rows that are not blank. Without a batch the values are no lists."""
        single = isinstance(model_inputs["is_last"], bool)
        blank = [model_inputs.pop("blank")] if single else model_inputs.pop("blank")
        kept = {name: model_inputs.pop(name) for name in ("is_last", "space")}
        first = model_inputs.pop("forced_bos_token_id", None)  # names the language to write in, the same for all rows
        forced = {} if first is None else {"forced_bos_token_id": first if single else first[0]}
        config, rest = self._generation_config(forced | generate_kwargs)
        rows = [row for row, is_blank in enumerate(blank) if not is_blank]
        number = config.num_return_sequences or 1
        outputs = [[Hypothesis()] * number for _ in blank]
        scored = number > 1 if return_scores is None else return_scores
        if rows:
            inputs = {name: tensor[rows] for name, tensor in model_inputs.items()}
            hypotheses = self._generate(inputs, config, rest, scored)
            for index, row in enumerate(rows):
                outputs[row] = hypotheses[index * number : (index + 1) * number]
        penalty = config.length_penalty if config.length_penalty is not None else 1.0
        scoring = {"scored": scored, "penalty": penalty, "form": rest.get("length_penalty_form", "hf")}
        if single:
            return kept | {"outputs": outputs[0]} | scoring
        return kept | {"outputs": outputs} | {name: [value] * len(blank) for name, value in scoring.items()}

    def _generate(self, inputs: dict, config: GenerationConfig, rest: dict, scored: bool) -> list[Hypothesis]:
        """Return the B * N hypotheses."""
        limits = None
        if config.max_new_tokens is None and config.max_length is None:
            lengths = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).sum(-1).tolist()
            positions = getattr(self.model.config, "max_position_embeddings", None) or 1 << 30
            limits = [min(length + EXTRA_TOKENS, positions - 1) for length in lengths]  # one is the start token's
            config.max_new_tokens = max(limits)
            rest = rest | {"stopping_criteria": [*(rest.get("stopping_criteria") or []), OwnLimit(limits)]}
        config.return_dict_in_generate, config.output_scores = True, scored
        model: Any = self.model
        if model.config.model_type == "vanilla":
            rest = {"custom_generate": search} | rest
        elif "length_penalty_form" in rest:
            raise ValueError(f"length_penalty_form is not known to {type(model).__name__}")
        out = model.generate(**inputs, generation_config=config, **rest)
        sequences = out.sequences.tolist()
        if not scored:
            return list(map(Hypothesis, sequences))
        scores = sequence_scores(self.model, out, config, limits, rest.get("length_penalty_form", "hf"))
        return list(map(Hypothesis, sequences, *(values.tolist() for values in scores)))

    def postprocess(  # type: ignore[override]
        self,
        chunks: list[dict],
        return_tensors: bool = False,
        return_text: bool | None = None,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[dict]:
        """Return the N dicts of one text, its pieces joined."""
        if return_text is False and not return_tensors:
            raise ValueError("return_text=False leaves nothing to give: ask for token ids with return_tensors=True")
        results = []
        for hypotheses in zip(*(chunk["outputs"] for chunk in chunks), strict=True):
            result: dict[str, Any] = {}
            if return_tensors:
                ids = torch.tensor([token for hypothesis in hypotheses for token in hypothesis.ids])
                result[f"{self.result}_token_ids"] = ids
            if return_text or not return_tensors:
                options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": clean_up_tokenization_spaces}
                texts = [self.tokenizer.decode(hypothesis.ids, **options) for hypothesis in hypotheses]
                if len(texts) > 1:
                    texts = [text.strip() for text in texts]
                spaces = [chunk["space"] for chunk in chunks]
                result[f"{self.result}_text"] = join(list(zip(texts, spaces, strict=True)))
            if chunks[0]["scored"]:
                length = sum(hypothesis.length for hypothesis in hypotheses)
                total = sum(hypothesis.log_prob for hypothesis in hypotheses)
                result["score"] = total / divisor(max(length, 1), chunks[0]["penalty"], chunks[0]["form"])
            results.append(result)
        return results


class TranslationPipeline(Text2TextGenerationPipeline):
    """Translate: as `Text2TextGenerationPipeline`, with the key `translation_text`.

    Args:
        split_sentences: True translates sentence by sentence, which is how most translators were trained. White
            space between sentences is kept, line breaks above all; between Chinese or Japanese sentences there is
            none. By default only a text that is too long for the model is split. False makes such a text a
            ValueError. A sentence that is too long by itself is cut between clauses, words or characters, with a
            warning. The score of a text in pieces is of the same form, over the tokens of all pieces; several
            hypotheses (`num_return_sequences`) of such a text are a ValueError.
        src_lang: language of the text, for a tokenizer of several languages (mBART, NLLB, M2M100); no other minds it.
        tgt_lang: language to write in, likewise. By default both are those of the task's name, translation_XX_to_YY.
    """

    result = "translation"
    can_split = True

    def _sanitize_parameters(  # type: ignore[override]
        self, src_lang: str | None = None, tgt_lang: str | None = None, **kwargs
    ) -> tuple[dict, dict, dict]:
        """Add the languages to what a text needs before it is read."""
        first, *rest = super()._sanitize_parameters(**kwargs)
        return first | only_given({"src_lang": src_lang, "tgt_lang": tgt_lang}), *rest

    def _encode(self, text: str, languages: dict, **cut) -> dict:
        """Return the row of ids of a text; a tokenizer of several languages adds their tokens, and takes no prefix."""
        build = getattr(self.tokenizer, "_build_translation_inputs", None)
        if build is None:
            return super()._encode(text, languages, **cut)
        pair = language_pair(self.task) or (None, None)
        languages = languages or {"src_lang": pair[0], "tgt_lang": pair[1]}
        languages = {"src_lang": None, "tgt_lang": None} | languages
        try:
            encoded = build(text, return_tensors="pt", **languages, **cut)
        except KeyError as error:  # of M2M100
            raise ValueError(f"{error} is no language of the tokenizer") from error
        if encoded["forced_bos_token_id"] == self.tokenizer.unk_token_id:
            raise ValueError(f"tgt_lang={languages['tgt_lang']!r} is no language of the tokenizer")
        return encoded


class SummarizationPipeline(Text2TextGenerationPipeline):
    """Summarise: as `Text2TextGenerationPipeline`, with the key `summary_text`.

    A text that is too long is a ValueError: a summary of its beginning would not say that it is one. Ask for that with
    `truncation=True`.
    """

    result = "summary"


def sequence_scores(model, out, config: GenerationConfig, limits: list[int] | None, form: str = "hf") -> tuple:
    """Return the sum of log-probabilities of what `generate` wrote, and the number of its tokens, each (B * N,).

    Args:
        model: what generated.
        out: its answer, with scores.
        config: its settings.
        limits: B numbers of tokens that rows were ended at, or None.
        form: of the length penalty; see `decoding.search`.
    """
    if config.num_beams and config.num_beams > 1:
        lengths = out.beam_indices.ge(0).sum(-1)
        penalty = 1.0 if config.length_penalty is None else config.length_penalty
        divisors = [divisor(max(length, 1), penalty, form) for length in lengths.tolist()]
        return out.sequences_scores * torch.tensor(divisors, device=lengths.device), lengths
    written = out.sequences[:, -len(out.scores) :]  # (B * N, T)
    steps = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
    ends = torch.zeros_like(written, dtype=torch.bool)
    if config.eos_token_id is not None:
        ends = torch.isin(written, torch.tensor(config.eos_token_id, device=written.device))
    counts = ends.cumsum(-1).le(ends)  # up to the first end, itself included; padding is behind it
    if limits is not None:
        ended = torch.tensor(limits, device=written.device).repeat_interleave(len(written) // len(limits))
        counts &= torch.arange(written.shape[1], device=written.device) < ended[:, None]
    return torch.where(counts, steps, 0).sum(-1), counts.sum(-1)
