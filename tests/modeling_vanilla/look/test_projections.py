# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Where W^O lies: heads joined times W^O is what the attention returns, in every family of the table."""

import pytest
import torch
from small_models import BUILD, ids

from modeling_vanilla.look.capture import capture
from modeling_vanilla.look.projections import output_projection


@pytest.mark.parametrize("name", BUILD)
def test_contexts_times_the_projection_are_what_the_attention_returns(name, model_of):
    """The sum of head_i W_i^O (Vaswani et al. 2017, sec. 3.2.2), and its bias where there is one."""
    model = model_of(name)
    inputs = {"input_ids": ids(1, 6)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids(1, 4, seed=1)

    def contexts(attention):
        return torch.cat([weights for weights, _ in attention.blocks()], 2)[0] @ attention.value[0]  # (H, T, K)

    returned = {}
    with torch.no_grad(), capture(model, reduce=contexts) as seen:
        model(**inputs)
    for layer in seen.values():
        projection = output_projection(model, layer.name, len(layer.heads))
        assert projection.shape[0] == len(layer.heads) == 4
        module = _projecting(model, layer.name)
        hook = module.register_forward_hook(lambda _, __, output, name=layer.name: returned.update({name: output}))
        with torch.no_grad():
            model(**inputs)
        hook.remove()
        expected = torch.einsum("htk,hkd->td", layer.calls[0], projection)
        bias = getattr(module, "bias", None)
        expected = expected if bias is None else expected + bias
        torch.testing.assert_close(returned[layer.name][0], expected, atol=1e-4, rtol=1e-4)


def _projecting(model, name):
    """Return the module behind an attention whose name says that it projects the output."""
    parent, attention = model.get_submodule(name.rpartition(".")[0]), model.get_submodule(name)
    names = ("out_proj", "o_proj", "c_proj", "o")
    found = [getattr(attention, one) for one in names if hasattr(attention, one)]
    return found[0] if found else parent.output.dense


def test_what_is_not_known_is_none(model_of):
    model = model_of("BART")
    name = "model.encoder.layers.0.self_attn"
    assert output_projection(model, name, 4) is not None
    assert output_projection(model, name, 5) is None, "no part for each head"
    model.config.model_type = "unheard of"
    assert output_projection(model, name, 4) is None
