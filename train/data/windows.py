"""Questions and their contexts to token ids: a context that is longer than the model is read in windows that overlap."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from modeling_vanilla.pipeline_question_answering import WINDOW
from train.data.examples import Examples, Ragged
from train.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from train.settings.recipe import Recipe

_BATCH = 100
OUTSIDE = -1
"""First and last character of a token that is none of the context's."""


def encode(
    split: "Dataset",
    tokenizer: "PreTrainedTokenizerBase",
    recipe: "Recipe",
    limit: tuple[int, str],
    where: Callable[[int], str],
) -> Examples:
    """Turn each row into one example or more; what looks like a special token stays text.

    A window that does not hold the whole answer is answered with its first token, `<cls>`, as a question without an answer is
    (Devlin et al. 2019, sec. 4.3). Of several answers, the first is learned.

    Args:
        split: rows of `context`, `question`, `answer` and `start`.
        tokenizer: a fast one, which tells where a token stands in the text.
        recipe: its `data.window` and `data.stride` are read.
        limit: the longest row that the model and the budget allow, and the rule that says so.
        where: says where a row came from.

    Returns:
        With the answers `start_positions` and `end_positions`, and the origins `row`, `first` and `last`: the row of an example,
        and for each token of the context its first character and the one behind its last.

    Raises:
        UserError: a question leaves no room for its context, or the tokenizer is a slow one.
    """
    if not tokenizer.is_fast:
        raise UserError(f"{type(tokenizer).__name__}: answering needs a fast tokenizer (tokenizer.json)")
    size = min(recipe.data.window or WINDOW, limit[0])
    made = _Made()
    number = 0
    for batch in split.iter(batch_size=_BATCH):
        whole = _call(tokenizer, batch["question"], batch["context"])
        for index in range(len(batch["question"])):
            span = [(start, start + len(text)) for text, start in zip(batch["answer"][index], batch["start"][index])][
                :1
            ]
            if len(whole["input_ids"][index]) <= size:
                made.add(whole, index, number, span)
            else:
                question, context = batch["question"][index], batch["context"][index]
                room = size - len(
                    tokenizer(question, split_special_tokens=True, add_special_tokens=False)["input_ids"]
                )
                room -= tokenizer.num_special_tokens_to_add(pair=True)
                if room < 1:
                    rule = f"leaves no room for the context in a window of {size} (data.window, {limit[1]})"
                    raise UserError(f"{where(number)}: the question {rule}; it must be shorter")
                options = {"truncation": "only_second", "max_length": size, "return_overflowing_tokens": True}
                windows = _call(tokenizer, question, context, stride=min(recipe.data.stride, room // 2), **options)
                for window in range(len(windows["input_ids"])):
                    made.add(windows, window, number, span)
            number += 1
    return made.examples()


def _call(tokenizer: "PreTrainedTokenizerBase", questions: Any, contexts: Any, **options: Any) -> Any:
    options |= {"return_offsets_mapping": True, "return_attention_mask": False, "return_token_type_ids": True}
    return tokenizer(questions, contexts, split_special_tokens=True, verbose=False, **options)


class _Made:
    """The windows that were made so far."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.types: list[np.ndarray] = []
        self.places: list[tuple[np.ndarray, np.ndarray]] = []
        self.spans: list[tuple[int, int]] = []
        self.rows: list[int] = []

    def add(self, encoded: Any, index: int, row: int, span: list[tuple[int, int]]) -> None:
        """Take one window of a row, whose answer is given by its characters."""
        inside = np.asarray([sequence == 1 for sequence in encoded.sequence_ids(index)])
        places = np.asarray(encoded["offset_mapping"][index], dtype=np.int32).reshape(-1, 2)
        first, last = (np.where(inside, places[:, side], OUTSIDE).astype(np.int32) for side in (0, 1))
        self.ids.append(np.asarray(encoded["input_ids"][index], dtype=np.int32))
        self.types.append(np.asarray(encoded["token_type_ids"][index], dtype=np.int32))
        self.places.append((first, last))
        self.spans.append(_tokens(first, last, *span[0]) if span else (0, 0))
        self.rows.append(row)

    def examples(self) -> Examples:
        starts, ends = np.asarray(self.spans, dtype=np.int64).reshape(-1, 2).T
        answers: dict[str, Any] = {
            "token_type_ids": Ragged(self.types),
            "start_positions": starts,
            "end_positions": ends,
        }
        first, last = (Ragged(place[side] for place in self.places) for side in (0, 1))
        origins: dict[str, Any] = {"row": np.asarray(self.rows), "first": first, "last": last}
        return Examples({"input_ids": Ragged(self.ids)}, answers, origins)


def _tokens(first: np.ndarray, last: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """Return the first and last token of some characters, or twice the null place where a window does not hold them all."""
    inside = np.flatnonzero(first != OUTSIDE)
    if not len(inside) or start < first[inside[0]] or end > last[inside[-1]]:
        return 0, 0
    covering = inside[(last[inside] > start) & (first[inside] < end)]
    return (int(covering[0]), int(covering[-1])) if len(covering) else (0, 0)
