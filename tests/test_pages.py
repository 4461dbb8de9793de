# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The pages: every link and anchor leads somewhere, the index lists every page, the README draws the tree that is there."""

import re
import sys
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "space").glob("*.md"), *ROOT.glob("benchmarks/*.md")]
)
READMES = ("README.md", "README.ko.md")
SOURCES = (".py", ".yaml", ".md")


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^(```|~~~).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them; the second of two equal ones ends in -1."""
    slugs: list[str] = []
    for heading in re.findall(r"^#+ (.*?)\s*$", prose(text), re.MULTILINE):
        words = re.sub(r"\]\([^)]*\)", "", heading)
        slugs.append(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return {f"{slug}-{n}" if (n := slugs[:i].count(slug)) else slug for i, slug in enumerate(slugs)}


def broken_links(page: Path) -> list[str]:
    """Return the links of a page to files that are not there, and to headings that no page has."""
    broken = []
    for link in re.findall(r"\]\(([^)]*)\)", re.sub(r"`[^`\n]*`", "", prose(page.read_text("utf-8")))):
        if re.match(r"\w+:|{{", link):  # elsewhere, or filled in later
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            broken.append(link)
    return broken


def misplaced_names(page: Path) -> list[str]:
    """Return the links whose words are a name in code, and whose file does not define it."""
    defined = r"(?m)^\s*(?:def |class )?{}\b(?: =|[(:])"
    links = re.findall(r"\[`(\w[\w.]*)`\]\(([^)#\s]+\.py)\)", prose(page.read_text("utf-8")))
    targets = [(name, page.parent / link) for name, link in links]
    return [
        name for name, path in targets if name != path.name and not re.search(defined.format(name), path.read_text())
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    """In a fresh clone, that is: a file that is only ignored looks as if it were there."""
    assert broken_links(page) == []
    assert misplaced_names(page) == []


@pytest.mark.parametrize("link", ["none.md", "two words.md", "#none", "other.md#none", "other.md#a-heading-2"])
def test_a_broken_link_is_found(tmp_path, link):
    (tmp_path / "other.md").write_text("# A `heading`!\n\n## [A heading](x.md)\n\n```\n# none\n```\n")
    (tmp_path / "page.md").write_text(
        "# 첫 제목\n\n[1](#첫-제목) [2](other.md#a-heading) [3](other.md#a-heading-1)\n[4](https://a.b/c)\n"
        f"`[5](none)`\n\n```\n[6](none)\n```\n\n[7]({link})\n"
    )
    assert broken_links(tmp_path / "page.md") == [link]


def test_a_misplaced_name_is_found(tmp_path):
    (tmp_path / "code.py").write_text("def there():\n    pass\n")
    (tmp_path / "page.md").write_text("[`there`](code.py) [`gone`](code.py) [`code.py`](code.py)\n")
    assert misplaced_names(tmp_path / "page.md") == ["gone"]


def test_the_index_lists_every_page_by_its_title():
    """What is missing below can be put into docs/README.md as it is."""
    index = (DOCS / "README.md").read_text("utf-8").splitlines()
    missing = []
    for page in sorted(DOCS.rglob("*.md")):
        title = page.read_text("utf-8").splitlines()[0].removeprefix("# ")
        link = page.relative_to(DOCS).as_posix()
        line = f"- [{title}]({link})"
        # The course has an index of its own (tests/test_learn.py), and its results are no pages.
        in_course = page.parent.parent == DOCS / "learn"
        if (
            link != "README.md"
            and not in_course
            and not any(re.match(rf"{re.escape(line)}(: \S|$)", entry) for entry in index)
        ):
            missing.append(line)
    assert missing == []


def block(page: str, start: str) -> str:
    """Return the code block of a page that begins with this line."""
    return re.search(rf"(?ms)^```\w+\n({re.escape(start)}.*?)^```$", (ROOT / page).read_text("utf-8"))[1]


def drawn_folders(tree: str) -> set[str]:
    """Return the folders of a drawing of the tree, which indents by two blanks."""
    folders, above = set(), []
    for indent, name in re.findall(r"(?m)^( *)([\w-]+)/ +\S", tree):
        above = [*above[: len(indent) // 2], name]
        folders.add("/".join(above))
    return folders


def folders_with_sources() -> set[str]:
    """Return every folder that holds sources, and those above it; tests/ stands for all below it."""
    tops = {path.parent for path in ROOT.glob("*/*") if path.suffix in SOURCES and path.parent.name[0] != "."}
    folders = set()
    for top in tops - {ROOT / "runs", ROOT / "data", ROOT / "build"}:
        for path in [top / "file.py"] if top.name == "tests" else top.rglob("*"):
            if path.suffix in SOURCES:
                folders |= {folder.as_posix() for folder in path.relative_to(ROOT).parents if folder.name}
    return folders


@pytest.mark.parametrize("page", READMES)
def test_the_tree_is_the_one_that_is_there(page):
    assert drawn_folders(block(page, "modeling_vanilla/")) == folders_with_sources()


@pytest.mark.parametrize("page", READMES)
def test_the_drawing_and_the_table_name_the_files_of_the_model(page):
    model = ROOT / "modeling_vanilla"
    drawing = set(re.findall(r"<b>([\w*]+\.py)</b>", block(page, "flowchart")))
    assert len(drawing) > 8
    assert [name for name in drawing if not list(model.glob(name))] == []
    linked = set(re.findall(r"\]\(modeling_vanilla/(\w+\.py)\)", (ROOT / page).read_text("utf-8")))
    assert {path.name for path in model.glob("*.py") if path.stem.strip("_") == path.stem} - linked == set()


@pytest.mark.parametrize("page", READMES)
def test_the_paper_is_as_long_as_it_says(page):
    text = (ROOT / page).read_text("utf-8")
    command = re.search(r"`cat modeling_vanilla/\{([\w,]+)\}\.py \| wc -l`", text)
    stated = re.search(r"(?:about |약 )(\d+)(?: lines|줄)", text)
    lines = sum(
        (ROOT / f"modeling_vanilla/{name}.py").read_text("utf-8").count("\n") for name in command[1].split(",")
    )
    assert int(stated[1]) == pytest.approx(lines, rel=0.1)


def test_the_rows_of_the_readme_are_those_of_the_table():
    table = (DOCS / "compatibility.md").read_text("utf-8").splitlines()
    section = (ROOT / "README.md").read_text("utf-8").split("## Works with")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "](tests/" in line]
    assert len(rows) == 5
    assert [row for row in rows if row.replace("](tests/", "](../tests/") not in table] == []


def shape(text: str) -> list[str]:
    """Return what two languages of a page share: levels of headings, code, rows of tables, links to files."""
    kinds = re.findall(r"(?m)^(?:#+ |```\w+$|\|(?=.*\|$))", text)
    python = [re.sub(r"\s*#.*", "", code) for code in re.findall(r"(?ms)^```python\n(.*?)^```$", text)]
    return kinds + python


def test_the_korean_readme_follows_the_english_one():
    assert shape((ROOT / "README.ko.md").read_text("utf-8")) == shape((ROOT / "README.md").read_text("utf-8"))


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert [citation[key] for key in ("title", "version", "license")] == [
        project[key] for key in ("name", "version", "license")
    ]
    assert citation["authors"] == [{"name": "The modeling_vanilla authors"}]
    assert [(work["title"], work["year"]) for work in citation["references"]] == [("Attention Is All You Need", 2017)]
