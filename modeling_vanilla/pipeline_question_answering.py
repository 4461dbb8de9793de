# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Questions about a text: the pipeline question-answering, which transformers 5 dropped.

It answers as that of transformers 4 did. Dimension letters: B windows, S tokens of a window.
"""

import re
import unicodedata
from collections.abc import Iterator

import torch
from transformers.pipelines.base import ChunkPipeline

from .pipeline_calls import example_of, longest_input, only_given, pairs, without_old_arguments

# What a call may set, with the defaults of transformers 4.
WINDOW = 384
STRIDE = 128
MOST_TOKENS = 15

# Thai, Lao; Tibetan, Myanmar; Hangul; Khmer; Kana, Han; Hangul; Han.
ONE_BY_ONE = re.compile(
    "[\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Characters that are words of their own where answers are widened to words."""


class QuestionAnsweringPipeline(ChunkPipeline):
    """Find the answer to a question within a text.

    Called as `qa(question=..., context=...)` (either may be a list; one context serves many questions), as
    `qa(question, context)`, or with a dict of both, several such dicts, a list, a generator or a data set of them
    (by name: `data=`). Each answer is a dict: `answer`, its characters
    `start` and `end` in the context (`context[start:end] == answer`), and `score`. One question gives one answer, or
    a list of them with `top_k` above 1; a list of questions gives a list of these.

    The score of a span is the softmax of the start logits at its first token times that of the end logits at its last
    one, over the tokens of the context and the null place: `<cls>`, or the first token where there is none. A long
    context is read in windows, each with a softmax of its own; a span that several windows hold counts once, with its
    best score.

    Args that the pipeline and each of its calls take:
        top_k: so many answers, best first; fewer where the context has no more. All are different. `topk` is the same.
        max_answer_len: tokens of an answer at most.
        max_seq_len: tokens of a window at most, question and special tokens included; by default 384, or what the
            model can read if that is less.
        doc_stride: tokens that two windows share; by default 128, or half of the context's part of a window if that
            is less.
        max_question_len: tokens of a question at most; a longer one is a ValueError. By default any that fits.
        padding: for the tokenizer; "max_length" fills each window up. The answers stay the same.
        handle_impossible_answer: let "no answer" compete: an empty `answer` with start = end = 0, whose score is the
            softmax product at the null place, of the window that gives it least.
        align_to_words: widen an answer to whole words. A character is a word of its own where no space stands between words
            (Han, Kana, Thai, Lao, Khmer, Myanmar, Tibetan), and in Hangul, whose particles stand right behind a word.

    The tokenizer must give offsets, and the model two logits per token. In all three variants of Vanilla the question
    comes first, as the tokenizer's template for pairs has it. Special tokens typed in either are text.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_video_processor = _load_feature_extractor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **without_old_arguments(kwargs))
        if not getattr(self.tokenizer, "is_fast", False):
            raise ValueError(f"{type(self).__name__} needs a fast tokenizer, for the places of tokens in the text")
        self.model.eval()  # transformers leaves a model that comes from training with its dropout

    @staticmethod
    def create_sample(question, context) -> dict | list[dict]:
        """Make examples of a question and a context, or of lists of them."""
        return pairs(question, context)

    def __call__(self, *inputs, question=None, context=None, **kwargs):
        """Answer one question or several; see the class for the forms of a call.

        Raises:
            ValueError: a question or context is missing or empty, a question does not fit into a window, or an argument
                is out of range.
            TypeError: an example is no dict, or what it holds no string.
        """
        named = {name: kwargs.pop(name) for name in ("inputs", "data", "X") if kwargs.get(name) is not None}
        examples = example_of(inputs, named, question, context)
        if isinstance(examples, list | tuple):
            return super().__call__(list(examples), **kwargs) if examples else []
        return super().__call__(examples, **kwargs)

    def _sanitize_parameters(  # type: ignore[override]
        self,
        top_k: int | None = None,
        topk: int | None = None,
        max_answer_len: int | None = None,
        max_seq_len: int | None = None,
        max_question_len: int | None = None,
        doc_stride: int | None = None,
        padding: bool | str | None = None,
        handle_impossible_answer: bool | None = None,
        align_to_words: bool | None = None,
    ) -> tuple[dict, dict, dict]:
        """Sort arguments by who needs them; what was not given is left out, so that a call adds to the pipeline's."""
        top_k = topk if top_k is None else top_k
        for name, value, least in (
            ("top_k", top_k, 1),
            ("max_answer_len", max_answer_len, 1),
            ("max_seq_len", max_seq_len, 1),
            ("max_question_len", max_question_len, 1),
            ("doc_stride", doc_stride, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        windows = {"max_seq_len": max_seq_len, "doc_stride": doc_stride, "max_question_len": max_question_len}
        answers = {"top_k": top_k, "max_answer_len": max_answer_len, "align_to_words": align_to_words}
        answers["handle_impossible_answer"] = handle_impossible_answer
        return only_given(windows | {"padding": padding}), {}, only_given(answers)

    def preprocess(  # type: ignore[override]
        self,
        example: dict,
        max_seq_len: int | None = None,
        doc_stride: int | None = None,
        max_question_len: int | None = None,
        padding: bool | str = False,
    ) -> Iterator[dict]:
        """Yield the windows of an example: its ids, and for each token where it stands in the context."""
        question, context = _checked(example)
        size, stride = self._window(question, max_seq_len, doc_stride, max_question_len)
        encoded = self.tokenizer(
            question,
            context,
            padding=padding,
            truncation="only_second",
            max_length=size,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=True,
            split_special_tokens=True,
            verbose=False,
        )
        rows = len(encoded["input_ids"])
        for row in range(rows):
            inputs = {
                name: torch.tensor([encoded[name][row]])
                for name in self.tokenizer.model_input_names
                if name in encoded
            }
            inside = torch.tensor([[sequence == 1 for sequence in encoded.sequence_ids(row)]])
            first, last = torch.tensor([encoded["offset_mapping"][row]]).unbind(-1)
            null = torch.zeros_like(inside)
            ids = encoded["input_ids"][row]
            first_id = encoded["attention_mask"][row].index(1)  # not the first place, where padding is on the left
            null[0, ids.index(self.tokenizer.cls_token_id) if self.tokenizer.cls_token_id in ids else first_id] = True
            # Tensors, so that a batch pads them on the side that it pads the ids on.
            places = {"inside": inside, "null": null & ~inside, "first": first, "last": last}
            yield {"is_last": row == rows - 1, "context": context, **places, **inputs}

    def _window(self, question: str, size: int | None, stride: int | None, longest: int | None) -> tuple[int, int]:
        """Return how many tokens a window has, and how many of them it shares with the next."""
        limit = longest_input(self.model, self.tokenizer) or WINDOW
        if size is None:
            size = min(WINDOW, limit)
        elif size > limit:
            raise ValueError(f"max_seq_len={size} must not be more than the {limit} tokens that the model reads")
        question_ids = self.tokenizer(question, add_special_tokens=False, split_special_tokens=True, verbose=False)[
            "input_ids"
        ]
        if longest is not None and len(question_ids) > longest:
            raise ValueError(
                f"the question has {len(question_ids)} tokens, more than max_question_len={longest}: shorten it"
            )
        room = size - len(question_ids) - self.tokenizer.num_special_tokens_to_add(pair=True)
        if room < 1:
            raise ValueError(
                f"the question has {len(question_ids)} tokens, which leaves no room for the context in a window of "
                f"{size} tokens (max_seq_len)"
            )
        if stride is None:
            stride = min(STRIDE, room // 2)
        elif stride >= room:
            raise ValueError(f"doc_stride={stride} must be less than the {room} tokens of context in a window")
        return size, stride

    def _forward(self, model_inputs: dict) -> dict:  # type: ignore[override]
        """Score each token of the windows."""
        kept = {name: model_inputs.pop(name) for name in ("is_last", "context", "inside", "null", "first", "last")}
        out = self.model(**model_inputs)
        if "start_logits" not in out:
            raise ValueError(
                f"{type(self).__name__} needs a model with start and end logits, not {type(self.model).__name__}"
            )
        return kept | {"start": out.start_logits.float(), "end": out.end_logits.float()}

    def postprocess(  # type: ignore[override]
        self,
        windows: list[dict],
        top_k: int = 1,
        max_answer_len: int = MOST_TOKENS,
        handle_impossible_answer: bool = False,
        align_to_words: bool = True,
    ) -> dict | list[dict]:
        """Return the best answer of all windows, or the `top_k` best."""
        context = windows[0]["context"]
        scores: dict[tuple[int, int], float] = {}
        null = []
        for window in windows:
            inside, nulls = window["inside"][0].bool(), window["null"][0].bool()
            start, end = (
                window[name][0].masked_fill(~(inside | nulls), -torch.inf).softmax(-1) for name in ("start", "end")
            )
            null.append(float(start[nulls].sum() * end[nulls].sum()))
            spans = _spans(start.masked_fill(~inside, 0), end.masked_fill(~inside, 0), inside, max_answer_len)
            best: dict[tuple[int, int], float] = {}
            for score, one, other in spans:  # best first
                span = _span(context, int(window["first"][0, one]), int(window["last"][0, other]), align_to_words)
                if span[0] < span[1]:
                    best.setdefault(span, score)
                if len(best) == top_k:
                    break
            for span, score in best.items():
                scores[span] = max(score, scores.get(span, 0.0))
        answers = [{"score": score, "start": s, "end": e, "answer": context[s:e]} for (s, e), score in scores.items()]
        if handle_impossible_answer:
            answers.append({"score": min(null), "start": 0, "end": 0, "answer": ""})
        if not answers:
            raise ValueError(f"the tokenizer finds nothing to read in the context {context[:80]!r}")
        answers.sort(key=lambda answer: -answer["score"])
        return answers[0] if top_k == 1 else answers[:top_k]


def _checked(example) -> tuple[str, str]:
    """Return question and context of an example, or say what is wrong with it."""
    if not isinstance(example, dict):
        raise TypeError(f"an example must be a dict with question and context, not {type(example).__name__}")
    for name in ("question", "context"):
        if name not in example:
            raise ValueError(f"an example lacks its {name}: it has {', '.join(map(str, example)) or 'nothing'}")
        if not isinstance(example[name], str):
            raise TypeError(f"{name} must be a string, not {type(example[name]).__name__}")
        if not example[name].strip():
            raise ValueError(f"{name} is empty")
    return example["question"], example["context"]


def _spans(start: torch.Tensor, end: torch.Tensor, inside: torch.Tensor, longest: int) -> Iterator[tuple]:
    """Yield (score, first token, last token) of all spans within (S,), best first."""
    both = torch.outer(inside, inside).triu().tril(longest - 1)
    first, last = both.nonzero(as_tuple=True)
    scores = start[first] * end[last]
    order = scores.argsort(descending=True, stable=True)
    yield from zip(scores[order].tolist(), first[order].tolist(), last[order].tolist(), strict=True)


def _span(context: str, start: int, end: int, whole_words: bool) -> tuple[int, int]:
    """Return the characters of a span: without white space around it, and maybe widened to whole words."""
    while start < end and context[start].isspace():
        start += 1
    while start < end and context[end - 1].isspace():
        end -= 1
    if whole_words and start < end:
        while start > 0 and _within_word(context, start):
            start -= 1
        while end < len(context) and _within_word(context, end):
            end += 1
    return start, end


def _within_word(context: str, place: int) -> bool:
    """Tell whether the characters on both sides of a place belong to one word."""
    sides = context[place - 1 : place + 1]
    return all(unicodedata.category(char)[0] in "LMN" for char in sides) and not ONE_BY_ONE.search(sides)
