# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What vLLM's Transformers backend expects of a decoder, read off the source: it rewires attention by these patterns."""

import ast
import inspect

import pytest
import torch

from modeling_vanilla import VanillaForCausalLM, VanillaPreTrainedModel, attention, layers, modeling_vanilla, stacks
from modeling_vanilla.attention import MultiHeadAttention


def function(owner, name: str) -> ast.FunctionDef:
    """Return the syntax tree of one method."""
    for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(owner)))):
        if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
            return next(n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == name)
    raise LookupError(owner, name)


def calls_of(tree: ast.AST, name: str) -> list[ast.Call]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


def test_attention_goes_through_one_local_bound_to_the_interface():
    forward = function(MultiHeadAttention, "forward")
    bound = [
        n
        for n in ast.walk(forward)
        if isinstance(n, ast.Assign) and ast.unparse(n.value).startswith("ALL_ATTENTION_FUNCTIONS.get_interface(")
    ]
    assert len(bound) == 1
    (target,) = bound[0].targets
    (call,) = calls_of(forward, target.id)
    assert ast.unparse(call.args[0]) == "self"
    keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
    assert keywords["scaling"].startswith("self.")
    assert keywords[None] == "kwargs"
    # No other module of the package attends, and none computes a softmax of its own in a forward.
    for module in (layers, stacks, modeling_vanilla):
        assert "get_interface" not in inspect.getsource(module)
    assert inspect.getsource(attention).count("get_interface(") == 1


@pytest.mark.parametrize(
    ("owner", "callee"),
    [
        (VanillaForCausalLM, "self.model"),
        (modeling_vanilla.VanillaModel, "self.decoder"),
        (stacks.VanillaDecoder, "layer"),
        (layers.DecoderLayer, "self.self_attn"),
    ],
)
def test_keyword_arguments_flow_down(owner, callee):
    forward = function(owner, "forward")
    assert forward.args.kwarg.arg == "kwargs"
    found = calls_of(forward, callee)
    assert found
    for call in found:
        assert "kwargs" in [ast.unparse(k.value) for k in call.keywords if k.arg is None]


def test_the_head_reads_the_last_hidden_state():
    """Nothing but the choice of positions stands between: vLLM applies lm_head to the base model's output itself."""
    forward = function(VanillaForCausalLM, "forward")
    (call,) = calls_of(forward, "self.predict")
    assert ast.unparse(call.args[0]) == "chosen"
    (chosen,) = [n for n in ast.walk(forward) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "chosen"]
    assert ast.unparse(chosen.value) == "keep(out.last_hidden_state, logits_to_keep)"
    (call,) = calls_of(function(modeling_vanilla._Head, "predict"), "self.lm_head")
    assert ast.unparse(call.args[0]) == "hidden_states"


def test_modules_of_a_decoder(build):
    model = build("decoder", num_layers=3)
    assert VanillaPreTrainedModel._supports_attention_backend
    found = [m for m in model.modules() if hasattr(m, "layer_idx")]
    assert [type(m.layer_idx) for m in found] == [int] * 3
    assert sorted(m.layer_idx for m in found) == [0, 1, 2]
    assert all(m.config is not None for m in found)
    # One module that is not causal, and the whole model would be served as an encoder.
    assert not [m for m in model.modules() if getattr(m, "is_causal", True) is False]
    assert not [m for m in build("encoder").modules() if getattr(m, "is_causal", False)]


def test_positions_come_from_the_caller_alone(build, tokens):
    """vLLM gives one row of all requests' tokens with their positions and no mask, and its own kernel separates them."""
    model = build("decoder")
    ids, places = tokens(1, 6), torch.tensor([[3, 4, 5, 0, 1, 2]])
    by_position = model.model.decoder.embeddings(model.get_input_embeddings()(ids), places)
    seen = []
    model.model.decoder.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(ids, position_ids=places, use_cache=False)
    assert torch.equal(seen[0], by_position)
