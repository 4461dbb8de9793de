"""A recipe that somebody else wrote is read as values: it names no code, no other file, and does not grow in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.errors import UserError
from train.settings.reading import load_recipe

ROOT = Path(__file__).resolve().parents[3]
HEAD = "name: a\ntask: translation\n"
LAUGHS = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "run_dir: !!python/object/apply:os.system ['touch {marker}']\n", "could not determine a constructor"),
        (HEAD + "run_dir: !!python/object/new:pathlib.Path ['{marker}']\n", "could not determine a constructor"),
        (HEAD + "run_dir: !!python/name:os.system\n", "could not determine a constructor"),
        (HEAD + "run_dir: !include {other}\n", "could not determine a constructor"),
        (HEAD + "model: {{class_path: hostile_module.Model}}\n", "class_path"),
        (HEAD + "optim: {{betas: {{class_path: hostile_module.Model}}}}\n", "optim.betas: no such key"),
        (HEAD + "model.class_path: hostile_module.Model\n", "model.class_path: no such key"),
        (HEAD + "model: {{<<: {{class_path: hostile_module.Model}}}}\n", "<<: no such key"),
        (HEAD + "model:\n  <<: [{{class_path: hostile_module.Model}}]\n", "<<: no such key"),
        (HEAD + "<<: {{model: {{<<: {{class_path: hostile_module.Model}}}}}}\n", "<<: no such key"),
        (HEAD + "model: {{'': 1}}\n", "model.: no such key"),
        (HEAD + "data: {{generator_args: {{class_path: hostile_module.Model}}}}\n", "data"),
        (HEAD + "? [class_path]\n: hostile_module.Model\n", "a key must be a text"),
        (HEAD + "1: 2\n", "1: no such key"),
        ("class_path: hostile_module.Model\n", "class_path"),
        (HEAD + "model: {other}\n", "must be a section"),
        (HEAD + "data: &a [*a]\n", r"alias \*a must be written out"),
        (HEAD + "optim: &a {{lr: 1}}\nloop: *a\n", r"alias \*a must be written out"),
        (HEAD + "__path__: {other}\n", "__path__"),
        (HEAD + "config: {other}\n", "config"),
    ],
)
def test_a_recipe_names_no_code_and_no_other_file(tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hostile_module.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w').close()", encoding="utf-8")
    marker, other, path = tmp_path / "marker", tmp_path / "other.yaml", tmp_path / "recipe.yaml"
    other.write_text("preset: tiny\n", encoding="utf-8")
    path.write_text(text.format(marker=marker, other=other), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_recipe(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../../x", "/absolute", "a/b", "..", ".", "", "a\\n"])
def test_the_name_of_a_run_leads_nowhere_else(tmp_path, name):
    """`runs/<name>` is where a run is written to without `run_dir`, and where it is reproduced."""
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: {json.dumps(name)}\ntask: causal\ndata: {{train: a.txt}}\n", encoding="utf-8")
    with pytest.raises(UserError, match="name: .* must be ASCII letters"):
        load_recipe(path)


CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from train.errors import UserError
from train.settings.reading import load_recipe
for path in sys.argv[1:]:
    try:
        load_recipe(path)
    except UserError as error:
        print(len(str(error)), str(error)[:60])
"""


def test_a_recipe_does_not_grow_in_memory(tmp_path):
    texts = {"laughs": LAUGHS + HEAD, "deep": HEAD + "model: " + "[" * 20_000 + "]" * 20_000}
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    paths = [str(tmp_path / f"{name}.yaml") for name in texts]
    run = subprocess.run(
        [sys.executable, "-c", CHILD, *paths],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    sizes = [int(line.split()[0]) for line in run.stdout.splitlines()]
    assert len(sizes) == 2
    assert max(sizes) < 1000
