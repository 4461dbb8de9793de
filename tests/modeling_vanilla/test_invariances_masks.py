"""Every kernel agrees under every mask, and restricted self-attention equals a band drawn by hand."""

import warnings

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

VARIANTS = ("encoder-decoder", "encoder", "decoder")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
LOWEST = torch.finfo(torch.float32).min


def additive(allowed: torch.Tensor, number: float) -> torch.Tensor:
    return torch.zeros(allowed.shape).masked_fill(~allowed, number)


def make_mask(kind: str, length: int) -> torch.Tensor | None:
    """Return a mask for 2 rows; the 4-D ones let the third query of the second row see nothing."""
    allowed = torch.ones(2, 1, length, length, dtype=torch.bool).tril()
    allowed[1, :, 2] = False
    padded = torch.ones(2, length, dtype=torch.long)
    if kind == "right padding":
        padded[1, 3:] = 0
    elif kind == "left padding":
        padded[1, :2] = 0
    elif kind == "empty row":
        padded[1] = 0
    return {
        "none": None,
        "bool": allowed,
        "minus infinity": additive(allowed, -torch.inf),
        "lowest number": additive(allowed, LOWEST),
    }.get(kind, padded)


KINDS_2D = ("none", "right padding", "left padding", "empty row")
KINDS_4D = ("bool", "minus infinity", "lowest number")


def results(model, inputs: dict, kernel: str, mode: str = "gradients") -> list[torch.Tensor]:
    """Return logits (and the gradient of every parameter) of `model` with `kernel`."""
    model.set_attn_implementation(kernel)
    if mode == "logits":
        # The compiled flex kernel takes a minute to build on a CPU, and has no backward there.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [model(**inputs).logits]
    model.zero_grad()
    logits = model(**inputs).logits
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    return [logits] + [p.grad.clone() for p in model.parameters()]


def masked_inputs(variant: str, kind: str, tokens) -> dict:
    """Return inputs whose self-attention (of the decoder, where there is one) is masked by `kind`."""
    length = 5
    inputs = {"input_ids": tokens(2, length), "attention_mask": make_mask(kind, length)}
    if variant == "encoder-decoder":
        inputs |= {"decoder_input_ids": tokens(2, length, seed=1), "decoder_attention_mask": make_mask(kind, length)}
        # A 4-D mask of the source has the shape of one attention, and two attentions read the source.
        inputs["attention_mask"] = inputs["attention_mask"] if kind in KINDS_2D else make_mask("left padding", length)
    return inputs


@pytest.mark.parametrize("norm", ("post", "pre"))
@pytest.mark.parametrize("kind", KINDS_2D + KINDS_4D)
@pytest.mark.parametrize("variant", VARIANTS)
def test_sdpa_equals_eager(build, tokens, variant, kind, norm):
    model = build(variant, norm_order=norm)
    inputs = masked_inputs(variant, kind, tokens)
    eager = results(model, inputs, "eager")
    assert all(tensor.isfinite().all() for tensor in eager)
    torch.testing.assert_close(results(model, inputs, "sdpa"), eager, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS_2D)
@pytest.mark.parametrize("window", (None, 3))
@pytest.mark.parametrize("variant", VARIANTS)
def test_flex_equals_eager(build, tokens, variant, window, kind):
    model = build(variant, attention_window=window)
    inputs = masked_inputs(variant, kind, tokens)
    eager = results(model, inputs, "eager", "logits")
    torch.testing.assert_close(results(model, inputs, "flex_attention", "logits"), eager, **CLOSE)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
@pytest.mark.parametrize("kernel", ("eager", "sdpa"))
@pytest.mark.parametrize("kind", ("empty row", "minus infinity", "lowest number"))
def test_half_precision_stays_finite_where_nothing_may_be_seen(build, tokens, kind, kernel, dtype):
    model = build("decoder").to(dtype)
    mask = make_mask(kind, 5)
    mask = mask.clamp(min=torch.finfo(dtype).min).to(dtype) if kind == "lowest number" else mask
    inputs = {"input_ids": tokens(2, 5), "attention_mask": mask}
    assert all(tensor.isfinite().all() for tensor in results(model, inputs, kernel))


@pytest.mark.parametrize("kind", ("bool", "minus infinity"))
def test_a_query_that_sees_nothing_gets_zero(build, tokens, kind):
    attention = build("decoder").model.decoder.layers[0].self_attn
    states = torch.randn(2, 5, 24)
    for kernel in ("eager", "sdpa"):
        attention.config._attn_implementation = kernel
        out = attention(states, attention_mask=make_mask(kind, 5))[0]
        torch.testing.assert_close(out[1, 2], attention.out_proj.bias)
        assert (out[0, 2] - attention.out_proj.bias).abs().max() > 1e-3


def band(length: int, window: int, causal: bool) -> torch.Tensor:
    """Return (1, 1, T, T): |i - j| <= r // 2, and j <= i where it is causal (Vaswani et al. 2017, sec. 4)."""
    allowed = [[abs(i - j) <= window // 2 and (j <= i or not causal) for j in range(length)] for i in range(length)]
    return torch.tensor(allowed)[None, None]


@pytest.mark.parametrize("kernel", ("eager", "sdpa"))
@pytest.mark.parametrize("window", (1, 2, 3, 4, 99))
@pytest.mark.parametrize("variant", VARIANTS)
def test_window_equals_a_band(build, tokens, variant, window, kernel):
    narrow = build(variant, attention_window=window, attn_implementation=kernel)
    full = build(variant, attn_implementation=kernel)
    ids, target = tokens(2, 7), tokens(2, 6, seed=1)
    if variant == "encoder-decoder":
        got = narrow(ids, decoder_input_ids=target).logits
        memory = full.get_encoder()(ids, attention_mask=band(7, window, False).expand(2, -1, -1, -1))[0]
        expected = full(
            encoder_outputs=BaseModelOutput(memory),
            decoder_input_ids=target,
            decoder_attention_mask=band(6, window, True).expand(2, -1, -1, -1),
        ).logits
        plain = full(ids, decoder_input_ids=target).logits
    else:
        got = narrow(ids).logits
        allowed = band(7, window, variant == "decoder").expand(2, -1, -1, -1)
        expected, plain = full(ids, attention_mask=allowed).logits, full(ids).logits
    torch.testing.assert_close(got, expected, **CLOSE)
    if window == 99:
        torch.testing.assert_close(got, plain, **CLOSE)
    else:
        assert (got - plain).abs().max() > 1e-2


@pytest.mark.parametrize("variant", ("encoder", "decoder"))
@pytest.mark.parametrize("side", ("left", "right"))
def test_window_and_padding(build, tokens, variant, side):
    model = build(variant, attention_window=3)
    ids, filler = tokens(2, 6), torch.full((2, 3), 9)
    mask = torch.tensor([0] * 3 + [1] * 6).expand(2, -1)
    if side == "left":
        got = model(torch.cat([filler, ids], 1), attention_mask=mask).logits[:, 3:]
    else:
        got = model(torch.cat([ids, filler], 1), attention_mask=mask.flip(1)).logits[:, :6]
    torch.testing.assert_close(got, model(ids).logits, **CLOSE)


def test_window_within_packed_rows(build, tokens):
    model = build("decoder", attention_window=3)
    ids = tokens(1, 9)
    parts = ids.split([4, 5], dim=1)
    positions = torch.cat([torch.arange(p.shape[1]) for p in parts])[None]
    packed = model(ids, position_ids=positions, use_cache=False).logits
    torch.testing.assert_close(packed, torch.cat([model(p).logits for p in parts], 1), **CLOSE)


@pytest.mark.parametrize("kernel", ("eager", "sdpa"))
@pytest.mark.parametrize("cache", ("none", "dynamic", "static"))
@pytest.mark.parametrize("variant", ("encoder-decoder", "decoder"))
def test_window_in_generation(build, tokens, variant, cache, kernel):
    model = build(variant, attention_window=3, eos_token_id=None, attn_implementation=kernel)
    full = build(variant, eos_token_id=None, attn_implementation=kernel)
    source = tokens(2, 5)
    memory = None
    if variant == "encoder-decoder":
        memory = BaseModelOutput(full.get_encoder()(source, attention_mask=band(5, 3, False).expand(2, -1, -1, -1))[0])
    ids = torch.full((2, 1), 2) if memory else source
    start, steps = ids.shape[1], []
    for _ in range(6):  # greedy, by the model without a window, with a band
        mask = band(ids.shape[1], 3, True).expand(2, -1, -1, -1)
        if memory:
            logits = full(encoder_outputs=memory, decoder_input_ids=ids, decoder_attention_mask=mask).logits[:, -1]
        else:
            logits = full(ids, attention_mask=mask).logits[:, -1]
        steps.append(logits)
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    options = {"none": {"use_cache": False}, "dynamic": {}, "static": {"cache_implementation": "static"}}[cache]
    options |= {"do_sample": False, "max_new_tokens": 6}
    out = model.generate(source, return_dict_in_generate=True, output_logits=True, **options)
    assert torch.equal(out.sequences[:, start:], ids[:, start:])
    torch.testing.assert_close(out.logits, tuple(steps), **CLOSE)


@pytest.mark.parametrize("kernel", ("eager", "sdpa"))
def test_packed_pairs_equal_separate_pairs(build, tokens, kernel):
    # Three pairs in one row, longer than the position table, and padding: logits, loss and gradients as one by one.
    lengths, width = [(4, 2), (1, 5), (3, 3)], (10, 12)
    model = build("encoder-decoder", attn_implementation=kernel, max_position_embeddings=8)
    pairs = [(tokens(1, s, seed=s), tokens(1, t, seed=9 * t)) for s, t in lengths]
    ids, targets, owner, places = [], [], [], []
    for side, full in enumerate(width):
        gap = full - sum(pair[side] for pair in lengths)
        row = torch.cat([pair[side] for pair in pairs] + [torch.zeros(1, gap, dtype=torch.long)], 1)
        (ids if side == 0 else targets).append(row)
        sizes = [*(pair[side] for pair in lengths), gap]
        owner.append(torch.repeat_interleave(torch.arange(4), torch.tensor(sizes))[None])
        places.append(
            torch.cat([*(torch.arange(size) for size in sizes[:3]), torch.zeros(gap, dtype=torch.long)])[None]
        )
    same = [(one[:, None, :, None] == owner[0][:, None, None, :]) for one in owner]
    packed = model(
        ids[0],
        attention_mask=same[0],
        position_ids=places[0],
        decoder_input_ids=targets[0],
        decoder_position_ids=places[1],
        cross_attention_mask=same[1],
        use_cache=False,
    ).logits
    separate = torch.cat([model(s, decoder_input_ids=t, use_cache=False).logits for s, t in pairs], 1)
    torch.testing.assert_close(packed[:, :10], separate, **CLOSE)
    weight = torch.linspace(-1, 1, separate.numel()).view_as(separate)
    gradients = []
    for logits in (packed[:, :10], separate):
        model.zero_grad()
        (logits * weight).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    largest = max(float(g.abs().max()) for g in gradients[1])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=2e-6 * largest, rtol=0)
    everything = model(
        ids[0],
        attention_mask=same[0],
        position_ids=places[0],
        decoder_input_ids=targets[0],
        decoder_position_ids=places[1],
        cross_attention_mask=torch.ones_like(same[1]),
        use_cache=False,
    ).logits
    assert (everything - packed).abs().max() > 1e-2  # the mask matters


def test_the_mask_of_cross_attention_is_by_default_that_of_the_source(build, tokens):
    model = build("encoder-decoder")
    inputs = {"input_ids": tokens(2, 6), "decoder_input_ids": tokens(2, 3, seed=1)}
    inputs["attention_mask"] = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    expected = model(**inputs).logits
    assert torch.equal(model(**inputs, cross_attention_mask=inputs["attention_mask"]).logits, expected)
    other = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    changed = model(**inputs, cross_attention_mask=other).logits
    assert torch.equal(changed[0], expected[0])
    assert (changed[1] - expected[1]).abs().max() > 1e-3
