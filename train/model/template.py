"""The tokenizer that a task can use: judged at one place, and given the task's template where it has another."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tokenizer import around, extra_special, fits, with_template
from train.errors import UserError
from train.tasks import TASKS

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from train.settings.recipe import Recipe

logger = logging.getLogger(__name__)

WORDS = {"pad": "padding", "bos": "start", "eos": "end", "cls": "class", "sep": "separator", "mask": "mask"}
_SEEN = 1000


def judged(
    tokenizer: "PreTrainedTokenizerFast", recipe: "Recipe", origin: str, train: "Dataset"
) -> "PreTrainedTokenizerFast":
    """Return a tokenizer as the recipe's task can use it.

    One that a new model is trained with gets the task's template where it puts something else around a text: a translation
    must end, a prompt must not. A pretrained model keeps the template that it has learnt.

    Args:
        tokenizer: as it was loaded.
        recipe: its task decides what is needed.
        origin: where the tokenizer comes from.
        train: the training rows, of which the first are looked at.

    Raises:
        UserError: it lacks the token of a role.
    """
    is_pretrained = recipe.tokenizer.path is None
    starts_itself = is_pretrained and TASKS[recipe.task].has_pairs and not recipe.batch.packing  # as its config says
    require(tokenizer, recipe.task, origin, but=("bos",) if starts_itself else ())
    template = TASKS[recipe.task].template
    if not is_pretrained and not fits(tokenizer, template):
        before = _around(tokenizer)
        tokenizer = with_template(tokenizer, template)
        change = f"puts {before} around a text; for {recipe.task} this run's copy puts {_around(tokenizer)}"
        logger.warning("tokenizer.path: %s: %s", origin, change)
    if TASKS[recipe.task].has_tags:
        require_spaces(tokenizer, origin, train["words"])
    _warn_of_split(tokenizer, origin, train)
    return tokenizer


def require_spaces(tokenizer: "PreTrainedTokenizerBase", origin: str, sentences: Iterable[list[str]]) -> None:
    """Refuse a tokenizer to which words that are given one by one have no space between them (decision 042).

    Args:
        tokenizer: as it was loaded.
        origin: where it comes from.
        sentences: lists of words, of which the first with two words is tried.

    Raises:
        UserError: it reads "thecat" for "the cat".
    """
    words = next((words[:2] for words in sentences if len(words) > 1), ["a", "a"])
    apart, whole = (
        tokenizer(text, is_split_into_words=not isinstance(text, str)) for text in (words, " ".join(words))
    )
    if apart["input_ids"] != whole["input_ids"]:
        remedy = "load it with AutoTokenizer.from_pretrained(..., add_prefix_space=True), and save it"
        rule = "puts no space between words that are given one by one, as the task tagging gives them"
        raise UserError(f"tokenizer.path: {origin}: {rule}; {remedy}")


def require(tokenizer: "PreTrainedTokenizerBase", task: str, origin: str, but: tuple[str, ...] = ()) -> None:
    """Refuse a tokenizer that lacks a role.

    Args:
        tokenizer: as it was loaded.
        task: what it is to be used for.
        origin: where it comes from.
        but: roles that are not needed here.

    Raises:
        UserError: names the role, and how it is given.
    """
    for role in TASKS[task].roles:
        if role not in but and getattr(tokenizer, f"{role}_token_id") is None:
            remedy = f'set {role}_token="..." to one of its tokens in AutoTokenizer.from_pretrained, and save it'
            raise UserError(f"tokenizer.path: {origin}: has no {WORDS[role]} token, which {task} needs; {remedy}")


def _around(tokenizer: "PreTrainedTokenizerFast") -> str:
    """Return in words what a tokenizer puts around a text."""
    before, after = ([str(tokenizer.decode([number])) for number in ids] for ids in around(tokenizer))
    return " ".join([*before, "TEXT", *after]) if before or after else "nothing"


def _warn_of_split(tokenizer: "PreTrainedTokenizerFast", origin: str, train: "Dataset") -> None:
    """Warn of special tokens without a role, such as <2ko>, that stand in the text: there they are text, character by character."""
    extra = extra_special(tokenizer)
    texts = train.select(range(min(_SEEN, len(train)))) if extra else {}
    # A word of a list of words counts where it is such a token.
    columns = [column for task in TASKS.values() for column in task.texts if extra and column in train.column_names]
    split_tokens = [token for token in extra if any(token in text for column in columns for text in texts[column])]
    if split_tokens:
        remedy = "tokenizer.add_tokens([...]) adds a token that stays whole"
        reason = f"{', '.join(split_tokens)} in the data is split like any text, as every special token is"
        logger.warning("tokenizer.path: %s: %s; %s", origin, reason, remedy)
