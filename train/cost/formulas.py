"""What a step costs: floating-point operations and memory, counted from the numbers of a model and the shape of its batch.

Operations are those of the matrix products: 2 for every weight and token that meet (so 6N a token in training, Kaplan et al.
2020, sec. 2.1), and 2 d for every pair of positions in Q K^T and in the product of the weights with V (Chinchilla counts
them so, Hoffmann et al. 2022, appendix F). Looking embeddings up costs none; norms, softmax and dropout are left out. A
causal mask saves nothing here, as in most kernels' own counts.

Letters: D d_model, F d_ff, H heads, K head_dim, L layers, V vocabulary.
"""

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from train.tasks import TASKS

if TYPE_CHECKING:
    from modeling_vanilla import VanillaConfig


@dataclass
class Load:
    """What one step, or one micro-batch, puts through a model, padding included; means over batches may be fractions.

    Attributes:
        source: positions in the encoder.
        target: positions in the decoder.
        source_pairs: pairs of positions that encoder self-attention compares, rows x length^2.
        target_pairs: likewise in the decoder.
        cross_pairs: pairs of a target and a source position.
        outputs: vectors that the head maps to scores.
    """

    source: float = 0.0
    target: float = 0.0
    source_pairs: float = 0.0
    target_pairs: float = 0.0
    cross_pairs: float = 0.0
    outputs: float = 0.0

    def __add__(self, other: "Load") -> "Load":
        return Load(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> "Load":
        return Load(*(value * factor for value in astuple(self)))


def load_of(task: str, rows: int, lengths: tuple[int, ...], mask_probability: float = 0.15) -> Load:
    """Return the load of a padded batch.

    Args:
        task: of the recipe.
        rows: rows of the batch.
        lengths: longest row on each side, as `Examples.lengths` counts it: a causal row holds one token more.
        mask_probability: share of the places that a masked model maps to the vocabulary in training.
    """
    if task == "translation":
        source, target = lengths
        cells = (rows * source, rows * target)
        return Load(*cells, rows * source**2, rows * target**2, rows * source * target, cells[1])
    (length,) = lengths
    if task == "causal":
        length += 1
        return Load(target=rows * length, target_pairs=rows * length**2, outputs=rows * length)
    outputs = rows if TASKS[task].has_classes else rows * length * (mask_probability if task == "masked" else 1)
    return Load(source=rows * length, source_pairs=rows * length**2, outputs=outputs)


def forward_flops(config: "VanillaConfig", task: str, load: Load) -> dict[str, float]:
    """Return the operations of one forward pass by part; a training step takes three times as many."""
    d, queries, values = config.d_model, config.num_heads * config.head_dim, config.num_heads * config.v_head_dim
    query, output, key_value = d * queries, values * d, d * (queries + values)
    ffn, pair = 2 * d * config.d_ff, 2 * (queries + values)
    source = 2 * load.source * (query + key_value + output + ffn) + pair * load.source_pairs
    target = 2 * load.target * (query + key_value + output + ffn) + pair * load.target_pairs
    encoders, decoders = depths(config)
    if config.is_encoder_decoder:
        target += 2 * load.target * (query + output) + 2 * load.source * key_value + pair * load.cross_pairs
    head = d * config.vocab_size
    if task == "masked":
        head += d * d
    elif TASKS[task].has_spans:
        head = 2 * d
    elif TASKS[task].label_column:
        head = d * config.num_labels + (d * d if TASKS[task].has_classes else 0)
    return {"encoder": encoders * source, "decoder": decoders * target, "head": 2 * load.outputs * head}


def training_flops(forward: dict[str, float], checkpointing: bool = False) -> float:
    """Return the operations of a training step: forward, twice that backward, and the layers once more if recomputed."""
    total = 3 * sum(forward.values())
    return total + forward["encoder"] + forward["decoder"] if checkpointing else total


def depths(config: "VanillaConfig") -> tuple[int, int]:
    """Return the number of encoder layers and of decoder layers."""
    if config.is_encoder_decoder:
        return config.num_layers, config.num_decoder_layers
    return (config.num_layers, 0) if config.variant == "encoder" else (0, config.num_layers)


# Tensors of the inner layer's width that an activation keeps, its result included; most keep their input too.
KEPT_BY_ACTIVATION = {"relu": 1}


@dataclass
class Keeping:
    """How a step runs, as far as it decides what is kept for the backward pass.

    Attributes:
        bf16: autocast.
        checkpointing: recompute the layers.
        eager: attention weights are kept; fused kernels keep none.
        mask: bytes of one dropout decision: 1 on a GPU; a CPU keeps a number of the working type, 0 stands for that.
    """

    bf16: bool = False
    checkpointing: bool = False
    eager: bool = False
    mask: int = 1

    @property
    def size(self) -> int:
        """Return the bytes of a number in a matrix product."""
        return 2 if self.bf16 else 4


def activation_bytes(config: "VanillaConfig", load: Load, keeping: Keeping) -> float:
    """Estimate the bytes that the stacks keep for the backward pass of one micro-batch, the head aside.

    What is kept, in elements a position: the input of q, k, v; q, k, v; the context; the input of each norm; the input of
    the feed-forward network and its inner layer; a mask for every dropout. Under bf16 autocast matrix products keep bf16
    and cast their shared input once for each of q, k, v; norms keep fp32. With checkpointing each layer keeps its input
    alone, and one layer at a time is recomputed.

    Args:
        config: the model's numbers.
        load: of the micro-batch of one process.
        keeping: how the step runs.
    """
    d, cells = config.d_model, load.source + load.target
    layers = [(depth, _layer_bytes(config, load, side, keeping)) for side, depth in enumerate(depths(config)) if depth]
    outside = cells * d * (config.dropout > 0) * (keeping.mask or 4) + 4 * cells * d * config.embedding_norm
    if config.norm_order == "pre":
        outside += 4 * cells * d  # the input of the final norm
    if config.is_encoder_decoder:
        outside += 4 * load.source * d  # the encoder's output
    if keeping.checkpointing:
        inputs = (load.source * config.num_layers, load.target * depths(config)[1])
        return outside + 4 * d * sum(inputs) + max(layer for _, layer in layers)
    return outside + sum(depth * layer for depth, layer in layers)


def _layer_bytes(config: "VanillaConfig", load: Load, side: int, keeping: Keeping) -> float:
    """Return what one layer keeps; `side` 0 is the encoder, 1 the decoder."""
    cells, pairs = (load.target, load.target_pairs) if side else (load.source, load.source_pairs)
    d, size, mask = config.d_model, keeping.size, keeping.mask or keeping.size
    heads = config.num_heads * (config.head_dim + config.v_head_dim)
    inner = config.d_ff * KEPT_BY_ACTIVATION.get(config.activation, 2) * size
    inner += config.d_ff * (size + mask) * (config.activation_dropout > 0)
    # The weights of the softmax and, after a dropout, the mask and what it left.
    weights = keeping.eager * config.num_heads * (size + (size + mask) * (config.attention_dropout > 0))
    # Fused kernels keep the padding as numbers, (rows, length, length), and one number a query and head.
    fused = 0 if keeping.eager else 4 * cells * config.num_heads
    weights += 0 if keeping.eager else size
    around = cells * (4 * d + 8 + d * mask * (config.dropout > 0))  # a sub-layer's norm, in fp32, and its dropout
    copies = 3 if keeping.bf16 else 1
    total = around + cells * (copies * d + 2 * heads) * size + weights * pairs + fused
    total += around + cells * (d * size + inner)
    if side and config.is_encoder_decoder:
        # The encoder's output is one tensor for all layers in fp32, and is cast twice in each of them in bf16.
        source = heads + (2 * d if keeping.bf16 else 0)
        total += around + (cells * (d + heads) + load.source * source) * size + weights * load.cross_pairs + fused
    return total


def head_bytes(config: "VanillaConfig", task: str, load: Load, keeping: Keeping) -> tuple[float, float]:
    """Return what the head keeps for the backward pass, and what the gradients of the scores take at the peak of a step.

    The loss is taken in fp32 and keeps the log-probabilities; their gradient and that of the scores come on top, the latter
    also in bf16 under autocast.
    """
    if TASKS[task].has_spans:
        return load.outputs * 2 * 4, load.outputs * 2 * 8
    if TASKS[task].label_column:
        width = config.d_model * (3 if TASKS[task].has_classes else 1) + config.num_labels
        return load.outputs * width * 4, load.outputs * config.num_labels * 8
    inputs = config.d_model * keeping.size
    if task == "masked":
        # One more dense layer, its activation and its norm.
        inputs = config.d_model * ((2 + KEPT_BY_ACTIVATION.get(config.activation, 2)) * keeping.size)
    kept = load.outputs * (4 * config.vocab_size + inputs)
    return kept, load.outputs * config.vocab_size * (8 + 2 * keeping.bf16)


def state_bytes(parameters: int, matrices: int, bf16: bool, shards: int = 1) -> dict[str, float]:
    """Return the bytes of what stays between steps, in fp32: weights, gradients, and Adam's two moments.

    Args:
        parameters: of the whole model.
        matrices: those that autocast casts to bf16 for the products; these copies live through a step.
        bf16: autocast.
        shards: processes that share the weights (FSDP2); 1 where each has all.
    """
    kept = 4 * parameters / shards
    state = {"weights": kept, "gradients": kept, "Adam moments": 2 * kept}
    return state | ({"bf16 copies of weights": 2.0 * matrices} if bf16 else {})
