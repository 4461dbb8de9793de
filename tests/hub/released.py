"""Folders that earlier releases wrote, out of tests/data, and what they generated when they were right."""

import json
import shutil
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data" / "0.1.0"
KINDS = {"encoder-decoder": "AutoModelForSeq2SeqLM", "decoder": "AutoModelForCausalLM"}
# Untrained weights repeat themselves; without that each step picks from another ranking.
SEARCH = {"max_new_tokens": 8, "do_sample": False, "no_repeat_ngram_size": 1, "eos_token_id": None}
BEAMS = {"greedy": 1, "beams": 3}


def folder_of(kind: str, target: Path) -> Path:
    """Put together the folder that 0.1.0 wrote."""
    shutil.copytree(DATA / kind, target)
    shutil.copytree(DATA / "code", target, dirs_exist_ok=True)
    return target


def generated() -> dict:
    """Return the ids that went in, and those that came out of 0.1.0 with transformers 5.23."""
    return json.loads((DATA / "generated.json").read_text(encoding="utf-8"))
