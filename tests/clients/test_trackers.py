# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Trackers of accelerate behind `loop.tracker`: each keeps the figures of metrics.jsonl and the recipe, without a network."""

import importlib
import json
import struct

import pytest
import yaml
from accelerate.state import AcceleratorState, GradientState

from train.__main__ import main

RECIPE = {
    "name": "tracked",
    "task": "translation",
    "model": {"preset": "tiny"},
    "tokenizer": {"kind": "char", "min_frequency": 1},
    "data": {"generator": "dates", "generator_args": {"train": 40, "validation": 5, "test": 5}},
    "batch": {"max_tokens": 256},
    "optim": {"lr": 0.01, "warmup_steps": 1},
    "loop": {"max_steps": 3, "eval_every": 100, "save_every": 100, "log_every": 1},
    "eval": {"metrics": ["loss"]},
}
RATE = "optim.lr"

# The log of wandb: a checksum, the size and the kind of each piece of a message.
BLOCK = 32_768
PIECE = struct.Struct("<IHB")
WHOLE, LAST = 1, 4


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """Return a function that trains with a tracker, as `python -m train fit` does, and returns the losses by step."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("MODELING_VANILLA_CACHE", "")
    monkeypatch.chdir(tmp_path)  # some trackers write below the working directory

    def forget_accelerate() -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    def run(tracker: str, **environment: str) -> dict[int, float]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        pytest.importorskip(tracker)
        recipe = RECIPE | {"run_dir": str(tmp_path / "run"), "loop": RECIPE["loop"] | {"tracker": tracker}}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        forget_accelerate()
        assert main(["fit", str(tmp_path / "recipe.yaml")]) == 0
        lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses = {line["step"]: line["loss"] for line in map(json.loads, lines) if line["event"] == "train"}
        assert list(losses) == [1, 2, 3]
        return losses

    yield run
    forget_accelerate()


def test_tensorboard(fit, tmp_path):
    losses = fit("tensorboard")
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    found = {}
    for folder in {path.parent for path in (tmp_path / "run").rglob("events.out.tfevents.*")}:
        events = reader.EventAccumulator(str(folder)).Reload()
        if "train/loss" in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars("train/loss")}
    assert found == pytest.approx(losses)


def test_trackio(fit, tmp_path):
    losses = fit("trackio", TRACKIO_DIR=str(tmp_path / "trackio"))
    (run,) = importlib.import_module("trackio").Api().runs("tracker")
    assert run.config[RATE] == 0.01
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    rows = storage.get_logs("tracker", run.name, run_id=run.id)
    assert {row["step"]: row["train/loss"] for row in rows if "train/loss" in row} == pytest.approx(losses)


def test_mlflow(fit, tmp_path):
    store = (tmp_path / "mlruns").as_uri()
    losses = fit("mlflow", MLFLOW_TRACKING_URI=store, MLFLOW_ALLOW_FILE_STORE="true")
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=store)
    (experiment,) = client.search_experiments(filter_string="name = 'tracker'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params[RATE] == "0.01"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert {point.step: point.value for point in history} == pytest.approx(losses)


def records_of(path, kind) -> list:
    """Return the messages of a log in LevelDB's format: 7 bytes of a header, then blocks of 32 KiB of pieces of messages."""
    data, place, message, messages = path.read_bytes(), 7, b"", []
    while place < len(data):
        if -place % BLOCK < PIECE.size:  # too little is left of this block for another piece
            place += -place % BLOCK
            continue
        _, size, where = PIECE.unpack_from(data, place)
        message += data[place + PIECE.size : place + PIECE.size + size]
        place += PIECE.size + size
        if where in (WHOLE, LAST):
            messages.append(kind.FromString(message))
            message = b""
    return messages


def test_wandb_without_a_network(fit, tmp_path):
    losses = fit("wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    importlib.import_module("wandb").teardown()  # its process has then written everything
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    found, settings = {}, {}
    for record in records_of(path, importlib.import_module("wandb.proto.wandb_internal_pb2").Record):
        values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        if "train/loss" in values:
            found[record.history.step.num] = values["train/loss"]
        settings |= {item.key: json.loads(item.value_json) for item in record.config.update if item.key}
    assert found == pytest.approx(losses)
    assert settings[RATE] == 0.01
