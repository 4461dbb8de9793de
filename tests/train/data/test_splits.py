"""Data: what is read from every format, and one line with file, line and rule for everything that is wrong with it."""

import csv
import gzip
import json
import logging
import math

import datasets
import pyarrow as pa
import pytest
from reading import mistake, rows

from train.data.splits import fingerprint, load_splits, locate
from train.settings.recipe import Recipe
from train.settings.sections import DataSection

PAIRS = [("a dog", "ein Hund"), ("one,\ttwo", "eins, zwei"), ('say "no"', "sag „nein“ 🙂")]


def test_parallel_text_gz_or_not(recipe):
    files = {"x.en": "".join(f"{a}\n" for a, _ in PAIRS), "x.de.gz": "\r\n".join(b for _, b in PAIRS)}
    splits = load_splits(recipe("translation", files, train=["x.en", "x.de.gz"]))
    assert list(splits) == ["train"]
    assert rows(splits["train"]) == PAIRS


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "json"])
@pytest.mark.parametrize("gz", ["", ".gz"])
def test_tables_give_back_what_was_written(recipe, tmp_path, suffix, gz):
    pairs = [(a.replace("\t", " "), b) for a, b in PAIRS]
    if suffix == "tsv":
        content = "id\ten\tde\n" + "".join(f"{i}\t{a}\t{b}\n" for i, (a, b) in enumerate(pairs))
    elif suffix == "csv":
        with (tmp_path / "made.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", "en", "de"), *((i, a, b) for i, (a, b) in enumerate(pairs))])
        content = (tmp_path / "made.csv").read_bytes()
    else:
        records = [{"de": b, "id": i, "en": a} for i, (a, b) in enumerate(pairs)]
        content = json.dumps(records, indent=1) if suffix == "json" else "\n".join(map(json.dumps, records))
    made = recipe(
        "translation", {f"x.{suffix}{gz}": content}, train=f"x.{suffix}{gz}", source_column="en", target_column="de"
    )
    assert rows(load_splits(made)["train"]) == pairs


def test_columns_by_number_mean_no_header(recipe):
    made = recipe(
        "translation", {"x.tsv": "1\tA\tB\n2\tC\tD\textra\n"}, train="x.tsv", source_column=2, target_column=1
    )
    assert rows(load_splits(made)["train"]) == [("B", "A"), ("D", "C")]


def test_json_reaches_into_objects_and_csv_over_lines(recipe):
    record = json.dumps({"translation": {"en": "dog", "de": "Hund"}})
    made = recipe(
        "translation",
        {"x.jsonl": record},
        train="x.jsonl",
        source_column="translation.en",
        target_column="translation.de",
    )
    assert rows(load_splits(made)["train"]) == [("dog", "Hund")]
    made = recipe("classification", {"x.csv": 'text,label\n"two\nlines",a\nb,b\n'}, train="x.csv")
    assert [row[0] for row in rows(load_splits(made)["train"])] == ["two\nlines", "b"]


def test_several_tables_follow_one_another_and_format_overrules_the_name(recipe):
    files = {"a.txt": "x\t1\n", "b.txt": "y\t2\n"}
    made = recipe("translation", files, train=["b.txt", "a.txt"], format="tsv", source_column=0, target_column=1)
    assert rows(load_splits(made)["train"]) == [("y", "2"), ("x", "1")]


def test_a_line_ends_at_newline_and_nowhere_else(recipe):
    text = "\ufeffone\u2028still one\r\n\ntwo\x0bstill\x85two \rthis too\nthree"
    splits = load_splits(recipe("causal", {"x.txt": text}, train="x.txt"))
    assert [row[0] for row in rows(splits["train"])] == [
        "one\u2028still one",
        "",
        "two\x0bstill\x85two \rthis too",
        "three",
    ]


def test_a_whole_file_keeps_every_character(recipe):
    text = "One\r\n\n  two \u2028\n"
    splits = load_splits(recipe("causal", {"x.txt.gz": text}, train="x.txt.gz", text_unit="file"))
    assert rows(splits["train"]) == [(text,)]


def test_validation_is_the_last_part_of_the_rows(recipe):
    text = "".join(f"{i}\n" for i in range(10))
    splits = load_splits(
        recipe("causal", {"x.txt": text}, train="x.txt", validation_fraction=0.3, limit_train=4, limit_eval=2)
    )
    assert [row[0] for row in rows(splits["train"])] == ["0", "1", "2", "3"]
    assert [row[0] for row in rows(splits["validation"])] == ["7", "8"]


def test_validation_of_a_whole_file_is_its_last_characters(recipe):
    text = "".join(chr(97 + i % 26) for i in range(111))
    made = recipe(
        "causal",
        {"a.txt": text[:50], "b.txt": text[50:]},
        train=["a.txt", "b.txt"],
        text_unit="file",
        validation_fraction=0.1,
    )
    splits = load_splits(made)
    kept = math.floor(111 * 0.9)
    assert (splits["train"][0]["text"], splits["validation"][0]["text"]) == (text[:kept], text[kept:])


def test_labels_are_numbered_by_the_training_data(recipe):
    files = {"x.csv": "text,label\na,10\nb,9\nc,10\n", "t.csv": "text,label\n,9\n"}
    splits = load_splits(recipe("classification", files, train="x.csv", test="t.csv"))
    assert splits["train"].features["label"].names == ["9", "10"]
    assert rows(splits["train"]) == [("a", 1), ("b", 0), ("c", 1)]
    assert rows(splits["test"]) == [("", 0)]  # an empty text is a text, and counts in the figure


@pytest.mark.parametrize("cut", [{"validation": "t.csv"}, {"validation_fraction": 0.25}])
def test_labels_are_those_of_all_rows_whatever_the_limit(recipe, cut):
    files = {"x.csv": "text,label\na,x\nb,x\nc,z\nd,y\ne,z\nf,y\ng,z\nh,y\n", "t.csv": "text,label\ng,z\nh,y\n"}
    whole = load_splits(recipe("classification", files, train="x.csv", **cut))
    few = load_splits(recipe("classification", files, train="x.csv", limit_train=2, limit_eval=1, **cut))
    assert few["train"].features["label"].names == ["x", "y", "z"]
    assert rows(few["train"]) == rows(whole["train"])[:2] == [("a", 0), ("b", 0)]
    assert rows(few["validation"]) == rows(whole["validation"])[:1] == [("g", 2)]


def test_labels_of_json_may_be_numbers(recipe):
    lines = [{"text": "a", "label": 1}, {"text": "b", "label": 0}, {"text": "c", "label": 1}]
    splits = load_splits(recipe("classification", {"x.jsonl": "\n".join(map(json.dumps, lines))}, train="x.jsonl"))
    assert rows(splits["train"]) == [("a", 1), ("b", 0), ("c", 1)]


def test_limits_take_the_first_rows(recipe):
    files = {"x.txt": "a\nb\nc\n"}
    splits = load_splits(recipe("causal", files, train="x.txt", test="x.txt", limit_train=2, limit_eval=1))
    assert [len(split) for split in splits.values()] == [2, 1]


def test_generator_gives_all_three_splits():
    arguments = {"train": 20, "validation": 4, "test": 3}
    made = Recipe(
        name="d", task="translation", data=DataSection(generator="dates", generator_args=arguments, limit_train=9)
    )
    splits = load_splits(made)
    assert {name: len(split) for name, split in splits.items()} == {"train": 9, "validation": 4, "test": 3}
    assert splits["train"].column_names == ["source", "target"]
    made.task = "causal"
    assert "data.generator" in mistake(made)


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """A folder that `datasets.load_dataset` reads without any network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    names = datasets.ClassLabel(names=["good", "bad"])
    features = datasets.Features({"review": datasets.Value("string"), "mood": names})
    table = {"review": ["fine", "awful", "nice"], "mood": [0, 1, 0]}
    datasets.Dataset.from_dict(table, features=features).to_parquet(folder / "train-0.parquet")
    return folder


def test_hub_data_set_with_named_labels(hub_folder):
    data = DataSection(hub=str(hub_folder), train="train", text_column="review", label_column="mood")
    splits = load_splits(Recipe(name="h", task="classification", data=data))
    assert splits["train"].features["label"].names == ["bad", "good"]
    assert rows(splits["train"]) == [("fine", 1), ("awful", 0), ("nice", 1)]


def test_hub_mistakes_are_named(hub_folder):
    data = DataSection(hub=str(hub_folder), train="dev", text_column="review", label_column="mood")
    assert "dev" in mistake(Recipe(name="h", task="classification", data=data))
    data.train, data.text_column = "train", "words"
    message = mistake(Recipe(name="h", task="classification", data=data))
    assert "train:1" in message
    assert "'words'" in message
    data.text_column = 0
    assert "columns must be names" in mistake(Recipe(name="h", task="classification", data=data))


@pytest.mark.parametrize(
    ("task", "files", "data", "words"),
    [
        ("causal", {}, {"train": "x.txt"}, ["x.txt", "data.train", "data.root", "--data.root"]),
        ("causal", {"x.txt": ""}, {"train": "x.txt"}, ["x.txt", "no rows"]),
        ("causal", {"x.txt": ""}, {"train": "x.txt", "text_unit": "file"}, ["x.txt", "no rows"]),
        ("causal", {"x.txt": b"fine\nfa\xefl\n"}, {"train": "x.txt"}, ["x.txt:2", "0xef", "UTF-8"]),
        (
            "causal",
            {"x.txt": b"fine\nfa\xefl\n"},
            {"train": "x.txt", "text_unit": "file"},
            ["x.txt:2", "0xef", "UTF-8"],
        ),
        (
            "translation",
            {"a": "1\n2\n3\n", "b": "1\n2\n"},
            {"train": ["a", "b"]},
            ["a:3", "3 lines", "2 lines", "equally"],
        ),
        ("translation", {"a": "1\n2\n", "b": "1\n \n"}, {"train": ["a", "b"]}, ["a:2", "target", "empty"]),
        ("translation", {"a": "1\n"}, {"train": "a"}, ["data.train", "1 text file", "[source file, target file]"]),
        (
            "translation",
            {"a.tsv": "1\t2\n3\n"},
            {"train": "a.tsv", "source_column": 0, "target_column": 1},
            ["a.tsv:2", "1 column"],
        ),
        (
            "translation",
            {"a.tsv": "en\tde\n1\t2\n"},
            {"train": "a.tsv"},
            ["a.tsv:1", "source_column", "'source'", "en, de"],
        ),
        ("translation", {"a.tsv": "source\ttarget\n"}, {"train": "a.tsv"}, ["a.tsv", "no rows"]),
        (
            "translation",
            {"a.jsonl": '{"source": "a", "target": "b"}\n{"source": \n'},
            {"train": "a.jsonl"},
            ["a.jsonl:2", "JSON"],
        ),
        (
            "translation",
            {"a.jsonl": '{"source": "a", "target": null}\n'},
            {"train": "a.jsonl"},
            ["a.jsonl:1", "'target'", "null"],
        ),
        ("translation", {"a.jsonl": '["a", "b"]\n'}, {"train": "a.jsonl"}, ["a.jsonl:1", "str", "object"]),
        (
            "translation",
            {"a.jsonl": '{"source": "\\ud800", "target": "b"}'},
            {"train": "a.jsonl"},
            ["a.jsonl:1", "surrogate"],
        ),
        ("translation", {"a.json": '[{"source": "a"'}, {"train": "a.json"}, ["a.json:1", "JSON"]),
        ("classification", {"a.csv": 'text,label\na,b\n"open,c\n'}, {"train": "a.csv"}, ["a.csv:3", "quote"]),
        (
            "classification",
            {"a.csv": 'text,label\n"a\n\nb",x\n\nshort\n'},
            {"train": "a.csv"},
            ["a.csv:6", "1 column"],
        ),
        ("classification", {"a.csv": b"text,label\na,b\nfa\xefl,b\n"}, {"train": "a.csv"}, ["a.csv:3", "UTF-8"]),
        ("classification", {"a.csv": "text,label\na,b\nc,\n"}, {"train": "a.csv"}, ["a.csv:3", "label", "empty"]),
        ("classification", {"a.csv": "text,label\na,b\nc,b\n"}, {"train": "a.csv"}, ["label_column", "at least 2"]),
        ("classification", {"a.txt": "a\n"}, {"train": "a.txt"}, ["data.train", "a.txt", "classification"]),
        (
            "causal",
            {"x.txt": "a\n"},
            {"train": "x.txt", "validation_fraction": 0.5},
            ["data.validation_fraction", "0.5"],
        ),
    ],
)
def test_mistake_is_named_with_file_line_and_rule(recipe, task, files, data, words):
    message = mistake(recipe(task, files, **data))
    assert all(word in message for word in words), message


def test_unknown_label_is_named_where_it_stands(recipe):
    files = {"x.csv": "text,label\na,no\nb,yes\n", "t.csv": "text,label\nc,no\n\nd,maybe\n"}
    message = mistake(recipe("classification", files, train="x.csv", test="t.csv"))
    assert "t.csv:4" in message
    assert "'maybe'" in message
    assert "no, yes" in message


def test_cut_off_gz_is_named(recipe, tmp_path):
    whole = gzip.compress(b"".join(b"line %d\n" % i for i in range(5000)))
    (tmp_path / "x.txt.gz").write_bytes(whole[:-20])
    assert "x.txt.gz" in mistake(recipe("causal", train="x.txt.gz"))
    (tmp_path / "y.txt.gz").write_bytes(b"no gz at all")
    assert "y.txt.gz" in mistake(recipe("causal", train="y.txt.gz"))


def test_bad_lines_can_be_skipped_and_are_counted(recipe, caplog):
    files = {"a": b"1\n\n3\nfa\xefl\n5\n6\n", "b": "eins\nzwei\n \nvier\nfünf\nsechs\n"}
    made = recipe("translation", files, train=["a", "b"], on_bad_line="skip")
    with caplog.at_level(logging.WARNING):
        assert rows(load_splits(made)["train"]) == [("1", "eins"), ("5", "fünf"), ("6", "sechs")]
    assert "skipped 3" in caplog.text
    assert "a:2" in caplog.text


def test_csv_goes_on_after_a_bad_line(recipe):
    made = recipe(
        "classification", {"a.csv": b"text,label\na,x\nfa\xefl,x\nshort\nb,y\n"}, train="a.csv", on_bad_line="skip"
    )
    assert rows(load_splits(made)["train"]) == [("a", 0), ("b", 1)]


def test_locate_counts_skipped_lines_headers_and_the_cut(recipe):
    content = "text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" if i != 2 else "bad\n" for i in range(10))
    made = recipe("classification", {"x.csv": content}, train="x.csv", on_bad_line="skip", validation_fraction=0.34)
    splits = load_splits(made)
    lines = content.split("\n")
    for name, split in splits.items():
        for index, text in enumerate(split["text"]):
            line = int(locate(made, name, index).rpartition(":")[2])
            assert lines[line - 1].startswith(f"{text},")


def test_fingerprint_changes_with_every_character_and_the_order(recipe):
    def of(text: str, **data) -> str:
        return fingerprint(load_splits(recipe("causal", {"x.txt": text}, train="x.txt", **data)))

    assert of("a\nb\n") == of("a\r\nb")
    assert (
        len({of("a\nb\n"), of("b\na\n"), of("ab\n"), of("a\nb \n"), of("a\n\nb\n"), of("a\nb\n", test="x.txt")}) == 6
    )


def test_fingerprint_does_not_depend_on_the_format(recipe):
    made = [
        recipe("translation", {"a": "1\n2\n", "b": "x\ny\n"}, train=["a", "b"]),
        recipe("translation", {"c.tsv": "1\tx\n2\ty\n"}, train="c.tsv", source_column=0, target_column=1),
    ]
    assert len({fingerprint(load_splits(one)) for one in made}) == 1


def test_many_rows_lie_on_the_disk_and_are_the_same(recipe, tmp_path, monkeypatch, caplog):
    lines = [f"line {i} \u00fc" for i in range(103)]
    made = recipe("causal", {"x.txt": "\n".join(lines)}, train="x.txt", validation_fraction=0.2)
    expected = {name: rows(split) for name, split in load_splits(made).items()}
    hashed = fingerprint(load_splits(made))
    monkeypatch.setattr("train.data.splits._CHUNK", 5)
    monkeypatch.setattr("train.data.splits._CHUNKS_IN_MEMORY", 4)
    monkeypatch.setenv("MODELING_VANILLA_CACHE", str(tmp_path / "cache"))
    before = pa.total_allocated_bytes()
    splits = load_splits(made)
    assert pa.total_allocated_bytes() - before < sum(len(line) for line in lines)  # only the last rows are in memory
    assert {name: rows(split) for name, split in splits.items()} == expected
    assert fingerprint(splits) == hashed
    assert list((tmp_path / "cache").iterdir()) == []  # the files have no names
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MODELING_VANILLA_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING):
        assert {name: rows(split) for name, split in load_splits(made).items()} == expected
    assert "rows are kept in memory" in caplog.text
