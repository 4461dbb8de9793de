"""The tokenizer that a task can use: judged at one place, and given the task's template where it has another."""

import logging
from typing import TYPE_CHECKING

import tokenizer as tokenizers
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
    tokenizer: "PreTrainedTokenizerFast", recipe: "Recipe", place: str, train: "Dataset"
) -> "PreTrainedTokenizerFast":
    """Return a tokenizer as the recipe's task can use it.

    One that a new model is trained with gets the task's template where it puts something else around a text: a translation
    must end, a prompt must not. A pretrained model keeps the template that it has learnt.

    Args:
        tokenizer: as it was loaded.
        recipe: its task decides what is needed.
        place: where the tokenizer comes from.
        train: the training rows, of which the first are looked at.

    Raises:
        UserError: it lacks the token of a role.
    """
    is_pretrained = recipe.tokenizer.path is None
    starts_itself = is_pretrained and TASKS[recipe.task].has_pairs and not recipe.batch.packing  # as its config says
    require(tokenizer, recipe.task, place, but=("bos",) if starts_itself else ())
    template = TASKS[recipe.task].template
    if not is_pretrained and not tokenizers.fits(tokenizer, template):
        before = _around(tokenizer)
        tokenizer = tokenizers.with_template(tokenizer, template)
        logger.warning(
            "tokenizer.path: %s: puts %s around a text; for %s this run's copy puts %s",
            place,
            before,
            recipe.task,
            _around(tokenizer),
        )
    _warn_of_split(tokenizer, place, train)
    return tokenizer


def require(tokenizer: "PreTrainedTokenizerBase", task: str, place: str, but: tuple[str, ...] = ()) -> None:
    """Refuse a tokenizer that lacks a role.

    Args:
        tokenizer: as it was loaded.
        task: what it is to be used for.
        place: where it comes from.
        but: roles that are not needed here.

    Raises:
        UserError: names the role, and how it is given.
    """
    for role in TASKS[task].roles:
        if role not in but and getattr(tokenizer, f"{role}_token_id") is None:
            raise UserError(
                f"tokenizer.path: {place}: has no {WORDS[role]} token, which {task} needs; "
                f'set {role}_token="..." to one of its tokens in AutoTokenizer.from_pretrained, and save it'
            )


def _around(tokenizer: "PreTrainedTokenizerFast") -> str:
    """Return in words what a tokenizer puts around a text."""
    before, after = ([str(tokenizer.decode([number])) for number in ids] for ids in tokenizers.around(tokenizer))
    return " ".join([*before, "TEXT", *after]) if before or after else "nothing"


def _warn_of_split(tokenizer: "PreTrainedTokenizerFast", place: str, train: "Dataset") -> None:
    """Warn of special tokens without a role, such as <2ko>, that stand in the text: there they are text, character by character."""
    extra = tokenizers.extra_special(tokenizer)
    texts = train.select(range(min(_SEEN, len(train)))) if extra else {}
    columns = [column for column in ("source", "target", "text") if extra and column in train.column_names]
    found = [token for token in extra if any(token in text for column in columns for text in texts[column])]
    if found:
        logger.warning(
            "tokenizer.path: %s: %s in the data is split like any text, as every special token is; "
            "tokenizer.add_tokens([...]) adds a token that stays whole",
            place,
            ", ".join(found),
        )
