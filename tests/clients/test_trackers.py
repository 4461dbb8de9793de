# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Trackers of accelerate behind `loop.tracker`: what they keep are the figures of metrics.jsonl."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STEPS = 3
RECIPE = {
    "name": "tracked",
    "task": "translation",
    "model": {"preset": "tiny"},
    "tokenizer": {"kind": "char", "min_frequency": 1},
    "data": {"generator": "dates", "generator_args": {"train": 40, "validation": 5, "test": 5}},
    "batch": {"max_tokens": 256},
    "optim": {"lr": 0.01, "warmup_steps": 1},
    "loop": {"max_steps": STEPS, "eval_every": 100, "save_every": 100, "log_every": 1},
    "eval": {"metrics": ["loss"]},
}


@pytest.fixture
def fit(tmp_path):
    """Return a function that trains with a tracker in a process of its own and returns the losses of metrics.jsonl."""

    def run(tracker: str, **environment: str) -> list[float]:
        pytest.importorskip(tracker)
        recipe = RECIPE | {"run_dir": str(tmp_path / "run"), "loop": RECIPE["loop"] | {"tracker": tracker}}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "train", "fit", tmp_path / "recipe.yaml"],
            cwd=ROOT,
            env=os.environ
            | {"ACCELERATE_USE_CPU": "true", "MODELING_VANILLA_CACHE": "", "HF_HUB_OFFLINE": "1"}
            | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-10000:]
        lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses = [line["loss"] for line in map(json.loads, lines) if line["event"] == "train"]
        assert len(losses) == STEPS
        return losses

    return run


def test_tensorboard(fit, tmp_path):
    losses = fit("tensorboard")
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    folders = {path.parent for path in (tmp_path / "run").rglob("events.out.tfevents.*")}
    found = {}
    for folder in folders:
        events = reader.EventAccumulator(str(folder)).Reload()
        if "train/loss" in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars("train/loss")}
    assert found == pytest.approx(dict(enumerate(losses, 1)))
