"""What a run is set up with, where no test of the loop shows it."""

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration, VanillaForMaskedLM
from train.run import finish, setup
from train.run.setup import compiled

SIZES = dict(vocab_size=97, d_model=24, d_ff=29, num_layers=2, num_heads=4, dropout=0.0)
CLASSES = {
    "encoder": VanillaForMaskedLM,
    "decoder": VanillaForCausalLM,
    "encoder-decoder": VanillaForConditionalGeneration,
}


def batch_of(variant: str, rows: int, length: int) -> dict[str, torch.Tensor]:
    """Return rows with padding, and labels: at some places of an encoder alone."""
    generator = torch.Generator().manual_seed(rows)
    ids, labels = (torch.randint(7, 97, (rows, length), generator=generator) for _ in range(2))
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    if variant == "encoder":
        labels = labels.masked_fill(torch.rand(rows, length, generator=generator) > 0.3, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels.masked_fill(mask == 0, -100)}


def slopes(model, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss and the gradients."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


def test_an_evaluation_compiles_nothing(write_recipe, fit, monkeypatch):
    """Each length that is written would be another graph, during training and at the end."""
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(setup, "compiled", partial(compiled, backend="eager"))
    graphs, load = [], finish.load_final_weights

    def noted(run):
        graphs.append(counters["stats"]["unique_graphs"])
        return load(run)

    monkeypatch.setattr(finish, "load_final_weights", noted)
    fit(write_recipe(loop={"max_steps": 2, "compile": True}, eval={"metrics": ["loss", "bleu"]}))
    assert graphs and counters["stats"]["unique_graphs"] == graphs[0] > 0


@pytest.mark.parametrize(
    "variant",
    [
        "encoder",
        pytest.param("decoder", marks=pytest.mark.slow),
        pytest.param("encoder-decoder", marks=pytest.mark.slow),
    ],
)
@torch._dynamo.config.patch(capture_dynamic_output_shape_ops=False)  # and as it was, at the end
def test_a_compiled_model_is_one_graph(variant):
    """For all numbers of rows, of tokens and of labelled places; the backend needs no C++ compiler."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = CLASSES[variant](VanillaConfig(variant=variant, **SIZES)).train()
    batches = [batch_of(variant, rows, length) for rows, length in ((3, 11), (5, 9), (2, 14))]
    expected = [slopes(model, batch) for batch in batches]
    compiled(model, backend="aot_eager")
    for batch, (loss, gradients) in zip(batches, expected, strict=True):
        mine, of_mine = slopes(model, batch)
        torch.testing.assert_close(mine, loss)
        torch.testing.assert_close(of_mine, gradients, atol=1e-6, rtol=1e-4)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1
