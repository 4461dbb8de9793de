# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the Hub reads of space/ before it starts anything."""

import ast
import re
import sys
from pathlib import Path

from huggingface_hub import SpaceCard

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "space"
PROVIDERS = {
    "fontTools": "fonttools",
    "PIL": "gradio",
    "numpy": "gradio",
    "starlette": "gradio",
    "tokenizers": "transformers",
}


def test_the_card_starts_what_was_tested():
    card = SpaceCard.load(SPACE / "README.md").data
    pinned = dict(re.findall(r"(?m)^([\w-]+)==(\S+)", (ROOT / "constraints.txt").read_text("utf-8")))
    assert card.sdk == "gradio" and card.sdk_version == pinned["gradio"]
    assert (SPACE / card.app_file).is_file()
    assert card.license == "apache-2.0" and len(card.short_description) <= 60
    assert card.title and card.emoji and card.python_version and card.models


def test_everything_imported_is_asked_for():
    lines = (SPACE / "requirements.txt").read_text("utf-8").splitlines()
    wanted = {re.match(r"[\w-]+", line)[0] for line in lines if re.match(r"\w", line)} | {"gradio"}
    assert "modeling_vanilla" not in wanted
    own = {path.stem for path in SPACE.glob("*.py")} | set(sys.stdlib_module_names)
    for path in SPACE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in {name.split(".")[0] for name in names} - own:
                assert PROVIDERS.get(name, name) in wanted, f"{path.name} imports {name}"
