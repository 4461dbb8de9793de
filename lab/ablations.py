"""What a claim takes away: a subclass of some ten lines for each, and the models that are built with it."""

from typing import TypeVar

import torch

from modeling_vanilla.base import VanillaPreTrainedModel
from modeling_vanilla.embeddings import Embeddings

Model = TypeVar("Model", bound=VanillaPreTrainedModel)


class WithoutPositions(Embeddings):
    """Token vectors alone: the order of the sequence is not told (against Vaswani et al. 2017, sec. 3.5)."""

    def forward(
        self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the token vectors (B, T, D) as they are."""
        return self.dropout(inputs_embeds)


def without_positions(model: Model) -> Model:
    """Take the positions away from every stack of a model, in place; return the model."""
    for stack in [module for module in model.modules() if hasattr(module, "embeddings")]:
        stack.embeddings = WithoutPositions(model.config)
    return model
