"""What a text that a model wrote is compared with: the references of its source, and the sentences that need no model."""

from typing import TYPE_CHECKING

import numpy as np

from modeling_vanilla.pipeline_sentences import split_sentences

if TYPE_CHECKING:
    from datasets import Dataset


def by_source(rows: "Dataset") -> dict[str, tuple[int, list[str]]]:
    """Return for each source, in order, its first row and the targets of all its rows, which are its references.

    A table repeats the source of a text that has several right answers: any format can, and training takes each of them.
    """
    gathered: dict[str, tuple[int, list[str]]] = {}
    for row, (source, target) in enumerate(zip(rows["source"][:], rows["target"][:], strict=True)):
        gathered.setdefault(source, (row, []))[1].append(target)
    return gathered


def baselines(sources: list[str]) -> dict[str, list[str]]:
    """Return what a summary has to beat: the first sentence of each source, and one drawn at random, the same each time."""
    random = np.random.default_rng(0)
    first, drawn = [], []
    for source in sources:
        sentences = [sentence for sentence, _ in split_sentences(source) if sentence] or [source]
        first.append(sentences[0])
        drawn.append(sentences[random.integers(len(sentences))])
    return {"lead-1": first, "random sentence": drawn}
