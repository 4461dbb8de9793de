# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""nnsight: what it reads inside a model is what the model's own outputs show, and what it writes there counts.

Dimension letters: B batch, T target length, S source length, V vocabulary.
"""

import pytest
import torch

from modeling_vanilla.convert.graphs import write_graphs

nnsight = pytest.importorskip("nnsight")

V = 97


@pytest.fixture
def batch():
    """Return a function that makes the inputs of a variant: 2 rows, source of 5 tokens, target of 3."""

    def make(variant: str) -> dict[str, torch.Tensor]:
        inputs = {"input_ids": torch.randint(7, V, (2, 5))}
        if variant == "encoder-decoder":
            inputs["decoder_input_ids"] = torch.randint(7, V, (2, 3))
        return inputs

    return make


@pytest.mark.parametrize("variant", ["encoder", "decoder", "encoder-decoder"])
def test_it_reads_the_hidden_states_that_the_model_returns(variant, tiny, batch):
    model, inputs = tiny(variant, V, jitter=0.1), batch(variant)
    traced = nnsight.NNsight(model)
    half = "encoder" if variant == "encoder" else "decoder"
    with torch.no_grad(), traced.trace(**inputs):
        first = getattr(traced.model, half).layers[0].output.save()
        logits = traced.output.logits.save()
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    states = output.decoder_hidden_states if variant == "encoder-decoder" else output.hidden_states
    assert torch.equal(first, states[1])
    assert torch.equal(logits, output.logits)


def test_it_reads_the_encoder_and_the_decoder_in_one_run(tiny, batch):
    model, inputs = tiny("encoder-decoder", V, jitter=0.1), batch("encoder-decoder")
    traced = nnsight.NNsight(model)
    with torch.no_grad(), traced.trace(**inputs):
        encoded = traced.model.encoder.output.last_hidden_state.save()
        decoded = traced.model.decoder.layers[1].output.save()
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    assert torch.equal(encoded, output.encoder_last_hidden_state)  # (B, S, D)
    assert torch.equal(decoded, output.decoder_hidden_states[2])  # (B, T, D)


def test_a_layer_that_it_overwrites_is_the_layer_that_the_rest_reads(tiny, batch):
    """Patching: with the first layer's output of one text in its place, another text ends like the one."""
    model = tiny("decoder", V, jitter=0.1)
    traced = nnsight.NNsight(model)
    one, other = batch("decoder")["input_ids"], batch("decoder")["input_ids"]
    with torch.no_grad():
        output = model(one, output_hidden_states=True)
        donor = output.hidden_states[1]
        assert not torch.allclose(model(other).logits, output.logits, atol=0.1)
        with traced.trace(other):
            traced.model.decoder.layers[0].output = donor
            logits = traced.output.logits.save()
    assert torch.equal(logits, output.logits)


def test_the_gradient_that_it_shows_is_that_of_autograd(tiny, batch):
    model, inputs = tiny("decoder", V, jitter=0.1), batch("decoder")
    traced = nnsight.NNsight(model)
    with traced.trace(**inputs):
        hidden = traced.model.decoder.layers[0].output
        hidden.retain_grad()
        score = traced.output.logits[:, -1].logsumexp(-1).sum()
        with score.backward():
            shown = hidden.grad.save()
    output = model(**inputs, output_hidden_states=True)
    (gradient,) = torch.autograd.grad(output.logits[:, -1].logsumexp(-1).sum(), output.hidden_states[1])
    assert gradient.abs().sum() > 0
    torch.testing.assert_close(shown, gradient)


def test_a_graph_is_written_beside_it(tiny, tmp_path):
    """nnsight gives every object of the process a `save`, also the modules that torch's exporter loads late."""
    pytest.importorskip("onnxscript")
    [file] = write_graphs(tiny("encoder", V), tmp_path)
    assert file.stat().st_size > 0
