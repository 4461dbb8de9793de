# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the gradient says that an output depends on: gradient x input, and integrated gradients (Sundararajan et al. 2017).

Dimension letters: T rows (predictions), S columns (input tokens), D d_model, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from .examples import Example

STEPS = 32
"""Points between the baseline and the input, of integrated gradients."""
ROWS = 16
"""Rows of one text that are differentiated at once; each has logits over the whole vocabulary."""

Saliency = dict[str, torch.Tensor]
"""For "source" (what an encoder, or a decoder alone, reads) and "target" (what the decoder behind an encoder reads): (T, S)."""


class Explained:
    """One text, as a function from its embeddings to the log-probabilities of what the model predicts.

    Args:
        model: A model with an output over a vocabulary.
        text: What it reads.

    Raises:
        ValueError: The model has no such output, or takes no embeddings as its input.
    """

    def __init__(self, model: PreTrainedModel, text: Example):
        self.model = model
        self.rows = torch.tensor(text.rows, device=model.device)
        self.fixed = {name: value for name, value in text.inputs.items() if not name.endswith("input_ids")}
        halves = [model.get_encoder(), model.get_decoder()] if model.config.is_encoder_decoder else [model]
        names = ["input_ids", "decoder_input_ids"][: len(halves)]
        self.keywords = [name.replace("input_ids", "inputs_embeds") for name in names]
        with torch.no_grad():
            tables: list[Any] = [half.get_input_embeddings() for half in halves]
            self.embeddings = [table(text.inputs[name]) for table, name in zip(tables, names, strict=True)]
            output = model(**text.inputs)
            if getattr(output, "logits", None) is None or output.logits.dim() != 3:
                raise ValueError(f"{type(model).__name__} has no output over a vocabulary")
            logits = output.logits[0, text.rows]  # (T, V)
            again = self._run(self.embeddings)[0, text.rows]
        if not torch.allclose(again, logits, atol=1e-3, rtol=1e-3):
            raise ValueError(f"{type(model).__name__} reads its embeddings otherwise than its tokens")
        best = logits.argmax(-1)
        self.labels = best if text.labels is None else torch.tensor(text.labels, device=model.device)

    def _run(self, embeddings: list[torch.Tensor]) -> torch.Tensor:
        count = embeddings[0].shape[0]
        fixed = {name: value.expand(count, *value.shape[1:]) for name, value in self.fixed.items()}
        return self.model(**fixed, **dict(zip(self.keywords, embeddings, strict=True))).logits  # (N, T, V)

    def __call__(self, *embeddings_and_rows: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of the label of one row each, (N,): embeddings (N, S, D), last rows (N,)."""
        *embeddings, rows = embeddings_and_rows
        logits = self._run(embeddings)
        one_of_each = torch.arange(len(rows), device=rows.device)
        chosen = logits[one_of_each, self.rows[rows]].float().log_softmax(-1)  # (N, V)
        return chosen[one_of_each, self.labels[rows]]

    def chunks(self) -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
        """Yield the embeddings repeated for some rows at a time, and these rows."""
        for rows in torch.arange(len(self.rows), device=self.rows.device).split(ROWS):
            yield [one.expand(len(rows), -1, -1) for one in self.embeddings], rows

    def named(self, chunks: list[list[torch.Tensor]]) -> Saliency:
        """Join the attributions (N, S, D) of all chunks: the size of their sum over D, for each row and token."""
        joined = [torch.cat(parts).sum(-1).abs().float().cpu() for parts in zip(*chunks, strict=True)]
        return dict(zip(("source", "target"), joined, strict=False))


def gradient_times_input(text: Explained) -> Saliency:
    """Return |sum over d of x_d * d log p / d x_d| of every input token, for every row."""
    chunks = []
    for embeddings, rows in text.chunks():
        leaves = [one.clone().requires_grad_() for one in embeddings]
        gradients = torch.autograd.grad(text(*leaves, rows).sum(), leaves)
        chunks.append([gradient * leaf.detach() for gradient, leaf in zip(gradients, leaves, strict=True)])
    return text.named(chunks)


def integrated_gradients(text: Explained) -> Saliency:
    """Return |sum over d| of the integrated gradients, on the straight way from embeddings of 0 (captum's default).

    Raises:
        ValueError: captum is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise ValueError("integrated gradients need captum: pip install 'modeling_vanilla[look]'") from None
    method, chunks = IntegratedGradients(text), []
    for embeddings, rows in text.chunks():
        inputs = tuple(one.clone() for one in embeddings)
        options = {"additional_forward_args": (rows,), "n_steps": STEPS, "internal_batch_size": 2 * ROWS}
        chunks.append(list(method.attribute(inputs, **options)))
    return text.named(chunks)
