"""The examples that learners compute by hand, computed by this package's own attention, and the weights counted.

Dimension letters: T tokens, K head_dim, D d_model, H heads.
"""

import argparse
import math
from collections.abc import Iterable

import torch
from matplotlib.figure import Figure
from torch import nn

from lab.outcome import Outcome, Table
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from modeling_vanilla.attention import MultiHeadAttention, scaled_dot_product_attention

TITLE = "the worked examples, right: scores, weights, outputs, and the weights counted (--walk: one step in full)"
SECONDS = 10

# Four tokens of width 4 and their queries, keys and values, as a widely read introduction gives them.
EMBEDDINGS = ((0.2, 0.5, -0.1, 0.8), (-0.4, 0.9, 0.3, -0.6), (0.7, 0.2, -0.5, 0.3), (0.1, -0.3, 0.6, 0.4))
FIRST_QUERY, FIRST_KEY, FIRST_VALUE = (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8), (0.9, 1.0, 1.1, 1.2)
# Three scores of a head of width 3, two of them far below the first.
FAR_SCORES, FAR_WIDTH = (10.0, 0.0, -1.0), 3


def options(parser: argparse.ArgumentParser) -> None:
    """Add --walk."""
    parser.add_argument(
        "--walk", action="store_true", help="one training step instead: every shape, equation, gradient"
    )


def run(options: argparse.Namespace) -> Outcome:
    """Compute the examples, or walk through one step of training."""
    if options.walk:
        from lab.walk import walk

        return walk()
    query, key, value = example()
    scores = query @ key.T  # (T, T)
    far = torch.tensor(FAR_SCORES, dtype=torch.float64)
    counts = {name: weights_by_part(config) for name, config in models().items()}
    tables = [
        scores_table(scores),
        weights_table(query, key, value),
        projections_table(),
        no_softmax_table(scores[0]),
        far_table(far),
        head_table(),
        counts_table(counts),
    ]
    return Outcome(tables, conclusion(scores, counts), figure(scores[0], counts))


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return queries, keys and values (T, K): each row is the one before plus 0.1."""
    steps = 0.1 * torch.arange(4, dtype=torch.float64)[:, None]  # (T, 1)
    rows = (torch.tensor(first, dtype=torch.float64) + steps for first in (FIRST_QUERY, FIRST_KEY, FIRST_VALUE))
    query, key, value = rows
    return query, key, value


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights (T, T) and outputs (T, K) of this package's equation 1."""
    heads = (matrix[None, None] for matrix in (query, key, value))  # (1, 1, T, K)
    context, weights = scaled_dot_product_attention(nn.Identity(), *heads, None, scaling)
    return weights[0, 0], context[0, :, 0]


def projections() -> dict[str, torch.Tensor]:
    """Return the only W (D, K) with E W = Q, and likewise for K and V: E has full rank."""
    embeddings = torch.tensor(EMBEDDINGS, dtype=torch.float64)
    return {name: torch.linalg.solve(embeddings, rows) for name, rows in zip(("q", "k", "v"), example(), strict=True)}


def layer_of(matrices: dict[str, torch.Tensor]) -> MultiHeadAttention:
    """Return a MultiHeadAttention of one head with these W_q, W_k, W_v, no biases, and W^O = 1."""
    width = len(EMBEDDINGS[0])
    config = VanillaConfig(variant="encoder", vocab_size=4, d_model=width, d_ff=width, num_heads=1, num_layers=1)
    config._attn_implementation = "eager"
    layer = MultiHeadAttention(config, layer_idx=0).double()
    for linear in (layer.q_proj, layer.k_proj, layer.v_proj, layer.out_proj):
        nn.init.zeros_(linear.bias)
    with torch.no_grad():
        for name, matrix in matrices.items():
            layer.get_submodule(f"{name}_proj").weight.copy_(matrix.T)
        layer.out_proj.weight.copy_(torch.eye(width))
    return layer


def models() -> dict[str, VanillaConfig]:
    """Return the two models of Table 3."""
    return {"base": VanillaConfig.transformer_base(), "big": VanillaConfig.transformer_big()}


def weights_by_part(config: VanillaConfig) -> dict[str, int]:
    """Return the trained numbers of each kind of part of a translator; a shared matrix counts once."""
    with torch.device("meta"):
        model = VanillaForConditionalGeneration(config)
    counts = {"token matrix (source, target and output share it)": 0}
    for name, weight in model.named_parameters():  # names a shared matrix once
        counts[part_of(name)] = counts.get(part_of(name), 0) + weight.numel()
    return counts


def part_of(parameter: str) -> str:
    """Return the kind of part that a parameter belongs to, such as "decoder self-attention: W"."""
    if "embed_tokens" in parameter:
        return "token matrix (source, target and output share it)"
    side = "encoder" if ".encoder." in parameter else "decoder"
    if "norm" in parameter:
        return f"{side}: layer normalisation"
    kinds = {"self_attn": "self-attention", "cross_attn": "attention to the source", "feed_forward": "feed-forward"}
    kind = next(words for name, words in kinds.items() if f".{name}." in parameter)
    return f"{side}: {kind}, {'biases' if parameter.endswith('bias') else 'matrices'}"


def head_counts(config: VanillaConfig) -> dict[str, int]:
    """Return the numbers in the matrices of one attention, biases left out."""
    with torch.device("meta"):
        layer = MultiHeadAttention(config, layer_idx=0)
    all_heads = sum(linear.weight.numel() for linear in (layer.q_proj, layer.k_proj, layer.v_proj))
    output = layer.out_proj.weight.numel()
    return {
        "W_q, W_k, W_v of one head": all_heads // config.num_heads,
        "W_q, W_k, W_v of all heads": all_heads,
        "W^O": output,
        "all four": all_heads + output,
    }


def scores_table(scores: torch.Tensor) -> Table:
    """Show q . k for every pair."""
    columns = ["token", *(f"k of token {number}" for number in range(1, 5))]
    rows = [[f"q of token {number}", *numbers(row, 2)] for number, row in enumerate(scores, 1)]
    return Table("scores q·k, before the division", columns, rows)


def weights_table(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Table:
    """Show weights and outputs of all rows, with the division by sqrt(d_k) and without it."""
    rows = []
    for name, scaling in (("no", 1.0), ("by √4", query.shape[1] ** -0.5)):
        weights, outputs = attend(query, key, value, scaling)
        for number, (weight, output) in enumerate(zip(weights, outputs, strict=True), 1):
            rows.append([name, number, " ".join(numbers(weight, 4)), " ".join(numbers(output, 4))])
    return Table(
        "softmax over a row, and what it makes of the values", ["division", "token", "weights", "output"], rows
    )


def projections_table() -> Table:
    """Show the W_q, W_k, W_v that make those queries, keys and values of the embeddings."""
    rows = [
        [f"W_{name}, row {number}", " ".join(numbers(row, 3))]
        for name, matrix in projections().items()
        for number, row in enumerate(matrix, 1)
    ]
    return Table("the only matrices that make these q, k, v of the page's embeddings", ["matrix", "numbers"], rows)


def no_softmax_table(scores: torch.Tensor) -> Table:
    """Compare a softmax over one row with a sigmoid of each score: also after one number is added to all scores."""
    functions = {"softmax": lambda row: row.softmax(-1), "sigmoid of each": torch.sigmoid}
    rows = []
    for name, function in functions.items():
        weights, moved = function(scores), function(scores + 5)
        rows.append([name, " ".join(numbers(weights, 4)), f"{weights.sum():.2f}", " ".join(numbers(moved, 4))])
    return Table(
        "why a softmax and not a sigmoid of each: the first row",
        ["function", "weights", "sum", "all scores + 5"],
        rows,
    )


def far_table(scores: torch.Tensor) -> Table:
    """Show what the division by sqrt(3) does to scores that lie far apart."""
    rows = []
    for name, divided in (("as they are", scores), ("by √3", scores / math.sqrt(FAR_WIDTH))):
        rows.append([name, " ".join(numbers(divided, 3)), " ".join(f"{weight:.6f}" for weight in divided.softmax(-1))])
    return Table("scores 10, 0, -1 of a head of width 3", ["division", "scores", "weights"], rows)


def head_table() -> Table:
    """Count the numbers of one head and of all."""
    rows = []
    for name, config in models().items():
        width = f"{config.d_model} = {config.num_heads} x {config.head_dim}"
        rows.append([name, width, *(f"{count:,}" for count in head_counts(config).values())])
    columns = ["model", "D = H x K", *head_counts(models()["base"])]
    return Table("numbers in the matrices of one attention", columns, rows)


def counts_table(counts: dict[str, dict[str, int]]) -> Table:
    """Show the numbers of every kind of part of base and big."""
    names = list(counts["base"])
    rows = [[name, *(f"{counts[model][name]:,}" for model in counts)] for name in names]
    rows.append(["all", *(f"{sum(parts.values()):,}" for parts in counts.values())])
    return Table("trained numbers, six layers on each side, 37,000 tokens", ["part", *counts], rows)


def conclusion(scores: torch.Tensor, counts: dict[str, dict[str, int]]) -> str:
    """Say what the numbers say."""
    weights, divided = scores[0].softmax(-1), (scores[0] / 2).softmax(-1)
    share = {
        word: sum(count for name, count in counts["base"].items() if word in name) / sum(counts["base"].values())
        for word in ("feed-forward", "attention", "token matrix")
    }
    return (
        f"The first token's scores are {', '.join(numbers(scores[0], 2))}. The division by √4 makes its largest weight "
        f"{divided.max():.4f} instead of {weights.max():.4f}: a little flatter. Sigmoids of these scores would sum to "
        f"{scores[0].sigmoid().sum():.2f}. Of the {sum(counts['base'].values()) / 1e6:.1f} million numbers of the base "
        f"model, {share['feed-forward']:.0%} stand in feed-forward networks, {share['attention']:.0%} in attention and "
        f"{share['token matrix']:.0%} in the token matrix."
    )


def figure(scores: torch.Tensor, counts: dict[str, dict[str, int]]) -> Figure:
    """Draw the first row's weights by three rules, and where the numbers of base and big stand."""
    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2, width_ratios=(1, 1.2))
    rules = {
        "softmax": scores.softmax(-1),
        "softmax after ÷ √4": (scores / 2).softmax(-1),
        "sigmoid of each": scores.sigmoid(),
    }
    for place, (name, weights) in enumerate(rules.items()):
        left.bar(
            [at + 0.27 * place for at in range(4)], weights.tolist(), 0.25, label=f"{name}: sum {weights.sum():.2f}"
        )
    left.set_xticks([at + 0.27 for at in range(4)], [f"token {at + 1}\nscore {scores[at]:.2f}" for at in range(4)])
    left.set_ylabel("weight")
    left.set_title("what the first token gives to each")
    left.set_ylim(0, 1.1)
    left.legend(loc="upper left")
    kinds = ("token matrix", "self-attention", "attention to the source", "feed-forward", "normalisation")
    start = [0.0] * len(counts)
    for kind in kinds:
        sizes = [sum(count for name, count in parts.items() if kind in name) / 1e6 for parts in counts.values()]
        right.barh(list(counts), sizes, left=start, label=kind)
        start = [begin + size for begin, size in zip(start, sizes, strict=True)]
    right.set_xlabel("millions of trained numbers")
    right.set_title("where the numbers stand")
    right.invert_yaxis()
    right.legend(loc="upper right")
    return drawing


def numbers(row: Iterable[torch.Tensor | float], digits: int) -> list[str]:
    """Return numbers as text with so many decimals."""
    return [f"{float(number):.{digits}f}" for number in row]
