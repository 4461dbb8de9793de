"""The arithmetic of the model, counted from its numbers: FLOPs of a batch, and the share of a GPU that they use.

Counted is every matrix product, a multiplication and an addition as two operations, over the real tokens: what padding,
recomputed activations and kernels spend beside them is no progress, so it lowers the utilisation (Chowdhery et al. 2022,
"PaLM", appendix B). As there, attention counts every key, the masked ones too. Softmax, norms, activations and the look-up
of embeddings are left out; they are below a few per cent. The backward pass has two products for each one of the forward
pass, so a training step is three forward passes (Kaplan et al. 2020, "Scaling laws", sec. 2.1).

Letters: n source tokens, m target tokens, D d_model, F d_ff, A heads x head_dim (queries, keys), W heads x v_head_dim
(values), V vocabulary. A product of (a, b) and (b, c) is 2abc.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from modeling_vanilla import VanillaConfig
    from train.collate import Batch

IGNORE = -100
BACKWARD = 3
"""A training step in forward passes."""

# Dense peaks in TFLOP/s, from NVIDIA's data sheets (half of the figure with sparsity where that one is printed): bf16
# with fp32 sums on tensor cores, TF32, and fp32 on the ordinary cores. The first name found in the device's name counts.
PEAKS: dict[str, tuple[float, float, float]] = {
    "B200": (2250.0, 1125.0, 75.0),
    "H200": (989.4, 494.7, 66.9),
    "GH200": (989.4, 494.7, 66.9),
    "H100 PCIe": (756.5, 378.0, 51.2),
    "H100 NVL": (835.0, 417.5, 60.0),
    "H100": (989.4, 494.7, 66.9),
    "A100": (312.0, 156.0, 19.5),
    "L40S": (362.1, 183.2, 91.6),
    "L4": (121.0, 60.5, 30.3),
    "RTX 4090": (165.2, 82.6, 82.6),
    "RTX 3090": (71.2, 35.6, 35.6),
    "A6000": (154.8, 77.4, 38.7),
    "A10": (125.0, 62.5, 31.2),
}


class Lengths(NamedTuple):
    """What the cost of a batch depends on, as sums over its rows.

    Attributes:
        rows: number of rows.
        source: n, tokens of the encoder.
        source_pairs: n * n.
        target: m, tokens of the decoder.
        target_pairs: m * m.
        cross_pairs: m * n.
        predicted: places that are mapped to the vocabulary.
    """

    rows: int
    source: int = 0
    source_pairs: int = 0
    target: int = 0
    target_pairs: int = 0
    cross_pairs: int = 0
    predicted: int = 0


def forward_flops(config: "VanillaConfig", lengths: Lengths, num_classes: int = 0) -> int:
    """Return the FLOPs of one forward pass.

    Args:
        config: the model's numbers.
        lengths: of the batch.
        num_classes: outputs of a classifier, which has no map to the vocabulary; 0 = a language model.
    """
    d, a, w = config.d_model, config.num_heads * config.head_dim, config.num_heads * config.v_head_dim
    feed_forward = 2 * 2 * d * config.d_ff
    read, write = 2 * d * a, 2 * w * d  # queries of a token, its output
    remember = 2 * d * (a + w)  # its key and value
    pair = 2 * (a + w)  # a query's score of a key, and the share it takes of the value
    has_encoder, has_decoder = config.variant != "decoder", config.variant != "encoder"
    total = 0
    if has_encoder:
        per_token = read + remember + write + feed_forward
        total += config.num_layers * (lengths.source * per_token + lengths.source_pairs * pair)
    if has_decoder:
        depth = config.num_decoder_layers if has_encoder else config.num_layers
        per_token = read + remember + write + feed_forward
        layer = lengths.target * per_token + lengths.target_pairs * pair
        if has_encoder:
            layer += lengths.target * (read + write) + lengths.source * remember + lengths.cross_pairs * pair
        total += depth * layer
    if num_classes:
        return total + lengths.rows * 2 * d * (d + num_classes)
    transform = 2 * d * d if config.variant == "encoder" else 0  # the layer before BERT's vocabulary
    return total + lengths.predicted * (transform + 2 * d * config.vocab_size)


def training_flops(config: "VanillaConfig", lengths: Lengths, num_classes: int = 0) -> int:
    """Return the FLOPs of one forward and backward pass."""
    return BACKWARD * forward_flops(config, lengths, num_classes)


def lengths_of(inputs: dict[str, torch.Tensor], variant: str) -> Lengths:
    """Return the lengths of a batch of `collate.Collator`, padding left out.

    Rows that hold several sequences, told by positions that restart, count as those sequences: attention does not cross
    their borders.
    """
    first = _sequence_lengths(inputs.get("attention_mask"), inputs.get("position_ids"))
    labels = inputs["labels"]
    rows, source = len(labels), (int(first.sum()), int((first * first).sum()))
    predicted = int((labels != IGNORE).sum()) if labels.dim() == 2 else 0
    if variant == "encoder":
        return Lengths(rows, *source, predicted=predicted)
    if variant == "decoder":
        return Lengths(rows, target=source[0], target_pairs=source[1], predicted=source[0])
    target = _sequence_lengths(labels != IGNORE, inputs.get("decoder_position_ids"))
    pairs = int((target * first).sum())
    return Lengths(rows, *source, int(target.sum()), int((target * target).sum()), pairs, predicted)


def _sequence_lengths(mask: torch.Tensor | None, position_ids: torch.Tensor | None) -> torch.Tensor:
    """Return the length of every sequence in rows (B, T), in the order of the rows.

    Args:
        mask: (B, T), nonzero = real; one of another shape, or none, leaves it to the positions to tell.
        position_ids: (B, T), restarting with each sequence of a row, 0 at padding behind them; None = one to a row.
    """
    if position_ids is None:
        return mask.ne(0).sum(-1)
    if mask is None or mask.dim() != 2:
        # Padding is what lies behind the last place that is not 0.
        mask = position_ids.ne(0).flip(-1).cumsum(-1).flip(-1)
    real = mask.ne(0)
    starts = (position_ids.eq(0) & real).flatten()
    return torch.bincount(starts.cumsum(0)[real.flatten()])[1:]


def of_step(model: "PreTrainedModel", micro: Sequence["Batch"]) -> int:
    """Return the training FLOPs of one process's micro-batches; one without real tokens only keeps the processes in step."""
    config: Any = model.config
    return sum(of_batch(config, batch.inputs) for batch in micro if batch.real_tokens)


def of_batch(config: "VanillaConfig", inputs: dict[str, torch.Tensor]) -> int:
    """Return the training FLOPs of a batch's real tokens."""
    classes = config.num_labels if inputs["labels"].dim() == 1 else 0
    return training_flops(config, lengths_of(inputs, config.variant), classes)


def per_token(config: "VanillaConfig", source: int = 0, target: int = 0) -> float:
    """Return the training FLOPs per real token, source and target counted, of language-model rows of these lengths.

    Args:
        config: the model's numbers.
        source: n, tokens of the encoder; 0 for a decoder alone.
        target: m, tokens of the decoder; 0 for an encoder alone, whose every place is then predicted.
    """
    lengths = Lengths(1, source, source * source, target, target * target, source * target, target or source)
    return training_flops(config, lengths) / (source + target)


def peak(device_name: str, precision: str, matmul_precision: str) -> float | None:
    """Return the dense peak of a GPU in FLOP/s for a run's precision, None for one that is not listed.

    Args:
        device_name: as `torch.cuda.get_device_name` has it.
        precision: `loop.precision`.
        matmul_precision: `loop.matmul_precision`; below "highest", fp32 products run as TF32.
    """
    found = next((figures for name, figures in PEAKS.items() if re.search(rf"\b{name}\b", device_name)), None)
    if found is None:
        return None
    column = 0 if precision == "bf16" else 2 if matmul_precision == "highest" else 1
    return found[column] * 1e12
