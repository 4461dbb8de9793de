"""Evaluation against sums worked out row by row, and against what must not change: order, batches, random state."""

import copy
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import sacrebleu
import torch
from evaluation import LINES, model_and_tokenizer, recipe_of, translation_recipe

from modeling_vanilla import (
    VanillaForCausalLM,
    VanillaForMaskedLM,
    VanillaForSequenceClassification,
)
from modeling_vanilla.cache_name import CACHE
from train.data import encoding, examples
from train.data.collate import Collator
from train.data.splits import load_splits
from train.errors import GenerationError, UserError
from train.measure import evaluate, scoring


def rowwise(model, splits, tokenizer, recipe, split, epoch=0):
    """Sum -log p of every label, one row at a time and from the logits: no batch, no padding, no loss of the model."""
    encoded = encoding.encode(splits[split], tokenizer, recipe)
    collator = Collator(recipe.task, tokenizer, recipe)
    nll, count, hits = 0.0, 0, 0
    model.eval()
    for index in range(len(encoded)):
        inputs = collator([encoded.row(epoch, index)], epoch).inputs
        with torch.no_grad():
            logits = model(**inputs).logits.double()
        labels = inputs["labels"]
        if recipe.task == "causal":
            logits, labels = logits[:, :-1], labels[:, 1:]
        if recipe.task == "classification":
            logits, labels = logits[:, None], labels[:, None]
        kept = labels != -100
        nll -= torch.log_softmax(logits, -1)[kept].gather(-1, labels[kept][:, None]).sum().item()
        count, hits = count + int(kept.sum()), hits + int((logits.argmax(-1) == labels)[kept].sum())
    return nll, count, hits


def test_loss_is_the_mean_over_all_labels_of_the_split(translation, accelerator):
    recipe, splits, model, tokenizer = translation
    measured = evaluate.evaluate(
        model,
        tokenizer,
        splits,
        recipe,
        accelerator,
        "test",
        ["loss", "perplexity", "word_perplexity", "bits_per_byte"],
    )
    nll, count, _ = rowwise(model, splits, tokenizer, recipe, "test")
    targets = splits["test"]["target"][:]
    words = sum(len(target.split()) + 1 for target in targets)  # a row ends in one end sign
    size = sum(len(target.encode()) + 1 for target in targets)
    assert count == sum(len(target) + 1 for target in targets)  # characters and the end token
    assert measured["loss"] == pytest.approx(nll / count, rel=1e-5)
    assert measured["perplexity"] == pytest.approx(math.exp(nll / count), rel=1e-4)
    assert measured["word_perplexity"] == pytest.approx(math.exp(nll / words), rel=1e-3)
    assert measured["bits_per_byte"] == pytest.approx(nll / math.log(2) / size, rel=1e-5)
    assert all(type(value) is float for value in measured.values())


def test_loss_does_not_depend_on_the_batches(translation, accelerator, tmp_path):
    recipe, splits, model, tokenizer = translation
    losses = []
    for tokens in (30, 1000):
        recipe = translation_recipe(tmp_path, f"--eval.batch_tokens={tokens}")
        losses.append(evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["loss"])["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_translations_are_those_of_generate_in_the_order_of_the_split(translation, accelerator):
    recipe, splits, model, tokenizer = translation
    measured = evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test")
    sources, references = splits["test"]["source"][:], splits["test"]["target"][:]
    model.eval()
    alone = []
    for source in sources:
        inputs = tokenizer(source, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        output = model.generate(
            **inputs,
            num_beams=2,
            length_penalty=0.6,
            do_sample=False,
            max_new_tokens=inputs["input_ids"].shape[1] + 50,
        )
        alone.append(tokenizer.decode(output[0], skip_special_tokens=True))
    kept = measured.details["predictions"]
    assert len(kept) == 13
    # The output limit follows the longest source of a batch, so an endless text may end a little later.
    shorter = [min(len(a), len(b)) for a, b in zip(kept, alone, strict=True)]
    assert [text[:n] for text, n in zip(kept, shorter, strict=True)] == [
        text[:n] for text, n in zip(alone, shorter, strict=True)
    ]
    assert len(set(kept)) > 1, "an untrained model that always writes the same could hide a wrong order"
    assert [sample["source"] for sample in measured.details["samples"]] == sources
    assert [sample["reference"] for sample in measured.details["samples"]] == references
    assert measured["bleu"] == pytest.approx(sacrebleu.corpus_bleu(kept, [references]).score)
    assert "tok:13a" in measured.details["signatures"]["bleu"]
    assert measured["exact_match"] == 0.0


def test_output_is_at_most_fifty_tokens_longer_than_the_input(translation, accelerator):
    recipe, splits, model, tokenizer = translation
    limits = []
    generate = model.generate

    def spy(*args, **kwargs):
        if "generation_config" in kwargs:  # not the check before the first text
            limits.append((kwargs["input_ids"].shape[1], kwargs["generation_config"].max_new_tokens))
        return generate(*args, **kwargs)

    model.generate = spy
    evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["exact_match"])
    # 96 positions: one is the start token
    assert {limit - min(length + 50, 95) for length, limit in limits} == {0}
    assert len(limits) > 3


def test_a_broken_generate_gives_no_figure(translation, accelerator):
    """As with a transformers that hands the cache over under a name which the model swallows."""
    recipe, splits, model, tokenizer = translation
    lose = lambda module, args, keywords: (args, {n: v for n, v in keywords.items() if n != CACHE})
    hook = model.register_forward_pre_hook(lose, with_kwargs=True)
    assert evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["loss"])["loss"] > 0
    with pytest.raises(GenerationError, match=r"transformers .*generate\(\) loses what it has read.* allowed"):
        evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["loss", "exact_match"])
    hook.remove()
    assert evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["exact_match"]) == {
        "exact_match": 0
    }


def test_generate_is_checked_once_and_where_it_is_used(translation, accelerator, monkeypatch):
    recipe, splits, model, tokenizer = translation
    checks, check = [], scoring.generate_forward
    monkeypatch.setattr(scoring, "generate_forward", lambda s, limit: checks.append(limit) or check(s, limit))
    for metrics, expected in ((["loss"], 0), (["exact_match"], 1), (["bleu"], 1)):
        evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", metrics)
        assert len(checks) == expected
    scoring.check_generate(model.to(torch.bfloat16))
    scoring.check_generate(copy.deepcopy(model).eval())
    assert checks == [scoring.EXACT, scoring.ROUNDED]


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_no_trace(translation, accelerator, training):
    """Training goes on as if nothing had been measured: same modes, same random numbers."""
    recipe, splits, model, tokenizer = translation
    model.train(training)
    model.model.encoder.train(not training)  # a part may be in another mode than the whole
    modes = [part.training for part in model.modules()]
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(()).item()
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["loss", "exact_match"])
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == expected
    assert [part.training for part in model.modules()] == modes
    model(input_ids=torch.tensor([[7, 3]]), labels=torch.tensor([[8, 3]])).loss.backward()  # gradients are on again


def test_modes_come_back_when_a_model_fails(translation, accelerator):
    recipe, splits, model, tokenizer = translation
    model.train()
    model.generate = lambda *args, **inputs: 1 / 0
    with pytest.raises(GenerationError, match="stopped with ZeroDivisionError"):
        evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["exact_match"])
    assert model.training
    assert torch.is_grad_enabled()


def test_limit_takes_the_first_rows(translation, accelerator):
    recipe, splits, model, tokenizer = translation
    measured = evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["loss"], limit=3)
    first = {"test": splits["test"].select(range(3))}
    nll, count, _ = rowwise(model, first, tokenizer, recipe, "test")
    assert measured["loss"] == pytest.approx(nll / count, rel=1e-5)
    assert measured.details["examples"] == 3


def test_causal_loss_counts_every_token_but_the_first(tmp_path, accelerator):
    (tmp_path / "text.txt").write_text("\n".join(LINES) + "\n")
    text = f"data: {{root: {tmp_path}, train: text.txt, test: text.txt}}\ntokenizer: {{kind: char}}\n"
    words = ["--batch.block_size=11", "--eval.batch_tokens=40"]
    for unit, signs in (("line", sum(map(len, LINES)) + 5), ("file", sum(map(len, LINES)) + 5)):
        recipe = recipe_of(tmp_path, "causal", text, *words, f"--data.text_unit={unit}")
        splits = load_splits(recipe)
        model, tokenizer = model_and_tokenizer(VanillaForCausalLM, recipe, splits)
        names = ["loss", "bits_per_byte", "word_perplexity"]
        measured = evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", names)
        nll, count, _ = rowwise(model, splits, tokenizer, recipe, "test")
        assert count == signs - 1
        assert measured["loss"] == pytest.approx(nll / count, rel=1e-5)
        # ASCII: as many bytes as signs, the line ends included, whether the text holds them or a row ends with one
        assert measured["bits_per_byte"] == pytest.approx(nll / math.log(2) / signs, rel=1e-5)


def test_masked_figures_cover_the_hidden_tokens_and_repeat(tmp_path, accelerator):
    (tmp_path / "text.txt").write_text("\n".join(LINES * 3) + "\n")
    text = f"data: {{root: {tmp_path}, train: text.txt, test: text.txt}}\ntokenizer: {{kind: char}}\n"
    recipe = recipe_of(tmp_path, "masked", text, "--batch.block_size=13", "--eval.batch_tokens=50")
    splits = load_splits(recipe)
    model, tokenizer = model_and_tokenizer(VanillaForMaskedLM, recipe, splits)
    runs = [
        evaluate.evaluate(
            model,
            tokenizer,
            splits,
            recipe,
            accelerator,
            "test",
            ["loss", "masked_accuracy", "perplexity"],
            epoch=epoch,
        )
        for epoch in (0, 0, 1)
    ]
    nll, count, hits = rowwise(model, splits, tokenizer, recipe, "test")
    assert 0 < count < 100
    assert runs[0]["loss"] == pytest.approx(nll / count, rel=1e-5)
    assert runs[0]["masked_accuracy"] == pytest.approx(hits / count)
    assert runs[0] == runs[1]
    assert runs[0]["loss"] != runs[2]["loss"]
    with pytest.raises(UserError, match="bits_per_byte"):
        evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["bits_per_byte"])


def test_classes_are_compared_in_the_order_of_the_split(tmp_path, accelerator):
    rows = [(line, label) for line, label in zip(LINES * 3, "abcabcabcabcabb", strict=True)]
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "".join(f"{line}\t{label}\n" for line, label in rows))
    text = f"data: {{root: {tmp_path}, train: rows.tsv, test: rows.tsv}}\ntokenizer: {{kind: char}}\n"
    recipe = recipe_of(tmp_path, "classification", text, "--eval.batch_tokens=50")
    splits = load_splits(recipe)
    model, tokenizer = model_and_tokenizer(VanillaForSequenceClassification, recipe, splits, num_labels=3)
    with torch.no_grad():  # untrained logits are all but equal
        model.classifier.out_proj.weight.mul_(50)
    measured = evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["loss", "accuracy", "f1"])
    nll, count, hits = rowwise(model, splits, tokenizer, recipe, "test")
    assert count == 15
    assert measured["loss"] == pytest.approx(nll / 15, rel=1e-4)
    assert measured["accuracy"] == pytest.approx(hits / 15)
    assert [sample["label"] for sample in measured.details["samples"]] == [label for _, label in rows]
    guesses = [sample["prediction"] for sample in measured.details["samples"]]
    assert (
        sum(sample["label"] == guess for sample, guess in zip(measured.details["samples"], guesses, strict=True))
        == hits
    )


def test_wrong_requests_name_what_is_possible(translation, accelerator):
    recipe, splits, model, tokenizer = translation
    with pytest.raises(UserError, match="accuracy.*translation.*bleu"):
        evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "test", ["accuracy"])
    del splits["validation"]
    with pytest.raises(UserError, match="validation.*train, test"):
        evaluate.evaluate(model, tokenizer, splits, recipe, accelerator, "validation", ["loss"])


def test_a_missing_example_is_no_figure():
    with pytest.raises(RuntimeError, match="12 examples of 13"):
        scoring.check_count(12.0, 13)


class Ranks:
    """What `_shares` asks an accelerator for."""

    def __init__(self, rank: int, world: int):
        self.process_index, self.num_processes, self.is_main_process = rank, world, rank == 0


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_cover_every_batch_once_in_equal_steps(world):
    batches = [[0, 1], [2], [3], [4]]
    shares = [list(scoring._shares(batches, Ranks(rank, world), "")) for rank in range(world)]
    assert {len(share) for share in shares} == {-(-4 // world)}
    counted = [ids for share in shares for ids, counts in share if counts]
    assert sorted(counted) == batches


def test_an_evaluation_names_the_tokens_that_the_model_never_learnt(translation, accelerator, caplog):
    recipe, splits, model, tokenizer = translation
    rows = splits["test"].add_column("strange", ["\u2603" * 2, *[""] * (len(splits["test"]) - 1)])
    rows = rows.map(lambda row: {"source": row["source"] + row["strange"]}).remove_columns("strange")
    evaluate.evaluate(model, tokenizer, {"test": rows}, recipe, accelerator, "test", ["loss"])
    unknown = sum(tokenizer(text)["input_ids"].count(tokenizer.unk_token_id) for text in rows["source"])
    assert unknown >= 2
    assert f"split 'test': {unknown} of the tokens read are unknown to the model" in caplog.messages


def test_unknown_tokens_are_counted(caplog):
    """Two of five, and none of a tokenizer that knows every text."""
    encoded = examples.Examples({"input_ids": examples.Ragged([[5, 1, 3], [1, 3]])})
    evaluate._warn_of_unknown(encoded, SimpleNamespace(unk_token_id=None), "test")
    evaluate._warn_of_unknown(encoded, SimpleNamespace(unk_token_id=9), "test")
    assert caplog.messages == []
    evaluate._warn_of_unknown(encoded, SimpleNamespace(unk_token_id=1), "test")
    assert caplog.messages == ["split 'test': 2 of the tokens read are unknown to the model"]
