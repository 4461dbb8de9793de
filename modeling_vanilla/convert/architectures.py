# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Between Vanilla and BERT, RoBERTa, GPT-2, BART and Marian.

Carried along: weights, to the bit; options; special ids; class labels; the generation config. Dropped, since it has no
place on the other side and does not touch what evaluation computes: BERT's pooler without a classifier, rows of a
position table that no token reaches, layerdrop, a second kind of dropout, label smoothing.
"""

import copy
import re
from os import PathLike
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from ..base import VanillaPreTrainedModel
from ..configuration_vanilla import VanillaConfig
from ..modeling_vanilla import AUTO_CLASSES, VanillaForSequenceClassification, VanillaModel
from .folders import complete_folder, read_json
from .layouts import LAYOUTS, Layout, State

# Ours that have a counterpart.
_NAMES = {name for layout in LAYOUTS.values() for name in layout.classes.values()}
CLASSES: dict[str, Any] = {c.__name__: c for c in AUTO_CLASSES.values() if c.__name__ in _NAMES}
# How other architectures call the parts that Vanilla does not have: they are named when one of them is refused.
FOREIGN = (
    "num_key_value_heads rope_parameters rope_theta rotary_dim alibi feed_forward_proj is_gated_act num_experts "
    "num_local_experts relative_attention relative_attention_num_buckets position_embedding_type sliding_window"
).split()
LABELS = ("id2label", "label2id", "problem_type")


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
    return build(cls, config, {name: state[key] for name, key in sources.items()}, theirs)


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
    return build(cls, config, layout.write(state, config), model, new=("embed_positions",), **keywords)


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
    """Return the name of the class that a config.json names; without one, that of the model without head."""
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
    for option, needed in layout.theirs.items():
        if values.get(option, needed) != needed:
            raise ValueError(f"{option}={values[option]!r} of {kind} is not in Vanilla; it must be {needed!r}")
    for option, theirs in layout.fields.items():
        same = {n: values[n] for n in theirs.split() if n in values and option != "dropout"}
        if any(value != next(iter(same.values())) for value in same.values()):
            both = " and ".join(f"{n}={v!r}" for n, v in same.items())
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


def build(
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
    wrong = [n for n in info["missing_keys"] if not any(name in n for name in new)] + list(info["unexpected_keys"])
    if wrong or info["mismatched_keys"]:
        raise ValueError(
            f"{cls.__name__} does not fit the weights: {sorted(map(str, wrong)) or info['mismatched_keys']}"
        )
    model.name_or_path = model.config.name_or_path = source.config.name_or_path
    if model.can_generate() and source.can_generate():
        model.generation_config = copy.deepcopy(source.generation_config)
        model.generation_config._from_model_config = False
    return model
