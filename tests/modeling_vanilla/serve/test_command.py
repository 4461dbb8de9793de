# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The server of transformers, on loopback: what OpenAI's client gets is what `generate` gives, and refusals say why."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

import tokenizer as tokenizers
from modeling_vanilla import VanillaForCausalLM, VanillaForMaskedLM
from modeling_vanilla.__main__ import main
from modeling_vanilla.serve import command

ROOT = Path(__file__).parents[3]
TEXT = "What is lost can be found."
POSITIONS = 60
SETTINGS = {"max_new_tokens": 8, "do_sample": False, "no_repeat_ngram_size": 1, "suppress_tokens": list(range(7))}


@pytest.fixture(scope="module")
def writer(build, tmp_path_factory):
    """A decoder and its tokenizer, in a run folder; the settings of its folder are those of the tests."""
    words = tokenizers.build("bpe", [TEXT], 120, "causal", min_frequency=1, show_progress=False)
    model = build("decoder", vocab_size=len(words), max_position_embeddings=POSITIONS, jitter=0.3)
    model.generation_config.update(**SETTINGS)
    folder = tmp_path_factory.mktemp("run")
    for saved in (model, words):
        saved.save_pretrained(folder / "final")
    return types.SimpleNamespace(folder=folder, model=model, tokenizer=words)


@pytest.fixture(scope="module")
def client(writer):
    """OpenAI's client of a server that runs in a process of its own."""
    openai = pytest.importorskip("openai")
    for name in ("fastapi", "uvicorn"):
        pytest.importorskip(name)
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", str(writer.folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "modeling_vanilla", *words],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        one = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60)
        until = time.monotonic() + 120
        while True:
            try:
                one.models.list()
                break
            except openai.APIConnectionError:
                assert process.poll() is None and time.monotonic() < until, process.communicate(timeout=9)[0][-3000:]
                time.sleep(0.2)
        yield one
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def written(writer, prompt: str) -> str:
    """What `generate` writes behind a prompt."""
    inputs = writer.tokenizer(prompt, return_tensors="pt")
    (ids,) = writer.model.generate(**inputs, **SETTINGS)
    return writer.tokenizer.decode(ids[inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_completions(client, writer):
    (model,) = client.models.list().data
    assert model.id == str(writer.folder / "final")
    for prompt in ("What is", "found"):
        (choice,) = client.completions.create(model=model.id, prompt=prompt, max_tokens=8).choices
        assert choice.text == written(writer, prompt) != ""
        stream = client.completions.create(model=model.id, prompt=prompt, max_tokens=8, stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == choice.text


def test_chat_needs_a_template(client, writer):
    openai = pytest.importorskip("openai")
    question = dict(
        model=str(writer.folder / "final"), messages=[{"role": "user", "content": "What is"}], max_tokens=8
    )
    with pytest.raises(openai.BadRequestError, match="no chat template: send the text as `prompt` to /v1/completions"):
        client.chat.completions.create(**question)
    # What --chat-template makes a setting of all requests can be that of one.
    more = {"chat_template_kwargs": {"chat_template": command.CONTINUE}}
    (choice,) = client.chat.completions.create(**question, extra_body=more).choices
    assert choice.message.content == written(writer, "What is")


def test_a_prompt_that_is_too_long_is_the_callers_mistake(client, writer):
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.BadRequestError, match=f"longer than max_position_embeddings={POSITIONS}"):
        client.completions.create(model=str(writer.folder / "final"), prompt=TEXT * 9, max_tokens=2)


@pytest.fixture
def refusal(capsys):
    """Return a function that runs the command, which must fail, and gives its line."""

    def run(*words) -> str:
        capsys.readouterr()
        assert main(["serve", *map(str, words)]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


def test_what_is_refused(writer, refusal, build, tmp_path):
    assert "serve: MODEL comes first, before --port" in refusal("--port", "1", writer.folder)
    assert "no.jinja is no file" in refusal(writer.folder, "--chat-template", tmp_path / "no.jinja")
    for variant, model_class in (("encoder", VanillaForMaskedLM), ("encoder-decoder", None)):
        build(variant, model_class).save_pretrained(tmp_path / variant)
        assert "does not go on writing behind a prompt" in refusal(tmp_path / variant)


def test_an_option_that_transformers_does_not_know(writer, refusal, monkeypatch):
    for name in ("fastapi", "openai", "uvicorn"):
        pytest.importorskip(name)
    from transformers.cli.serving import model_manager, server

    monkeypatch.setattr(server, "build_server", server.build_server)  # given back after the test, as is the class
    monkeypatch.setattr(model_manager.transformers, "VanillaForCausalLM", None, raising=False)
    line = refusal(writer.folder, "--prot", "1")
    assert line.startswith("modeling_vanilla: serve: No such option") and "--prot" in line and len(line) < 100
    assert model_manager.transformers.VanillaForCausalLM is VanillaForCausalLM


def test_a_template_becomes_an_argument_of_the_server(monkeypatch, writer, tmp_path):
    started = []
    monkeypatch.setattr(command, "_start", started.append)
    path = tmp_path / "a.jinja"
    path.write_text("{{ messages }}", "utf-8")
    for word, template in (("continue", command.CONTINUE), (str(path), "{{ messages }}")):
        words = ["serve", str(writer.folder), "--chat-template", word, "--port", "1"]
        assert main([*words, "--chat-template-kwargs", '{"a": 2}']) == main(words) == 0
        for extra in ({"a": 2}, {}):
            model, *rest = started.pop(0)
            assert (model, rest[:3]) == (str(writer.folder / "final"), ["--port", "1", "--chat-template-kwargs"])
            assert json.loads(rest[3]) == {"chat_template": template} | extra
