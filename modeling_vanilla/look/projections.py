# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The output projection W^O behind an attention (Vaswani et al. 2017, sec. 3.2.2), where its place is known.

transformers gives each family its own name for it, and no interface tells them: this is the table.

Dimension letters: D d_model, H heads, K width of a head's values.
"""

import torch
from torch import nn

# Where the projection lies, seen from the attention module that calls the kernel; ".." is the module that holds it.
PLACES = {
    "bart": "out_proj",
    "bert": "..output.dense",
    "gpt2": "c_proj",
    "llama": "o_proj",
    "marian": "out_proj",
    "t5": "o",
    "vanilla": "out_proj",
}


def output_projection(model: nn.Module, name: str, heads: int) -> torch.Tensor | None:
    """Return the part of W^O that each head of one attention goes through.

    Args:
        model: The whole model.
        name: The attention module that calls the kernel, by its name in `model.named_modules()`.
        heads: How many heads it has.

    Returns:
        (H, K, D): head h adds `context_h @ W[h]` to the output of its layer; None where the place is not known.
    """
    place = PLACES.get(getattr(getattr(model.get_submodule(name), "config", None), "model_type", ""))
    if place is None:
        return None
    path = f"{name.rpartition('.')[0]}.{place[2:]}" if place.startswith("..") else f"{name}.{place}"
    try:
        projection = model.get_submodule(path.lstrip("."))
    except AttributeError:  # a class of that family that was written otherwise
        return None
    weight = getattr(projection, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.dim() != 2:
        return None
    rows = weight.detach().T if isinstance(projection, nn.Linear) else weight.detach()  # GPT-2's Conv1D holds (H*K, D)
    return rows.unflatten(0, (heads, -1)) if rows.shape[0] % heads == 0 else None
