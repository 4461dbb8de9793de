# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Where each option and each weight of BERT, RoBERTa, GPT-2, BART and Marian lives in a Vanilla model, as tables.

A layout says what must hold on either side and what is called how. What a table of names cannot say (fused matrices,
unused rows, another order of the columns) is a pair of functions per layout: `read` turns their state dict into one
with exactly one tensor per weight of ours, still under their names; `write` is its inverse.

Dimension letters: D d_model, P positions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

State = dict[str, torch.Tensor]

# Both sides call these the same. The training loss's label_smoothing has no place in any of the others.
SAME = {name: name for name in ("vocab_size", "tie_word_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")}
SAME |= {"use_cache": "use_cache", "max_position_embeddings": "max_position_embeddings"}


def _unchanged(state: State, config: Any) -> State:
    return state


@dataclass(frozen=True)
class Layout:
    """One foreign architecture.

    Args:
        variant: Ours.
        classes: Their class name -> ours; the first of two of theirs with the same one of ours is what is written.
        fields: Our option -> theirs; several of theirs, separated by blanks, are one option of ours and must agree.
        ours: Our option -> the value that this architecture has built in.
        theirs: Their option -> the only value that Vanilla can follow. One that is absent is taken to have it.
        body: Our module -> theirs, both without the name of the model in front; `#` is the number of the layer.
        heads: The same for what lies beside the model.
        unused: Endings of their weights that have no place here: either copies, or without influence on the logits.
        read: See the module's docstring.
        write: See the module's docstring.
    """

    variant: str
    classes: dict[str, str]
    fields: dict[str, str]
    ours: dict[str, Any]
    theirs: dict[str, Any]
    body: dict[str, str]
    heads: dict[str, str]
    unused: tuple[str, ...] = ()
    read: Callable[[State, Any], State] = field(default=_unchanged)
    write: Callable[[State, Any], State] = field(default=_unchanged)


# ---- GPT-2: matrices are (in, out), and those of queries, keys and values lie side by side.


def _read_gpt2(state: State, config: Any) -> State:
    out = {}
    for key, value in state.items():
        if ".c_" in key and key.endswith(".weight"):
            value = value.T
        if ".c_attn." in key:
            out |= {key.replace("c_attn", name): part for name, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            out[key] = value
    return out


def _write_gpt2(state: State, config: Any) -> State:
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


def _write_bert(state: State, config: Any) -> State:
    bias = "cls.predictions.decoder.bias"
    return state | ({bias.replace("decoder.", ""): state[bias]} if bias in state else {})


# ---- RoBERTa and BART: unused rows in front of the position table.


def _read_roberta(state: State, config: Any) -> State:
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


def _read_bart(state: State, config: Any) -> State:
    return {k: v[2:] if "embed_positions" in k else v for k, v in _read_bias(state).items()}


def _write_bart(state: State, config: Any) -> State:
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


def _read_marian(state: State, config: Any) -> State:
    kept = {k: v for k, v in _read_bias(state).items() if not k.endswith(_COPIES)}
    return _reorder(kept, marian_order(config.d_model))


def _write_marian(state: State, config: Any) -> State:
    return _write_bias(_reorder(state, marian_order(config.d_model).argsort()))


_COPIES = ("shared.weight", "embed_positions.weight")  # Marian's positions are computed

_BERT_LAYER = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_norm": "attention.output.LayerNorm",
    "feed_forward.fc1": "intermediate.dense",
    "feed_forward.fc2": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_BERT_BODY = {
    "encoder.embed_tokens": "embeddings.word_embeddings",
    "encoder.embeddings.positions": "embeddings.position_embeddings",
    "encoder.embeddings.types": "embeddings.token_type_embeddings",
    "encoder.embeddings.norm": "embeddings.LayerNorm",
} | {f"encoder.layers.#.{ours}": f"encoder.layer.#.{theirs}" for ours, theirs in _BERT_LAYER.items()}
_BERT_FIELDS = SAME | {
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "num_heads": "num_attention_heads",
    "num_layers": "num_hidden_layers",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "activation": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
}
_BERT_OURS = {"norm_order": "post", "positions": "learned", "scale_embeddings": False, "embedding_norm": True}
_BERT_THEIRS = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}

_GPT2_LAYER = {
    "self_attn.q_proj": "attn.q",
    "self_attn.k_proj": "attn.k",
    "self_attn.v_proj": "attn.v",
    "self_attn.out_proj": "attn.c_proj",
    "self_attn_norm": "ln_1",
    "feed_forward.fc1": "mlp.c_fc",
    "feed_forward.fc2": "mlp.c_proj",
    "feed_forward_norm": "ln_2",
}

_BART_LAYER = {f"self_attn.{p}_proj": f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")} | {
    "self_attn_norm": "self_attn_layer_norm",
    "feed_forward.fc1": "fc1",
    "feed_forward.fc2": "fc2",
    "feed_forward_norm": "final_layer_norm",
}
_BART_CROSS = {f"cross_attn.{p}_proj": f"encoder_attn.{p}_proj" for p in ("q", "k", "v", "out")} | {
    "cross_attn_norm": "encoder_attn_layer_norm"
}
_MARIAN_BODY = {f"{stack}.embed_tokens": f"{stack}.embed_tokens" for stack in ("encoder", "decoder")}
for _stack, _parts in {"encoder": _BART_LAYER, "decoder": _BART_LAYER | _BART_CROSS}.items():
    _MARIAN_BODY |= {f"{_stack}.layers.#.{ours}": f"{_stack}.layers.#.{theirs}" for ours, theirs in _parts.items()}
_BART_BODY = dict(_MARIAN_BODY)
for _stack in ("encoder", "decoder"):
    _BART_BODY |= {
        f"{_stack}.embeddings.positions": f"{_stack}.embed_positions",
        f"{_stack}.embeddings.norm": f"{_stack}.layernorm_embedding",
    }
_BART_FIELDS = SAME | {
    "d_model": "d_model",
    "d_ff": "encoder_ffn_dim decoder_ffn_dim",
    "num_heads": "encoder_attention_heads decoder_attention_heads",
    "num_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "activation": "activation_function",
    "scale_embeddings": "scale_embedding",
    "initializer_range": "init_std",
    "decoder_start_token_id": "decoder_start_token_id",
}
_BART_OURS = {"norm_order": "post", "layer_norm_eps": 1e-5, "type_vocab_size": 0}
# Old configurations carry these; today's classes of transformers have one value of each built in.
_BART_THEIRS = {
    "is_decoder": False,
    "normalize_before": False,
    "add_final_layer_norm": False,
    "add_bias_logits": False,
    "tie_encoder_decoder": False,
}

LAYOUTS = {
    "bert": Layout(
        variant="encoder",
        classes={
            "BertModel": "VanillaModel",
            "BertForMaskedLM": "VanillaForMaskedLM",
            "BertForSequenceClassification": "VanillaForSequenceClassification",
        },
        fields=_BERT_FIELDS,
        ours=_BERT_OURS,
        theirs=_BERT_THEIRS,
        body=_BERT_BODY,
        heads={
            "transform.dense": "cls.predictions.transform.dense",
            "transform.norm": "cls.predictions.transform.LayerNorm",
            "lm_head": "cls.predictions.decoder",
            "classifier.dense": "bert.pooler.dense",
            "classifier.out_proj": "classifier",
        },
        # BertModel's pooler serves next-sentence prediction and classifiers; VanillaModel has none.
        unused=("cls.predictions.bias", "pooler.dense.weight", "pooler.dense.bias"),
        write=_write_bert,
    ),
    "roberta": Layout(
        variant="encoder",
        classes={
            "RobertaModel": "VanillaModel",
            "RobertaForMaskedLM": "VanillaForMaskedLM",
            "RobertaForSequenceClassification": "VanillaForSequenceClassification",
        },
        fields=_BERT_FIELDS,
        ours=_BERT_OURS,
        theirs=_BERT_THEIRS,
        body=_BERT_BODY,
        heads={
            "transform.dense": "lm_head.dense",
            "transform.norm": "lm_head.layer_norm",
            "lm_head": "lm_head.decoder",
            "classifier.dense": "classifier.dense",
            "classifier.out_proj": "classifier.out_proj",
        },
        unused=("lm_head.bias", "pooler.dense.weight", "pooler.dense.bias"),
        read=_read_roberta,
    ),
    "gpt2": Layout(
        variant="decoder",
        classes={"GPT2Model": "VanillaModel", "GPT2LMHeadModel": "VanillaForCausalLM"},
        fields=SAME
        | {
            "max_position_embeddings": "n_positions",
            "d_model": "n_embd",
            "d_ff": "n_inner",
            "num_heads": "n_head",
            "num_layers": "n_layer",
            "dropout": "resid_pdrop embd_pdrop",
            "attention_dropout": "attn_pdrop",
            "activation": "activation_function",
            "layer_norm_eps": "layer_norm_epsilon",
            "initializer_range": "initializer_range",
        },
        ours={
            "norm_order": "pre",
            "positions": "learned",
            "scale_embeddings": False,
            "embedding_norm": False,
            "type_vocab_size": 0,
        },
        theirs={
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "reorder_and_upcast_attn": False,
            "add_cross_attention": False,
        },
        body={
            "decoder.embed_tokens": "wte",
            "decoder.embeddings.positions": "wpe",
            "decoder.norm": "ln_f",
        }
        | {f"decoder.layers.#.{ours}": f"h.#.{theirs}" for ours, theirs in _GPT2_LAYER.items()},
        heads={"lm_head": "lm_head"},
        read=_read_gpt2,
        write=_write_gpt2,
    ),
    "bart": Layout(
        variant="encoder-decoder",
        classes={"BartModel": "VanillaModel", "BartForConditionalGeneration": "VanillaForConditionalGeneration"},
        fields=_BART_FIELDS,
        ours=_BART_OURS | {"positions": "learned", "embedding_norm": True},
        theirs=_BART_THEIRS
        | {"normalize_embedding": True, "static_position_embeddings": False, "extra_pos_embeddings": 2},
        body=_BART_BODY,
        heads={"lm_head": "lm_head"},
        unused=("shared.weight",),
        read=_read_bart,
        write=_write_bart,
    ),
    "marian": Layout(
        variant="encoder-decoder",
        classes={"MarianModel": "VanillaModel", "MarianMTModel": "VanillaForConditionalGeneration"},
        fields=_BART_FIELDS | {"vocab_size": "vocab_size decoder_vocab_size"},
        ours=_BART_OURS | {"positions": "sinusoidal", "embedding_norm": False},
        theirs=_BART_THEIRS
        | {
            "share_encoder_decoder_embeddings": True,
            "normalize_embedding": False,
            "static_position_embeddings": True,
        },
        body=_MARIAN_BODY,
        heads={"lm_head": "lm_head"},
        unused=_COPIES,
        read=_read_marian,
        write=_write_marian,
    ),
}
