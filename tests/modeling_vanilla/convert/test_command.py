# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla convert`: whole folders in, whole folders out, or one line, code 2 and nothing."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
)

from modeling_vanilla import VanillaForCausalLM, VanillaForMaskedLM, VanillaModel, from_transformers
from modeling_vanilla.__main__ import main
from modeling_vanilla.convert import folders

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat"]
SIZES = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=29, max_position_embeddings=9
)


@pytest.fixture
def bert(tmp_path) -> Path:
    """A folder as old as BERT: nothing says which class its tokenizer has, but the model's type."""
    torch.manual_seed(0)
    folder = tmp_path / "bert"
    BertForMaskedLM(BertConfig(vocab_size=len(WORDS), **SIZES)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "new" / "vanilla"


def run(*words, capsys) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("modeling_vanilla:")]
    return code, printed.out, "\n".join(errors)


def refused(source, target, capsys) -> str:
    """Run a conversion that must fail, and return its line; nothing may have been written."""
    before = sorted(target.parent.parent.rglob("*"))
    code, out, line = run("convert", source, target, capsys=capsys)
    assert (code, out) == (2, "")
    assert line.count("\n") == 0
    assert sorted(target.parent.parent.rglob("*")) == before
    return line


@torch.no_grad()
def test_there_and_back(bert, target, tmp_path, capsys):
    assert run("convert", bert, target, capsys=capsys)[0] == 0
    assert [path.name for path in target.parent.iterdir()] == ["vanilla"]
    text = "the cat [MASK] on the mat"
    expected_ids = AutoTokenizer.from_pretrained(bert)(text, return_tensors="pt")
    expected = BertForMaskedLM.from_pretrained(bert)(**expected_ids).logits
    ours = AutoModelForMaskedLM.from_pretrained(target)
    assert isinstance(ours, VanillaForMaskedLM)
    inputs = AutoTokenizer.from_pretrained(target)(text, return_tensors="pt")
    assert inputs["input_ids"].tolist() == [[2, 5, 6, 4, 8, 5, 9, 3]] == expected_ids["input_ids"].tolist()
    torch.testing.assert_close(ours(**inputs).logits, expected, atol=1e-5, rtol=1e-5)
    assert run("convert", target, tmp_path / "back", capsys=capsys)[0] == 0
    back = AutoModelForMaskedLM.from_pretrained(tmp_path / "back")
    assert isinstance(back, BertForMaskedLM)
    inputs = AutoTokenizer.from_pretrained(tmp_path / "back")(text, return_tensors="pt")
    assert torch.equal(back(**inputs).logits, expected)


def test_a_console_without_korean_changes_no_exit_code(bert, tmp_path, console):
    printed = console("cp1252")
    assert main(["convert", str(bert), str(tmp_path / "결과")]) == 0
    assert main(["doctor", str(tmp_path / "결과"), "--checks", "batch"]) == 0
    assert main(["convert", "없음", str(tmp_path / "other")]) == 2
    assert "\\uacb0\\uacfc: VanillaForMaskedLM" in printed()


def test_generation_settings_and_sentencepiece_files_come_along(tmp_path, target, capsys):
    sizes = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4)
    sizes |= dict(d_model=24, encoder_ffn_dim=29, decoder_ffn_dim=29, vocab_size=31)
    config = MarianConfig(**sizes, pad_token_id=30, decoder_start_token_id=30, eos_token_id=0, forced_eos_token_id=0)
    model = MarianMTModel(config)
    model.generation_config.num_beams = 3
    model.generation_config.bad_words_ids = [[30]]
    with torch.no_grad():
        model.final_logits_bias.normal_()
    source = tmp_path / "marian"
    model.save_pretrained(source)
    for name in ("source.spm", "target.spm", "vocab.json"):
        (source / name).write_bytes(name.encode())
    assert run("convert", source, target, capsys=capsys)[0] == 0
    ours = AutoModelForSeq2SeqLM.from_pretrained(target)
    settings = ours.generation_config
    assert (settings.num_beams, settings.bad_words_ids, settings.forced_eos_token_id) == (3, [[30]], 0)
    assert torch.equal(ours.lm_head.bias, model.final_logits_bias[0])
    assert (target / "source.spm").read_bytes() == b"source.spm"
    assert json.loads((target / "tokenizer_config.json").read_text()) == {"tokenizer_class": "MarianTokenizer"}


def test_a_model_in_shards(bert, tmp_path, target, capsys):
    whole = from_transformers(bert)
    sharded = tmp_path / "sharded"
    BertForMaskedLM.from_pretrained(bert).save_pretrained(sharded, max_shard_size="10KB")
    names = sorted(path.name for path in sharded.glob("model-*.safetensors"))
    assert len(names) > 1
    state = from_transformers(sharded).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole.state_dict().items())
    (sharded / names[1]).unlink()
    assert names[1] in refused(sharded, target, capsys)


def test_truncated_weights(bert, target, capsys):
    path = bert / "model.safetensors"
    content = path.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 100, 8, 3, 0):
        path.write_bytes(content[:length])
        assert "model.safetensors" in refused(bert, target, capsys)
    path.write_bytes(content)
    assert run("convert", bert, target, capsys=capsys)[0] == 0


def test_other_ways_to_be_incomplete(bert, target, tmp_path, capsys):
    assert "neither a folder nor a model" in refused("no/such/model", target, capsys)
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty", target, capsys)
    (bert / "config.json").write_text('{"model_type": "bert", ')
    assert "config.json" in refused(bert, target, capsys)
    (bert / "config.json").write_text("[]")
    assert "JSON object" in refused(bert, target, capsys)


def test_pickled_weights_are_not_read(bert, target, capsys):
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    line = refused(bert, target, capsys)
    assert "model.safetensors" in line
    assert "pytorch_model.bin is pickle" in line


def test_a_missing_weight_is_named(bert, target, capsys):
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    assert "BertForMaskedLM lacks the weight bert.encoder.layer.2" in refused(bert, target, capsys)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "llama", "num_key_value_heads": 2}, "num_key_value_heads=2"),
        ({"model_type": "t5", "feed_forward_proj": "gated-gelu"}, "feed_forward_proj='gated-gelu'"),
        ({"model_type": "bloom", "alibi": True}, "alibi=True"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"architectures": ["BertForPreTraining"]}, "BertForPreTraining"),
        ({"model_type": "vanilla", "architectures": ["Other"]}, "Other"),
    ],
)
def test_foreign_options_are_refused_before_weights_are_read(bert, target, capsys, change, named):
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | change))
    (bert / "model.safetensors").unlink()
    assert named in refused(bert, target, capsys)


def test_nothing_is_overwritten(bert, target, capsys):
    target.mkdir(parents=True)
    (target / "mine.txt").write_text("kept")
    assert "not an empty folder" in refused(bert, target, capsys)
    assert (target / "mine.txt").read_text() == "kept"
    (target / "mine.txt").unlink()
    assert run("convert", bert, target, capsys=capsys)[0] == 0
    assert "not an empty folder" in refused(bert, target, capsys)
    assert "not an empty folder" in refused(bert, bert / "vocab.txt", capsys)
    assert f"{bert / 'vocab.txt'} is a file, not a folder" in refused(bert, bert / "vocab.txt" / "below", capsys)
    line = run("convert", bert, "/proc/nothing", capsys=capsys)[2]
    assert "/proc/nothing: cannot be written (No such file or directory)" in line


def test_a_full_disk_leaves_nothing(bert, target, capsys, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    target.parent.mkdir()
    monkeypatch.setattr(folders.shutil, "copyfile", fail)
    assert "No space left" in refused(bert, target, capsys)


def test_a_hub_id_is_checked_before_it_is_downloaded(bert, tmp_path, monkeypatch):
    asked = []

    def hub(name, allow_patterns):
        asked.append(allow_patterns)
        folder = tmp_path / "cache"
        shutil.copytree(bert, folder, dirs_exist_ok=True)
        return str(folder)

    monkeypatch.setattr(folders, "snapshot_download", hub)
    assert isinstance(from_transformers("someone/bert"), VanillaForMaskedLM)
    assert asked[0] == ["config.json"]
    assert not [pattern for patterns in asked for pattern in patterns if pattern.endswith((".bin", "*"))]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("convert", ("SOURCE", "TARGET", "--to", "--ctranslate2", "--part")),
        ("doctor", ("MODEL", "--checks", "--json", "--seed", "--trust-remote-code", "--transformers")),
    ],
)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_a_command_describes_itself(command, options, flag, capsys):
    code, text, errors = run(command, flag, capsys=capsys)
    assert (code, errors) == (0, "")
    assert text.startswith(f"usage: python -m modeling_vanilla {command} ")
    assert f"example: python -m modeling_vanilla {command} " in " ".join(text.split())
    assert all(re.search(rf"(?m)^  {option}\b.*", text) for option in options)


def test_of_a_run_folder_its_final_model_is_taken(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").touch()
    GPT2LMHeadModel(GPT2Config(vocab_size=31, n_embd=24, n_layer=1, n_head=4)).save_pretrained(tmp_path / "run/final")
    assert run("convert", tmp_path / "run", tmp_path / "new", capsys=capsys)[0] == 0
    assert VanillaForCausalLM.from_pretrained(tmp_path / "new").config.vocab_size == 31
    code, text, _ = run("doctor", tmp_path / "run", "--checks", "future", capsys=capsys)
    assert (code, "GPT2LMHeadModel" in text) == (0, True)


def test_mistakes_on_the_command_line(bert, tmp_path, capsys):
    assert run("convert", bert, capsys=capsys)[::2] == (
        2,
        "modeling_vanilla: convert: the following arguments are required: TARGET",
    )
    assert (
        run("transform", capsys=capsys)[2]
        == "modeling_vanilla: transform: no such command; one of translate, generate, fill, classify, serve, convert, doctor, look"
    )
    assert run(capsys=capsys)[0] == 2
    assert run("--help", capsys=capsys)[0] == 0
    gpt2 = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(vocab_size=31, n_embd=24, n_layer=1, n_head=4)).save_pretrained(gpt2)
    code, _, line = run("convert", gpt2, tmp_path / "new", "--ctranslate2", capsys=capsys)
    assert code == 2
    assert "--to ctranslate2 needs a Vanilla model" in line
    code, _, line = run("convert", gpt2, tmp_path / "new", "--part", "encoder", capsys=capsys)
    assert (code, line) == (2, "modeling_vanilla: variant='decoder' must be 'encoder-decoder' to cut a part out")
    code, _, line = run("convert", gpt2, tmp_path / "new", "--part", "middle", capsys=capsys)
    assert (code, "--part" in line and "middle" in line) == (2, True)
    assert run("convert", gpt2, tmp_path / "new", "--part", "encoder", "--ctranslate2", capsys=capsys)[0] == 2
    assert not (tmp_path / "new").exists()


def test_a_half_of_a_translator(tmp_path, capsys):
    """The cut encoder of a BART has the states of the BART; a cut decoder of a Vanilla model has its weights."""
    sizes = dict(vocab_size=31, d_model=24, encoder_layers=2, decoder_layers=1, max_position_embeddings=9)
    sizes |= dict(encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=29, decoder_ffn_dim=29)
    torch.manual_seed(0)
    bart = BartForConditionalGeneration(BartConfig(**sizes)).eval()
    bart.save_pretrained(tmp_path / "bart")
    assert run("convert", tmp_path / "bart", tmp_path / "half", "--part", "encoder", capsys=capsys)[0] == 0
    half, ids = VanillaModel.from_pretrained(tmp_path / "half").eval(), torch.randint(4, 31, (2, 5))
    assert half.config.variant == "encoder"
    with torch.no_grad():
        states, expected = half(ids).last_hidden_state, bart.model.encoder(ids).last_hidden_state
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)
    assert run("convert", tmp_path / "bart", tmp_path / "whole", capsys=capsys)[0] == 0
    assert run("convert", tmp_path / "whole", tmp_path / "writer", "--part", "decoder", capsys=capsys)[0] == 0
    whole = VanillaModel.from_pretrained(tmp_path / "whole").state_dict()
    writer = VanillaModel.from_pretrained(tmp_path / "writer")
    assert writer.config.variant == "decoder"
    assert all(torch.equal(weight, whole[name]) for name, weight in writer.state_dict().items())


def test_as_a_program(bert, target):
    command = [sys.executable, "-m", "modeling_vanilla", "convert", str(bert), str(target)]
    config = (bert / "config.json").read_text()
    (bert / "config.json").write_text(json.dumps(json.loads(config) | {"num_hidden_layers": 3}))
    wrong = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    # torchao, where it is installed, complains on the same stream about kernels that this machine lacks.
    ours = [line for line in wrong.stderr.splitlines() if "torchao" not in line and "_pytree" not in line]
    assert len(ours) == 1, wrong.stderr
    assert ours[0].startswith(f"modeling_vanilla: {bert}: BertForMaskedLM lacks the weight")
    (bert / "config.json").write_text(config)
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{target}: VanillaForMaskedLM, from BertForMaskedLM\n"), done.stderr


def test_a_target_that_appears_in_the_meantime_is_kept(target):
    def fill(folder):
        target.mkdir()
        (target / "mine.txt").write_text("kept")
        (folder / "config.json").write_text("{}")

    with pytest.raises(ValueError, match="not an empty folder"):
        folders.write_folder(target, fill)
    assert [path.name for path in target.parent.rglob("*")] == ["vanilla", "mine.txt"]


@pytest.mark.parametrize("name", ["../secret.safetensors", "{outside}", "a\x1b[2J\u202e.bin", 5])
def test_an_index_names_files_beside_it_and_moves_no_cursor(bert, target, capsys, name):
    secret = bert.parent / "secret.safetensors"
    (bert / "model.safetensors").rename(secret)
    name = name.format(outside=secret) if isinstance(name, str) else name
    (bert / folders.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"x": name}}))
    line = refused(bert, target, capsys)
    assert "must be the name of a .safetensors file beside it" in line
    assert line.isprintable()
