# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`look --report` and `look --search` as words of the command line."""

import json

import pytest
from small_models import BUILD
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from modeling_vanilla.__main__ import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Save a translator of letters."""
    path = tmp_path_factory.mktemp("model")
    model = BUILD["encoder-decoder"]()
    model.generation_config.max_new_tokens = 5
    model.save_pretrained(path)
    known = ["<pad>", "<s>", "</s>", "<unk>", *map(chr, range(ord("A"), ord("A") + 57))]
    backend = Tokenizer(models.WordLevel({name: number for number, name in enumerate(known)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(path)
    return path


@pytest.fixture
def run(folder, capsys):
    """Run the command on the translator; return the exit code, what it printed, and what it complained of."""

    def look(*words: str) -> tuple[int, str, str]:
        code = main(["look", str(folder), *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return look


def test_report_as_a_table_and_as_json(run):
    code, printed, _ = run("abc", "--report", "--target", "xy", "--integrated", "0")
    assert code == 0
    assert printed.split()[:4] == ["kind", "layer", "head", "entropy"]
    code, printed, _ = run("abc", "--report", "--target", "xy", "--integrated", "0", "--json")
    assert code == 0
    assert len(json.loads(printed)["heads"]) == 4 * (2 + 3 + 3)


def test_report_with_gold(run, tmp_path):
    path = tmp_path / "gold.jsonl"
    rows = [{"source": "abc", "target": "xy", "gold": [[0], []]}, {"source": "d", "target": "z", "gold": [[0]]}]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    code, printed, _ = run("--report", "--gold", str(path), "--integrated", "0", "--json")
    content = json.loads(printed)
    assert (code, content["texts"], content["rows_with_gold"]) == (0, 2, 2)


def test_search_on_the_terminal_and_in_the_view(run, tmp_path):
    path = tmp_path / "view.json"
    code, printed, _ = run(
        "abc", "--search", "--beams", "2,1", "--length-penalty", "0.6,1", "--target", "xy", "--to", str(path)
    )
    assert code == 0
    tree, table, name = printed.rstrip().split("\n\n")
    assert tree.count("  the winner") == 1
    assert len(table.splitlines()) == 1 + 4
    assert name == str(path)
    search = json.loads(path.read_text("utf-8"))["search"]
    assert (search["beams"], search["length_penalty"]) == (2, 0.6)
    code, printed, _ = run("abc", "--search", "--json")
    assert json.loads(printed)[0]["search"]["nodes"]


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["abc"], "--to: missing"),
        (["--report"], "TEXT: must be given, or --gold"),
        (["abc", "--report", "--gold", "x"], "TEXT: must be given, or --gold"),
        (["--search", "--gold", "x"], "--gold: belongs to --report"),
        (["--report", "--gold", "missing.jsonl"], "missing.jsonl"),
        (["abc", "--report", "--question", "d", "--target", "e"], "--question: belongs to TEXT, without --target"),
        (["abc", "--report", "--search", "--json"], "--json: must have one of"),
        (["abc", "--report", "--integrated", "-1"], "--integrated: -1 must be at least 0"),
        (["abc", "--search", "--beams", "0"], "--beams: '0' must be whole numbers in 1..64"),
        (["abc", "--search", "--beams", "4,"], "--beams: '4,' must be"),
        (["abc", "--search", "--length-penalty", "inf"], "--length-penalty: 'inf' must be numbers"),
        (["abc", "--search", "--length-penalty", "x"], "--length-penalty: 'x' must be numbers"),
    ],
)
def test_bad_input_is_one_line(run, words, rule):
    code, printed, complaint = run(*words)
    assert (code, printed) == (2, "")
    assert rule in complaint
    assert len(complaint.splitlines()) == 1
