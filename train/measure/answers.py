"""The answers of a model to questions: the best span over all windows of a text, as the pipeline finds it, and its figures."""

from typing import TYPE_CHECKING, Any

import torch

from modeling_vanilla.pipeline_question_answering import QuestionAnsweringPipeline
from train.data.windows import OUTSIDE

if TYPE_CHECKING:
    from datasets import Dataset

    from train.data.examples import Examples

Span = dict[str, Any]
"""`answer`, its characters `start` and `end` in the context, and its `score`; an empty answer has start = end = 0."""


def best(rows: "Dataset", encoded: "Examples", logits: list[Any], longest: int, may_be_empty: bool) -> list[Span]:
    """Return the answer to each row.

    Args:
        rows: of questions.
        encoded: their windows.
        logits: of each window the start and end logits of its tokens, (2, S).
        longest: tokens of an answer at most.
        may_be_empty: let "no answer" compete with the best span, by the window that gives it least.
    """
    windows: list[list[dict[str, Any]]] = [[] for _ in range(len(rows))]
    contexts = rows["context"][:]
    for number, row in enumerate(encoded.origins["row"].tolist()):
        first, last = (torch.tensor(encoded.origins[name][number])[None] for name in ("first", "last"))
        inside = first != OUTSIDE
        null = torch.zeros_like(inside)
        null[0, 0] = True
        start, end = (torch.tensor(side)[None] for side in logits[number])
        places = {"inside": inside, "null": null, "first": first, "last": last}
        windows[row].append({"context": contexts[row], "start": start, "end": end, **places})
    # It is a method that needs no pipeline: what a reader's pipeline answers is what is measured, widened to whole words
    # where words stand between spaces (on RESTAURANTS-8K an F1 of 0.843 for 0.801).
    answer: Any = QuestionAnsweringPipeline.postprocess
    return [answer(None, found, 1, longest, may_be_empty) for found in windows]
