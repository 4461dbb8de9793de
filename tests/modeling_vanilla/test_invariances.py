"""What must not change the output: the future, padding, the order of a batch, the kernel, checkpointing, packing."""

import pytest
import torch
from transformers.utils import logging

from modeling_vanilla import VanillaForSequenceClassification, VanillaModel

VARIANTS = ("encoder-decoder", "encoder", "decoder")
KERNELS = ("eager", "sdpa")
NORMS = ("post", "pre")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def reach(logits: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
    """Return (T, S): whether the logits (1, T, V) at t depend on the vector (1, S, D) at s, by gradient."""
    rows = []
    for t in range(logits.shape[1]):
        # A plain sum could be 0 by a norm that follows: weigh the entries.
        weights = torch.arange(1.0, logits.shape[2] + 1)
        (gradient,) = torch.autograd.grad((logits[0, t] * weights).sum(), embeds, retain_graph=True)
        rows.append(gradient[0].abs().sum(-1) > 0)
    return torch.stack(rows)


def embed(stack, ids: torch.Tensor) -> torch.Tensor:
    return stack.embed_tokens(ids).detach().requires_grad_()


def pad(ids: torch.Tensor, side: str, width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask with `width` places of nonsense on one side: the mask alone says what is real."""
    filler = torch.full((ids.shape[0], width), 9)
    parts = [(filler, 0), (ids, 1)] if side == "left" else [(ids, 1), (filler, 0)]
    return torch.cat([p for p, _ in parts], 1), torch.cat([torch.full_like(p, real) for p, real in parts], 1)


def unpad(states: torch.Tensor, side: str, width: int = 4) -> torch.Tensor:
    return states[:, width:] if side == "left" else states[:, :-width]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_reach_what_may_be_seen(build, tokens, norm, kernel):
    options = {"norm_order": norm, "attn_implementation": kernel}
    lower = torch.ones(5, 5).tril().bool()

    decoder = build("decoder", **options)
    embeds = embed(decoder.model.decoder, tokens(1, 5))
    assert torch.equal(reach(decoder(inputs_embeds=embeds).logits, embeds), lower)

    encoder = build("encoder", **options)
    embeds = embed(encoder.model.encoder, tokens(1, 5))
    assert reach(encoder(inputs_embeds=embeds).logits, embeds).all()

    both = build("encoder-decoder", **options)
    for length in (5, 6):  # sdpa obeys `is_causal` only where both sides are equally long
        # The encoder's output, since every vector of it knows the whole source.
        memory, target = torch.randn(1, length, 24).requires_grad_(), embed(both.model.decoder, tokens(1, 5))
        logits = both(encoder_outputs=(memory,), decoder_inputs_embeds=target).logits
        assert torch.equal(reach(logits, target), lower)
        assert reach(logits, memory).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("variant", ("encoder-decoder", "decoder"))
def test_other_future_tokens_leave_the_past_alone(build, tokens, variant, kernel):
    model = build(variant, attn_implementation=kernel)
    name = "decoder_input_ids" if variant == "encoder-decoder" else "input_ids"
    inputs = {"input_ids": tokens(2, 6), name: tokens(2, 5, seed=1)}
    before = model(**inputs).logits
    for t in range(1, 5):
        changed = inputs[name].clone()
        changed[:, t:] = (changed[:, t:] - 6) % 24 + 7
        after = model(**inputs | {name: changed}).logits
        torch.testing.assert_close(after[:, :t], before[:, :t], atol=1e-6, rtol=0)
        assert (after[:, t:] - before[:, t:]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("positions", ("sinusoidal", "learned"))
@pytest.mark.parametrize("side", ("left", "right"))
@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(build, tokens, variant, side, positions, kernel):
    model = build(variant, positions=positions, attn_implementation=kernel)
    ids, mask = pad(tokens(2, 5), side)
    if variant != "encoder-decoder":
        expected = model(tokens(2, 5)).logits
        torch.testing.assert_close(unpad(model(ids, attention_mask=mask).logits, side), expected, **CLOSE)
        return
    target = tokens(2, 3, seed=1)
    padded_target, target_mask = pad(target, side)
    expected = model(tokens(2, 5), decoder_input_ids=target).logits
    torch.testing.assert_close(model(ids, attention_mask=mask, decoder_input_ids=target).logits, expected, **CLOSE)
    both_sides = model(
        ids, attention_mask=mask, decoder_input_ids=padded_target, decoder_attention_mask=target_mask
    ).logits
    torch.testing.assert_close(unpad(both_sides, side), expected, **CLOSE)


def test_padding_without_a_mask_is_noticed(build, tokens, caplog, recwarn):
    """An encoder attends to everything that no mask hides: it finds the padding itself, or it warns."""
    logging.warning_once.cache_clear()
    model = build("encoder")
    ids = torch.cat([tokens(2, 5), torch.zeros(2, 3, dtype=torch.long)], 1)
    got, expected = model(ids).logits[:, :5], model(tokens(2, 5)).logits
    assert torch.allclose(got, expected, **CLOSE) or caplog.records or len(recwarn)


def test_padding_of_one_row_leaves_the_gradients_alone(build, tokens):
    model = build("decoder")
    ids, mask = pad(tokens(2, 5), "left")

    def gradients(**inputs):
        model.zero_grad()
        model(**inputs).loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    plain = gradients(input_ids=tokens(2, 5), labels=tokens(2, 5))
    # The first real token has no prediction in the unpadded row, so it must have none here.
    labels = torch.where(mask.cumsum(-1) > 1, ids, -100)
    torch.testing.assert_close(gradients(input_ids=ids, attention_mask=mask, labels=labels), plain, **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_batch_do_not_meet(build, tokens, variant):
    model = build(variant)
    inputs = {"input_ids": tokens(7, 5)}
    inputs["attention_mask"] = (torch.arange(5) < torch.tensor([5, 3, 4, 1, 2, 5, 4])[:, None]).long()
    if variant == "encoder-decoder":
        inputs["decoder_input_ids"] = tokens(7, 3, seed=1)
    logits = model(**inputs).logits
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    torch.testing.assert_close(model(**{k: v[order] for k, v in inputs.items()}).logits, logits[order], **CLOSE)
    for row in range(7):
        single = model(**{k: v[row : row + 1] for k, v in inputs.items()}).logits
        torch.testing.assert_close(single, logits[row : row + 1], **CLOSE)


@pytest.mark.parametrize("scale", (True, False))
@pytest.mark.parametrize("variant", VARIANTS)
def test_inputs_embeds_equal_input_ids(build, batch_of, variant, scale):
    model = build(variant, scale_embeddings=scale, tie_word_embeddings=False)
    inputs = batch_of(variant)
    vectors = {"inputs_embeds": model.get_input_embeddings()(inputs["input_ids"])}
    if variant == "encoder-decoder":
        vectors["decoder_inputs_embeds"] = model.model.decoder.embed_tokens(inputs["decoder_input_ids"])
    assert torch.equal(model(**vectors).logits, model(**inputs).logits)


@pytest.mark.parametrize("use_cache", (None, False))
@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_rows_equal_separate_rows(build, tokens, kernel, use_cache):
    model = build("decoder", attn_implementation=kernel)
    ids = tokens(1, 9)
    parts = ids.split([4, 2, 3], dim=1)
    positions = torch.cat([torch.arange(p.shape[1]) for p in parts])[None]
    packed = model(ids, position_ids=positions, use_cache=use_cache).logits
    torch.testing.assert_close(packed, torch.cat([model(p).logits for p in parts], 1), **CLOSE)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", ("lm", "classifier"))
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(build, batch_of, variant, head, norm):
    options = {
        "norm_order": norm,
        "positions": "learned",
        "embedding_norm": True,
        "type_vocab_size": 2,
        "num_labels": 3,
    }
    options |= {"tie_word_embeddings": False, "attention_dropout": 0.1, "activation_dropout": 0.1}
    model = build(variant, VanillaForSequenceClassification if head == "classifier" else None, **options).train()
    inputs = batch_of(variant)
    inputs["labels"] = inputs.get("decoder_input_ids", inputs["input_ids"])
    if head == "classifier":
        inputs = {"input_ids": inputs["input_ids"], "labels": torch.tensor([2, 0])}
    model(**inputs).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A constant added to all scores of a query is lost in its softmax: this gradient is 0 by theory, and only this.
        if not name.endswith("k_proj.bias"):
            assert parameter.grad.abs().max() > 1e-7, name


@pytest.mark.parametrize("reentrant", (True, False))
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_checkpointing_gives_the_same_gradients(build, batch_of, variant, reentrant):
    model = build(variant).train()
    inputs = batch_of(variant)
    labels = inputs.get("decoder_input_ids", inputs["input_ids"])

    def gradients():
        model.zero_grad()
        torch.manual_seed(3)  # dropout is on: checkpointing must replay it
        out = model(**inputs, labels=labels)
        out.loss.backward()
        return [out.loss.detach()] + [p.grad.clone() for p in model.parameters()]

    plain = gradients()
    calls = []
    layer = next(m for n, m in model.named_modules() if n.endswith("layers.0"))
    hook = layer.self_attn.register_forward_hook(lambda *_: calls.append(1))
    # The name changed within transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": reentrant})
    torch.testing.assert_close(gradients(), plain, **CLOSE)
    hook.remove()
    assert len(calls) == 2  # forward, and once more in backward


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiles_without_graph_breaks(build, batch_of, variant):
    model = build(variant, VanillaModel)
    inputs = batch_of(variant) | {"attention_mask": torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])}
    expected = model(**inputs, use_cache=False).last_hidden_state
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs, use_cache=False).last_hidden_state, expected, **CLOSE)
