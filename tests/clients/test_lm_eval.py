# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""EleutherAI's evaluation harness: its log-likelihoods and texts, of tasks on local files, against sums by hand."""

import copy
import importlib
import json
import math

import pytest
import torch
import yaml
from torch.nn import functional as F

lm_eval = pytest.importorskip("lm_eval")
pytest.importorskip("datasets")

CHOICES = [
    {"prompt": "the dog", "choices": ["runs", "sings in the evening", "is"], "answer": 0},
    {"prompt": "a cat sleeps in the", "choices": ["sun", "paper and pears", "river at nine"], "answer": 1},
    {"prompt": "Anna", "choices": ["reads", "walks his dog along the river"], "answer": 0},
    {"prompt": "the river is cold and the bridge", "choices": ["is old", "and", "plays"], "answer": 2},
    {"prompt": "snow falls", "choices": ["on the hills", "at seven"], "answer": 0},
]
TASKS = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "likelihood": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": " {{choices[0]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "perplexity": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{prompt}} {{choices[1]}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "texts": {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 7, "no_repeat_ngram_size": 1},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the function that evaluates a model on tasks, and gives the results and the samples in their order."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHOICES), encoding="utf-8")
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.jsonl")}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
    }
    (tmp_path / "tasks").mkdir()
    for name, task in TASKS.items():
        content = yaml.safe_dump({"task": f"vanilla_{name}"} | common | task)
        (tmp_path / "tasks" / f"{name}.yaml").write_text(content, encoding="utf-8")
    manager = importlib.import_module("lm_eval.tasks").TaskManager(
        include_path=str(tmp_path / "tasks"), include_defaults=False
    )

    def evaluate(model, tokenizer, names=tuple(TASKS), batch_size: int = 1, backend: str = "default"):
        from lm_eval.models.huggingface import HFLM

        wrapped = HFLM(
            pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size, backend=backend, device="cpu"
        )
        found = lm_eval.simple_evaluate(
            wrapped, tasks=[f"vanilla_{name}" for name in names], task_manager=manager, bootstrap_iters=0
        )
        samples = {name: sorted(found["samples"][f"vanilla_{name}"], key=lambda s: s["doc_id"]) for name in names}
        return {name: found["results"][f"vanilla_{name}"] for name in names}, samples

    return evaluate


@pytest.fixture
def decoder(tiny, causal_tokenizer):
    """Return a decoder whose guesses are far from even."""
    return tiny("decoder", len(causal_tokenizer), jitter=0.2, max_position_embeddings=80)


@torch.no_grad()
def score(model, ids: list[int], start: int) -> tuple[float, bool]:
    """Return the log-likelihood of ids[start:] after those before, of one row alone, and whether all were the best."""
    log_p = F.log_softmax(model(torch.tensor([ids[:-1]])).logits[0].float(), -1)[start - 1 :]
    target = torch.tensor(ids[start:])
    return log_p.gather(-1, target[:, None]).sum().item(), bool(log_p.argmax(-1).eq(target).all())


def expected_choices(tokenizer, model) -> list[list[float]]:
    rows = []
    for row in CHOICES:
        context = tokenizer(row["prompt"])["input_ids"]
        whole = [tokenizer(f"{row['prompt']} {choice}")["input_ids"] for choice in row["choices"]]
        assert all(ids[: len(context)] == context for ids in whole), "no token across the border"
        rows.append([score(model, ids, len(context))[0] for ids in whole])
    return rows


@pytest.mark.parametrize("batch_size", [1, 4])
def test_choices_and_likelihoods_are_sums_of_log_probabilities(run, decoder, causal_tokenizer, batch_size):
    """A batch is padded on the right, without a mask; each row must be scored as if it were alone."""
    results, samples = run(decoder, causal_tokenizer, ("choices", "likelihood"), batch_size)
    expected = expected_choices(causal_tokenizer, decoder)
    for sample, row in zip(samples["choices"], expected, strict=True):
        assert [value for value, _ in sample["filtered_resps"]] == pytest.approx(row, abs=1e-3, rel=1e-5)
    best = [max(range(len(row)), key=row.__getitem__) for row in expected]
    right = [index == doc["answer"] for index, doc in zip(best, CHOICES, strict=True)]
    assert results["choices"]["acc,none"] == pytest.approx(sum(right) / len(right))
    first = [row[0] for row in expected]
    assert [sample["filtered_resps"][0][0] for sample in samples["likelihood"]] == pytest.approx(first, rel=1e-5)
    assert results["likelihood"]["perplexity,none"] == pytest.approx(math.exp(-sum(first) / len(first)), rel=1e-4)
    assert max(first) - min(first) > 1


@pytest.mark.parametrize("batch_size", [1, 4])
def test_perplexity_counts_every_token_once(run, decoder, causal_tokenizer, batch_size):
    """The first token of a text is guessed after the token that ends texts; the harness calls it the prefix."""
    texts = [f"{row['prompt']} {row['choices'][1]}" for row in CHOICES]
    tokenizer = copy.deepcopy(causal_tokenizer)
    tokenizer.bos_token = tokenizer.eos_token  # as `train` writes it: training texts begin behind an end
    results, samples = run(decoder, tokenizer, ("perplexity",), batch_size)
    prefix = causal_tokenizer.eos_token_id
    expected = [score(decoder, [prefix, *causal_tokenizer(text)["input_ids"]], 1)[0] for text in texts]
    assert [sample["filtered_resps"][0] for sample in samples["perplexity"]] == pytest.approx(expected, rel=1e-5)
    words = sum(len(text.split()) for text in texts)
    assert results["perplexity"]["word_perplexity,none"] == pytest.approx(math.exp(-sum(expected) / words), rel=1e-4)


def test_long_texts_are_read_in_windows(run, tiny, causal_tokenizer):
    """The harness takes the length of a window from the config; a longer one the model would refuse."""
    short = tiny("decoder", len(causal_tokenizer), jitter=0.2, max_position_embeddings=6)
    _, samples = run(short, causal_tokenizer, ("perplexity",), 4)
    ids = causal_tokenizer(f"{CHOICES[1]['prompt']} {CHOICES[1]['choices'][1]}")["input_ids"]
    ids = [causal_tokenizer.bos_token_id, *ids]
    assert len(ids) > 7
    total = score(short, ids[:7], 1)[0]
    for start in range(7, len(ids), 6):  # the windows that follow see as much before them as fits
        stop = min(start + 6, len(ids))
        piece = ids[max(stop - 7, 0) : stop]
        total += score(short, piece, len(piece) - (stop - start))[0]
    assert samples["perplexity"][1]["filtered_resps"][0] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_texts_are_what_generate_writes(run, decoder, causal_tokenizer, batch_size):
    """Prompts of uneven lengths, padded on the left in a batch."""
    _, samples = run(decoder, causal_tokenizer, ("texts",), batch_size)
    found = [sample["filtered_resps"][0] for sample in samples["texts"]]
    expected = []
    for row in CHOICES:
        inputs = causal_tokenizer(row["prompt"], return_tensors="pt")
        ids = decoder.generate(**inputs, max_new_tokens=7, do_sample=False, no_repeat_ngram_size=1)[
            0, inputs["input_ids"].shape[1] :
        ]
        expected.append(causal_tokenizer.decode(ids, skip_special_tokens=True))
    assert found == expected
    assert len(set(found)) > 2


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_translator_is_scored_on_its_targets(run, tiny, seq2seq_tokenizer, batch_size):
    """Sources are padded with a mask, targets with labels that are cut off again."""
    model = tiny("encoder-decoder", len(seq2seq_tokenizer), jitter=0.2)
    names = ("choices", "texts")
    _, samples = run(model, seq2seq_tokenizer, names, batch_size, backend="seq2seq")
    texts = []
    for row, sample in zip(CHOICES, samples["choices"], strict=True):
        source = seq2seq_tokenizer(row["prompt"], return_tensors="pt")
        for choice, (value, _) in zip(row["choices"], sample["filtered_resps"], strict=True):
            target = seq2seq_tokenizer(f" {choice}", add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[model.config.decoder_start_token_id, *target]])
            with torch.no_grad():
                logits = model(**source, decoder_input_ids=ids[:, :-1]).logits[0]
            log_p = F.log_softmax(logits, -1).gather(-1, ids[0, 1:, None])
            assert value == pytest.approx(log_p.sum().item(), rel=1e-5)
        ids = model.generate(**source, max_new_tokens=7, do_sample=False, no_repeat_ngram_size=1)[0]
        texts.append(seq2seq_tokenizer.decode(ids, skip_special_tokens=True))
    # The harness adds the source's length to what may be written, as if the source stood in the output.
    for sample, text in zip(samples["texts"], texts, strict=True):
        assert sample["filtered_resps"][0].startswith(text)
    assert len(set(texts)) > 2
