"""Models to measure: a folder of this project, anyone's folder, or anyone's repository of the Hub."""

import logging
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

import tokenizer as tokenizers
from modeling_vanilla import VanillaConfig
from modeling_vanilla.file_checks import check_tokenizer
from train import files
from train.errors import UserError
from train.model import build, template
from train.tasks import TASKS

logger = logging.getLogger(__name__)


def locate(folder: Path) -> tuple[Path | None, Path]:
    """Return (run folder or None, model folder) for what a user may point at: a run, a folder in it, a model folder.

    Raises:
        UserError: the folder is missing or holds neither.
    """
    files.refuse_missing(folder)
    if (folder / "recipe.yaml").is_file() and not (folder / "config.json").is_file():
        if not (folder / "final" / "config.json").is_file():
            raise UserError(f"{folder}: a run without final/: train it to its end first (python -m train fit)")
        return folder, folder / "final"
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: neither a run (recipe.yaml) nor a model folder (config.json)")
    runs = [parent for parent in list(folder.resolve().parents)[:2] if (parent / "recipe.yaml").is_file()]
    return (runs[0] if runs else None), folder


def load(folder: Path, task: str, run_dir: Path | None = None, trust_remote_code: bool = False) -> tuple[Any, Any]:
    """Load the model of a task, and the tokenizer beside it or in its run.

    No code of a folder runs where its model is ours, or one of transformers.

    Args:
        folder: with config.json and weights in safetensors.
        task: of the recipe; it decides the head.
        run_dir: the run that the folder belongs to, if any.
        trust_remote_code: run code of the folder, where the model is neither.

    Raises:
        UserError: it is no model of that task, lacks weights of its head, or needs code or a pickle.
    """
    beside = (folder / "tokenizer_config.json").is_file() or run_dir is None
    words = folder if beside else run_dir / "tokenizer"
    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(folder, **trust)
        ours = isinstance(config, VanillaConfig)
        head: Any = build.head_of(task) if ours else getattr(transformers, TASKS[task].auto_class)
        options = {"use_safetensors": True, "output_loading_info": True} | ({} if ours else trust)
        model, loaded = head.from_pretrained(folder, **options)
        if missing := sorted(loaded["missing_keys"]):
            rule = f"{missing[0]} is missing; task {task!r} needs that head"
            raise UserError(f"{folder}: has no weights for {type(model).__name__}: {rule}")
        check_tokenizer(get_tokenizer_config(str(words)))
        tokenizer = AutoTokenizer.from_pretrained(words, **({} if ours else trust))
    except UserError:
        raise
    except (ValueError, OSError, ImportError, KeyError) as error:
        message = " ".join(str(error).split())
        if "trust_remote_code" in message:
            message = "it holds its own code; read it, then run it with --trust-remote-code"
        raise UserError(f"{folder}: cannot be loaded as a model for {task}: {message}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # what lies under a mask has no meaning
    if task == "masked":
        template.require(tokenizer, task, str(words))
    is_fast = isinstance(tokenizer, PreTrainedTokenizerFast)
    if task == "translation" and is_fast and not tokenizers.fits(tokenizer, TASKS[task].template):
        logger.warning(
            "%s: the tokenizer adds no end token: the figures do not tell whether a translation ends", words
        )
    most = getattr(config, "max_position_embeddings", None)
    if not ours and most:
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    return model, tokenizer


def check_classes(model: Any, names: list[str], folder: Path) -> None:
    """See that a classifier's classes are those of the data, number by number.

    Raises:
        UserError: they are others, or in another order: its accuracy would be about something else.
    """
    own = [model.config.id2label[number] for number in range(model.config.num_labels)]
    if own != names:
        raise UserError(
            f"{folder}: its classes are {', '.join(own[:8])}; those of the data are {', '.join(names[:8])}"
        )
