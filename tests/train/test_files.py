"""`train.files`: the names of what a run holds stand there, and nowhere else in train/."""

import ast
from pathlib import Path

from train import files

ROOT = Path(__file__).resolve().parents[2]
# `stranger.py` runs where nothing of this project can be imported.
ALONE = {"train/files.py", "train/hub/check/stranger.py"}
NAMES = {name for key, name in vars(files).items() if key.isupper() and isinstance(name, str) and "." in name[1:]}


def test_the_names_of_a_run_stand_once():
    assert {"recipe.yaml", "metrics.jsonl", "results.json", "config.json", "curves.png"} <= NAMES
    repeated = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in sorted((ROOT / "train").rglob("*.py"))
        if path.relative_to(ROOT).as_posix() not in ALONE
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in NAMES
    ]
    assert repeated == []
