"""Evaluation of folders: a run, a model folder, anyone's model, and where results.json then goes."""

import functools
import json
from pathlib import Path

import pytest
import torch
import yaml
from evaluation import LINES, SIZES, model_and_tokenizer, recipe_of, translation_recipe
from transformers import GPT2Config, GPT2LMHeadModel, MarianConfig, MarianMTModel

from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration, VanillaModel
from modeling_vanilla.cache_name import CACHE
from train.__main__ import main
from train.commands.evaluate_folder import evaluate_folder
from train.data import encoding
from train.data.splits import fingerprint, load_splits
from train.errors import UserError
from train.measure import evaluate, provenance, results
from train.model import loading
from train.settings.reading import load_recipe


def run_folder(tmp_path, translation) -> Path:
    """Lay out a run as the loop leaves it."""
    recipe, _, model, tokenizer = translation
    run = tmp_path / "runs" / "tiny"
    run.mkdir(parents=True)
    recipe.save(run / "recipe.yaml")
    model.save_pretrained(run / "final")
    tokenizer.save_pretrained(run / "final")
    lines = [{"event": "train", "step": 7, "loss": 2.5, "tokens": 900, "seconds": 61.0, "epoch": 1}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_a_run_is_scored_from_its_folder(tmp_path, translation, accelerator, capsys):
    run = run_folder(tmp_path, translation)
    content = evaluate_folder(run, accelerator=accelerator)
    recipe, splits, model, tokenizer = translation
    direct = evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test")
    on_disk = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert on_disk["metrics"] == pytest.approx(dict(direct))
    assert on_disk == json.loads(json.dumps(content))
    assert (on_disk["split"], on_disk["seed"], on_disk["settings"]["beams"]) == ("test", 0, 2)
    assert "length**p" in on_disk["settings"]["length_penalty_form"]
    assert set(on_disk["versions"]) >= {"torch", "transformers", "accelerate", "tokenizers", "sacrebleu", "python"}
    assert on_disk["data_hash"] == fingerprint(splits)
    assert on_disk["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert (on_disk["train"]["step"], on_disk["train"]["seconds"]) == (7, 61.0)
    assert len(on_disk["samples"]) == 13
    printed = capsys.readouterr().out
    assert "exact_match" in printed
    assert f"{on_disk['metrics']['loss']:.4f}" in printed


def test_a_broken_generate_ends_the_command_with_one_line(tmp_path, translation, monkeypatch, capsys):
    run, forward = run_folder(tmp_path, translation), VanillaForConditionalGeneration.forward

    @functools.wraps(forward)
    def lossy(self, *args, **keywords):
        keywords.pop(CACHE, None)
        return forward(self, *args, **keywords)

    monkeypatch.setattr(VanillaForConditionalGeneration, "forward", lossy)
    assert main(["evaluate", str(run)]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(said) == 1
    assert "VanillaForConditionalGeneration with transformers" in said[0]
    assert not (run / "results.json").exists()


def test_a_run_of_a_version_with_fewer_keys_keeps_its_recipes_hash(tmp_path, translation, accelerator):
    """Publishing compares it with the run's own recipe.yaml, into which evaluation writes nothing."""
    run = run_folder(tmp_path, translation)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    del recipe["loop"]["push_to"]
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    content = evaluate_folder(run, accelerator=accelerator)
    assert (
        content["recipe_hash"]
        == provenance.hash_of_file(run / "recipe.yaml")
        != provenance.recipe_hash(translation[0])
    )


def test_another_split_does_not_replace_the_figures_of_the_recipes_own(tmp_path, translation, accelerator):
    run = run_folder(tmp_path, translation)
    first = evaluate_folder(run, accelerator=accelerator)
    evaluate_folder(run, split="validation", accelerator=accelerator)
    both = results.read(run)
    assert (both["split"], both["metrics"]) == ("test", pytest.approx(first["metrics"]))
    assert both["other_splits"]["validation"]["settings"]["examples"] == 5
    evaluate_folder(run, split="validation", accelerator=accelerator)
    evaluate_folder(run, split="test", accelerator=accelerator)
    again = results.read(run)
    assert (again["split"], list(again["other_splits"])) == ("test", ["validation"])
    assert "other_splits" not in again["other_splits"]["validation"]


def test_a_model_folder_needs_a_recipe_and_keeps_the_results_to_itself(tmp_path, translation, accelerator):
    run = run_folder(tmp_path, translation)
    alone = tmp_path / "alone"
    (run / "final").rename(alone)
    with pytest.raises(UserError, match="--recipe"):
        evaluate_folder(alone, accelerator=accelerator)
    evaluate_folder(alone, str(run / "recipe.yaml"), "validation", accelerator=accelerator)
    assert results.read(alone)["split"] == "validation"
    with pytest.raises(UserError, match="final/"):
        evaluate_folder(run, accelerator=accelerator)
    with pytest.raises(UserError, match="no such folder"):
        evaluate_folder(tmp_path / "nowhere", accelerator=accelerator)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither a run"):
        evaluate_folder(tmp_path / "empty", accelerator=accelerator)


def test_recipe_hash_ignores_where_the_run_lies_and_nothing_else(tmp_path):
    one, moved, other = (
        translation_recipe(tmp_path, *words) for words in ([], ["--run_dir=/elsewhere"], ["--optim.lr=0.5"])
    )
    assert provenance.recipe_hash(one) == provenance.recipe_hash(moved) != provenance.recipe_hash(other)


def test_the_hash_of_a_saved_recipe_is_that_of_the_recipe_and_outlives_new_keys(tmp_path):
    """A file says what was known when it was written: what a later version adds is no difference."""
    places = [f"--data.root={tmp_path}", f"--tokenizer.path={tmp_path / 'mine'}"]
    recipe = translation_recipe(tmp_path, *places, "--loop.push_to=somebody/it", "--loop.push_revision=try")
    for one in (recipe, provenance.public(recipe)):
        one.save(tmp_path / "saved.yaml")
        assert provenance.hash_of_file(tmp_path / "saved.yaml") == provenance.recipe_hash(recipe)
    content = yaml.safe_load((tmp_path / "saved.yaml").read_text())
    del content["loop"]["matmul_precision"]
    (tmp_path / "older.yaml").write_text(yaml.safe_dump(content))
    older = provenance.recipe_hash(load_recipe([str(tmp_path / "older.yaml")]))
    assert older == provenance.recipe_hash(recipe), "the default is the value that was left out"
    assert provenance.hash_of_file(tmp_path / "older.yaml") != older


def test_two_processes_give_the_figures_of_one(tmp_path, translation, accelerator, ranks):
    """Thirteen examples in uneven batches over two processes: every one counts once, and the order is kept."""
    run = run_folder(tmp_path, translation)
    alone = evaluate_folder(run, accelerator=accelerator)
    (run / "results.json").unlink()
    code = "import sys; from train.commands.evaluate_folder import evaluate_folder; evaluate_folder(sys.argv[1])"
    script = tmp_path / "score.py"
    script.write_text(
        f"{code}\nfrom accelerate import PartialState\nprint('world%d;' % PartialState().num_processes)\n"
    )
    said = ranks(script, run)
    assert said.count("world2;") == 2
    together = results.read(run)
    assert together["metrics"] == pytest.approx(alone["metrics"], rel=1e-5)
    assert together["samples"] == alone["samples"]
    assert said.count("exact_match") == 1, "only the main process prints"


def test_a_stock_model_is_scored_by_its_own_loss(tmp_path, accelerator, capsys):
    """A GPT-2 of transformers, with the loss that its own forward gives row by row; its folder runs no code."""
    (tmp_path / "text.txt").write_text("\n".join(LINES) + "\n")
    text = f"data: {{root: {tmp_path}, train: text.txt, test: text.txt}}\ntokenizer: {{kind: char}}\n"
    recipe = recipe_of(tmp_path, "causal", text, "--batch.block_size=11", "--eval.metrics=[loss]")
    splits = load_splits(recipe)
    _, built = model_and_tokenizer(VanillaForCausalLM, recipe, splits)
    torch.manual_seed(0)
    ids = {"bos_token_id": built.eos_token_id, "eos_token_id": built.eos_token_id}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(built), n_positions=20, n_embd=24, n_layer=2, n_head=4, **ids))
    model.save_pretrained(tmp_path / "gpt2")
    built.save_pretrained(tmp_path / "gpt2")
    content = evaluate_folder(
        tmp_path / "gpt2", recipe, output=tmp_path / "figures", accelerator=accelerator, splits=splits
    )
    encoded = encoding.encode(splits["test"], built, recipe)
    nll = count = 0
    for index in range(len(encoded)):
        row = torch.tensor(encoded.row(0, index)["input_ids"])[None].long()
        with torch.no_grad():
            nll += float(model.eval()(input_ids=row, labels=row).loss) * (row.shape[1] - 1)
        count += row.shape[1] - 1
    assert content["metrics"]["loss"] == pytest.approx(nll / count, rel=1e-5)
    assert f"written to {tmp_path / 'figures' / 'results.json'}" in capsys.readouterr().out
    assert results.read(tmp_path / "gpt2") is None


def test_a_model_that_cannot_do_the_task_is_refused(tmp_path, translation, accelerator):
    """Another variant; weights that are a pickle, which runs what it says; code that nobody has trusted."""
    recipe, splits, model, tokenizer = translation
    model.model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match="cannot be loaded as a model for causal"):
        loading.load(tmp_path / "base", "causal")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        evaluate_folder(tmp_path / "base", recipe, accelerator=accelerator, splits=splits)
    config["model_type"] = "somebodys"
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="--trust-remote-code"):
        evaluate_folder(tmp_path / "base", recipe, accelerator=accelerator, splits=splits)


def test_a_head_without_weights_is_refused(tmp_path, accelerator):
    VanillaModel(VanillaConfig(variant="encoder", vocab_size=40, **SIZES)).save_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match="has no weights for VanillaForSequenceClassification: classifier.*is missing"):
        loading.load(tmp_path / "base", "classification", trust_remote_code=False)


def test_classes_in_another_order_are_refused():
    class Model:
        class config:
            id2label, num_labels = {0: "good", 1: "bad"}, 2

    with pytest.raises(UserError, match="its classes are good, bad; those of the data are bad, good"):
        loading.check_classes(Model, ["bad", "good"], Path("x"))
    loading.check_classes(Model, ["good", "bad"], Path("x"))


def test_a_stock_translator_is_scored_by_its_own_loss_and_its_own_search(tmp_path, translation, accelerator):
    """A MarianMT of transformers: it starts its output with another token than ours, and has fewer positions."""
    recipe, splits, _, built = translation
    torch.manual_seed(0)
    ids = {
        "pad_token_id": 0,
        "eos_token_id": built.eos_token_id,
        "decoder_start_token_id": 0,
        "forced_eos_token_id": None,
    }
    layers = {
        f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in (("layers", 1), ("attention_heads", 4))
    }
    sizes = {"d_model": 24, "encoder_ffn_dim": 29, "decoder_ffn_dim": 29, "max_position_embeddings": 60} | layers
    model = MarianMTModel(MarianConfig(vocab_size=len(built), **sizes, **ids)).eval()
    model.save_pretrained(tmp_path / "marian")
    built.save_pretrained(tmp_path / "marian")
    content = evaluate_folder(tmp_path / "marian", recipe, accelerator=accelerator, splits=splits)
    nll = count = 0
    for source, target in zip(splits["test"]["source"][:], splits["test"]["target"][:], strict=True):
        labels = built(text_target=target, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            loss = model(input_ids=built(source, return_tensors="pt")["input_ids"], labels=labels).loss
        nll, count = nll + float(loss) * labels.numel(), count + labels.numel()
    assert content["metrics"]["loss"] == pytest.approx(nll / count, rel=1e-5)
    assert content["metrics"].keys() == {"loss", "exact_match", "bleu"}
    assert content["model"]["class"] == "MarianMTModel"
