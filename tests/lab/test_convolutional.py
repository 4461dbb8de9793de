"""The convolutional rung: how far it sees, what padding does, and its gate."""

import pytest
import torch

from lab.convolutional import ConvolutionalEncoder, ConvolutionalTranslator, GatedConvolution
from lab.made import PAD

V, D, B, T, S = 11, 6, 2, 4, 15


@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (3, 3), (2, 5)])
def test_gradient_is_exactly_zero_past_the_receptive_field(layers, kernel):
    torch.manual_seed(0)
    encoder = ConvolutionalEncoder(D, layers, kernel)
    vectors = torch.randn(1, S, D, requires_grad=True)
    middle, reach = S // 2, layers * (kernel - 1) // 2
    (gradient,) = torch.autograd.grad(encoder(vectors)[0, middle].sum(), vectors)
    seen = gradient[0].ne(0).any(-1)
    assert seen.tolist() == [abs(place - middle) <= reach for place in range(S)]


def test_gated_convolution_is_the_equation():
    """A * sigmoid(B) with A and B sums over the window (Gehring et al. 2017, sec. 3.2), causal or around the place."""
    torch.manual_seed(0)
    states = torch.randn(1, 5, D).double()
    for causal, first in ((True, -2), (False, -1)):
        layer = GatedConvolution(D, 3, causal).double()
        weight, bias = layer.convolution.weight, layer.convolution.bias
        for place in range(5):
            total = bias.clone()
            for k in range(3):
                if 0 <= place + first + k < 5:
                    total += weight[:, :, k] @ states[0, place + first + k]
            assert torch.allclose(layer(states)[0, place], total[:D] * torch.sigmoid(total[D:]))
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        GatedConvolution(D, 4, causal=False)


def test_padding_changes_nothing_and_no_token_looks_ahead():
    torch.manual_seed(0)
    model = ConvolutionalTranslator(V, D, positions=S).double()
    source, written = torch.randint(4, V, (B, S)), torch.randint(4, V, (B, T))
    source[1, 9:] = PAD
    logits = model(source, written)
    assert torch.allclose(logits[1:], model(source[1:, :9], written[1:]))
    changed = written.clone()
    changed[:, -1] = (changed[:, -1] - 3) % (V - 4) + 4
    assert torch.allclose(model(source, changed)[:, :-1], logits[:, :-1])
    with pytest.raises(ValueError, match="16 tokens: at most 15"):
        model(torch.full((1, 16), 5), written[:1])
