# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Where each option and each weight of BERT, RoBERTa, GPT-2, BART and Marian lives in a Vanilla model, as tables.

A layout says what must hold on either side and what is called how. What a table of names cannot say is in `weights`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from . import weights
from .weights import State

# Both sides call these the same. The training loss's label_smoothing has no place in any of the others.
SAME = {name: name for name in ("vocab_size", "tie_word_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")}
SAME |= {"use_cache": "use_cache", "max_position_embeddings": "max_position_embeddings"}


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
        read: See `weights`.
        write: See `weights`.
    """

    variant: str
    classes: dict[str, str]
    fields: dict[str, str]
    ours: dict[str, Any]
    theirs: dict[str, Any]
    body: dict[str, str]
    heads: dict[str, str]
    unused: tuple[str, ...] = ()
    read: Callable[[State, Any], State] = weights.unchanged
    write: Callable[[State, Any], State] = weights.unchanged


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

_BERT = Layout(
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
    write=weights.write_bert,
)

LAYOUTS = {
    "bert": _BERT,
    "roberta": replace(
        _BERT,
        classes={name.replace("Bert", "Roberta"): ours for name, ours in _BERT.classes.items()},
        heads={
            "transform.dense": "lm_head.dense",
            "transform.norm": "lm_head.layer_norm",
            "lm_head": "lm_head.decoder",
            "classifier.dense": "classifier.dense",
            "classifier.out_proj": "classifier.out_proj",
        },
        unused=("lm_head.bias", "pooler.dense.weight", "pooler.dense.bias"),
        read=weights.read_roberta,
        write=weights.unchanged,
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
            "add_cross_attention": False,
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
        read=weights.read_gpt2,
        write=weights.write_gpt2,
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
        read=weights.read_bart,
        write=weights.write_bart,
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
        unused=weights.MARIAN_COPIES,
        read=weights.read_marian,
        write=weights.write_marian,
    ),
}
