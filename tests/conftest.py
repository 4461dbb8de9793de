"""Small models and batches for every test of the model: all sizes differ, so that a swapped axis cannot pass."""

import gc
import io
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

gc.disable()  # until everything is imported

import pytest
import torch
from huggingface_hub import HfApi

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
)

ROOT = Path(__file__).parents[1]
LANGUAGE_MODELS = {
    "encoder-decoder": VanillaForConditionalGeneration,
    "encoder": VanillaForMaskedLM,
    "decoder": VanillaForCausalLM,
}


def small_config(variant: str, **overrides) -> VanillaConfig:
    """Return a config of odd sizes: V=31, D=24, H=4, K=5, F=29, 2 layers, 37 positions."""
    sizes = {
        "vocab_size": 31,
        "d_model": 24,
        "d_ff": 29,
        "num_heads": 4,
        "head_dim": 5,
        "num_layers": 2,
        "max_position_embeddings": 37,
    }
    return VanillaConfig(**({"variant": variant} | sizes | overrides))


@pytest.fixture
def console(monkeypatch):
    """Return a function that makes stdout and stderr those of a console, and gives another that returns what it shows."""

    def function(encoding: str):
        shown = io.BytesIO()
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(shown, encoding=encoding, write_through=True))
        return lambda: shown.getvalue().decode(encoding)

    return function


@pytest.fixture(scope="session")
def build():
    """Return a factory of small seeded models in evaluation mode."""

    def make(variant: str, model_class=None, jitter: float = 0.1, **overrides):
        """Build the language model of `variant`, or a `model_class`.

        Noise on every parameter gives biases and norms values that count; without it a lost bias goes unseen.
        """
        torch.manual_seed(0)
        model = (model_class or LANGUAGE_MODELS[variant])(small_config(variant, **overrides)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * jitter)
        return model

    return make


@pytest.fixture(scope="session")
def config_of():
    """Return the function that makes the small config of a variant."""
    return small_config


@pytest.fixture(scope="session")
def tokens():
    """Return a function that draws seeded ids (rows, length), none of them special."""

    def draw(rows: int, length: int, seed: int = 0) -> torch.Tensor:
        return torch.randint(7, 31, (rows, length), generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture(scope="session")
def batch_of(tokens):
    """Return a function that makes the inputs of a variant: 2 rows, source of 5 tokens, target of 3."""

    def make(variant: str) -> dict[str, torch.Tensor]:
        inputs = {"input_ids": tokens(2, 5)}
        if variant == "encoder-decoder":
            inputs["decoder_input_ids"] = tokens(2, 3, seed=1)
        return inputs

    return make


@pytest.fixture(scope="session")
def poisoned_memory():
    """Return a context in which fresh memory is NaN: it is often 0 in a test, and anything in production.

    `from_pretrained` makes room for what no checkpoint holds with `torch.empty_like`.
    """

    @contextmanager
    def poison():
        empty_like = torch.empty_like

        def nan_like(*args, **kwargs):
            tensor = empty_like(*args, **kwargs)
            return tensor.fill_(torch.nan) if tensor.is_floating_point() and not tensor.is_meta else tensor

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "empty_like", nan_like)
            yield

    return poison


# ---- processes


@pytest.fixture(scope="session")
def torchrun():
    """Return a function that runs words with the real torchrun, and fails with what they said; `ranks` is much cheaper."""

    def run(*words, processes: int = 2) -> str:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        done = subprocess.run(
            [*command, *map(str, words)],
            cwd=ROOT,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
            | {"PYTHONFAULTHANDLER": "1"},  # one that dies in native code shows the stacks of its threads
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-10000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def starter(tmp_path_factory):
    """Return the starter of real processes, see tests/train/starter.py."""
    from starter import Starter

    result = Starter(tmp_path_factory.mktemp("starter"))
    yield result
    result.close()


@pytest.fixture(scope="session")
def ranks(starter):
    """Return a function that runs a script on several processes of this machine, and fails with what they said."""
    return starter.ranks


# ---- the stand-in for the Hub, see tests/hub_stand_in/hub_server.py


def _hub():
    from hub_server import Hub

    server = Hub()
    yield server
    server.close()
    assert server.complaints == []


@pytest.fixture
def hub():
    """Return a stand-in for the Hub, empty; the test fails if anything was sent there that no right client sends."""
    yield from _hub()


@pytest.fixture(scope="module")
def module_hub():
    """Return a stand-in that the tests of a module share."""
    yield from _hub()


@pytest.fixture
def hub_here(hub, tmp_path):
    """Return the stand-in after leading this process there: huggingface_hub read where its Hub is when it was imported."""
    with hub.here(tmp_path / "hub-home"):
        yield hub


def pytest_collection_finish():
    """Leave what was imported out of the search for garbage, for which the Trainer and accelerate call again and again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report):
    """Report the tests of transformers shortly: what they skip is not for these models, and of parts there are thousands.

    It stands here because the process that reports does not read the conftest.py of that folder.
    """
    if not report.nodeid.startswith("tests/upstream/"):
        return None
    if report.skipped:
        return "not for these models", "s", "NOT FOR THESE MODELS"
    if report.passed and type(report).__name__ == "SubtestReport":
        return "", "", ""
    return None


@pytest.fixture
def api(hub_here):
    """Return the client of alice, who has an account at the stand-in."""
    return HfApi(endpoint=hub_here.url, token="hf_alice")


@pytest.fixture
def repo(hub_here, api):
    """Return a repository with a text file, a large one, an empty one, and folders."""
    from hub_client import FILES, NAME, add

    api.create_repo(NAME)
    api.create_commit(NAME, add(**FILES), commit_message="first", commit_description="more")
    return hub_here.repo(NAME)
