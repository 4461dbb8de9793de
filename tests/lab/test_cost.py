"""The cost lab: counts against formulas, near pairs against the mask, paths against arithmetic."""

import math

import pytest
import torch

from lab import cost, paths, steps
from lab.cost_layers import LAYERS, Blocks, attention, check_count, near
from modeling_vanilla.attention import MultiHeadAttention


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize(("n", "d"), [(96, 64), (160, 128)])
def test_counted_operations_are_those_of_the_formula(layer, n, d):
    assert check_count(layer, n, d) == pytest.approx(1, abs=0.01)


def test_a_kernel_that_is_not_counted_is_an_error():
    with pytest.raises(ValueError, match="attn_implementation='sdpa' is not counted"):
        check_count(LAYERS[0], 256, 64, kernel="sdpa")


@pytest.mark.parametrize(("length", "half"), [(1, 3), (5, 8), (24, 8), (29, 8), (31, 1)])
def test_blocks_equal_the_masked_product(length, half):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, length, 5, dtype=torch.float64) for _ in range(3))
    places = torch.arange(length)
    mask = (places[:, None] - places).abs() <= half
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=1.0)
    torch.testing.assert_close(near(query, key, value, half), expected)


def test_blocks_equal_this_packages_window():
    masked = attention(24, "eager", heads=4, attention_window=6).double()
    blocks = attention(24, "eager", heads=4, kind=Blocks, attention_window=6).double()
    blocks.load_state_dict(masked.state_dict())
    states = torch.randn(2, 17, 24, dtype=torch.float64)
    torch.testing.assert_close(blocks(states)[0], MultiHeadAttention.forward(masked, states)[0])


@pytest.mark.parametrize("length", [5, 16, 50, 81])
def test_longest_paths_by_arithmetic(length):
    window, width = 6, 3
    found = paths.path_lengths(length, window, width)
    assert found["self-attention"] == 1
    assert found["restricted"] == math.ceil((length - 1) / (window // 2))
    assert found["convolution"] == found["recurrent"] == length - 1
    power = next(power for power in range(9) if width**power >= length)  # ceil(log_k n), without rounding
    assert found["convolution, dilated"] == power
    assert found["sparse, strided"] == found["sparse, fixed"] == 2


def test_positions_that_never_meet_are_an_error():
    with pytest.raises(ValueError, match="7 positions stay apart"):
        paths.longest_path(torch.eye(7, dtype=torch.bool), torch.ones(7, 7, dtype=torch.bool))


def test_read_stepwise_equals_read_at_once():
    states = torch.randn(1, 9, steps.WIDTH)
    with torch.no_grad():
        for at_once, stepwise in steps.readers().values():
            if stepwise is not None:
                torch.testing.assert_close(stepwise(states), at_once(states), atol=1e-5, rtol=1e-4)


def test_products_in_a_row_grow_with_a_recurrence_alone():
    states = {n: torch.randn(1, n, steps.WIDTH) for n in (7, 11)}
    numbers = {
        name: [steps.time_and_count(at_once, states[n], 1)[0] for n in states]
        for name, (at_once, _) in steps.readers().items()
    }
    assert numbers["self-attention, 1 head"] == numbers["self-attention, 8 heads"] == [6, 6]
    assert numbers["convolution"] == [1, 1]
    assert numbers["recurrent (GRU)"][1] - numbers["recurrent (GRU)"][0] == 4


def test_writing_takes_a_pass_for_each_token():
    rows = steps.writing_table(5).rows
    assert {row[1] for row in rows} == {5}
    assert [row[2] for row in rows] == [5, 15, 5, 15, 5]  # without a cache 1 + 2 + ... + 5


def test_exponent_and_crossing_of_made_times():
    lengths = [64, 128, 256, 512]
    first, second = LAYERS[0].name, "recurrent (GRU)"
    times = {
        (64, first, "both"): {n: [n**2 / 1e3, n**1.5] for n in lengths},
        (64, second, "both"): {n: [0.2 * n, 1e9] for n in lengths},
    }
    assert cost.exponent(times[64, first, "both"], 0) == pytest.approx(2)
    assert cost.exponent(times[64, first, "both"], 1) == pytest.approx(1.5)
    assert cost.crossing(times, 64, first, second) == [pytest.approx(200), None]


def test_the_lab_from_end_to_end(monkeypatch):
    monkeypatch.setattr(cost, "cpu_time", lambda work, budget: 1.0)
    times = cost.measure({64: [64, 128, 192], 512: [64, 128, 192]}, 2, 0.0)
    lengths = {n: paths.path_lengths(n, 16, 3) for n in (16, 64)}
    assert cost.conclusion(times, lengths).endswith("63 in a recurrence.")
    assert len(cost.growth_table(times).rows) == len(LAYERS)
    assert cost.figure(times, lengths) is not None
