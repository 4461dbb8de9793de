# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The course: its figures are those of the results, both languages have one structure, and its commands run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab import pages
from lab.__main__ import LABS

ROOT = Path(__file__).resolve().parents[1]
KOREAN, ENGLISH = pages.chapters("ko"), pages.chapters("en")
BOTH = pytest.mark.parametrize("page", [*KOREAN, *ENGLISH], ids=lambda page: f"{page.parent.name}/{page.stem}")
HEADINGS = {
    "ko": ["문제", "아이디어", "식", "실행", "그림", "숫자가 말하는 것", "숫자가 말하지 않는 것", "연습"],
    "en": ["The problem", "The idea", "The equation", "Run it", "The picture", "What the number says"]
    + ["What it does not say", "Exercise"],
}
MOST_BYTES = 100_000
RESULT = {
    "settings": {},
    "tables": [
        {"title": "t", "columns": ["model", "at", "hits", "n"], "rows": [["a", "4", [0.5, 0.7], 98304]]},
        {"title": "u", "columns": ["model", "time"], "rows": [["a", 2e-05], ["b", 1.0], ["b", 2.0]]},
    ],
}


@pytest.fixture
def results(tmp_path):
    (tmp_path / "made.json").write_text(json.dumps(RESULT))
    return tmp_path


def command(page: Path) -> str:
    """Return the lab of a chapter's one command."""
    (line,) = pages.COMMAND.findall(page.read_text("utf-8"))
    return re.fullmatch(r"python -m lab (\w+)", line)[1]


def structure(page: Path) -> list[str]:
    """Return what two languages of a chapter share, in order: headings, code, pictures, tables, equations, quoted files.

    Of prose: the numbers, by section, in any order, since languages put their words differently.
    """
    shared = []
    for section in re.split(r"(?m)^(?=## )", page.read_text("utf-8")):
        shared += re.findall(
            r"(?ms)^#+ |^```\w+\n.*?^```$|^> \*\*|\]\(\.\./results/\S+\)|<!-- table: .*? -->", section
        )
        shared += sorted(f"{lab} {place}" for _, lab, place in pages.NUMBER.findall(section))
        shared += sorted(re.findall(r"\]\(((?:\d|\.\./\.\.)[^)]*)\)", section.replace("/ko/", "/en/")))
    return shared


def unmarked(text: str) -> list[str]:
    """Return the decimal numbers of a chapter's prose that stand there by hand."""
    text = re.sub(r"(?s)```.*?```|<!-- table: .*?<!-- end -->|`[^`]*`|\]\([^)]*\)", "", pages.NUMBER.sub("", text))
    return re.findall(r"(?<![\w.])\d+\.\d+(?!\d|\.\d|절)", re.sub(r"sec\. [\d.]+", "", text))


def test_a_chapter_for_each_lab_in_the_order_of_the_list():
    assert [command(page) for page in KOREAN] == list(LABS)
    assert [page.name for page in KOREAN] == [f"{at:02}-{lab}.md" for at, lab in enumerate(LABS, start=1)]
    assert [page.name for page in ENGLISH] == [page.name for page in KOREAN]


@BOTH
def test_a_chapter_has_all_parts(page):
    text = page.read_text("utf-8")
    assert re.findall(r"(?m)^## (.*)$", text) == HEADINGS[page.parent.name]
    assert text.startswith(f"# {int(page.stem[:2])}. ")
    pictures = [name for _, _, name in pages.PICTURE.findall(text)]
    assert pictures == [command(page)]
    assert "```math" in text
    assert "../../../lab/" in text.split("\n## ")[-1]


@BOTH
def test_an_exercise_names_what_its_file_has(page):
    exercise = page.read_text("utf-8").split("\n## ")[-1]
    (path,) = set(re.findall(r"\]\(\.\./\.\./\.\./(lab/\w+\.py)\)", exercise))
    source = (ROOT / path).read_text("utf-8")
    names = re.findall(r"`([A-Za-z_]\w*)`", exercise)
    changed = re.findall(r"(?:change `([^`]+)` (?:from|to) |`([^`]+)`[을를] `[^`]+`[로으])", exercise)
    assert [name for name in [*names, *filter(None, sum(changed, ()))] if name not in source] == []


@pytest.mark.parametrize(
    ("korean", "english"), list(zip(KOREAN, ENGLISH, strict=True)), ids=[page.stem for page in KOREAN]
)
def test_both_languages_have_one_structure(korean, english):
    assert structure(korean) == structure(english)


@BOTH
def test_a_chapter_is_as_its_results_are(page):
    """After a change of results or of a title: python -m lab.pages fill."""
    assert pages.current(page) == page.read_text("utf-8")
    assert unmarked(page.read_text("utf-8")) == []


def test_the_index_lists_all_chapters():
    assert pages.current(pages.LEARN / "README.md") == (pages.LEARN / "README.md").read_text("utf-8")


def test_pictures_are_small_and_results_whole():
    names = {path.stem for path in pages.RESULTS.iterdir() if path.suffix != ".png"}
    # A lab may have results of other tasks too: ladder-dates.
    assert {name.split("-")[0] for name in names} == set(LABS) <= names
    for name in names:
        assert {path.suffix for path in pages.RESULTS.glob(f"{name}.*")} >= {".md", ".json", ".svg"}
        assert (pages.RESULTS / f"{name}.svg").stat().st_size < MOST_BYTES, name


def test_every_result_says_of_how_many_seeds_it_is():
    for name in LABS:
        content = json.loads((pages.RESULTS / f"{name}.json").read_text("utf-8"))
        seeds = content["settings"]["seeds"]
        cells = [
            cell for table in content["tables"] for row in table["rows"] for cell in row if isinstance(cell, list)
        ]
        assert seeds >= 1 and {len(cell) for cell in cells} <= {seeds}, name


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("1 | a | hits", "0.6"),
        ("1 | a & 4 | hits", "0.6"),
        ("1 | * | hits", "0.6"),
        ("1 | a | hits | %", "60"),
        ("1 | a | hits | .2f", "0.60"),
        ("1 | a | n", "98304"),
        ("1 | a | n | ,", "98,304"),
        ("2 | a | time", "2e-5"),
    ],
)
def test_a_marked_number_is_that_of_the_table(results, place, number):
    text = f"is 7<!-- made | {place} -->."
    assert pages.filled(text, {}, results) == f"is {number}<!-- made | {place} -->."


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("1 | c | hits", "0 rows, must be 1; columns: model, at, hits, n; rows: a"),
        ("1 | a | none", "1 rows, must be 1; columns: model, at"),
        ("2 | b | time", "2 rows, must be 1"),
        ("2 | * | time", "3 rows, must be 1"),
        ("3 | a | time", "table 3 must be one of 1 to 2"),
        ("1 | a", "must be 'lab | table | row | column'"),
    ],
)
def test_a_mark_that_leads_nowhere_is_an_error(results, place, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pages.filled(f"7<!-- made | {place} -->", {}, results)


def test_a_lab_without_result_is_an_error(results):
    with pytest.raises(ValueError, match="no such result; python -m lab other"):
        pages.filled("<!-- table: other 1 -->\n<!-- end -->", {}, results)


def test_a_table_is_filled_in_the_words_of_its_language(results):
    text = "<!-- table: made 1 -->\nold\n<!-- end -->\nrest"
    filled = pages.filled(text, {"model": "모델", "a": "가"}, results)
    assert "| 모델 | at | hits" in filled
    assert re.search(r"\| 가 +\| 4 +\| 0\.6 ± 0\.14 \|", filled)
    assert "old" not in filled and filled.endswith("<!-- end -->\nrest")
    assert pages.filled(filled, {"model": "모델", "a": "가"}, results) == filled


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [
        ("1 | a | hits", "를", "을"),  # 0.6: yuk
        ("1 | a | hits", "로 ", "으로 "),
        ("1 | a | n", "과 ", "와 "),  # 98304: sa
        ("2 | a | time", "으로 ", "로 "),  # 2e-5: o
        ("1 | a | hits | .1e", "으로 ", "로 "),  # 6.0e-1: il, which keeps the short form
        ("1 | a | hits | .1e", "는 ", "은 "),
        ("1 | a | hits", "입니다.", "입니다."),
    ],
)
def test_a_particle_fits_its_number(results, place, before, after):
    mark = f"<!-- made | {place} -->"
    filled = pages.filled(f"7{mark}{before}.", {}, results)
    assert filled.split(mark)[1] == f"{after}."


def test_a_label_that_changes_is_translated_by_its_pattern():
    words = {"{} steps, {} heads": "헤드 {1}개, {0}스텝", "model": "모델"}
    labels = ("model", "700 steps, 4 heads", "other")
    assert [pages.translated(label, words) for label in labels] == ["모델", "헤드 4개, 700스텝", "other"]


def test_an_unmarked_number_is_found():
    marked = "0.5<!-- made | 1 | a | hits --> (sec. 3.4), 3.4절, `0.1`, [1](2.3)\n\n```math\n0.7\n```\n"
    assert unmarked(marked) == []
    assert unmarked(f"{marked} It is 0.25.") == ["0.25"]


def test_a_chapter_becomes_a_notebook_that_runs_its_command():
    pytest.importorskip("jupytext")
    book = pages.notebook(KOREAN[0])
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    lab = command(KOREAN[0])
    assert code == [pages.START, f"!{{sys.executable}} -m lab {lab}", f'display(SVG(filename="runs/lab/{lab}.svg"))']
    prose = "".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    assert prose.startswith("# 1. ") and "$$" in prose and "<!--" not in prose and "`$" not in prose


def test_the_command_line(capsys, tmp_path):
    pytest.importorskip("jupytext")
    assert (pages.main([]), pages.main(["none"]), pages.main(["fill", "x"])) == (0, 2, 2)
    assert pages.main(["notebooks", str(tmp_path)]) == 0
    assert len(list(tmp_path.rglob("*.ipynb"))) == len([*KOREAN, *ENGLISH])


def run(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", KOREAN, ids=lambda page: page.stem)
def test_the_command_of_a_chapter_runs(page, tmp_path):
    """As a learner runs it, and every mark of the chapter finds its number in what it leaves."""
    name = command(page)
    done = run("-m", "lab", name, "--quick", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / f"{name}.svg").stat().st_size < MOST_BYTES
    for path in pages.RESULTS.glob("*.json"):  # a chapter may quote another's results
        if path.stem != name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    pages.filled(page.read_text("utf-8"), {}, tmp_path)


@pytest.mark.slow
def test_a_notebook_runs_from_anywhere_in_the_clone(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    folder = ROOT / "runs" / f"notebook-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        book = pages.notebook(KOREAN[0])
        nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    finally:
        folder.rmdir()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    assert any("wrote runs/lab/" in output.get("text", "") for output in outputs)
