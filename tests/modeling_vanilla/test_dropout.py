"""Dropout: the law of torch's, the gradient of what was kept, and torch's own wherever something looks on."""

import math

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import modeling_vanilla as mv
from modeling_vanilla import dropout
from modeling_vanilla.dropout import STEPS, Dropout, drop


@pytest.fixture(autouse=True)
def not_intels(monkeypatch):
    """Test ours on Intel's CPUs too."""
    monkeypatch.setattr(dropout, "_mkl_draws", lambda: False)


@pytest.fixture
def torchs(monkeypatch):
    """Note the calls of torch's own dropout."""
    calls, own = [], nn.functional.dropout
    monkeypatch.setattr(
        nn.functional, "dropout", lambda *words, **options: (calls.append(words), own(*words, **options))[1]
    )
    return calls


def zeros(shape: tuple[int, ...], p: float) -> torch.Tensor:
    """Return which of many ones are set to zero."""
    return drop(torch.ones(shape), p, training=True) == 0


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9, 1 / 7])
def test_so_many_are_zero_in_each_place_of_a_draw(p):
    torch.manual_seed(0)
    dropped = zeros((250_000, 4), p).double()  # a column for each of the four places that share a draw
    deviation = math.sqrt(p * (1 - p) / len(dropped))
    assert (dropped.mean(0) - p).abs().max() < 4.5 * deviation + 0.5 / STEPS
    products = (dropped - dropped.mean(0)).T @ (dropped - dropped.mean(0)) / len(dropped)
    correlations = products / (p * (1 - p)) - torch.eye(4)
    assert correlations.abs().max() < 5 / math.sqrt(len(dropped))  # of one place with another, and 1 with itself


@pytest.mark.parametrize("p", [0.1, 0.37])
def test_rows_and_their_neighbours_are_independent(p):
    torch.manual_seed(1)
    flat = zeros((1_000_000,), p).double() - p
    for shift in (1, 2, 3, 4, 5, 256):
        assert abs((flat[shift:] * flat[:-shift]).mean()) < 5 * p * (1 - p) / 1000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 0), (2, 3, 5), (7, 11)])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(torchs, dtype, shape):
    given = torch.randn(shape, dtype=dtype)
    out = drop(given, 0.25, training=True)
    assert out.dtype == dtype and out.shape == given.shape and not torchs
    scale = torch.tensor(4 / 3, dtype=dtype)
    assert ((out == 0) | (out == given * scale)).all()


def test_the_share_that_is_dropped_is_the_one_that_scales():
    ones = drop(torch.ones(1000, dtype=torch.float64), 0.1, training=True)
    kept = STEPS / (STEPS - 6554)
    assert set(ones.tolist()) == {0.0, kept} and abs(kept - 1 / 0.9) < 1e-5


def test_the_gradient_goes_to_what_was_kept():
    given = torch.randn(64, 33, requires_grad=True)
    out = drop(given, 0.4, training=True)
    out.sum().backward()
    assert torch.equal(given.grad == 0, out == 0)
    assert torch.allclose(given.grad * given, out)


def test_rows_that_do_not_lie_in_a_row():
    given = torch.randn(12, 10)[:, ::2].T
    out = drop(given, 0.5, training=True)
    assert ((out == 0) | (out == 2 * given)).all()


def test_a_seed_decides_and_each_call_draws_anew():
    given = torch.ones(1000)
    torch.manual_seed(3)
    first, second = drop(given, 0.5, training=True), drop(given, 0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(drop(given, 0.5, training=True), first)
    assert not torch.equal(first, second)


def test_the_backward_pass_of_a_checkpoint_drops_the_same():
    given = torch.randn(50, 50, requires_grad=True)
    out = checkpoint(lambda states: drop(states, 0.5, training=True) ** 2, given, use_reentrant=False)
    out.sum().backward()
    assert torch.equal(given.grad == 0, out == 0)


def test_nothing_is_dropped_outside_training():
    given = torch.randn(3, 3)
    assert drop(given, 0.9, training=False) is given
    assert drop(given, 0.0, training=True) is given
    assert Dropout(0.9).eval()(given) is given


@pytest.mark.parametrize("p", [1.0, 1 - 1e-7, 1e-7])
def test_what_sixteen_bits_cannot_say_is_torchs(torchs, p):
    drop(torch.ones(10), p, training=True)
    assert len(torchs) == 1
    assert drop(torch.ones(10), 1.0, training=True).eq(0).all()


@pytest.mark.parametrize("p", [1.5, -0.1])
def test_a_wrong_probability_is_torchs_error(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(p)
    with pytest.raises(ValueError, match="between 0 and 1"):
        drop(torch.ones(6), p, training=True)


def test_another_default_device_changes_nothing():
    given = torch.ones(1000)
    with torch.device("meta"):
        out = drop(given, 0.5, training=True)
    assert out.device.type == "cpu" and 400 < (out == 0).sum() < 600


def test_where_mkl_draws_it_is_torchs(torchs, monkeypatch):
    monkeypatch.setattr(dropout, "_mkl_draws", lambda: True)
    drop(torch.ones(10), 0.5, training=True)
    assert len(torchs) == 1


@pytest.mark.parametrize(
    ("text", "expected"), [("vendor_id : GenuineIntel\n", True), ("vendor_id : AuthenticAMD\n", False)]
)
def test_who_made_the_cpu_decides(monkeypatch, tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.undo()
    monkeypatch.setattr(dropout, "Path", lambda name: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert dropout._mkl_draws.__wrapped__() == expected


def test_torchs_own_is_called_where_something_records_or_batches(torchs):
    rows = torch.ones(4, 1000)
    each = torch.func.vmap(lambda row: drop(row, 0.5, training=True), randomness="different")(rows)
    assert len(torchs) == 1 and not torch.equal(each[0], each[1])
    drop(torch.ones(3, device="meta"), 0.5, training=True)
    with FakeTensorMode() as mode:
        drop(mode.from_tensor(rows), 0.5, training=True)
    assert len(torchs) == 3
    traced = torch.jit.trace(lambda states: drop(states, 0.5, training=True), rows, check_trace=False)
    assert len(torchs) == 4 and traced(torch.ones(2, 7)).shape == (2, 7)
    drop(nn.Parameter(rows), 0.5, training=True)
    make_fx(lambda states: drop(states, 0.5, training=True))(rows)
    assert len(torchs) > 5


def test_a_compiled_graph_has_torchs_own():
    graphs = []
    keep = lambda graph, inputs: (graphs.append(graph), graph)[1]
    torch.compile(lambda states: drop(states, 0.5, training=True), backend=keep, fullgraph=True)(torch.ones(9))
    (graph,) = graphs
    assert nn.functional.dropout in {node.target for node in graph.graph.nodes}


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_a_model_trains_with_it_and_answers_without(torchs, kernel):
    torch.manual_seed(0)
    config = mv.VanillaConfig.tiny(dropout=0.2, attention_dropout=0.2, activation_dropout=0.2)
    model = mv.VanillaForConditionalGeneration(config)
    model.set_attn_implementation(kernel)
    batch = {"input_ids": torch.randint(5, 90, (2, 9)), "labels": torch.randint(5, 90, (2, 7))}
    losses = [model.train()(**batch).loss.item() for _ in range(2)]
    assert losses[0] != losses[1] and not torchs
    assert model.eval()(**batch).loss.item() == model(**batch).loss.item()
