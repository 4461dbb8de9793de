# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Gradients: against differences, and the theorem that integrated gradients sum up to the whole change."""

import pytest
import torch
from small_models import BUILD, ids

from modeling_vanilla.look.examples import Example
from modeling_vanilla.look.saliency import Explained, gradient_times_input, integrated_gradients

NAMES = [
    "GPT-2",
    "Llama, grouped keys",
    "BART",
    "Marian",
    "T5",
    "tied halves",
    "encoder-decoder",
    "encoder",
    "decoder",
]


def text_of(model) -> Example:
    inputs = {"input_ids": ids(1, 6), "attention_mask": torch.ones(1, 6).long()}
    if model.config.is_encoder_decoder:
        return Example(inputs | {"decoder_input_ids": ids(1, 4, seed=1)}, [0, 1, 2, 3], ids(4, seed=2).tolist())
    return Example(inputs, [1, 2, 4], ids(3, seed=2).tolist())


@pytest.mark.parametrize("name", NAMES)
def test_gradient_times_input_is_the_slope_along_the_embedding(name, randomise):
    """Growing one token's embedding by a share of it changes log p by its gradient x input, times that share."""
    model = randomise(BUILD[name](), std=0.2)
    explained = Explained(model, text_of(model))
    share, saliency = 2e-3, gradient_times_input(explained)
    assert list(saliency) == ["source", "target"][: 1 + model.config.is_encoder_decoder]
    for side, (key, slopes) in enumerate(saliency.items()):
        assert slopes.shape == (len(explained.rows), explained.embeddings[side].shape[1]), key
        for row, column in ((0, 0), (2, 1), (1, 2)):
            moved = []
            for factor in (1 + share, 1 - share):
                other = [one.clone() for one in explained.embeddings]
                other[side][0, column] *= factor
                moved.append(explained(*other, torch.tensor([row])))
            slope = ((moved[0] - moved[1]) / (2 * share)).abs().item()
            assert slopes[row, column].item() == pytest.approx(slope, abs=2e-2, rel=5e-2)


@pytest.mark.parametrize("name", ["encoder-decoder", "GPT-2"])
def test_integrated_gradients_of_a_text_of_one_token_are_the_whole_change(name, randomise):
    """They sum to f(x) - f(0) (Sundararajan et al. 2017, prop. 1): with one token in all, its own are the sum."""
    pytest.importorskip("captum")
    model = randomise(BUILD[name](), std=0.1)
    text = Example({"input_ids": ids(1, 1), "attention_mask": torch.ones(1, 1).long()}, [0], [7])
    if model.config.is_encoder_decoder:
        text.inputs["decoder_input_ids"] = ids(1, 1, seed=1)
    explained = Explained(model, text)
    signed: list[torch.Tensor] = []
    explained.named = lambda chunks: signed.extend(part.sum() for part in chunks[0]) or {}
    integrated_gradients(explained)
    with torch.no_grad():
        row = torch.tensor([0])
        change = explained(*explained.embeddings, row) - explained(*[one * 0 for one in explained.embeddings], row)
    assert sum(signed).item() == pytest.approx(change.item(), abs=0.05 * max(1, change.abs().item()))


def test_a_model_without_a_vocabulary_has_none(randomise):
    model = randomise(BUILD["BERT"]())
    with pytest.raises(ValueError, match="no output over a vocabulary"):
        Explained(model, text_of(model))
