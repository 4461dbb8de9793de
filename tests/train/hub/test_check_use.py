"""hub-check in use: a real process without this project loads, runs, saves and fine-tunes the folder, and finds what breaks it."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

import modeling_vanilla
import tokenizer as tokenizers
from train.hub import folder as hub_folders
from train.hub.check import report as hub_check
from train.hub.check import use
from train.measure import scoring
from train.settings.recipe import Recipe
from train.tasks import TASKS

ROOT = Path(__file__).resolve().parents[3]
TEXTS = ["to be or not to be", "that is the question"]
CARD = "---\nlicense: apache-2.0\nlibrary_name: transformers\ntags: [vanilla]\npipeline_tag: {tag}\n---\n# Name\n"


@pytest.fixture(scope="module")
def translator(starter, tmp_path_factory):
    """Return the Hub folder of a small translator that was really trained."""
    run = starter.fit(tmp_path_factory.mktemp("runs") / "dates-en-ko", "--loop.max_steps=4")
    folder = hub_folders.write_hub_folder(run, "somebody/dates-en-ko")
    (folder / "manifest.json").unlink()  # or it would find every change, before the check that is meant
    return folder


def test_a_published_run_passes_from_the_command_line(translator):
    done = subprocess.run(
        [sys.executable, "-m", "train", "hub-check", str(translator)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "AutoModelForSeq2SeqLM .* pass  VanillaForConditionalGeneration: base, head, generate",
        "AutoModelForMultipleChoice .* pass  VanillaForMultipleChoice: base",
        "tokenizer .* pass  TokenizersBackend, no flag",
        "pipeline translation .* pass ",
        "fine-tune .* pass  one step, loss .* weights changed; saved and loaded again",
        "same numbers .* pass  8 outputs of 6 classes",
        "network .* pass  never tried",
        " 0 failed",
    ):
        assert re.search(line, done.stdout), line


# What is added to the code of a repository, and what a stranger must find.
FAULTS = {
    "layers.py": "_forward = FeedForward.forward\nFeedForward.forward = lambda self, *a, **k: _forward(self, *a, **k) * 1.001\n",
    "pipeline_text2text.py": "def _no(self, *a, **k):\n    raise RuntimeError('no translation today')\n\n\n"
    "TranslationPipeline.__init__ = _no\n",
    "modeling_vanilla.py": "import importlib\n\n\ndef _no(self, config):\n    importlib.import_module('modeling' + '_vanilla')\n\n\n"
    "VanillaForMultipleChoice.__init__ = _no\n",
    "configuration_vanilla.py": "import os\nimport socket\n\nif 'HF_TOKEN' in os.environ:\n"
    "    raise RuntimeError('a token is here')\ntry:\n    socket.create_connection(('127.0.0.1', 9), 1)\n"
    "except OSError:\n    pass\n_to_dict = VanillaConfig.to_dict\nVanillaConfig.to_dict = lambda self: {\n"
    "    key: value for key, value in _to_dict(self).items() if key != 'auto_map'\n}\n",
}
FOUND = (
    "same numbers: .*differs from what the installed package computes",
    "pipeline translation: RuntimeError: no translation today",
    "AutoModelForMultipleChoice: ModuleNotFoundError: No module named 'modeling_vanilla'",
    r"network: socket.getaddrinfo 127\.0\.0\.1",
    "save: saved again: config.json: auto_map is None, was {",
)


def test_code_that_does_not_do_what_it_should_is_found(translator, tmp_path, monkeypatch):
    folder = shutil.copytree(translator, tmp_path / "hub")
    for name, code in FAULTS.items():
        with open(folder / name, "a") as file:
            file.write(f"\n\n{code}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    report = hub_check.check_folder(folder, trust_remote_code=True)
    for line in FOUND:
        assert [problem for problem in report.problems if re.search(line, problem)], (line, report.problems)
    passed = {finding.name for finding in report.findings if finding.passed}
    assert {"AutoConfig", "AutoModelForSeq2SeqLM", "pipeline summarization", "tokenizer"} <= passed, report.problems


def small(name, variant, **more):
    """Return a small model of one class."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 31,
        "d_model": 24,
        "d_ff": 29,
        "num_heads": 4,
        "num_layers": 2,
        "max_position_embeddings": 37,
    }
    return getattr(modeling_vanilla, name)(modeling_vanilla.VanillaConfig(variant=variant, **sizes, **more))


MODELS = {
    "decoder": ("text-generation", "causal", lambda: small("VanillaForCausalLM", "decoder", norm_order="pre")),
    "encoder": ("fill-mask", "masked", lambda: small("VanillaForMaskedLM", "encoder")),
    "classes": ("text-classification", "masked", lambda: small("VanillaForSequenceClassification", "encoder")),
    "tokens": ("token-classification", "masked", lambda: small("VanillaForTokenClassification", "encoder")),
    "answers": ("question-answering", "masked", lambda: small("VanillaForQuestionAnswering", "encoder")),
    "choices": ("multiple-choice", "masked", lambda: small("VanillaForMultipleChoice", "encoder")),
    "base": ("feature-extraction", "masked", lambda: small("VanillaModel", "encoder")),
    "whole base": ("translation", "translation", lambda: small("VanillaModel", "encoder-decoder")),
    "stock": (
        "text-generation",
        "causal",
        lambda: GPT2LMHeadModel(
            GPT2Config(
                vocab_size=31,
                n_positions=37,
                n_embd=24,
                n_layer=2,
                n_head=4,
                bos_token_id=2,
                eos_token_id=3,
                pad_token_id=0,
            )
        ),
    ),
}


def hub_folder(name, folder):
    """Save a model with a tokenizer and a card."""
    tag, template, make = MODELS[name]
    make().save_pretrained(folder)
    built = tokenizers.build("char", TEXTS, 31, TASKS[template].template, min_frequency=1, show_progress=False)
    built.save_pretrained(folder)
    (folder / "README.md").write_text(CARD.format(tag=tag))
    return folder


@pytest.mark.parametrize(
    "name", [name if name == "decoder" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_every_kind_of_model_passes(name, tmp_path):
    report = hub_check.check_folder(hub_folder(name, tmp_path / "hub"))
    assert report.problems == []
    details = {finding.name: finding.detail for finding in report.findings}
    tuned = "left out" if "base" in name else "one step"
    assert details["fine-tune"].startswith(tuned)
    assert "doctor generate-forward" in details
    assert ("doctor unknown-input" in details) == (name != "stock"), "what transformers drops, no folder can mend"
    if name not in ("choices", "whole base"):
        assert f"pipeline {MODELS[name][0]}" in details


def test_a_model_that_loses_its_cache_and_its_inputs_is_found(tmp_path, monkeypatch):
    forward = modeling_vanilla.VanillaForCausalLM.forward

    @functools.wraps(forward)
    def lossy(self, *args, **keywords):
        return forward(
            self, *args, **{name: value for name, value in keywords.items() if name in ("input_ids", "use_cache")}
        )

    monkeypatch.setattr(modeling_vanilla.VanillaForCausalLM, "forward", lossy)
    folder, names = hub_folder("decoder", tmp_path), use.OF_A_FOLDER
    found = {name: passed for name, passed, _ in use._doctored(folder, names)}
    assert {name for name, passed in found.items() if not passed} == {
        "doctor generate-forward",
        "doctor unknown-input",
    }


@pytest.mark.slow
def test_weights_that_are_not_all_there_are_found(translator, tmp_path):
    folder = shutil.copytree(translator, tmp_path / "hub")
    weights = load_file(folder / "model.safetensors")
    lost = "model.encoder.layers.0.feed_forward.fc1.weight"
    del weights[lost]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    problems = hub_check.check_folder(folder).problems
    assert [problem for problem in problems if problem.startswith("doctor weights") and lost in problem], problems


@pytest.mark.slow
def test_a_config_of_other_sizes_is_found(translator, tmp_path):
    folder = shutil.copytree(translator, tmp_path / "hub")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"d_ff": 48', '"d_ff": 40'))
    problems = hub_check.check_folder(folder).problems
    assert [problem for problem in problems if "AutoModelForSeq2SeqLM" in problem], problems


def test_a_limit_that_leaves_a_prompt_no_place_is_found(tmp_path, monkeypatch):
    """`generate` without a word about lengths then runs past the positions, unless the text ends before."""
    monkeypatch.setattr("train.hub.check.use.findings", lambda *_: iter([]))
    folder, recipe = hub_folder("decoder", tmp_path / "hub"), Recipe(name="tiny", task="causal")
    model = modeling_vanilla.VanillaForCausalLM.from_pretrained(folder).eval()
    for limit, problems in ((None, 0), (36, 1)):
        model.generation_config = scoring.generation_config(recipe, model.config, limit)
        model.generation_config.eos_token_id = None
        model.save_pretrained(folder)
        found = [line for line in hub_check.check_folder(folder).problems if "leaves a prompt no place" in line]
        assert len(found) == problems
        ids = torch.tensor([[7, 8, 9]])
        if problems:
            with pytest.raises(ValueError, match="longer than max_position_embeddings"):
                model.generate(ids)
        else:
            assert model.generate(ids).shape == (1, 37)
