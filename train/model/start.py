"""What `model.init_from` names: a model of this package, or a BERT, RoBERTa, GPT-2, BART or Marian that is converted.

Its architecture is taken with its weights. Only a head may be new, which is logged; where weights of the stacks are missing or
of another shape, nothing is trained.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

import modeling_vanilla
from modeling_vanilla import VanillaConfig, convert
from modeling_vanilla.convert.folders import complete_folder, read_json
from train import files
from train.errors import UserError

if TYPE_CHECKING:
    from train.settings.recipe import Recipe

MODELS = tuple(name for name in modeling_vanilla.__all__ if re.fullmatch("VanillaModel|VanillaFor.*", name))
BODY = "model."
"""What the names of all weights of the stacks begin with, in every model with a head."""
# The options that decide which weights there are, and their shapes.
SHAPING = (
    "vocab_size d_model d_ff num_heads head_dim v_head_dim num_layers num_decoder_layers max_position_embeddings norm_order "
    "positions embedding_norm type_vocab_size tie_word_embeddings"
).split()
# What the new run decides: its classes, that no task reads the output of another encoder, and what is written about a
# model rather than read.
NOT_INHERITED = (
    "add_cross_attention",
    *("architectures", "auto_map", "model_type", "dtype", "transformers_version"),
    *("id2label", "label2id", "problem_type"),
)


def config_values(origin: str, variant: str) -> dict[str, Any]:
    """Return the values of `VanillaConfig` of a model that is started from, as those of the variant that a task needs.

    Args:
        origin: folder or Hub id.
        variant: of the task. An encoder-decoder gives its encoder or its decoder to the tasks that have one stack.

    Raises:
        UserError: no model there, one that cannot be converted, or one without the stacks of the variant.
    """
    with _named(origin):
        ours = _model_type(origin) == VanillaConfig.model_type
        config = VanillaConfig.from_pretrained(origin) if ours else _converted_config(origin)
    values = {name: value for name, value in config.to_dict().items() if name not in NOT_INHERITED}
    if config.variant == variant:
        return values
    if config.variant != "encoder-decoder":
        also = "; modeling_vanilla.convert.assemble makes an encoder-decoder of an encoder and a decoder"
        rule = f"of variant {config.variant}, and the task needs {variant}"
        raise UserError(f"model.init_from: {origin}: {rule}{also if variant == 'encoder-decoder' else ''}")
    depth = config.num_layers if variant == "encoder" else config.num_decoder_layers
    return values | {"variant": variant, "num_layers": depth, "num_decoder_layers": None, "lm_head_bias": False}


def config_value(recipe: "Recipe", name: str) -> Any:
    """Return a number of the model's config: the recipe's, else that of what the model starts from.

    Raises:
        UserError: `model.init_from` holds no model.
    """
    section = recipe.model
    if getattr(section, name) is not None:
        return getattr(section, name)
    if section.init_from:
        return config_values(section.init_from, recipe.variant)[name]
    return getattr(getattr(VanillaConfig, section.preset or "transformer_base")(), name)


def load(recipe: "Recipe", head: Any, config: VanillaConfig) -> PreTrainedModel:
    """Return the model of a task with the weights of `model.init_from`, in fp32; say which are new and which are left.

    Args:
        recipe: its `model` section names the start and overrides numbers of its architecture.
        head: class of the task.
        config: what `config_values` gave, with the recipe's values on top.

    Raises:
        UserError: a weight of the stacks is missing, or has another shape than the config says.
    """
    origin = str(recipe.model.init_from)
    with _named(origin), _quiet():
        source = _source(origin)
        if source.config.variant != config.variant:
            source = convert.cut(source, config.variant)
        prefix = "" if hasattr(source, "model") else BODY
        state = {prefix + name: value for name, value in source.state_dict().items()}
        options: dict[str, Any] = {"state_dict": state, "dtype": torch.float32, "ignore_mismatched_sizes": True}
        model, info = head.from_pretrained(None, config=config, output_loading_info=True, **options)
    differing = {str(name): shapes for name, *shapes in info["mismatched_keys"]}
    wrong = sorted(name for name in {*info["missing_keys"], *differing} if name.startswith(BODY))
    if wrong:
        name, more = wrong[0], f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        shapes = [tuple(shape) for shape in differing.get(name, ())]
        fault = f"has {name} in shape {shapes[0]}, not {shapes[1]}" if shapes else f"has no weight {name}"
        raise UserError(f"model.init_from: {origin}: {fault}{more}{_overridden(recipe, source.config)}")
    _say(origin, source, {*info["missing_keys"], *differing}, info["unexpected_keys"])
    return model


def _overridden(recipe: "Recipe", config: VanillaConfig) -> str:
    """Name the keys of a recipe that ask for another architecture than that of the start."""
    values = recipe.model.architecture()
    keys = [f"model.{name}" for name in SHAPING if name in values and values[name] != getattr(config, name)]
    return f"; its architecture comes with it: leave out {', '.join(keys)}" if keys else ""


def _source(origin: str) -> Any:
    """Load the model that is started from, converting a foreign one.

    Raises:
        ValueError: it has no bridge, or its files are missing, damaged or hold too few weights.
    """
    if _model_type(origin) != VanillaConfig.model_type:
        return convert.from_transformers(origin)
    folder = complete_folder(origin, lambda config: None)
    name = (read_json(folder / files.CONFIG).get("architectures") or ["VanillaModel"])[0]
    if name not in MODELS:
        raise ValueError(f"architectures=[{name!r}] must be one of {', '.join(MODELS)}")
    model, info = getattr(modeling_vanilla, name).from_pretrained(folder, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{name} lacks the weight {missing[0]}, and {len(missing) - 1} more")
    return model


def _model_type(origin: str) -> Any:
    """Return the `model_type` of a config.json."""
    if Path(origin).is_dir():
        return read_json(Path(origin) / files.CONFIG).get("model_type")
    return PreTrainedConfig.get_config_dict(origin)[0].get("model_type")


@functools.lru_cache(maxsize=4)
def _converted_config(origin: str) -> VanillaConfig:
    """Return the config of a foreign model; some of it, such as the length of a table, only its weights tell."""
    with _quiet():
        return convert.from_transformers(origin).config


@contextlib.contextmanager
def _named(origin: str) -> Iterator[None]:
    """Turn what is wrong with a model's files into a line that names them."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, OSError, ImportError, RuntimeError, SafetensorError) as error:
        message = str(error).removeprefix(f"{origin}: ")
        raise UserError(f"model.init_from: {origin}: {message}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own report of what was loaded: `_say` names what of it matters."""
    level, noisy = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if noisy:
            logging.enable_progress_bar()


def _say(origin: str, source: PreTrainedModel, new: Iterable[str], left: Iterable[str]) -> None:
    """Print on the first process which parts of a model are drawn anew, and which of the start are not taken."""
    if os.environ.get("RANK", "0") != "0":
        return
    line = f"model.init_from: {origin}: {type(source).__name__}, {source.config.variant}"
    for about, names in {"new, drawn at random": new, "left behind": left}.items():
        if names:
            line += f"; {about}: {', '.join(sorted({name.rpartition('.')[0] for name in names}))}"
    print(line, flush=True)
