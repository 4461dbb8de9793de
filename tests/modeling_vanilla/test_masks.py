"""Every flag of a part that is taken alone, on every kernel, with every form of mask, against equation 1 written out.

B batch, T length, D d_model.
"""

import itertools
import warnings

import pytest
import torch
from torch import nn
from transformers.cache_utils import DynamicCache, StaticCache

from modeling_vanilla import VanillaConfig
from modeling_vanilla.attention import MultiHeadAttention, scaled_dot_product_attention
from modeling_vanilla.layers import DecoderLayer, EncoderLayer

B, T, D = 2, 6, 14
KERNELS = ("eager", "sdpa", "flex_attention")
kernels = pytest.mark.parametrize("kernel", KERNELS)
NUMBERS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def _uncompiled():
    """The compiled flex kernel takes a minute to build on a CPU, and has no backward there."""
    with torch.no_grad(), torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def config_of(kernel: str, **options) -> VanillaConfig:
    numbers = dict(d_model=D, num_heads=4, head_dim=6, num_layers=1, attn_implementation=kernel)
    return VanillaConfig.tiny(variant="decoder", **(numbers | options))


def part_of(kind, kernel: str, *flags, dtype=torch.float32, **options) -> nn.Module:
    """Build a part whose weights are the same for all kernels and flags, with no bias near 0."""
    part = kind(config_of(kernel, **options), 0, *flags)
    generator = torch.Generator().manual_seed(3)
    for parameter in part.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return part.to(dtype).eval()


def states() -> torch.Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(5))


def seen_by_flags(causal: bool, window: int | None) -> torch.Tensor:
    """Write out (T, T) who sees whom (Vaswani et al. 2017, sec. 3.2.3 and 4)."""
    pairs = [
        [(not causal or j <= i) and (window is None or abs(i - j) <= window // 2) for j in range(T)] for i in range(T)
    ]
    return torch.tensor(pairs)


def expected(attention: MultiHeadAttention, x: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Compute sec. 3.2.2 in float64 with numbers (B, 1, T, T) that are added to the scores; no key seen: context 0."""
    attention, x = attention.double(), x.double()
    q, k, v = (
        p(x).unflatten(-1, (4, 6)).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    weights = (q @ k.transpose(2, 3) * 6**-0.5 + added).softmax(-1).nan_to_num(0.0)
    return attention.out_proj((weights @ v).transpose(1, 2).flatten(2))


def given_masks() -> dict[str, torch.Tensor]:
    """Return masks of every form and type; query 2 of row 1 sees nothing in those that have two rows."""
    generator = torch.Generator().manual_seed(9)
    allowed = torch.rand(B, 1, T, T, generator=generator) > 0.4
    allowed[0] |= torch.eye(T, dtype=torch.bool)
    allowed[1, 0, 2] = False
    masks = {"bool": allowed, "bool of all rows": allowed[:1], "bool, 2-D": allowed[0, 0]}
    for dtype in NUMBERS:
        zeros = torch.zeros(allowed.shape, dtype=dtype)
        masks[f"-inf, {dtype}"] = zeros.masked_fill(~allowed, -torch.inf)
        masks[f"lowest, {dtype}"] = zeros.masked_fill(~allowed, torch.finfo(dtype).min)
    return masks | {"bias": torch.randn(B, 1, T, T, generator=generator)}


def as_numbers(mask: torch.Tensor) -> torch.Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    return mask.double().masked_fill(mask <= torch.finfo(mask.dtype).min, -torch.inf)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("causal", "window"), itertools.product([True, False], [None, 3]))
@kernels
def test_an_attention_alone_keeps_its_flags_and_every_mask(kernel, causal, window, dtype):
    attention = part_of(MultiHeadAttention, kernel, causal, dtype=dtype, attention_window=window)
    x = states().to(dtype)
    found = {"none": attention(x)[0]}
    found |= {name: attention(x, attention_mask=mask)[0] for name, mask in given_masks().items()}
    added = {"none": as_numbers(seen_by_flags(causal, window))}
    added |= {name: as_numbers(mask) for name, mask in given_masks().items()}
    limit = 1e-5 if dtype == torch.float32 else 0.1
    for name, output in found.items():
        assert output.dtype == dtype
        torch.testing.assert_close(
            output.double(),
            expected(attention, x, added[name]),
            atol=limit,
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("kind", [DecoderLayer, EncoderLayer])
@kernels
def test_a_layer_alone_keeps_its_flags(kernel, kind, window):
    layer = part_of(kind, kernel, *([False] if kind is DecoderLayer else []), attention_window=window)
    mask = seen_by_flags(kind is DecoderLayer, window)[None, None]
    torch.testing.assert_close(layer(states()), layer(states(), attention_mask=mask), atol=1e-5, rtol=0)
    other = part_of(kind, "eager", *([False] if kind is DecoderLayer else []))
    torch.testing.assert_close(layer(states()), other(states(), attention_mask=mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("cache", [DynamicCache, StaticCache])
@kernels
def test_pieces_through_a_cache_are_the_whole(kernel, cache, window):
    """Several new tokens after cached ones: a triangle from the first key on would be wrong."""
    config = config_of(kernel, attention_window=window)
    kept = cache(config=config, **({"max_cache_len": T + 2} if cache is StaticCache else {}))
    attention = part_of(MultiHeadAttention, kernel, True, attention_window=window)
    x = states()
    pieces = [attention(piece, None, None, kept)[0] for piece in x.split([3, 2, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), attention(x)[0], atol=1e-5, rtol=0)


@kernels
def test_only_a_causal_attention_obeys_is_causal(kernel):
    """transformers hands `config.is_causal` to every attention of a model."""
    x, memory = states(), states().flip(1)
    causal, free = (part_of(MultiHeadAttention, kernel, flag) for flag in (True, False))
    assert torch.equal(causal(x, is_causal=False)[0], free(x)[0])
    assert torch.equal(free(x, is_causal=True)[0], free(x)[0])
    assert torch.equal(causal(x, memory, is_causal=True)[0], free(x, memory)[0])
    assert (causal(x)[0] - free(x)[0]).abs().max() > 0.1


def test_the_eager_kernel_takes_the_flag_of_sdpa():
    q, k, v = torch.randn(3, B, 4, T, 6, generator=torch.Generator().manual_seed(1))
    for length, flag in itertools.product((T, 1), (True, False)):
        found, _ = scaled_dot_product_attention(nn.Module().eval(), q[:, :, :length], k, v, None, 0.3, is_causal=flag)
        want = nn.functional.scaled_dot_product_attention(
            q[:, :, :length], k, v, scale=0.3, is_causal=flag and length > 1
        )
        torch.testing.assert_close(found, want.transpose(1, 2), atol=1e-5, rtol=0)


@kernels
def test_dropout_is_for_training_and_no_kernel_swallows_it(kernel):
    attention = part_of(MultiHeadAttention, kernel, True, attention_dropout=0.3)
    calm = part_of(MultiHeadAttention, kernel, True)(states())[0]
    assert torch.equal(attention(states())[0], calm)
    attention.train()
    if kernel == "flex_attention":
        with pytest.raises(ValueError, match="`flex_attention` does not support `dropout`"):
            attention(states())
        return
    torch.manual_seed(0)
    draws = torch.stack([attention(states())[0] for _ in range(400)])
    assert (draws[0] - calm).abs().max() > 0.05
    error = draws.std(0) / 400**0.5  # of the mean, which dropout must not move
    assert ((draws.mean(0) - calm).abs() < 5 * error + 1e-4).all()


@kernels
def test_masks_that_could_mean_two_things_are_refused(kernel):
    attention = part_of(MultiHeadAttention, kernel)
    with pytest.raises(ValueError, match=r"of type torch.int64; give booleans .* or numbers"):
        attention(states(), attention_mask=torch.ones(B, 1, T, T, dtype=torch.long))
    heads = torch.randn(B, 4, T, T, generator=torch.Generator().manual_seed(2))
    if kernel == "flex_attention":
        with pytest.raises(ValueError, match="attention_mask has 4 heads, flex_attention reads one mask for all"):
            attention(states(), attention_mask=heads)
    else:
        found = attention(states(), attention_mask=heads)[0].double()
        torch.testing.assert_close(found, expected(attention, states(), heads.double()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("padded", [False, True])
def test_a_decoder_made_to_look_both_ways_does_so_on_every_kernel(build, tokens, padded):
    """`config.is_causal = False`, as sentence-transformers sets it; with padding and without, whatever the kernel."""
    mask = torch.ones(2, 5, dtype=torch.long)
    mask[1, :2] = 0 if padded else 1
    found = {}
    for kernel in KERNELS:
        model = build("decoder", attn_implementation=kernel)
        model.config.is_causal = False
        found[kernel] = model(tokens(2, 5), attention_mask=mask if padded else None).logits
    for kernel in KERNELS[1:]:
        torch.testing.assert_close(found[kernel], found["eager"], atol=1e-5, rtol=1e-5)
    one_way = build("decoder")(tokens(2, 5), attention_mask=mask).logits
    assert (found["eager"] - one_way)[0, 0].abs().max() > 0.01


@pytest.mark.parametrize("kind", ["bool", "lowest, torch.float32", "-inf, torch.float32"])
def test_flex_attention_reads_the_masks_of_a_caller(build, tokens, kind):
    """It adds a boolean to the scores, as 0 or 1, where it is given one."""
    mask = given_masks()[kind]
    eager, flex = (build("decoder", attn_implementation=kernel) for kernel in ("eager", "flex_attention"))
    torch.testing.assert_close(
        flex(tokens(B, T), attention_mask=mask).logits,
        eager(tokens(B, T), attention_mask=mask).logits,
        atol=1e-5,
        rtol=1e-5,
    )
