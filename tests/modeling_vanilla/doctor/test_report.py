# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The doctor finds nothing wrong with our models, and every one of its checks finds what it is for."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, ViTConfig, ViTModel

from modeling_vanilla import (
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForSequenceClassification,
    VanillaModel,
)
from modeling_vanilla.__main__ import main
from modeling_vanilla.doctor import CHECKS, Finding, Subject, examine, load
from modeling_vanilla.doctor.report import number, table
from modeling_vanilla.doctor.subject import difference

ROOT = Path(__file__).parents[3]
GENERATE = {"generate-forward", "generation"}
# What each variant has no use for, beside a tokenizer that is not there.
SKIPPED = {
    "encoder-decoder": {"packing", "tokenizer"},
    "encoder": {"future", "cache", "cache-reorder", "packing", *GENERATE, "tokenizer"},
    "decoder": {"tokenizer"},
}


@pytest.mark.parametrize("positions", ("sinusoidal", "learned"))
@pytest.mark.parametrize("norm", ("post", "pre"))
@pytest.mark.parametrize("variant", SKIPPED)
def test_nothing_is_wrong_with_our_language_models(build, tmp_path, variant, norm, positions):
    build(variant, jitter=0.2, norm_order=norm, positions=positions).save_pretrained(tmp_path)
    findings = examine(load(str(tmp_path)))
    assert [f for f in findings if f.outcome == "FAIL"] == []
    assert {f.name for f in findings if f.outcome == "skipped"} == SKIPPED[variant]
    assert len(findings) == len(CHECKS)


@pytest.mark.parametrize("head", (VanillaModel, VanillaForSequenceClassification))
@pytest.mark.parametrize("variant", SKIPPED)
def test_nothing_is_wrong_with_our_other_models(build, tmp_path, variant, head):
    build(variant, head, jitter=0.2, tie_word_embeddings=False).save_pretrained(tmp_path)
    subject = load(str(tmp_path))
    assert (type(subject.model), subject.head) == (head, None)
    findings = examine(subject)
    assert [f for f in findings if f.outcome == "FAIL"] == []
    skipped = {f.name for f in findings if f.outcome == "skipped"}
    assert skipped == SKIPPED[variant] | GENERATE | {"tied", "label-alignment", "ignored-labels"}


def test_another_seed_draws_other_ids(build):
    drawn = {tuple(Subject(build("decoder"), "causal", seed=seed).ids(1, 12)[0].tolist()) for seed in range(5)}
    assert len(drawn) == 5
    assert not {0, 2, 3} & {value for row in drawn for value in row}


def test_the_guide_says_what_each_check_compares_with():
    """Two results that break together say nothing: the other side of each check is written down, once."""
    lines = (ROOT / "docs/guides/doctor.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| check | what is measured | compared with |")
    rows = [line.strip("| ").split(" | ") for line in lines[start + 2 : start + 2 + len(CHECKS)]]
    assert [(row[0], row[-1]) for row in rows] == [(check.name, check.reference) for check in CHECKS]
    assert not lines[start + 2 + len(CHECKS)].startswith("|")
    shown = [
        line.split()[0]
        for line in lines[lines.index("```console") :]
        if line[17:26].strip() in ("pass", "FAIL", "skipped")
    ]
    assert set(shown) == {check.name for check in CHECKS}


# The measure.


def test_a_difference_is_a_share_of_what_varies_and_of_the_value():
    expected = torch.randn(2, 50, 7, generator=torch.Generator().manual_seed(0)) * 10
    got = expected.clone()
    got[1, 3, 2] += 1.0
    spread = (expected.double().flatten(0, 1) - expected.double().flatten(0, 1).mean(0)).std()
    assert difference(got, expected) == pytest.approx(1 / float(spread + expected[1, 3, 2].abs()), rel=1e-5)
    expected[..., 5] -= 1e4  # an id that is never generated hides nothing
    got[..., 5] -= 1e4
    assert difference(got, expected) == pytest.approx(1 / float(spread + expected[1, 3, 2].abs()), rel=1e-5)


def test_a_difference_to_what_is_not_finite_is_infinite():
    expected = torch.arange(12.0).view(1, 4, 3)
    expected[..., 0] = -math.inf
    assert difference(expected.clone(), expected) == 0
    for value in (math.nan, math.inf):
        got = expected.clone()
        got[0, 0, 1] = value
        assert difference(got, expected) == difference(expected, got) == math.inf
    with pytest.raises(ValueError, match="shapes"):
        difference(expected[:, :2], expected)


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.0, "0"), (3.0, "3"), (0.25, "2.5e-01"), (math.inf, "inf")])
def test_numbers_are_short(value, text):
    assert number(value) == text


# The command.


@pytest.fixture(scope="module")
def folders(build, tmp_path_factory) -> Path:
    """Our decoder, whose code somebody else must trust, and GPT-2 with weights that matter."""
    root = tmp_path_factory.mktemp("folders")
    build("decoder", jitter=0.2).save_pretrained(root / "ours")
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=31, n_embd=24, n_layer=2, n_head=4, n_positions=37, eos_token_id=3))
    with torch.no_grad():
        for parameter in gpt2.parameters():
            parameter.normal_(std=0.2)
    gpt2.save_pretrained(root / "gpt2")
    return root


def run(*words, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "modeling_vanilla", "doctor", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_tensor_with_an_escape_code_in_its_name_moves_no_cursor():
    finding = Finding("weights", "FAIL", 1, 0, "weights are left out (\x1b[2Jlayer\u202e is missing)")
    assert table([finding]).splitlines()[1].endswith(r"(\x1b[2Jlayer\u202e is missing)")


def test_the_command_reports_in_json(folders):
    done = run(folders / "ours", "--json", "--seed", "3")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["class"], report["failed"], report["seed"]) == ("VanillaForCausalLM", [], 3)
    assert [f["name"] for f in report["findings"]] == [check.name for check in CHECKS]
    assert all(set(f) == {"name", "outcome", "measured", "limit", "meaning"} for f in report["findings"])
    assert "\r" not in done.stderr, "a bar where nobody looks"


def test_what_a_model_prints_is_not_in_the_report(folders, capsys, monkeypatch):
    forward = VanillaForCausalLM.forward

    def talking(self, *args, **keywords):
        print("hello")
        return forward(self, *args, **keywords)

    monkeypatch.setattr(VanillaForCausalLM, "forward", talking)
    assert main(["doctor", str(folders / "ours"), "--json", "--checks", "batch"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["failed"] == []
    assert "hello" in printed.err


def test_the_command_fails_where_a_check_fails(folders):
    done = run(folders / "gpt2", "--checks", "left-padding,cache")
    assert done.returncode == 1, done.stderr
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()[3:5]}
    assert rows == {"cache": "pass", "left-padding": "FAIL"}
    assert done.stdout.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


def test_code_of_others_runs_only_where_it_is_trusted(folders, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in (folders / "ours").iterdir():
        text = path.read_bytes().replace(b'model_type = "vanilla"', b'model_type = "other"')
        (folder / path.name).write_bytes(text.replace(b'"model_type": "vanilla"', b'"model_type": "other"'))
    modules = str(tmp_path / "modules")
    refused = run(folder, HF_MODULES_CACHE=modules)
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("modeling_vanilla:")]
    assert (refused.returncode, refused.stdout, "--trust-remote-code" in line) == (2, "", True)
    trusted = run(folder, "--trust-remote-code", "--json", HF_MODULES_CACHE=modules)
    assert trusted.returncode == 0, trusted.stdout + trusted.stderr
    assert json.loads(trusted.stdout)["failed"] == []


def refused(capsys, *words) -> str:
    code = main(["doctor", *map(str, words)])
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("modeling_vanilla:")]
    assert (code, printed.out) == (2, "")
    return line


def test_mistakes_in_the_input_are_one_line(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "nothere" in refused(capsys, tmp_path / "nothere")
    assert "required: MODEL" in refused(capsys)
    assert "--fast" in refused(capsys, folders / "gpt2", "--fast")
    assert "no check 'packs'; one of weights, " in refused(capsys, folders / "gpt2", "--checks", "cache,packs")
    ViTModel(
        ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path / "vit")
    assert "model_type='vit' is no text model" in refused(capsys, tmp_path / "vit")
    (tmp_path / "cut").mkdir()
    for path in (folders / "gpt2").iterdir():
        (tmp_path / "cut" / path.name).write_bytes(path.read_bytes()[: -5 if path.suffix == ".safetensors" else None])
    assert "truncated" in refused(capsys, tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").rename(tmp_path / "cut" / "pytorch_model.bin")
    assert "pickle" in refused(capsys, tmp_path / "cut")
    (tmp_path / "cut" / "pytorch_model.bin").unlink()
    assert "incomplete" in refused(capsys, tmp_path / "cut")
    config = (folders / "gpt2" / "config.json").read_text().replace('"n_embd": 24', '"n_embd": 28')
    (tmp_path / "cut" / "config.json").write_text(config)
    (tmp_path / "cut" / "model.safetensors").write_bytes((folders / "gpt2" / "model.safetensors").read_bytes())
    assert str(tmp_path / "cut") in refused(capsys, tmp_path / "cut")


def test_seq2seq_is_loaded_as_such(build, tmp_path):
    build("encoder-decoder").save_pretrained(tmp_path)
    subject = load(str(tmp_path))
    assert (type(subject.model), subject.head) == (VanillaForConditionalGeneration, "seq2seq")
