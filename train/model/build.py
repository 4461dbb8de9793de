"""From a recipe to the objects of a run: its tokenizer and its model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

import modeling_vanilla
from modeling_vanilla.file_checks import check_tokenizer
from tokenizer import KEEP_SPACES, write
from tokenizer import build as build_tokenizer
from train import files
from train.errors import UserError
from train.model import start, template
from train.tasks import TASKS

if TYPE_CHECKING:
    from datasets import Dataset

    from train.settings.recipe import Recipe

SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id")


def head_of(task: str) -> Any:
    """Return the class of a task's model."""
    return getattr(modeling_vanilla, TASKS[task].head)


def check(recipe: "Recipe") -> int:
    """Check the model's numbers before anything is read or written; return the longest sequence it takes, in tokens.

    Raises:
        UserError: a number is out of range, or two contradict each other.
    """
    # The vocabulary is known later; until then any size that holds the special ids does.
    return _config(recipe, 1000).max_position_embeddings


def outline(recipe: "Recipe", vocab_size: int, num_labels: int | None = None) -> PreTrainedModel:
    """Return the model of a recipe without memory for its weights, on torch's meta device.

    Args:
        recipe: as for `make_model`; weights of `model.init_from` are not read.
        vocab_size: size of the vocabulary where the recipe gives none.
        num_labels: number of classes, of a text or of its words.

    Raises:
        UserError: a number is out of range.
    """
    labels = {} if num_labels is None else {"num_labels": num_labels}
    with torch.device("meta"):
        return head_of(recipe.task)(_config(recipe, vocab_size, **labels))


def make_tokenizer(recipe: "Recipe", train: "Dataset", folder: Path) -> None:
    """Write the run's tokenizer into a folder, unless it is there: the recipe's, or one built from training text.

    Raises:
        UserError: the recipe's tokenizer is missing, or the task cannot use it.
    """
    if (folder / "tokenizer.json").is_file():
        return
    path, longest = recipe.tokenizer.path or recipe.model.init_from, check(recipe)
    if path:
        made = template.judged(load_tokenizer(path), recipe, path, train)
    else:
        made = _built_tokenizer(recipe, train, longest)
    made.model_max_length = min(made.model_max_length, longest)
    if recipe.task == "causal":
        # Lines begin after the end of the line before, here as in GPT-2: an empty prompt must start from there too. A
        # file as it stands holds no special token at all.
        made.bos_token = made.eos_token if recipe.data.text_unit == "line" else None
    with files.staged_folder(folder) as staging:
        write(made, staging)


def _built_tokenizer(recipe: "Recipe", train: "Dataset", longest: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer built from the training rows; source and target share it (sec. 5.1)."""
    section, task = recipe.tokenizer, TASKS[recipe.task]
    texts = (row if isinstance(row, str) else " ".join(row) for column in task.texts for row in train[column])
    options: dict[str, Any] = {name: getattr(section, name) for name in ("lowercase", "normalize", "min_frequency")}
    options |= {"model_max_length": longest, "show_progress": sys.stderr.isatty()}
    # To these kinds a space is a character like any other, and words that are given one by one have none (decision 042).
    options["add_prefix_space"] = task.has_tags and section.kind in KEEP_SPACES
    try:
        return build_tokenizer(section.kind, texts, section.vocab_size, task.template, **options)
    except ValueError as error:
        raise UserError(f"tokenizer: {error}") from None


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a folder or the Hub.

    Raises:
        UserError: there is none.
    """
    try:
        check_tokenizer(get_tokenizer_config(str(path)))
        loaded = AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        raise UserError(f"tokenizer.path: {path}: no tokenizer found there ({error})") from None
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise UserError(f"tokenizer.path: {path}: a {type(loaded).__name__}, must be a tokenizer.json")
    return loaded


def make_model(
    recipe: "Recipe", tokenizer: PreTrainedTokenizerFast, labels: list[str] | None = None
) -> PreTrainedModel:
    """Build the model of a recipe, with random weights or those of `model.init_from`.

    Args:
        recipe: its `task` decides variant and head, its `model` section the numbers.
        tokenizer: gives the size of the vocabulary and the special ids.
        labels: names of the classes, of a text or of its words.

    Raises:
        UserError: the tokenizer is larger than the model's vocabulary, or a number is out of range.
    """
    values = {name: getattr(tokenizer, name) for name in SPECIAL_IDS}
    keeps_start = recipe.model.init_from and not recipe.tokenizer.path  # the tokenizer is the model's own
    if tokenizer.bos_token_id is not None and not keeps_start:
        values["decoder_start_token_id"] = tokenizer.bos_token_id
    if recipe.task == "causal" and recipe.data.text_unit == "file":
        values["bos_token_id"] = _line_end(tokenizer)
    if labels is not None:
        values |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    config = _config(recipe, len(tokenizer), **values)
    if len(tokenizer) > config.vocab_size:
        rule = f"must be at least the size of the tokenizer, {len(tokenizer)} tokens"
        raise UserError(f"model.vocab_size: {config.vocab_size}: {rule}")
    head = head_of(recipe.task)
    try:
        model = start.load(recipe, head, config) if recipe.model.init_from else head(config)
        model.set_attn_implementation(recipe.model.attn_implementation)
        for name in (*SPECIAL_IDS, "decoder_start_token_id") if model.can_generate() else ():
            setattr(model.generation_config, name, getattr(config, name))  # those of `init_from` may be others
    except UserError:
        raise
    except (ValueError, OSError, ImportError) as error:
        raise UserError(f"model: {error}") from None
    if recipe.loop.gradient_checkpointing:
        recompute(model)
    return model


def recompute(model: PreTrainedModel) -> None:
    """Let a model compute the activations of its layers again in the backward pass, instead of keeping them."""
    # transformers renames it; the older versions we support know the old name only.
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()


def _line_end(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """Return the token of a line end, from which an empty prompt starts; None where it is not a token of its own."""
    ids = tokenizer("\n", add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_token_id else None


def _config(recipe: "Recipe", vocab_size: int, **more: Any) -> modeling_vanilla.VanillaConfig:
    """Return the config: that of `init_from`, of the preset or the defaults, with the recipe's values and more on top.

    `vocab_size` is that of a new model where the recipe gives none.

    Raises:
        UserError: a number is out of range.
    """
    section = recipe.model
    values = section.architecture() | {"variant": recipe.variant} | more
    if section.init_from and section.preset:
        raise UserError("model.preset: cannot be set beside model.init_from, which brings its own numbers")
    try:
        if section.init_from:
            return modeling_vanilla.VanillaConfig(**(start.config_values(section.init_from, recipe.variant) | values))
        preset = getattr(modeling_vanilla.VanillaConfig, section.preset or "transformer_base")
        return preset(**({"vocab_size": vocab_size} | values))
    except UserError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(f"{'model.init_from' if section.init_from else 'model'}: {error}") from None
