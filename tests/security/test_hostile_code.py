"""Code in a repository: none of it runs, and nobody is asked whether it may, where the package is installed."""

import json
import os
import pty

from tokenizer import build

# Everything a repository can hold that some call of transformers would import.
EVIL = "open({marker!r}, 'w').close()\n"
PLACES = (
    "modeling_vanilla.py",
    "configuration_vanilla.py",
    "pipeline_text2text.py",
    "file_checks.py",
    "other.py",
    "tokenization_other.py",
    "__init__.py",
    "custom_generate/generate.py",
    "sitecustomize.py",
)
LOADER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
assert sys.stdin.isatty(), "somebody could be asked"
folder, marker = sys.argv[1:]
import os, transformers, modeling_vanilla
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, pipeline
transformers.logging.set_verbosity_error()
seconds = {}
def timed(name, call):
    started = time.monotonic()
    try:
        found = type(call()).__module__
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    seconds[name] = (found, time.monotonic() - started, os.path.exists(marker))
timed("config", lambda: AutoConfig.from_pretrained(folder))
timed("model", lambda: AutoModel.from_pretrained(folder))
timed("translator", lambda: AutoModelForSeq2SeqLM.from_pretrained(folder))
timed("refused", lambda: AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=False))
timed("tokenizer", lambda: AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
timed("generation", lambda: GenerationConfig.from_pretrained(folder))
timed("pipeline", lambda: pipeline("translation", model=folder, device="cpu"))
translator = AutoModelForSeq2SeqLM.from_pretrained(folder)
import torch
timed("generate", lambda: translator.generate(torch.ones(1, 3, dtype=torch.long), max_new_tokens=2))
timed("custom", lambda: translator.generate(torch.ones(1, 3, dtype=torch.long), custom_generate=folder, trust_remote_code=False))
print(json.dumps(seconds))
"""


def hostile_code(hostile, tmp_path, **tokenizer_changes):
    """Return a folder in which every file of code would leave a mark, and the mark."""
    folder = hostile(
        auto_map={name: "other.Other" for name in ("AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM")},
        custom_pipelines={"translation": {"impl": "other.Other", "pt": ["AutoModelForSeq2SeqLM"], "type": "text"}},
    )
    build("char", ["a b c"], 30, "seq2seq", min_frequency=1, show_progress=False).save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | tokenizer_changes), encoding="utf-8")
    marker = tmp_path / "marker"
    (folder / "custom_generate").mkdir()
    for place in PLACES:
        (folder / place).write_text(EVIL.format(marker=str(marker)) + "class Other: pass\n", encoding="utf-8")
    return folder, marker


def test_no_code_of_a_repository_runs_and_nobody_is_asked(hostile, run_child, tmp_path):
    """With a terminal, on which transformers would wait 15 seconds for an answer."""
    changes = {"auto_map": {"AutoTokenizer": ["tokenization_other.Other", "tokenization_other.Other"]}}
    folder, marker = hostile_code(hostile, tmp_path, **changes)
    master, slave = pty.openpty()
    try:
        seen = json.loads(run_child(LOADER, folder, marker, stdin=slave).splitlines()[-1])
    finally:
        os.close(master)
        os.close(slave)
    assert not marker.exists()
    assert {name for name, (_, _, marked) in seen.items() if marked} == set()
    assert max(seconds for _, seconds, _ in seen.values()) < 10
    found = {name: what for name, (what, _, _) in seen.items()}
    assert found["config"] == "modeling_vanilla.configuration_vanilla"
    assert found["model"] == found["translator"] == found["refused"] == "modeling_vanilla.modeling_vanilla"
    assert found["pipeline"] == "modeling_vanilla.pipeline_text2text"
    assert found["tokenizer"].startswith("transformers.")
    assert found["generate"] == "torch"
    assert found["custom"].startswith("ValueError"), found["custom"]
