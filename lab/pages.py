"""The pages of docs/learn/: their figures come from the results of the labs, their notebooks from the pages.

    python -m lab.pages fill                 put what docs/learn/results/ holds into the pages
    python -m lab.pages notebooks [FOLDER]   write each chapter as a notebook (build/notebooks)

What is filled stands before or between comments, which a reader of the page does not see:

    0.95<!-- ladder | 1 | additive | 8 -->       the number before the mark: lab, table (from 1), row, column and, if it
                                                 is not three digits, a format of Python, or % for a hundred times as
                                                 much; where a cell is a text of several numbers, which of them (from 1)
    <!-- table: ladder 1 -->                     everything down to the next `<!-- end -->`: the table itself
    <!-- nav -->, <!-- chapters -->              the same: the ways to the chapters beside this one; all chapters

A row is named by its first cell, or by several of its cells in their order, joined by ` & `; the only row of a table
by `*`. Cells that hold a number for each seed name nothing.
"""

import json
import re
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from lab.outcome import Cell, Table, shown

ROOT = Path(__file__).parents[1]
LEARN = ROOT / "docs" / "learn"
RESULTS = LEARN / "results"
NUMBER = re.compile(r"([-+]?[\d.,]+(?:e[-+]?\d+)?%?)<!-- ([\w-]+) \| (.*?) -->")
TABLE = re.compile(r"(<!-- table: ([\w-]+) (\d+) -->\n).*?(<!-- end -->)", re.DOTALL)
PARTICLES = (("를", "을"), ("는", "은"), ("가", "이"), ("와", "과"), ("로", "으로"))
"""After a vowel, after a consonant."""
PARTICLE = re.compile(r"([\d%])(<!-- [\w-]+ \|[^>]* -->)(을|를|은|는|이|가|과|와|으로|로)(?=[\s,.)])")
COMMAND = re.compile(r"^```bash\n(python -m .*)\n```$", re.MULTILINE)
PICTURE = re.compile(r"^!\[(.*)\]\((\S+/(\w+)\.svg)\)$", re.MULTILINE)
KEPT = re.compile(r"^!\[.*\]\(\.\./results/(\w+-\w+\.svg)\)$", re.MULTILINE)
"""The picture of a lab's other task, such as ladder-multi30k, which the command of the chapter does not draw."""


def chapters(language: str) -> list[Path]:
    """Return the chapters of a language, in their order."""
    return sorted((LEARN / language).glob("[0-9][0-9]-*.md"))


def table_of(lab: str, number: int, results: Path = RESULTS) -> Table:
    """Return a table of a lab's result, counted from 1.

    Raises:
        ValueError: The lab has no result yet, or fewer tables.
    """
    path = results / f"{lab}.json"
    if not path.exists():
        raise ValueError(f"{path}: no such result; python -m lab {lab} --output {results} makes it")
    tables = json.loads(path.read_text("utf-8"))["tables"]
    if not 1 <= number <= len(tables):
        raise ValueError(f"{path}: table {number} must be one of 1 to {len(tables)}")
    return Table(**tables[number - 1])


def quoted(lab: str, place: str, results: Path = RESULTS) -> str:
    """Return the number that a mark names, as text.

    Args:
        place: "table | row | column" or "table | row | column | format".

    Raises:
        ValueError: No such place, or no number there.
    """
    parts = place.split(" | ")
    if len(parts) not in (3, 4) or not parts[0].isdigit():
        raise ValueError(f"{lab} | {place}: must be 'lab | table | row | column' or one part more, a format")
    table = table_of(lab, int(parts[0]), results)
    rows = _named(parts[1], table)
    if len(rows) != 1 or parts[2] not in table.columns:
        raise ValueError(
            f"{lab} | {place}: {len(rows)} rows, must be 1; columns: {', '.join(table.columns)}; "
            f"rows: {', '.join(shown(row[0]) for row in table.rows)}"
        )
    cell = rows[0][table.columns.index(parts[2])]
    number = cell if isinstance(cell, str | int | float) else mean(cell)
    return _formatted(number, parts[3] if len(parts) == 4 else "")


def _named(name: str, table: Table) -> list[list[Cell]]:
    """Return the rows that a mark may mean, those that begin with its first word alone where there are any."""
    if name == "*":
        return table.rows
    words, rows = name.split(" & "), []
    for row in table.rows:
        labels = iter([shown(cell) for cell in row if isinstance(cell, str | int | float)])
        if all(word in labels for word in words):  # each behind the one before
            rows.append(row)
    return [row for row in rows if shown(row[0]) == words[0]] or rows


def _formatted(number: str | float, form: str) -> str:
    if isinstance(number, str):
        text = number.split()[int(form) - 1] if form else number
    elif form == "%":
        text = f"{100 * number:.3g}"
    elif form and number:
        text = format(number, form)
    else:
        text = str(number) if isinstance(number, int) else f"{number:.3g}"
    # 2e-05 as people write it.
    return re.sub(r"e([-+])0*(\d)", lambda match: f"e{match[1].strip('+')}{match[2]}", text)


def filled(text: str, words: dict[str, str], results: Path = RESULTS) -> str:
    """Return a page with every marked number and table as the results have them now.

    Args:
        words: What labels of tables are called in the page's language, see `translated`.

    Raises:
        ValueError: See `quoted`.
    """

    def table(match: re.Match) -> str:
        chosen = table_of(match[2], int(match[3]), results)
        rows = [[translated(cell, words) if isinstance(cell, str) else cell for cell in row] for row in chosen.rows]
        columns = [translated(name, words) for name in chosen.columns]
        return f"{match[1]}\n{Table(translated(chosen.title, words), columns, rows).markdown()}\n\n{match[4]}"

    def number(match: re.Match) -> str:
        return f"{quoted(match[2], match[3], results)}<!-- {match[2]} | {match[3]} -->"

    return PARTICLE.sub(_fitting, NUMBER.sub(number, TABLE.sub(table, text)))


def _fitting(match: re.Match) -> str:
    """Return a number's Korean particle in the form that its last digit asks for, as it is read aloud."""
    sound = match[1] if match[1] in "013678" else ""  # those digits end in a consonant
    for open_form, closed_form in PARTICLES:
        if match[3] in (open_form, closed_form):
            closed = sound and not (open_form == "로" and sound in "178")  # l is no consonant to it
            return match[1] + match[2] + (closed_form if closed else open_form)
    return match[0]


def translated(label: str, words: dict[str, str]) -> str:
    """Return a label in another language; one that has no entry stays as it is.

    Args:
        words: Labels and their translations; `{}` in both stands for what changes, such as a number of steps.
    """
    if label in words:
        return words[label]
    for pattern, text in words.items():
        changing = re.fullmatch(re.escape(pattern).replace(r"\{\}", "(.+?)"), label) if "{}" in pattern else None
        if changing:
            return text.format(*changing.groups())
    return label


def words_of(page: Path) -> dict[str, str]:
    """Return the labels of tables in the language of a page."""
    path = page.parent / "labels.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def title_of(page: Path) -> str:
    """Return the heading of a page."""
    return page.read_text("utf-8").split("\n", 1)[0].removeprefix("# ")


def linked(page: Path) -> str:
    """Return a chapter with the ways to its neighbours and to the other language."""
    pages = chapters(page.parent.name)
    at = pages.index(page)
    other, language, index = ("en", "English", "차례") if page.parent.name == "ko" else ("ko", "한국어", "Contents")
    ways = [f"[← {title_of(pages[at - 1])}]({pages[at - 1].name})"] if at else []
    ways += [f"[{index}](../README.md)", f"[{language}](../{other}/{page.name})"]
    ways += [f"[{title_of(pages[at + 1])} →]({pages[at + 1].name})"] if at + 1 < len(pages) else []
    return _between("nav", " · ".join(ways), page.read_text("utf-8"))


def contents(text: str) -> str:
    """Return the index with the table of all chapters in both languages."""
    lines = ["| 한국어 | English | `python -m lab` |", "|---|---|---|"]
    for korean, english in zip(chapters("ko"), chapters("en"), strict=True):
        lab = korean.stem.split("-")[1]
        lines.append(
            f"| [{title_of(korean)}](ko/{korean.name}) | [{title_of(english)}](en/{english.name}) | `{lab}` |"
        )
    return _between("chapters", "\n".join(lines), text)


def _between(mark: str, content: str, text: str) -> str:
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text)


def current(page: Path) -> str:
    """Return a page as it should be, by the results and the other pages that are there.

    Raises:
        ValueError: See `quoted`, with the page's name.
    """
    if page == LEARN / "README.md":
        return contents(page.read_text("utf-8"))
    try:
        return filled(linked(page), words_of(page))
    except ValueError as error:
        raise ValueError(f"{page.relative_to(ROOT)}: {error}") from error


def fill() -> list[Path]:
    """Fill every page in place; return those that changed."""
    pages = [LEARN / "README.md", *chapters("ko"), *chapters("en")]
    changed = {page: text for page in pages if (text := current(page)) != page.read_text("utf-8")}
    for page, text in changed.items():
        page.write_text(text, "utf-8")
    return list(changed)


# A notebook lies anywhere below the clone, and its commands run at the clone's root.
START = """\
import os, sys
from pathlib import Path
from IPython.display import SVG, display

os.chdir(next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "lab/pages.py").exists()))"""


def notebook(page: Path) -> Any:
    """Return a chapter as a notebook: its command is a cell, and the picture is the one that the cell draws."""
    import jupytext

    def cell(code: str) -> str:
        return f"```python\n{code}\n```"

    text = COMMAND.sub(
        lambda match: cell("!{sys.executable} " + match[1].removeprefix("python ")), page.read_text("utf-8")
    )
    text = PICTURE.sub(lambda match: cell(f'display(SVG(filename="runs/lab/{match[3]}.svg"))'), text)
    text = KEPT.sub(lambda match: cell(f'display(SVG(filename="docs/learn/results/{match[1]}"))'), text)
    # Jupyter writes equations with dollars alone.
    text = re.sub(r"```math\n(.*?)\n```", r"$$\n\1\n$$", text, flags=re.DOTALL)
    text = re.sub(r"\$`([^`]+)`\$", r"$\1$", text)
    text = re.sub(r"<!-- .*? -->\n?", "", text)
    title, rest = text.split("\n", 1)
    return jupytext.reads(f"{title}\n\n{cell(START)}\n{rest}", fmt="md")


def notebooks(folder: Path) -> list[Path]:
    """Write every chapter of both languages as a notebook; return the paths."""
    import nbformat

    paths = []
    for page in [*chapters("ko"), *chapters("en")]:
        path = folder / page.parent.name / f"{page.stem}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(page), path)
        paths.append(path)
    return paths


def main(words: list[str]) -> int:
    """Fill the pages or write the notebooks; print each file that was written."""
    if words[:1] not in (["fill"], ["notebooks"]) or len(words) > 1 + (words[0] == "notebooks"):
        print(__doc__)
        return 0 if words in ([], ["-h"], ["--help"]) else 2
    try:
        paths = fill() if words[0] == "fill" else notebooks(Path(*words[1:] or ["build/notebooks"]))
    except ValueError as error:
        print(f"lab.pages: {error}", file=sys.stderr)
        return 2
    for path in paths:
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
