# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Bridges between Vanilla and BERT, RoBERTa, GPT-2, BART and Marian, and between the variants themselves.

Carried along: weights, to the bit; options; special ids; class labels; the generation config. Dropped, since it has no
place on the other side and does not touch what evaluation computes: BERT's pooler without a classifier, rows of a
position table that no token reaches, layerdrop, a second kind of dropout, label smoothing.

Dimension letters: B batch, D d_model, V vocabulary.
"""

import copy
import re
from os import PathLike
from typing import Any

import torch
import transformers
from transformers import MarianMTModel, PreTrainedConfig, PreTrainedModel

from ..base import VanillaPreTrainedModel
from ..configuration_vanilla import VanillaConfig
from ..modeling_vanilla import (
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForSequenceClassification,
    VanillaModel,
)
from .folders import complete_folder, read_json
from .layouts import LAYOUTS, Layout, State

CLASSES: dict[str, Any] = {
    c.__name__: c
    for c in (
        VanillaModel,
        VanillaForConditionalGeneration,
        VanillaForCausalLM,
        VanillaForMaskedLM,
        VanillaForSequenceClassification,
    )
}
# How other architectures call the parts that Vanilla does not have: they are named when one of them is refused.
FOREIGN = (
    "num_key_value_heads rope_parameters rope_theta rotary_dim alibi feed_forward_proj is_gated_act num_experts "
    "num_local_experts relative_attention relative_attention_num_buckets position_embedding_type sliding_window"
).split()
LABELS = ("id2label", "label2id", "problem_type")
# What an encoder and a decoder must have in common to live under one config.
AGREE = (
    "vocab_size d_model d_ff num_heads head_dim v_head_dim layer_norm_eps max_position_embeddings norm_order positions "
    "activation scale_embeddings embedding_norm type_vocab_size attention_window pad_token_id"
).split()


def from_transformers(model_or_path: PreTrainedModel | str | PathLike) -> VanillaPreTrainedModel:
    """Turn a BERT, RoBERTa, GPT-2, BART or Marian model into the Vanilla model with the same head.

    Args:
        model_or_path: A loaded model, a folder, or an id on the Hub; of the last two only safetensors are read.

    Returns:
        A model in evaluation mode that shares no memory with the one given and has the same logits. Hidden states are
        the same too, but that those of Marian come with their columns in the paper's order (`marian_order`).

    Raises:
        ValueError: Another architecture, a head or an option that Vanilla does not have, a weight that is missing or
            has no place: each is named with its value.
    """
    theirs = model_or_path if isinstance(model_or_path, PreTrainedModel) else load(model_or_path)
    layout = _check(theirs.config, type(theirs).__name__)
    cls = CLASSES[layout.classes[type(theirs).__name__]]
    state = layout.read(theirs.state_dict(), theirs.config)
    config = _our_config(layout, theirs.config, state, cls is VanillaForSequenceClassification)
    with torch.device("meta"):
        names = list(cls(config).state_dict())
    sources = {name: _their_key(name, layout, theirs.base_model_prefix) for name in names}
    if missing := [key for key in sources.values() if key not in state]:
        raise ValueError(f"{type(theirs).__name__} lacks the weight {missing[0]}, and {len(missing) - 1} more")
    if over := [k for k in state.keys() - sources.values() if not k.endswith(layout.unused)]:
        raise ValueError(f"the weight {min(over)}, and {len(over) - 1} more, have no place in {cls.__name__}")
    return _build(cls, config, {name: state[key] for name, key in sources.items()}, theirs)


def to_transformers(model: VanillaPreTrainedModel) -> PreTrainedModel:
    """Turn a Vanilla model into the BERT, GPT-2, BART or Marian model with the same head and the same logits.

    An encoder becomes BERT, a decoder GPT-2, an encoder-decoder Marian (sinusoidal positions) or BART (learned ones).

    Raises:
        ValueError: The target has no such head, or has an option built in with another value: every option that
            forbids the way is named, with its value and the one needed.
    """
    if model.config.model_type != VanillaConfig.model_type:
        raise ValueError(f"model_type={model.config.model_type!r} must be 'vanilla' to go to transformers")
    kind = {"encoder": "bert", "decoder": "gpt2"}.get(
        model.config.variant, "marian" if model.config.positions == "sinusoidal" else "bart"
    )
    layout = LAYOUTS[kind]
    theirs = [name for name, ours in layout.classes.items() if ours == type(model).__name__]
    if not theirs:
        raise ValueError(
            f"{kind} has no class for {type(model).__name__}; one of {', '.join(layout.classes.values())}"
        )
    if wrong := _forbidding(layout, model.config):
        raise ValueError(f"{kind} cannot hold this model: {'; '.join(wrong)}")
    cls = getattr(transformers, theirs[0])
    config = _their_config(layout, model, cls.config_class)
    state = {_their_key(name, layout, cls.base_model_prefix): value for name, value in model.state_dict().items()}
    keywords = {"add_pooling_layer": False} if kind == "bert" and type(model) is VanillaModel else {}
    # Marian's table of positions is computed.
    return _build(cls, config, layout.write(state, config), model, new=("embed_positions",), **keywords)


def for_ctranslate2(model: VanillaForConditionalGeneration) -> MarianMTModel:
    """Return the Marian model from which CTranslate2's own converter makes the same translator.

    For a Marian model that converter takes for granted that the last row of the vocabulary is padding, which it cuts
    off, and that the decoder starts from a vector of zeros. So the vocabulary gets one more row, of zeros, that cannot
    be generated; decoding starts from it; and the start token's vector moves into the decoder's position 0, where
    nothing but the start token ever stands. The logits of all other tokens stay as they are. (A translator that came
    from Marian has this layout already.)

    Raises:
        ValueError: See `to_transformers`; or the model cannot be held by Marian's layout.
    """
    if type(model) is not VanillaForConditionalGeneration or model.config.positions != "sinusoidal":
        raise ValueError(
            f"{type(model).__name__} with positions={model.config.positions!r} does not fit Marian's layout; it takes "
            "VanillaForConditionalGeneration with positions='sinusoidal'"
        )
    marian = to_transformers(model)
    state, config, start = marian.state_dict(), marian.config, marian.config.decoder_start_token_id
    source = state["model.decoder.embed_tokens.weight"][start] * marian.model.decoder.embed_scale  # (D,)
    if start == config.vocab_size - 1 and not source.any():
        return marian  # is laid out so from the beginning
    row = {"embed_tokens.weight": 0.0, "shared.weight": 0.0, "lm_head.weight": 0.0, "final_logits_bias": -1e4}
    for key, value in state.items():
        if (ending := next((e for e in row if key.endswith(e)), None)) is not None:
            along = 1 if ending == "final_logits_bias" else 0  # (1, V), the others (V, D)
            state[key] = torch.cat([value, torch.full_like(value.narrow(along, 0, 1), row[ending])], dim=along)
    table = "model.decoder.embed_positions.weight"
    state[table] = torch.cat([state[table][:1] + source, state[table][1:]])
    wider = copy.deepcopy(config)
    wider.decoder_start_token_id = config.vocab_size
    wider.vocab_size = wider.decoder_vocab_size = config.vocab_size + 1
    result = _build(MarianMTModel, wider, state, marian)
    result.generation_config.decoder_start_token_id = config.vocab_size
    result._keys_to_ignore_on_save = set()  # the position table is no longer the one that loading would compute
    return result


def assemble(encoder: VanillaPreTrainedModel, decoder: VanillaPreTrainedModel) -> VanillaForConditionalGeneration:
    """Make an encoder-decoder of a pretrained encoder and a pretrained decoder (Rothe et al. 2020).

    Cross-attention is new, drawn as the decoder's config says. The embeddings stay three matrices
    (`tie_word_embeddings=False`) unless both sides hold the same one. Training options are the decoder's.

    Args:
        encoder: Any model of variant "encoder"; its head is left behind.
        decoder: Any model of variant "decoder"; a language model's head is kept.

    Raises:
        ValueError: A wrong variant, or options that disagree, each named with both values.
    """
    for part, wanted in ((encoder, "encoder"), (decoder, "decoder")):
        if part.config.variant != wanted:
            raise ValueError(f"variant={part.config.variant!r} of the {wanted} must be {wanted!r}")
    pairs = {name: (getattr(encoder.config, name), getattr(decoder.config, name)) for name in AGREE}
    if wrong := [f"{name}={a!r} and {b!r}" for name, (a, b) in pairs.items() if a != b]:
        raise ValueError(f"encoder and decoder disagree: {'; '.join(wrong)}")
    state = {f"model.{k}": v for part in (encoder, decoder) for k, v in part.base_model.state_dict().items()}
    embedding = decoder.get_input_embeddings().weight
    if isinstance(decoder, VanillaForCausalLM):
        state["lm_head.weight"] = decoder.lm_head.weight
    elif decoder.config.tie_word_embeddings:
        state["lm_head.weight"] = embedding
    same = torch.equal(encoder.get_input_embeddings().weight, embedding)
    start = decoder.config.decoder_start_token_id
    config = _variant(
        decoder.config,
        "encoder-decoder",
        num_layers=encoder.config.num_layers,
        num_decoder_layers=decoder.config.num_layers,
        tie_word_embeddings=same and decoder.config.tie_word_embeddings,
        decoder_start_token_id=decoder.config.bos_token_id if start is None else start,
    )
    return _build(VanillaForConditionalGeneration, config, state, decoder, new=("cross_attn", "lm_head"))


def cut(model: VanillaPreTrainedModel, part: str) -> VanillaModel:
    """Cut the encoder or the decoder, without cross-attention and head, out of an encoder-decoder.

    Every name stays: what is saved loads into `VanillaForMaskedLM`, `VanillaForCausalLM` or a classifier.

    Raises:
        ValueError: `part` is not "encoder" or "decoder", or the model is not an encoder-decoder.
    """
    if part not in ("encoder", "decoder"):
        raise ValueError(f"part={part!r} must be 'encoder' or 'decoder'")
    if model.config.variant != "encoder-decoder":
        raise ValueError(f"variant={model.config.variant!r} must be 'encoder-decoder' to cut a part out")
    whole = model.base_model.state_dict()
    state = {k: v for k, v in whole.items() if k.startswith(f"{part}.") and ".cross_attn" not in k}
    depth = model.config.num_layers if part == "encoder" else model.config.num_decoder_layers
    config = _variant(model.config, part, num_layers=depth, num_decoder_layers=None, lm_head_bias=False)
    return _build(VanillaModel, config, state, model)


def load(path: str | PathLike) -> PreTrainedModel:
    """Load the Vanilla model, or the one of the other five, that a folder or a Hub id holds, from safetensors alone.

    Raises:
        ValueError: See `from_transformers`; or a file is missing, truncated or not what it says.
    """
    folder = complete_folder(path, lambda config: _check(config, _class_name(config)))
    config = read_json(folder / "config.json")
    name = _class_name(config)
    cls = CLASSES.get(name) or getattr(transformers, name)
    model, info = cls.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    optional = LAYOUTS[config["model_type"]].unused if config["model_type"] in LAYOUTS else ()
    if missing := [k for k in info["missing_keys"] if not k.endswith(optional or "\0")]:
        raise ValueError(f"{path}: {name} lacks the weight {min(missing)}, and {len(missing) - 1} more")
    return model


def _class_name(config: dict[str, Any]) -> str:
    """Return the name of the class that a config.json speaks of; without one, that of the model without head."""
    layout = LAYOUTS.get(config.get("model_type"))
    return (config.get("architectures") or [next(iter(layout.classes)) if layout else "VanillaModel"])[0]


def _check(config: PreTrainedConfig | dict[str, Any], name: str) -> Layout | None:
    """Return the layout of a foreign config, None for one of ours; see `from_transformers` for what is refused."""
    values = config if isinstance(config, dict) else config.to_dict()
    kind = values.get("model_type")
    if kind == VanillaConfig.model_type and isinstance(config, dict):
        if name not in CLASSES:
            raise ValueError(f"architectures=[{name!r}] has no bridge; one of {', '.join(CLASSES)}")
        return None
    if kind not in LAYOUTS:
        parts = [f"{option}={values[option]!r}" for option in FOREIGN if values.get(option) is not None]
        also = f" (it has {', '.join(parts)})" if parts else ""
        raise ValueError(f"model_type={kind!r} has no bridge{also}; one of {', '.join(LAYOUTS)}")
    layout = LAYOUTS[kind]
    for option, wanted in layout.theirs.items():
        if values.get(option, wanted) != wanted:
            raise ValueError(f"{option}={values[option]!r} of {kind} is not in Vanilla; it must be {wanted!r}")
    for option, theirs in layout.fields.items():
        found = {n: values[n] for n in theirs.split() if n in values and option != "dropout"}
        if any(value != next(iter(found.values())) for value in found.values()):
            both = " and ".join(f"{n}={v!r}" for n, v in found.items())
            raise ValueError(f"{both} of {kind} must agree: Vanilla has one {option}")
    if name not in layout.classes:
        raise ValueError(f"architectures=[{name!r}] has no bridge; of {kind} one of {', '.join(layout.classes)}")
    return layout


def _forbidding(layout: Layout, config: VanillaConfig) -> list[str]:
    """Name every option of ours that a layout cannot hold, with its value and what is needed."""
    needed = layout.ours | {"attention_window": None}
    wrong = [f"{n}={getattr(config, n)!r}, needs {v!r}" for n, v in needed.items() if getattr(config, n) != v]
    if config.head_dim * config.num_heads != config.d_model:
        wrong.append(f"head_dim={config.head_dim}, needs d_model / num_heads = {config.d_model / config.num_heads:g}")
    if config.v_head_dim != config.head_dim:
        wrong.append(f"v_head_dim={config.v_head_dim}, needs head_dim = {config.head_dim}")
    if layout is LAYOUTS["bert"] and not config.type_vocab_size:
        wrong.append("type_vocab_size=0, needs at least 1")
    if layout is LAYOUTS["marian"] and config.decoder_start_token_id is None:
        wrong.append("decoder_start_token_id=None, needs an id")
    return wrong


def _our_config(layout: Layout, config: PreTrainedConfig, state: State, classifies: bool) -> VanillaConfig:
    """Translate a foreign config; what only the weights tell is read from `state`."""
    values = {ours: getattr(config, theirs.split()[0], None) for ours, theirs in layout.fields.items()}
    values["d_ff"] = values["d_ff"] or 4 * values["d_model"]  # GPT-2's n_inner=None
    # BERT's and RoBERTa's tables have other lengths than their options say, or rows that are not used.
    for ours, theirs in layout.body.items():
        if ours.endswith("embeddings.positions"):
            values["max_position_embeddings"] = next(v for k, v in state.items() if theirs in k).shape[0]
    values |= {name: getattr(config, name) for name in LABELS} if classifies else {}
    values |= {"lm_head_bias": True} if "lm_head.bias" in state and layout.variant == "encoder-decoder" else {}
    absent = {"variant": layout.variant, "label_smoothing": 0.0, "decoder_start_token_id": None}
    return VanillaConfig(**(absent | layout.ours | values))


def _their_config(layout: Layout, model: VanillaPreTrainedModel, config_class: type) -> PreTrainedConfig:
    """Translate a config of ours."""
    ours = model.config
    values = {name: getattr(ours, key) for key, theirs in layout.fields.items() for name in theirs.split()}
    if ours.initializer_range is None:
        values = {k: v for k, v in values.items() if k not in ("initializer_range", "init_std")}
    if layout.variant == "encoder-decoder":  # BART and Marian force an end by default
        values["forced_eos_token_id"] = model.generation_config.forced_eos_token_id if model.can_generate() else None
    if isinstance(model, VanillaForSequenceClassification):
        values |= {name: getattr(ours, name) for name in LABELS}
    return config_class(**values)


def _variant(config: VanillaConfig, variant: str, **changes: Any) -> VanillaConfig:
    """Return a config with the same options for another variant."""
    values = {name: getattr(config, name) for name in VanillaConfig.__annotations__ if name != "is_decoder"}
    return VanillaConfig(**(values | {"variant": variant} | changes))


def _their_key(name: str, layout: Layout, prefix: str) -> str:
    """Translate the name of one weight; `prefix` is what their heads call the model."""
    module, kind = name.rsplit(".", 1)
    number = re.search(r"\.(\d+)\.", module)
    generic = re.sub(r"\.\d+\.", ".#.", module)
    if generic in layout.heads:
        return f"{layout.heads[generic]}.{kind}"
    theirs = layout.body[generic.removeprefix("model.")]
    if generic.startswith("model."):
        theirs = f"{prefix}.{theirs}"
    return f"{theirs.replace('#', number[1]) if number else theirs}.{kind}"


def _build(
    cls: Any,
    config: PreTrainedConfig,
    state: State,
    source: PreTrainedModel,
    new: tuple[str, ...] = (),
    **keywords: Any,
) -> Any:
    """Make a model of copied weights, in the type and with the generation config of `source`.

    `from_pretrained` ties what is tied and fills what no checkpoint holds; whatever else is missing is an error unless
    its name has one of the parts in `new`.
    """
    state = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    model, info = cls.from_pretrained(
        None, config=config, state_dict=state, dtype=source.dtype, output_loading_info=True, **keywords
    )
    wrong = [n for n in info["missing_keys"] if not any(part in n for part in new)] + list(info["unexpected_keys"])
    if wrong or info["mismatched_keys"]:
        raise ValueError(
            f"{cls.__name__} does not fit the weights: {sorted(map(str, wrong)) or info['mismatched_keys']}"
        )
    model.name_or_path = model.config.name_or_path = source.config.name_or_path
    if model.can_generate() and source.can_generate():
        model.generation_config = copy.deepcopy(source.generation_config)
        model.generation_config._from_model_config = False
    return model
