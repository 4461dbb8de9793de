"""One step of training in full: `python -m lab numbers --walk`.

From two texts to pieces, ids and rows of the matrix; every tensor of the forward pass with its shape, section and equation
(Vaswani et al. 2017); the loss; each matrix's gradient; one step of Adam; the same batch's loss after it.

Dimension letters: B batch, S source length, T target length, D d_model, H heads, K head_dim, F d_ff, V vocabulary.
"""

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn
from transformers import PreTrainedTokenizerFast

import tokenizer as tokenizers
from lab.outcome import Outcome, Table
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from modeling_vanilla.attention import MultiHeadAttention
from train.data.dates import dates

SEED, VOCABULARY, RATE = 0, 160, 1e-3

# The end of a module's name; its section, equation and letters. L is the length of its own side, M of the side it reads.
STEPS = {
    "embed_tokens": ("3.4", "x = √D · E[id]", "B L D"),
    "embeddings.positions": ("3.5", "PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos", "1 L D"),
    "embeddings.dropout": ("3.4, 3.5", "x + PE", "B L D"),
    "q_proj": ("3.2.2", "Q = x W_q + b, all heads beside each other", "B L H·K"),
    "k_proj": ("3.2.2", "K = y W_k + b", "B M H·K"),
    "v_proj": ("3.2.2", "V = y W_v + b", "B M H·K"),
    "weights": ("3.2.1, eq. 1", "A = softmax(Q Kᵀ / √K)", "B H L M"),
    "context": ("3.2.1, eq. 1", "A V, heads joined", "B L H·K"),
    "out_proj": ("3.2.2", "Concat(head_1 ... head_H) W^O + b", "B L D"),
    "norm": ("3.1", "LayerNorm(x + Sublayer(x))", "B L D"),
    "fc1": ("3.3, eq. 2", "x W_1 + b_1", "B L F"),
    "activation": ("3.3, eq. 2", "max(0, ·)", "B L F"),
    "fc2": ("3.3, eq. 2", "· W_2 + b_2", "B L D"),
    "lm_head": ("3.4", "logits = y Eᵀ, the same E", "B L V"),
}


def walk() -> Outcome:
    """Take one step on one pair of texts and show all of it."""
    pair = next(zip(*dates(seed=SEED, train=400)["train"].values(), strict=True))
    pieces = tokenizer_of_dates()
    source = pieces(pair[0], return_tensors="pt").input_ids  # (B, S)
    labels = pieces(pair[1], return_tensors="pt").input_ids  # (B, T)
    torch.manual_seed(SEED)
    model = VanillaForConditionalGeneration(small_config(pieces))
    target = model.prepare_decoder_input_ids_from_labels(labels)
    passed, loss = forward(model, source, labels)
    loss.backward()
    tables = [
        pieces_table("the source", pieces, source, model),
        pieces_table(
            "what the decoder reads: the start token, then the target without its last", pieces, target, model
        ),
        Table("the forward pass", ["part", "section", "equation", "letters", "shape"], passed),
        labels_table(pieces, labels, model, source),
        gradients_table(model),
        step_table(model),
    ]
    with torch.no_grad():
        after = model(source, labels=labels).loss
    return Outcome(tables, conclusion(model, loss, after, pair), figure(model))


def tokenizer_of_dates() -> PreTrainedTokenizerFast:
    """Return a small shared vocabulary of pieces, merged from made dates (Sennrich et al. 2016)."""
    rows = dates(seed=SEED, train=2000)["train"]
    return tokenizers.build("bpe", rows["source"] + rows["target"], VOCABULARY, "seq2seq", show_progress=False)


def small_config(pieces: PreTrainedTokenizerFast) -> VanillaConfig:
    """Return one layer on each side, all sizes different; no dropout and no smoothing, so that numbers repeat."""
    config = VanillaConfig.tiny(
        vocab_size=len(pieces), num_layers=1, num_heads=3, head_dim=6, dropout=0.0, label_smoothing=0.0
    )
    config._attn_implementation = "eager"  # the kernel that returns its weights
    return config


def forward(model: nn.Module, source: torch.Tensor, labels: torch.Tensor) -> tuple[list[list[Any]], torch.Tensor]:
    """Run one pass; return a row for each tensor in the order in which they are made, and the loss."""
    rows: list[list[Any]] = []

    def record(name: str, step: str, tensor: torch.Tensor) -> list[Any]:
        section, equation, letters = STEPS[step]
        shape = " x ".join(map(str, tensor.shape))
        return [name, section, equation, letters_of(letters, name), shape]

    def after(name: str, step: str):
        def hook(module, inputs, output):
            if step == "out_proj":
                rows.append(record(f"{name.removesuffix('.out_proj')}: context", "context", inputs[0]))
            rows.append(record(name, step, output))

        return hook

    def weights(name: str):
        # An attention returns after its last projection: its weights were made before the two rows written last.
        return lambda module, inputs, output: rows.insert(-2, record(f"{name}: weights", "weights", output[1]))

    hooks = []
    for path, module in model.named_modules():
        name = path.removeprefix("model.").replace(".layers.0", "")
        step = next((end for end in STEPS if path.endswith(end)), None)
        if step:
            hooks.append(module.register_forward_hook(after(name, step)))
        if isinstance(module, MultiHeadAttention):
            hooks.append(module.register_forward_hook(weights(name)))
    loss = model(source, labels=labels).loss
    for hook in hooks:
        hook.remove()
    rows.append(["loss", "5.4", "-mean over T of log softmax(logits)[label]", "", f"{loss.item():.4f} nats"])
    return rows, loss


def letters_of(letters: str, name: str) -> str:
    """Put the letters of a part's two sides, S or T, for L (its own) and M (the one it reads)."""
    own = "S" if name.startswith("encoder") else "T"
    read = "S" if "cross_attn" in name else own
    return f"({', '.join(letters.replace('L', own).replace('M', read).split())})"


def pieces_table(title: str, pieces: PreTrainedTokenizerFast, ids: torch.Tensor, model: nn.Module) -> Table:
    """Show pieces, ids, and the start of what the stack reads: a row of the matrix times sqrt(D), plus the position."""
    encoder = model.model.encoder
    with torch.no_grad():
        matrix = encoder.embed_tokens.weight[ids[0]]
        positions = encoder.embeddings.positions(torch.arange(ids.shape[1])[None])[0]
        entered = encoder.embeddings(encoder.embed_tokens(ids), torch.arange(ids.shape[1])[None])[0]
    rows = [
        [place, piece, int(number), *(" ".join(f"{entry:+.2f}" for entry in row[:3]) for row in rows)]
        for place, (piece, number, *rows) in enumerate(
            zip(pieces.convert_ids_to_tokens(ids[0]), ids[0], matrix, positions, entered, strict=True)
        )
    ]
    columns = ["place", "piece", "id", "row of E (first 3)", "PE", "√D · row + PE"]
    return Table(title, columns, rows)


def labels_table(
    pieces: PreTrainedTokenizerFast, labels: torch.Tensor, model: nn.Module, source: torch.Tensor
) -> Table:
    """Show each label, the probability that the model gives it, and its share of the loss."""
    with torch.no_grad():
        chances = model(source, labels=labels).logits.softmax(-1)[0].gather(1, labels[0, :, None])[:, 0]
    names = pieces.convert_ids_to_tokens(labels[0])
    rows = [
        [place, name, f"{chance:.4f}", f"{-math.log(chance):.3f}"]
        for place, (name, chance) in enumerate(zip(names, chances.tolist(), strict=True))
    ]
    return Table("the labels", ["place", "label", "probability", "-log, in nats"], rows)


def gradients_table(model: nn.Module) -> Table:
    """Show each matrix, its gradient's norm, and which rows got any: the source's ids, and all through the softmax."""
    rows = []
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            moved = int(weight.grad.abs().sum(1).gt(0).sum())
            shape = " x ".join(map(str, weight.shape))
            norms = [f"{weight.norm().item():.3f}", f"{weight.grad.norm().item():.4f}"]
            rows.append([name.removeprefix("model."), shape, *norms, f"{moved} of {len(weight)}"])
    return Table("each matrix's gradient", ["matrix", "shape", "norm", "norm of gradient", "rows with any"], rows)


def step_table(model: nn.Module) -> Table:
    """Take one step of Adam and show one number of some matrices before and after."""
    parameters = {name: weight for name, weight in model.named_parameters() if weight.dim() == 2}
    before = {name: weight[0, 0].item() for name, weight in parameters.items()}
    torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.98), eps=1e-9).step()
    rows = []
    for name, weight in parameters.items():
        moved = weight[0, 0].item() - before[name]
        numbers = [f"{before[name]:+.5f}", f"{weight.grad[0, 0].item():+.2e}", f"{moved:+.5f}"]
        rows.append([name.removeprefix("model."), *numbers])
    return Table(
        f"one step of Adam, rate {RATE:g} (sec. 5.3): the first number of each matrix",
        ["matrix", "before", "gradient", "moved by"],
        rows,
    )


def conclusion(model: nn.Module, loss: torch.Tensor, after: torch.Tensor, pair: tuple[str, str]) -> str:
    """Say what one step did."""
    chance = math.log(model.config.vocab_size)
    rows = model.model.encoder.embed_tokens.weight.grad.abs().sum(1).gt(0).float().mean()
    return (
        f"{pair[0]!r} -> {pair[1]!r}: the loss was {loss.item():.4f} nats (guessing among {model.config.vocab_size} pieces: "
        f"{chance:.4f}) and is {after.item():.4f} after one step. Adam's first step moves a number by its rate, whatever "
        f"the size of its gradient. {rows:.0%} of the rows of E have a gradient, since E is the output matrix too."
    )


def figure(model: nn.Module) -> Figure:
    """Draw the norm of each matrix's gradient."""
    matrices = [(name, weight) for name, weight in model.named_parameters() if weight.dim() == 2]
    names = [name.removeprefix("model.").replace(".layers.0", "").removesuffix(".weight") for name, _ in matrices]
    drawing = Figure(figsize=(8, 5), layout="constrained")
    axes = drawing.subplots()
    axes.barh(names, [weight.grad.norm().item() for _, weight in matrices])
    axes.invert_yaxis()
    axes.set_xlabel("norm of the gradient at the first step")
    return drawing
