"""A tiny translation task (reverse the letters) and a clean accelerate for every test that trains in this process."""

import gzip
import random
from pathlib import Path

import pytest
import yaml


def _pairs(count: int, seed: int) -> str:
    """Return lines of two columns: letters, and the same letters backwards."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefg", k=draw.randint(2, 9))) for _ in range(count)]
    return "".join(f"{word}\t{word[::-1]}\n" for word in words)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Leave the cache of token ids of whoever runs the tests alone."""
    monkeypatch.setenv("MODELING_VANILLA_CACHE", "")


@pytest.fixture
def write_recipe(tmp_path):
    """Return a function that writes data and a recipe: sections are merged into a tiny default."""

    def write(name: str = "tiny", rows: int = 61, **sections) -> Path:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        for split, count in (("train", rows), ("validation", 7)):
            (data / f"{split}.tsv").write_text(_pairs(count, seed=count), encoding="utf-8")
        content = {
            "name": name,
            "task": "translation",
            "run_dir": str(tmp_path / name),
            "model": {"preset": "tiny", "dropout": 0.1},
            "tokenizer": {"kind": "char", "min_frequency": 1},
            "data": {
                "root": str(data),
                "train": "train.tsv",
                "validation": "validation.tsv",
                "source_column": 0,
                "target_column": 1,
            },
            "batch": {"max_tokens": 64},
            "optim": {"lr": 0.01, "warmup_steps": 1, "clip_norm": 1.0},
            "loop": {"max_steps": 6, "eval_every": 100, "save_every": 100, "log_every": 1, "tracker": "none"},
            "eval": {"split": "validation", "metrics": ["loss"]},
        }
        for section, values in sections.items():
            content[section] = content[section] | values if isinstance(values, dict) else values
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def fit(monkeypatch):
    """Return `loop.fit` on a recipe's path and overrides, with accelerate's global state cleared before each call."""
    from accelerate.state import AcceleratorState, GradientState

    from train.hub import push
    from train.run import loop
    from train.settings import reading

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def run(path, *overrides: str) -> Path:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        return loop.fit(reading.load_recipe([str(path), *overrides]), push)

    yield run
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


@pytest.fixture
def translation(tmp_path):
    """Return a recipe of thirteen dates, its data, its model and its tokenizer."""
    from evaluation import model_and_tokenizer, translation_recipe

    from modeling_vanilla import VanillaForConditionalGeneration
    from train.data.splits import load_splits

    recipe = translation_recipe(tmp_path)
    splits = load_splits(recipe)
    return recipe, splits, *model_and_tokenizer(VanillaForConditionalGeneration, recipe, splits)


@pytest.fixture
def recipe(tmp_path):
    """Make a recipe over files of a temporary folder, which are text or bytes; a name that ends in gz is packed."""
    from train.settings.recipe import Recipe
    from train.settings.sections import DataSection

    def function(task: str, files: dict | None = None, **data) -> Recipe:
        for name, content in (files or {}).items():
            content = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return Recipe(name="test", task=task, data=DataSection(**{"root": str(tmp_path)} | data))

    return function
