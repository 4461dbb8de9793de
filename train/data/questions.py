"""Read questions about texts, with the spans that answer them: SQuAD, and utterances with slots to fill.

A span is a text and the number of its first character in the context. Characters are code points, as in Python: an emoji is one.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train import files
from train.data.readers import LARGEST_ARRAY, Bad, Row, Values, read_whole
from train.errors import UserError, quoted

FORMATS = ("squad", "slots")
MOST_CHARACTERS = 2**20
"""Of a context: it is encoded as a whole."""


def read(path: Path, kind: str, train: tuple[Path, ...]) -> Iterator[Row]:
    """Yield a row of context, question, answers and starts for each question; its line is its number in the file.

    Args:
        path: the file, one JSON object or array.
        kind: one of `FORMATS`.
        train: the files of the training data, whose slots are asked for in every split.

    Raises:
        UserError: it is no JSON, or has another form.
    """
    rows = _squad(_parsed(path)) if kind == "squad" else _slots(_parsed(path), path, train)
    try:
        for number, values in enumerate(rows, start=1):
            yield str(path), number, values
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {type(error).__name__}: {error}; {_FORMS[kind]}") from None


_FORMS = {
    "squad": 'squad must be {"data": [{"paragraphs": [{"context", "qas": [{"question", "answers": [{"text", "answer_start"}]}]}]}]}',
    "slots": 'slots must be [{"userInput": {"text"}, "labels": [{"slot", "valueSpan": {"startIndex", "endIndex"}}]}]',
}


def _parsed(path: Path) -> Any:
    try:
        return files.parse_json(read_whole(path, most=LARGEST_ARRAY))
    except files.JsonError as error:
        raise UserError(f"{path}:{error.line}: {error.rule}") from None


def _squad(document: Any) -> Iterator[Values | Bad]:
    """Yield the questions of SQuAD 1.1 or 2.0 (Rajpurkar et al. 2016, 2018)."""
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = [] if asked.get("is_impossible") else asked["answers"]
                if not answers and not asked.get("is_impossible"):
                    yield Bad(f"{quoted(asked['question'])} has no answer; without one, is_impossible must be true")
                    continue
                texts, starts = (tuple(one[name] for one in answers) for name in ("text", "answer_start"))
                yield _checked(paragraph["context"], asked["question"], texts, starts)


def _slots(document: Any, path: Path, train: tuple[Path, ...]) -> Iterator[Values | Bad]:
    """Yield a question for each utterance and slot: its name, and which slots were asked for before (Coope et al. 2020)."""
    names = _slot_names(train or (path,))
    for said in document:
        text, spans = said["userInput"]["text"], {}
        for label in said.get("labels") or []:
            span = label["valueSpan"]
            spans[label["slot"]] = (span.get("startIndex", 0), span["endIndex"])
        requested = list(dict.fromkeys((said.get("context") or {}).get("requestedSlots") or []))
        unknown = next((name for name in spans if name not in names), None)
        for name in names:
            question = " ".join([name, *(["asked for", *requested] if requested else [])]).replace("_", " ")
            start, end = spans.get(name, (0, 0))
            if unknown is not None:
                yield Bad(f"slot {unknown!r} must be one of the training data's {len(names)}: {', '.join(names)}")
            elif name in spans and not 0 <= start < end <= len(text):
                yield Bad(f"slot {name!r}: characters {start} to {end} must lie within the {len(text)} of the text")
            else:
                found = (text[start:end],) if name in spans else ()
                yield _checked(text, question, found, (start,) * len(found))


@functools.lru_cache(maxsize=4)
def _slot_names(paths: tuple[Path, ...]) -> list[str]:
    """Return the slots that are filled anywhere in some files, sorted."""
    return sorted({label["slot"] for path in paths for said in _parsed(path) for label in said.get("labels") or []})


def _checked(context: Any, question: Any, answers: tuple[Any, ...], starts: tuple[Any, ...]) -> Values | Bad:
    """Return a row whose values have their types."""
    if not all(isinstance(text, str) for text in (context, question, *answers)):
        return Bad("context, question and the text of an answer must be text")
    if not all(isinstance(start, int) for start in starts):
        return Bad("the start of an answer must be a number")
    return context, question, answers, starts


def fault(row: dict[str, Any]) -> str | None:
    """Say what is wrong with the spans of a row."""
    context = row["context"]
    if len(context) > MOST_CHARACTERS:
        return f"a context of {len(context):,} characters; it must have at most {MOST_CHARACTERS:,}"
    for answer, start in zip(row["answer"], row["start"], strict=True):
        if not answer.strip():
            return "an answer is blank; a question without an answer must have none"
        there = context[start : start + len(answer)] if start >= 0 else ""
        if there != answer:
            at = context.find(answer)
            holds = f"it stands at {at}" if at >= 0 else "the context does not hold it"
            said = f"the answer {quoted(answer)} is not at character {start}, where {quoted(there)} stands; {holds}"
            return f"{said}; a start must count characters (code points) from 0"
    return None
