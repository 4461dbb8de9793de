"""The demo's middle part: a process that cannot import this project loads a folder and translates with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import tokenizer as tokenizers
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from train import demo
from train.data import generators
from train.settings.reading import load_recipe


def test_a_stranger_translates_unseen_dates(tmp_path, capfd):
    recipe = load_recipe([str(demo.ROOT / demo.RECIPE)])
    recipe.data.generator_args = {"train": 200, "validation": 1, "test": 7}
    rows = generators.generate("dates", recipe.data.generator_args)
    texts = rows["train"]["source"] + rows["train"]["target"]
    built = tokenizers.build("char", texts, 200, "seq2seq", min_frequency=1, show_progress=False)
    sizes = {"d_model": 24, "d_ff": 29, "num_heads": 4, "num_layers": 2, "max_position_embeddings": 64}
    VanillaForConditionalGeneration(VanillaConfig(vocab_size=len(built), **sizes)).save_pretrained(tmp_path)
    built.save_pretrained(tmp_path)
    assert demo._translate_as_stranger(tmp_path, recipe) == 0
    printed = capfd.readouterr().out
    assert "ModuleNotFoundError" in printed
    assert f"transformers_modules.{tmp_path.name}" in printed
    lines = printed.splitlines()
    for source, target in zip(rows["test"]["source"][:5], rows["test"]["target"][:5], strict=True):
        assert any(source in line and f"should be {target}" in line for line in lines), "an untrained model is wrong"


def test_a_stranger_who_fails_is_reported(tmp_path):
    recipe = load_recipe([str(demo.ROOT / demo.RECIPE)])
    recipe.data.generator_args = {"train": 1, "validation": 1, "test": 5}
    assert demo._translate_as_stranger(Path(tmp_path), recipe) != 0


SLOW = """
import pathlib, sys, time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)  # a checkpoint is written
    pathlib.Path("saved").touch()
    sys.exit(130)
"""
DEMO = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell switches it off for what runs in the background
from train import demo
sys.exit(demo._run([sys.executable, "-c", {"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + SLOW!r}], cwd=sys.argv[1]))
"""


def test_ctrl_c_waits_for_a_part_that_saves(tmp_path):
    command = [sys.executable, "-c", DEMO, str(tmp_path)]
    with subprocess.Popen(command, cwd=demo.ROOT, stdout=-1, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to both of them
        assert process.wait(timeout=60) == 130
    assert (tmp_path / "saved").exists()
