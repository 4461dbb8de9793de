"""Folders that earlier releases wrote, out of tests/data, and what they generated when they were right."""

import json
import shutil
from pathlib import Path

from hub_stranger import read

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


STRANGER = """
import json
import torch, transformers

root, kinds, search, beams, inputs = json.loads(sys.argv[1])
found = {}
for kind, auto in kinds.items():
    model = getattr(transformers, auto).from_pretrained(f"{root}/{kind}", trust_remote_code=True)
    found[kind] = {way: model.generate(torch.tensor(inputs), num_beams=n, **search).tolist() for way, n in beams.items()}
    model.save_pretrained(f"again-{kind}")
    with open(f"again-{kind}/config.json") as file:
        found[f"version {kind}"] = json.load(file).get("modeling_vanilla_version")
with open("found.json", "w") as file:
    json.dump(found, file)
"""


def strangers_ids(root: Path, work: Path) -> dict:
    """Return what a process without this package generates from the folders below a place, and the versions it writes."""
    work.mkdir(exist_ok=True)
    read(work, STRANGER, json.dumps([str(root), KINDS, SEARCH, BEAMS, generated()["inputs"]]))
    return json.loads((work / "elsewhere" / "found.json").read_text())
