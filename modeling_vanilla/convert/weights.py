# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What of the weights of GPT-2, BERT, RoBERTa, BART and Marian no table of names can say.

Fused matrices, unused rows, another order of the columns: `read` turns their state dict into one with exactly one
tensor per weight of ours, still under their names; `write` is its inverse.

Dimension letters: D d_model, P positions, V vocabulary.
"""

from typing import Any

import torch

State = dict[str, torch.Tensor]
MARIAN_COPIES = ("shared.weight", "embed_positions.weight")  # Marian's positions are computed


def unchanged(state: State, config: Any) -> State:
    """Return the weights as they are."""
    return state


# ---- GPT-2: matrices are (in, out), and those of queries, keys and values lie side by side.


def read_gpt2(state: State, config: Any) -> State:
    out = {}
    for key, value in state.items():
        if ".c_" in key and key.endswith(".weight"):
            value = value.T
        if ".c_attn." in key:
            out |= {key.replace("c_attn", name): third for name, third in zip("qkv", value.chunk(3), strict=True)}
        else:
            out[key] = value
    return out


def write_gpt2(state: State, config: Any) -> State:
    out = {}
    for key, value in state.items():
        if ".attn.q." in key:
            key, value = (
                key.replace(".q.", ".c_attn."),
                torch.cat([state[key.replace(".q.", f".{n}.")] for n in "qkv"]),
            )
        elif ".attn.k." in key or ".attn.v." in key:
            continue
        out[key] = value.T if ".c_" in key and key.endswith(".weight") else value
    return out


# ---- BERT: the bias of the output has a second name.


def write_bert(state: State, config: Any) -> State:
    bias = "cls.predictions.decoder.bias"
    return state | ({bias.replace("decoder.", ""): state[bias]} if bias in state else {})


# ---- RoBERTa and BART: unused rows in front of the position table.


def read_roberta(state: State, config: Any) -> State:
    # Its first token has position pad_token_id + 1, its padding pad_token_id.
    return {k: v[config.pad_token_id + 1 :] if "position_embeddings" in k else v for k, v in state.items()}


def _read_bias(state: State) -> State:
    """Call final_logits_bias (1, V) what it is, the bias (V,) of lm_head; drop it where it is all 0."""
    state = dict(state)
    bias = state.pop("final_logits_bias", None)
    if bias is not None and bias.any():
        state["lm_head.bias"] = bias[0]
    return state


def _write_bias(state: State) -> State:
    """Undo `_read_bias`, and name the shared embedding a third time."""
    out = {}
    for key, value in state.items():
        if key == "lm_head.bias":
            key, value = "final_logits_bias", value[None]
        out[key] = value
        if key.endswith("encoder.embed_tokens.weight"):
            out[key.replace("encoder.embed_tokens", "shared")] = value
    if "lm_head.weight" in out:
        out.setdefault("final_logits_bias", out["lm_head.weight"].new_zeros(1, out["lm_head.weight"].shape[0]))
    return out


def read_bart(state: State, config: Any) -> State:
    return {k: v[2:] if "embed_positions" in k else v for k, v in _read_bias(state).items()}


def write_bart(state: State, config: Any) -> State:
    def with_rows(table: torch.Tensor) -> torch.Tensor:
        return torch.cat([table.new_zeros(2, table.shape[1]), table])  # (P, D) -> (2 + P, D)

    return {k: with_rows(v) if "embed_positions" in k else v for k, v in _write_bias(state).items()}


# ---- Marian: all sines of a position first, then all cosines.


def marian_order(d_model: int) -> torch.Tensor:
    """Return the columns (D,) of Marian's residual stream in the order of the paper's.

    The paper's PE (sec. 3.5) has sine and cosine in turn, Marian's the halves one after the other. Positions are
    added to the embeddings, so all that reads or writes the residual stream follows: ours at 2i is Marian's at i, ours
    at 2i + 1 is Marian's at D/2 + i. Hidden states are permuted, attention weights and logits the same.
    """
    half = torch.arange(d_model // 2)
    return torch.stack([half, half + d_model // 2], dim=1).flatten()


def _reorder(state: State, order: torch.Tensor) -> State:
    """Permute the residual stream, the axis of size D, in every weight that reads or writes it."""
    out = {}
    for key, value in state.items():
        module, kind = key.rsplit(".", 1) if "." in key else (key, "bias")
        if module.endswith(("out_proj", "fc2", "norm")):
            value = value[order]
        elif kind == "weight":
            value = value[:, order]
        out[key] = value
    return out


def read_marian(state: State, config: Any) -> State:
    kept = {k: v for k, v in _read_bias(state).items() if not k.endswith(MARIAN_COPIES)}
    return _reorder(kept, marian_order(config.d_model))


def write_marian(state: State, config: Any) -> State:
    return _write_bias(_reorder(state, marian_order(config.d_model).argsort()))
