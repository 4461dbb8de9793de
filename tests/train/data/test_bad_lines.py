"""A bad line stops the run or is skipped, as the recipe says, in every format, packed with gzip or not."""

import itertools
import logging

import pytest
from reading import mistake, rows

from train.data import splits as data
from train.data.readers import Bad
from train.data.splits import load_splits
from train.errors import UserError

BAD_BYTES = b"fa\xefl"
# Format: what stands before the rows, a good row of number i, and bad rows with a word of their rule.
BROKEN = {
    "tsv": (
        b"source\ttarget\n",
        b"a%d\tb%d\n",
        {BAD_BYTES + b"\tx\n": "UTF-8", b"one\n": "1 column", b" \tx\n": "empty"},
    ),
    "csv": (b"source,target\n", b"a%d,b%d\n", {BAD_BYTES + b",x\n": "UTF-8", b"one\n": "1 column", b"x,\n": "empty"}),
    "jsonl": (
        b"",
        b'{"source": "a%d", "target": "b%d"}\n',
        {
            b'{"source": "' + BAD_BYTES + b'", "target": "x"}\n': "UTF-8",
            b'{"source": "x", "tar\n': "JSON",
            b'{"source": 5, "target": "x"}\n': "must be text",
            b'{"source": "x", "target": null}\n': "must be text",
            b'{"source": "x"}\n': "must be text",
            b'["x", "y"]\n': "JSON object",
            b'{"source": "x", "target": ""}\n': "empty",
            b"nan\n": "JSON",
        },
    ),
}
CASES = [
    (kind, bad, rule, gz) for kind, parts in BROKEN.items() for bad, rule in parts[2].items() for gz in ("", ".gz")
]


@pytest.mark.parametrize(("kind", "bad", "rule", "gz"), CASES)
@pytest.mark.parametrize("last", [False, True], ids=["inside", "last"])
def test_a_bad_line_stops_or_is_skipped_in_every_format(recipe, caplog, kind, bad, rule, gz, last):
    head, good, _ = BROKEN[kind]
    lines = [good % (i, i) for i in range(4)]
    lines.insert(4 if last else 2, bad)
    content = head + b"".join(lines)
    if last:
        content = content.removesuffix(b"\n")  # as where a download broke off
    name = f"x.{kind}{gz}"
    line = (5 if last else 3) + bool(head)
    message = mistake(recipe("translation", {name: content}, train=name))
    assert f"{name}:{line}: " in message
    assert rule in message
    with caplog.at_level(logging.WARNING):
        splits = load_splits(recipe("translation", {name: content}, train=name, on_bad_line="skip"))
    assert rows(splits["train"]) == [(f"a{i}", f"b{i}") for i in range(4)]
    assert "skipped 1 bad line(s), the first: " in caplog.text
    assert f"{name}:{line}: " in caplog.text


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_a_bad_line_of_text_stops_or_is_skipped(recipe, gz):
    files = {f"x.txt{gz}": b"one\n" + "caf\u00e9".encode("latin-1") + b"\n\nthree\n"}
    assert f"x.txt{gz}:2: byte 0xe9" in mistake(recipe("causal", files, train=f"x.txt{gz}"))
    splits = load_splits(recipe("causal", files, train=f"x.txt{gz}", on_bad_line="skip"))
    assert rows(splits["train"]) == [("one",), ("",), ("three",)]  # an empty line of running text is a line


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.json", "x.tsv", "x.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"\n\n"], ids=["empty", "line ends"])
def test_a_file_without_rows_is_named(recipe, name, content):
    message = mistake(recipe("translation", {name: content}, train=name, on_bad_line="skip"))
    assert name in message


def test_only_bad_lines_leave_no_rows(recipe):
    made = recipe("translation", {"x.jsonl": b"{\n[\n"}, train="x.jsonl", on_bad_line="skip")
    assert "train data: 2 of 2 lines are bad" in mistake(made)


def test_single_lines_are_skipped_and_most_of_them_are_not(recipe, caplog):
    for bad, refused in ((30, False), (31, True)):
        content = b"a\tb\n" * 30 + b"one\n" * bad
        made = recipe(
            "translation", {"x.tsv": content}, train="x.tsv", source_column=0, target_column=1, on_bad_line="skip"
        )
        if refused:
            message = mistake(made)
            assert "train data: 31 of 61 lines are bad; skipping is for single lines" in message
            assert "the first: " in message and "x.tsv:31: 1 column(s) found" in message
        else:
            assert len(load_splits(made)["train"]) == 30


def test_it_is_refused_before_the_end_of_what_may_be_endless(recipe, monkeypatch):
    endless = (("x.tsv", number, Bad("broken")) for number in itertools.count(1))
    monkeypatch.setattr(data, "_rows", lambda *_: endless)
    with pytest.raises(UserError, match=r"train data: 1,000 of 1,000 lines are bad"):
        list(data.kept(recipe("causal", train="x.tsv", on_bad_line="skip"), "train"))


KOREAN = "원문\t번역\n안녕하세요\t반갑습니다\n" * 9
CAUSES = {
    "CP949": (KOREAN.encode("cp949"), "x.tsv", "it looks like CP949: iconv -f CP949 -t UTF-8"),
    "CP1252": ("Straße\tcafé\nGrüße\tüber\n".encode("cp1252"), "x.tsv", "it looks like CP1252"),
    "UTF-16": (KOREAN.encode("utf-16"), "x.tsv", "it looks like UTF-16: iconv -f UTF-16 -t UTF-8"),
    "UTF-16 without a mark": ("a\tb\nc\td\n".encode("utf-16-le"), "x.tsv", "it looks like UTF-16"),
    "semicolons": (b"a;b\nc;d\n", "x.csv", "its fields look separated by ';'; they must be commas"),
    "tabs in csv": (b"a\tb\nc\td\n", "x.csv", "its fields look separated by tabs: data.format: tsv"),
    "commas in tsv": (b"a,b\nc,d\n", "x.tsv", "its fields look separated by commas"),
    "old line ends": (b"a\tb\rc\td\r", "x.tsv", "its lines end in a carriage return alone"),
    "old line ends, csv": (b"a,b\rc,d\r", "x.csv", "its lines end in a carriage return alone"),
    "old line ends, text": (b"abc\rdef\r", "x.txt", "its lines end in a carriage return alone"),
}


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("case", CAUSES)
def test_the_probable_cause_stands_in_the_message(recipe, case, gz):
    content, name, words = CAUSES[case]
    task = "causal" if name.endswith(".txt") else "translation"
    places = {} if task == "causal" else {"source_column": 0, "target_column": 1}
    for rule in ("stop", "skip"):
        message = mistake(recipe(task, {name + gz: content}, train=name + gz, on_bad_line=rule, **places))
        assert words in message
    named = {column: "source" for column in places}
    assert words in mistake(recipe(task, {name + gz: content}, train=name + gz, **named))


@pytest.mark.parametrize(
    "content", [b"a\tb\n\xff\x81\tc\n", "글\t말\n".encode() * 9 + b"\xb1\tc\n", b"a\rb\tc\nd\n", b"a\tb\nc;d\n"]
)
def test_no_cause_is_made_up(recipe, content):
    message = mistake(recipe("translation", {"x.tsv": content}, train="x.tsv", source_column=0, target_column=1))
    assert "look" not in message and "carriage" not in message
