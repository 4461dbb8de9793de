# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""inseq on a translator and a language model: its gradients and attention are what torch and the model give.

Dimension letters: S source (or prompt) tokens, T target tokens, D d_model, L layers, H heads.
"""

import pytest
import torch

inseq = pytest.importorskip("inseq")

CLOSE = {"atol": 1e-6, "rtol": 1e-3}


@pytest.fixture
def translator(tiny, seq2seq_tokenizer):
    """Return a translator that shows its weights; inseq reads them from its outputs."""
    return tiny("encoder-decoder", len(seq2seq_tokenizer), jitter=0.05, attn_implementation="eager")


@pytest.fixture
def attribute(translator, seq2seq_tokenizer):
    """Return a function that gives inseq's attributions for one pair, and the pair's ids, with start and end."""

    def run(method: str, **options):
        wrapped = inseq.load_model(translator, method, tokenizer=seq2seq_tokenizer)
        output = wrapped.attribute("a bird sings", "ein Vogel", show_progress=False, **options)
        sequence = output.sequence_attributions[0]
        source, target = (torch.tensor([[token.id for token in side]]) for side in (sequence.source, sequence.target))
        return sequence, source, target

    return run


def probabilities(model, target: torch.Tensor, **inputs) -> torch.Tensor:
    """Return p of each target token after the first, (T,)."""
    rows = model(**inputs).logits[0, :-1].softmax(-1)
    return rows.gather(-1, target[0, 1:, None])[:, 0]


def test_gradient_times_embedding_is_that_of_autograd(translator, attribute):
    sequence, source, target = attribute("input_x_gradient", attribute_target=True)
    tables = [half.get_input_embeddings() for half in (translator.get_encoder(), translator.get_decoder())]
    read, written = (table(ids).detach().requires_grad_() for table, ids in zip(tables, (source, target), strict=True))
    scores = probabilities(translator, target, inputs_embeds=read, decoder_inputs_embeds=written)
    assert sequence.source_attributions.shape == (source.shape[1], len(scores), read.shape[-1])  # (S, T, D)
    for column, score in enumerate(scores):
        gradients = torch.autograd.grad(score, [read, written], retain_graph=True)
        by_source, by_target = (
            (gradient * embeddings)[0] for gradient, embeddings in zip(gradients, (read, written), strict=True)
        )
        assert by_source.abs().sum() > 0
        torch.testing.assert_close(sequence.source_attributions[:, column], by_source, **CLOSE)
        seen = slice(0, column + 1)  # the rest is in the future: nan
        torch.testing.assert_close(sequence.target_attributions[seen, column], by_target[seen], **CLOSE)


def test_attention_is_the_models_cross_attention(translator, attribute):
    sequence, source, target = attribute("attention")
    with torch.no_grad():
        output = translator(input_ids=source, decoder_input_ids=target, output_attentions=True)
    weights = torch.stack(output.cross_attentions)[:, 0, :, :-1]  # (L, H, T, S)
    torch.testing.assert_close(sequence.source_attributions, weights.permute(3, 2, 0, 1), **CLOSE)


def test_a_language_model_is_attributed_to_its_prompt(tiny, causal_tokenizer):
    model = tiny("decoder", len(causal_tokenizer), jitter=0.05, attn_implementation="eager")
    wrapped = inseq.load_model(model, "input_x_gradient", tokenizer=causal_tokenizer)
    sequence = wrapped.attribute("the dog", "the dog runs in", show_progress=False).sequence_attributions[0]
    ids = torch.tensor([[token.id for token in sequence.target]])
    assert causal_tokenizer.decode(ids[0]) == "the dog runs in"
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    scores = probabilities(model, ids, inputs_embeds=embeddings)[sequence.attr_pos_start - 1 :]
    assert sequence.target_attributions.shape[1] == len(scores) > 2
    for column, score in enumerate(scores):
        (gradient,) = torch.autograd.grad(score, embeddings, retain_graph=True)
        seen = slice(0, sequence.attr_pos_start + column)
        expected = (gradient * embeddings)[0, seen]
        torch.testing.assert_close(sequence.target_attributions[seen, column], expected, **CLOSE)
