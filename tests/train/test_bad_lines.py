"""A bad line stops the run or is skipped, as the recipe says, in every format, packed with gzip or not."""

import logging

import pytest
from reading import mistake, rows

from train.data import load_splits

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
    assert "x.jsonl: no rows" in mistake(made)
