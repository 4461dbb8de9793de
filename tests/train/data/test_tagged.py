"""Words with labels: what is read from CoNLL-U, from columns and from json, and one line for everything that is wrong."""

import json
from pathlib import Path

import datasets
import pytest
from reading import mistake, rows

from train.__main__ import main
from train.data.splits import label_names, load_splits, locate
from train.run import first_look
from train.settings.recipe import Recipe
from train.settings.sections import DataSection

DATA = Path(__file__).resolve().parents[3] / "data"


def line(number, form, upos, xpos="_"):
    """Return a line of CoNLL-U."""
    return f"{number}\t{form}\t{form.lower()}\t{upos}\t{xpos}\t_\t0\troot\t_\t_\n"


# UD English-EWT, dev: a word of two words, an empty node, comments, and two sentences.
CONLLU = (
    "# newdoc id = weblog\n# text = Don't call\n"
    + "1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_\n"
    + line(1, "Do", "AUX", "VB")
    + line(2, "n't", "PART", "RB")
    + "2.1\tever\tever\tADV\tRB\t_\t_\t_\t_\t_\n"
    + line(3, "call", "VERB", "VB")
    + "\n# text = New York\n"
    + line(1, "New York", "PROPN", "NNP")
    + "\n"
)
COLUMNS = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n"
# WNUT-17, dev: a tab between the columns, and one alone at the end of a sentence. A "#" begins a word and no comment.
TABS = "You\tO\n#Redondo\tB-location\nBeach\tI-location\n\t\nA\tO\n"


def named(split):
    """Return the rows of a split with the names of their labels."""
    names = label_names(split)
    return [(words, [names[tag] for tag in tags]) for words, tags in rows(split)]


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_conllu_is_read_by_its_own_rules(recipe, gz):
    split = load_splits(recipe("tagging", {f"x.conllu{gz}": CONLLU}, train=f"x.conllu{gz}"))["train"]
    assert named(split) == [(["Do", "n't", "call"], ["AUX", "PART", "VERB"]), (["New York"], ["PROPN"])]
    assert label_names(split) == ["AUX", "PART", "PROPN", "VERB"]


@pytest.mark.parametrize(("words", "tags"), [("LEMMA", "XPOS"), (2, 4)])
def test_columns_of_conllu_have_names_and_numbers(recipe, words, tags):
    made = recipe("tagging", {"x.conllu": CONLLU}, train="x.conllu", words_column=words, tags_column=tags)
    assert named(load_splits(made)["train"])[0] == (["do", "n't", "call"], ["VB", "RB", "VB"])


def test_columns_with_spaces_or_tabs(recipe):
    split = load_splits(recipe("tagging", {"x.conll": COLUMNS}, train="x.conll"))["train"]
    assert named(split) == [(["EU", "rejects"], ["B-ORG", "O"]), (["Peter"], ["B-PER"])]
    made = recipe("tagging", {"x.conll": COLUMNS}, train="x.conll", tags_column=1)
    assert named(load_splits(made)["train"])[0][1] == ["NNP", "VBZ"]
    split = load_splits(recipe("tagging", {"x.txt": TABS}, train="x.txt", format="conll"))["train"]
    assert named(split) == [(["You", "#Redondo", "Beach"], ["O", "B-location", "I-location"]), (["A"], ["O"])]


def test_the_line_that_begins_a_document_is_no_word(recipe):
    """Whether an empty line stands behind it, as in CoNLL-2003, or not."""
    content = "-DOCSTART- O\nEU NNP B-ORG\nrejects VBZ O\n\n-DOCSTART-\tO\n\nPeter NNP B-PER\n"
    split = load_splits(recipe("tagging", {"x.conll": content}, train="x.conll"))["train"]
    assert named(split) == [(["EU", "rejects"], ["B-ORG", "O"]), (["Peter"], ["B-PER"])]


@pytest.mark.parametrize("between", [" ", "  ", "\t"])
def test_other_spaces_are_of_a_word(recipe, between):
    words = ["10\u00a0000", "a\u3000b", "won"]
    content = "".join(f"{word}{between}{tag}\n" for word, tag in zip(words, "BIO", strict=True))
    split = load_splits(recipe("tagging", {"x.conll": content}, train="x.conll"))["train"]
    assert named(split) == [(words, list("BIO"))]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_json_has_lists(recipe, suffix):
    records = [{"tokens": ["나는", "간다"], "ner": [0, 1]}, {"tokens": ["🙂"], "ner": [1]}]
    content = json.dumps(records) if suffix == "json" else "\n".join(map(json.dumps, records))
    made = recipe("tagging", {f"x.{suffix}": content}, train=f"x.{suffix}", words_column="tokens", tags_column="ner")
    assert named(load_splits(made)["train"]) == [(["나는", "간다"], ["0", "1"]), (["🙂"], ["1"])]


def test_a_data_set_of_the_hub_names_its_labels(tmp_path):
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=["X", "A"])),
        }
    )
    rows = {"tokens": [["a", "b"], ["c"]], "tags": [[1, 0], [0]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    data = DataSection(hub=str(tmp_path), train="train", words_column="tokens")
    split = load_splits(Recipe(name="h", task="tagging", data=data))["train"]
    assert named(split) == [(["a", "b"], ["A", "X"]), (["c"], ["X"])]


def test_validation_is_cut_off_and_numbered_by_the_training_data(recipe):
    text = "".join(f"w{number}\t{'AB'[number % 2]}\nx\tA\n\n" for number in range(10))
    made = recipe("tagging", {"x.conll": text}, train="x.conll", validation_fraction=0.3, limit_eval=2)
    splits = load_splits(made)
    assert named(splits["validation"]) == [(["w7", "x"], ["B", "A"]), (["w8", "x"], ["A", "A"])]
    assert locate(made, "validation", 1).endswith("x.conll:25")


def test_labels_are_those_of_all_rows_whatever_the_limit(recipe):
    files = {"x.conll": COLUMNS + "\nSeoul NNP B-NP B-LOC\n", "v.conll": "Busan NNP B-NP B-LOC\n"}
    splits = load_splits(recipe("tagging", files, train="x.conll", validation="v.conll", limit_train=1))
    assert named(splits["train"]) == [(["EU", "rejects"], ["B-ORG", "O"])]
    assert named(splits["validation"]) == [(["Busan"], ["B-LOC"])]
    assert label_names(splits["train"]) == ["B-LOC", "B-ORG", "B-PER", "O"]


def test_the_first_row_is_shown_with_the_names_of_its_labels(recipe):
    splits = load_splits(recipe("tagging", {"x.conll": TABS}, train="x.conll"))
    (shown,) = first_look.lines(splits)
    assert shown == "train data: 2 row(s), the first: words 'You #Redondo Beach', tags 'O B-location I-location'"


BAD = [
    ("conllu", line(1, "a", "X") + "2\tb\tX\n", ["x.conllu:2", "3 column(s) found", "10"]),
    ("conllu", line(1, "a", "X") + line(3, "b", "X"), ["x.conllu:2", "ID '3' found", "must be 2"]),
    ("conllu", line(1, "a", "X") + line(2, "b", "_"), ["x.conllu:2", "word 2, 'b', has no UPOS"]),
    ("conll", "a\tA\nb\n", ["x.conll:2", "1 column(s) found", "a word and its label"]),
    ("conll", "a N A\nb N\n", ["x.conll:2", "2 columns found, 3 in line 1"]),
    ("conll", "a\tA\n\tB\n", ["x.conll:1", "words: number 2 is empty"]),
    ("conll", "a\tA\n\nb\xa0\tA\n", ["only ['A']", "at least 2 labels"]),
    ("conll", "", ["no rows"]),
    ("jsonl", '{"words": ["a", "b"], "tags": ["A"]}', ["x.jsonl:1", "2 words and 1 tags found"]),
    ("jsonl", '{"words": [], "tags": []}', ["x.jsonl:1", "the words is empty"]),
    ("jsonl", '{"words": "a b", "tags": ["A"]}', ["x.jsonl:1", "'words' is a b; it must be a list of texts"]),
    ("jsonl", '{"words": ["a", null], "tags": ["A", "B"]}', ["x.jsonl:1", "has an item that is null"]),
    ("tsv", "a\tA\n", ["data.train", "x.tsv is tsv", "tagging must have conllu, conll or json"]),
    ("txt", "a\tA\n", ["data.train", "x.txt is text without columns", "data.format"]),
]


@pytest.mark.parametrize(("suffix", "content", "words"), BAD)
def test_what_is_wrong_is_named_with_file_line_and_rule(recipe, suffix, content, words):
    message = mistake(recipe("tagging", {f"x.{suffix}": content}, train=f"x.{suffix}"))
    for word in words:
        assert word in message


def test_a_line_of_another_encoding_is_named(recipe):
    message = mistake(recipe("tagging", {"x.conll": b"a\tA\nfa\xefl\tB\n"}, train="x.conll"))
    assert "x.conll:2" in message
    assert "UTF-8" in message


def test_one_bad_line_costs_its_sentence_alone(recipe):
    content = "a\tA\nb\nc\tB\n\nd\tB\ne\tA\n\nf\tA\n"
    made = recipe("tagging", {"x.conll": content}, train="x.conll", on_bad_line="skip")
    assert named(load_splits(made)["train"]) == [(["d", "e"], ["B", "A"]), (["f"], ["A"])]


def test_a_label_that_training_does_not_have_is_named_with_its_word(recipe, tmp_path, capsys):
    files = {"x.conll": "a\tA\nb\tB\n", "t.conll": "a\tA\n\na\tB\nchat\tC\n"}
    made = recipe("tagging", files, train="x.conll", test="t.conll")
    rule = "t.conll:3: word 2, 'chat': label 'C' must be one of the training data's 2: A, B"
    assert mistake(made).endswith(rule)
    (tmp_path / "r.yaml").write_text(
        f"name: r\ntask: tagging\ndata: {{root: {tmp_path}, train: x.conll, test: t.conll}}\n"
    )
    assert main(["fit", str(tmp_path / "r.yaml"), "--run_dir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.strip().endswith(rule)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["entity_f1", "entity_precision"])
def test_figures_of_entities_need_labels_of_entities(recipe, name):
    made = recipe("tagging", {"x.conllu": CONLLU}, train="x.conllu")
    made.eval.metrics = ["loss", name]
    assert f"eval.metrics: {name} needs labels that are O, B-NAME or I-NAME (BIO)" in mistake(made)
    made = recipe("tagging", {"x.conll": COLUMNS}, train="x.conll")
    made.eval.metrics = ["loss", name]
    assert load_splits(made)


@pytest.mark.parametrize(("kind", "column"), [("conllu", "upos"), ("conllu", 10), ("conll", "NER")])
def test_a_column_that_is_not_there_is_named(recipe, kind, column):
    made = recipe("tagging", {f"x.{kind}": CONLLU}, train=f"x.{kind}", tags_column=column)
    assert f"data.tags_column: {column!r} must be" in mistake(made)


# Sentences and words, by the README of each data set.
COUNTS = {
    "ud-korean-gsd/ko_gsd-ud-test.conllu.gz": (989, 11_677),
    "ud-english-ewt/en_ewt-ud-test.conllu.gz": (2077, 25_094),
    "wnut17/train.conll.gz": (3394, 62_730),
}


@pytest.mark.parametrize("name", COUNTS)
def test_real_files_have_the_words_that_they_should_have(name):
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is not here")
    split = load_splits(Recipe(name="r", task="tagging", data=DataSection(root=str(DATA), train=name)))["train"]
    assert (len(split), sum(map(len, split["words"]))) == COUNTS[name]
