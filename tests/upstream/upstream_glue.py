# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Make the shared tests of transformers importable, as the package `transformers_tests`.

`make test` fetches the source distribution of the installed transformers and unpacks its `tests/` folder. It holds the
tests that every model of transformers has to pass, but not all the modules that those import; what is missing stands
here. Importing this module does it all, in a spawned process too.
"""

import contextlib
import importlib.metadata
import os
import sys
import types
from pathlib import Path
from unittest import mock

import torch
from torch import distributed, multiprocessing
from transformers.models.auto import modeling_auto

import modeling_vanilla

VERSION = importlib.metadata.version("transformers")
FOLDER = Path(sys.prefix) / "upstream" / f"transformers-{VERSION}" / "tests"

# What a common keyword of every config is set to, each unlike its default.
CONFIG_KEYWORDS = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["VanillaModel"],
    "id2label": {0: "label"},
    "label2id": {"label": "0"},
    "problem_type": "regression",
}
# The shared tests make labels for the classes that they find by name in these tables of transformers, and only while
# they run: other programs tell by the same tables whether a model is an encoder-decoder.
HEADS = {
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM": "VanillaForConditionalGeneration",
    "MODEL_FOR_MASKED_LM": "VanillaForMaskedLM",
    "MODEL_FOR_CAUSAL_LM": "VanillaForCausalLM",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION": "VanillaForSequenceClassification",
    "MODEL_FOR_TOKEN_CLASSIFICATION": "VanillaForTokenClassification",
    "MODEL_FOR_QUESTION_ANSWERING": "VanillaForQuestionAnswering",
    "MODEL_FOR_MULTIPLE_CHOICE": "VanillaForMultipleChoice",
    "MODEL": "VanillaModel",
}


def rank_main(rank: int, function, args: tuple, world_size: int, port: int) -> None:
    """Run `function` as one of `world_size` gloo processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    function(rank, *args)
    distributed.barrier()
    distributed.destroy_process_group()


def rank_start(rank: int, function, args: tuple) -> None:
    """Call `function` in a new process, which has read this module first and so knows where `function` is from."""
    function(rank, *args)


def start_processes(function, args: tuple, nprocs: int) -> None:
    """Call `function(rank, *args)` in `nprocs` processes."""
    multiprocessing.spawn(rank_start, (function, args), nprocs=nprocs)


def run_distributed(world_size: int):
    """Return a decorator that runs a function on `world_size` processes, with the rank as its first argument."""

    def decorate(function):
        def run(*args):
            store = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
            port = store.port
            del store  # the processes meet at the port that was free just now
            multiprocessing.spawn(rank_main, (function, args, world_size, port), nprocs=world_size)

        return run

    return decorate


def _module(name: str, **content) -> None:
    module = sys.modules[f"transformers_tests.{name}"] = types.ModuleType(f"transformers_tests.{name}")
    module.__path__ = []
    module.__dict__.update(content)


def install() -> None:
    """Register the package and what the source distribution leaves out of it."""
    package = sys.modules["transformers_tests"] = types.ModuleType("transformers_tests")
    package.__path__ = [str(FOLDER)]
    if FOLDER.is_dir():
        (FOLDER / "__init__.py").touch()  # one of them opens it
    _module("exporters")
    _module("exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
    _module("generation")
    _module("generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
    _module("utils")
    _module("utils.test_configuration_utils", config_common_kwargs=CONFIG_KEYWORDS)
    _module(
        "distributed_testing_utils",
        run_distributed=run_distributed,
        _get_distributed_backend=lambda: "gloo",
        _get_distributed_device_type=lambda: "cpu",
        _get_rank_device=lambda rank: torch.device("cpu"),
        _set_rank_device=lambda rank: None,
        _start_rank_processes=start_processes,
    )


@contextlib.contextmanager
def known_by_name():
    """Enter our classes into the tables of names, and take them out again."""
    with contextlib.ExitStack() as stack:
        for table, name in HEADS.items():
            names = getattr(modeling_auto, f"{table}_MAPPING_NAMES")
            stack.enter_context(mock.patch.dict(names, {modeling_vanilla.VanillaConfig.model_type: name}))
        yield


install()
