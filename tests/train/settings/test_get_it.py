"""`# Get it:` in the head of a recipe: the command gives each file that the recipe reads, and a missing file names it."""

import gzip
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from train import demo
from train.__main__ import main
from train.settings import get_it
from train.settings.reading import load_recipe

RECIPES = Path(__file__).resolve().parents[3] / "train" / "recipes"
WITH_FILES = sorted(path.name for path in RECIPES.glob("*.yaml") if load_recipe(path).data.root != ".")

# Stand-ins for what the network gives: curl with the braces and numbers of its own, git with one repository. A file has the form
# that its name promises, with enough rows for each part of a split.
CURL = r"""
import gzip, io, itertools, json, pathlib, re, sys, zipfile
TABLE = "".join(f"English {n // 2}\tDeutsch {n}\tlicence\n" for n in range(1000))
FORMS = {
    "dict": "".join(f"word{n} W ER1 D  # one\nword{n}(2) W AO1 R D\n" for n in range(100)),
    "json": json.dumps({split: [["a text", "intent"]] for split in ("train", "val", "test")}),
    "jsonl": json.dumps({"source": ["One.", "Two."], "target": ["First.", "Second."]}),
    "csv": "text,label\n" + "".join(f"text {n},label\n" for n in range(100)),
    "txt": "".join(f"IN: walk {n} OUT: I_WALK\n" for n in range(100)),
}
words, output, url = sys.argv[1:], None, None
while words:
    word = words.pop(0)
    if word in ("-o", "-A"):
        output = words.pop(0) if word == "-o" else (words.pop(0), output)[1]
    elif not word.startswith("-"):
        url = word
braces = [group.split(",") for group in re.findall(r"\{([^}]*)\}", url)]
for parts in itertools.product(*braces):
    content = FORMS.get(url.rpartition(".")[2], "one\ntwo\nthree\n").encode()
    content = gzip.compress(content) if url.endswith(".gz") else content
    if url.endswith(".zip"):
        with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
            archive.writestr("deu.txt", TABLE)
        content = packed.getvalue()
    if output is None:
        sys.stdout.buffer.write(content)
        continue
    name = output
    for number, part in enumerate(parts, start=1):
        name = name.replace(f"#{number}", part)
    pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True) if "--create-dirs" in sys.argv else None
    pathlib.Path(name).write_bytes(content)
"""
GIT = r"""
import json, pathlib, sys
if "clone" in sys.argv:
    folder = pathlib.Path(sys.argv[-1])
    (folder / "raw").mkdir(parents=True)
    (folder / "ratings_test.txt").write_text("id\tdocument\tlabel\n7\ta review that is kept for the test\t1\n")
    reviews = [{"review_id": str(n), "review": f"review {n}"} for n in range(20)]
    (folder / "raw" / "10.json").write_text(json.dumps(reviews))
"""


@pytest.fixture
def stand_ins(tmp_path):
    """Return an environment in which curl and git reach no network."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, code in (("curl", CURL), ("git", GIT)):
        path = folder / name
        path.write_text(f"#!{sys.executable} -IS\n{code}", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (folder / "python").symlink_to(sys.executable)
    return os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("name", WITH_FILES)
def test_the_command_makes_every_file_that_the_recipe_reads(name, tmp_path, stand_ins):
    data, command = load_recipe(RECIPES / name).data, get_it.command(RECIPES / name)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=stand_ins, check=True, timeout=30)
    for split in (data.train, data.validation, data.test):
        for file in [split] if isinstance(split, str) else split or []:
            path = tmp_path / data.root / file
            assert path.is_file(), f"{name}: {command}"
            content = path.read_bytes()
            assert gzip.decompress(content) if path.suffix == ".gz" else content


def test_the_command_may_take_several_lines(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "# A task.\n# Data:    far away\n# Get it:  curl a &&\n#          gzip a\n# Launch:  x\nname: a\n"
    )
    assert get_it.command(recipe) == "curl a && gzip a"
    recipe.write_text("# A task.\nname: a\n# Get it:  too late\n")
    assert get_it.command(recipe) is None


@pytest.mark.parametrize("words", [[], ["--limit", "5"]])
def test_a_missing_file_names_the_command_of_its_recipe(tmp_path, capsys, words):
    path = RECIPES / "nsmc.yaml"
    assert main(["fit", str(path), "--data.root", str(tmp_path), "--run_dir", str(tmp_path / "run"), *words]) == 2
    error, remedy = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {tmp_path / 'ratings_train.txt.gz'}: no such file")
    assert remedy == f"get it: {get_it.command(path)}"
    assert not (tmp_path / "run").exists()


def test_the_last_line_of_the_demo_fetches_what_it_trains_on(tmp_path, capsys):
    demo._farewell(tmp_path, tmp_path / "attention.png", 60.0)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.strip() == f"{get_it.command(demo.NEXT)} && .venv/bin/python -m train fit {demo.NEXT}"
