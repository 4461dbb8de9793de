"""Questions with spans: what is read from SQuAD, slots and json, and one line for everything that is wrong."""

import json
from pathlib import Path

import datasets
import pytest
from reading import mistake, rows

from train.__main__ import main
from train.data.splits import load_splits
from train.settings.recipe import Recipe
from train.settings.sections import DataSection

DATA = Path(__file__).resolve().parents[3] / "data"
CONTEXT = "🙂 서울은 대한민국의 수도이다. Seoul is the capital."


def row(answer, start, question="Which?", context=CONTEXT):
    return {"context": context, "question": question, "answer": answer, "start": start}


def squad(*asked, context=CONTEXT):
    return json.dumps(
        {"version": "2.0", "data": [{"title": "x", "paragraphs": [{"context": context, "qas": [*asked]}]}]}
    )


def asked(*answers, question="Which?", **more):
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": "1", "question": question, "answers": found} | more


def slots(text, spans, requested=()):
    """Return an utterance as RESTAURANTS-8K has it: a start of 0 is left out, as is a context without slots."""
    labels = [
        {"slot": slot, "valueSpan": ({"startIndex": start} if start else {}) | {"endIndex": end}}
        for slot, (start, end) in spans.items()
    ]
    said = {"userInput": {"text": text}} | ({"labels": labels} if labels else {})
    return said | ({"context": {"requestedSlots": [*requested]}} if requested else {})


UTTERANCES = [
    slots("13", {"people": (0, 2)}, ["people"]),
    slots("at 7 for Kim", {"time": (3, 4), "last_name": (9, 12)}),
]


def test_squad_1_and_2(recipe):
    content = squad(
        asked(("서울", 2), ("서울은", 2)), asked(question="None?", is_impossible=True, plausible_answers=[])
    )
    split = load_splits(recipe("answering", {"x.json": content}, train="x.json", format="squad"))["train"]
    assert rows(split) == [(CONTEXT, "Which?", ["서울", "서울은"], [2, 2]), (CONTEXT, "None?", [], [])]


def test_a_slot_is_a_question_with_what_was_asked_for(recipe):
    content = json.dumps(UTTERANCES)
    split = load_splits(recipe("answering", {"x.json": content}, train="x.json", format="slots"))["train"]
    assert rows(split) == [
        ("13", "last name asked for people", [], []),
        ("13", "people asked for people", ["13"], [0]),
        ("13", "time asked for people", [], []),
        ("at 7 for Kim", "last name", ["Kim"], [9]),
        ("at 7 for Kim", "people", [], []),
        ("at 7 for Kim", "time", ["7"], [3]),
    ]


def test_every_split_asks_for_the_slots_of_the_training_data(recipe):
    files = {"x.json": json.dumps(UTTERANCES), "t.json": json.dumps(UTTERANCES[:1])}
    made = recipe("answering", files, train="x.json", test="t.json", format="slots")
    assert [one[1] for one in rows(load_splits(made)["test"])] == [
        f"{n} asked for people" for n in ("last name", "people", "time")
    ]


def test_rows_of_json_have_one_answer_several_or_none(recipe):
    records = [row("서울", 2), row(["서울", "수도"], [2, 12]), row(None, None), row("", None), row([], [])]
    made = recipe("answering", {"x.jsonl": "\n".join(map(json.dumps, records))}, train="x.jsonl")
    answers = [(one[2], one[3]) for one in rows(load_splits(made)["train"])]
    assert answers == [(["서울"], [2]), (["서울", "수도"], [2, 12]), ([], []), ([], []), ([], [])]


def test_a_data_set_of_the_hub_has_objects_of_lists(tmp_path):
    found = [{"text": ["서울"], "answer_start": [2]}, {"text": [], "answer_start": []}]
    table = {"context": [CONTEXT] * 2, "question": ["Which?"] * 2, "answers": found}
    datasets.Dataset.from_dict(table).to_parquet(tmp_path / "train.parquet")
    columns = {"answer_column": "answers.text", "start_column": "answers.answer_start"}
    data = DataSection(hub=str(tmp_path), train="train", **columns)
    split = load_splits(Recipe(name="h", task="answering", data=data))["train"]
    assert rows(split) == [(CONTEXT, "Which?", ["서울"], [2]), (CONTEXT, "Which?", [], [])]


BAD = [
    # UTF-16 counts an emoji as two: the answer stands one character further on than it says.
    (
        "json",
        [row("서울", 3)],
        "x.json:1: the answer '서울' is not at character 3, where '울은' stands; it stands at 2",
    ),
    (
        "json",
        [row("서울", 2), row("부산", 2)],
        "x.json:2: the answer '부산' is not at character 2, where '서울' stands; the context does",
    ),
    ("json", [row("서울", -1)], "is not at character -1, where '' stands; it stands at 2"),
    ("json", [row("capital.", 10**6)], "is not at character 1000000, where '' stands"),
    (
        "json",
        [row(["서울", "수도"], [2])],
        "x.json:1: 2 answer and 1 start found; there must be one of each for the other",
    ),
    ("json", [row("서울", None)], "x.json:1: 1 answer and 0 start found"),
    ("json", [row("서울", "2")], "x.json:1: 'start' has an item that is 2; it must be a whole number"),
    ("json", [row(" ", 1)], "x.json:1: an answer is blank"),
    ("json", [row("서울", 2, question=" ")], "x.json:1: the question is empty"),
    ("json", [row(None, None, context="x" * (2**20 + 1))], "a context of 1,048,577 characters"),
    ("squad", squad(asked(("서울", 3))), "x.json:1: the answer '서울' is not at character 3"),
    (
        "squad",
        squad(asked(("서울", 2)), asked()),
        "x.json:2: 'Which?' has no answer; without one, is_impossible must be true",
    ),
    ("squad", "[]", "squad must be"),
    ("squad", '{"data": [{}]}', "KeyError: 'paragraphs'; squad must be"),
    (
        "slots",
        [slots("13", {"people": (0, 3)})],
        "x.json:1: slot 'people': characters 0 to 3 must lie within the 2 of the text",
    ),
    ("slots", '{"a": 1}', "slots must be"),
    ("slots", "{", "x.json:1"),
]


@pytest.mark.parametrize(("kind", "content", "words"), BAD)
def test_what_is_wrong_is_named_with_file_line_and_rule(recipe, kind, content, words):
    text = content if isinstance(content, str) else json.dumps(content)
    assert words in mistake(recipe("answering", {"x.json": text}, train="x.json", format=kind))


def test_a_slot_that_training_does_not_have_is_named(recipe):
    files = {"x.json": json.dumps(UTTERANCES), "t.json": json.dumps([slots("red", {"colour": (0, 3)})])}
    message = mistake(recipe("answering", files, train="x.json", test="t.json", format="slots"))
    assert "t.json:1: slot 'colour' must be one of the training data's 3: last_name, people, time" in message


def test_the_command_line_ends_with_one_line_and_code_2(tmp_path, capsys):
    (tmp_path / "x.json").write_text(json.dumps([row("서울", 3)]))
    (tmp_path / "r.yaml").write_text(f"name: r\ntask: answering\ndata: {{root: {tmp_path}, train: x.json}}\n")
    assert main(["fit", str(tmp_path / "r.yaml"), "--run_dir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "x.json:1: the answer '서울' is not at character 3" in line
    assert "code points" in line
    assert not (tmp_path / "run").exists()
    assert main(["fit", str(tmp_path / "r.yaml"), "--batch.packing=true"]) == 2
    assert "must be false for the task answering" in capsys.readouterr().err


def test_real_slots_are_where_they_should_be():
    if not (DATA / "restaurants8k").is_dir():
        pytest.skip("restaurants8k is not here")
    data = DataSection(root=str(DATA / "restaurants8k"), train="train_0.json.gz", test="test.json.gz", format="slots")
    split = load_splits(Recipe(name="r", task="answering", data=data))["test"]
    assert len(split) == 5 * 3731
    assert sum(map(len, split["answer"])) == 3477
