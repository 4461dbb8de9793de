"""What a foreign recipe may decide: what is trained, and nothing else. One rule for every key of a recipe.

`docs/security.md` lists the keys by their rule, and a test goes through all of them: a new key needs one.
"""

import dataclasses
import reprlib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from modeling_vanilla.file_checks import GENERATION_LIMITS, LIMITS
from train.errors import UserError
from train.settings.recipe import Recipe
from train.settings.sections import LoopSection

Rule = Callable[[Any], Any]
MOST_ROWS = 10**7  # that a generator makes, or a stream holds
MOST_TOKENS = 2**24
MOST_STEPS = 10**9
MOST_CHECKPOINTS = 100
MOST_WORKERS = 4
_DEFAULT = LoopSection()


def taken(value: Any) -> Any:
    """Take a value as it is: it says what is trained, and the rules of every recipe bound it."""
    return value


def at_most(most: float) -> Rule:
    """Take a number up to a limit: beyond it lies memory, disk or time without end."""

    def rule(value: Any) -> Any:
        if value is not None and value > most:
            raise ValueError(f"must be at most {most:,}")
        return value

    return rule


def ours(value: Any) -> Rule:
    """Take the reader's value, whatever is written: the key reaches beyond the run's own folder."""
    return lambda _: value


def inside(value: Any) -> Any:
    """Take a name of the Hub, or a path below the folder of the data or the working folder, in a list too."""
    for one in value if isinstance(value, list) else [value]:
        if one is None:
            continue
        path = PurePosixPath(one)
        if (
            path.is_absolute()
            or ".." in path.parts
            or one.startswith("~")
            or "\\" in one
            or "\0" in one
            or "://" in one
        ):
            raise ValueError("must not lead out of the folder: a path below it, or an id of the Hub")
    return value


def kernel(value: str) -> str:
    """Take a kernel that torch has; flash attention is downloaded where it is not installed."""
    return "sdpa" if value.startswith("flash") else value


def workers(value: int) -> int:
    """Take a number of processes that any machine can bear."""
    return min(value, MOST_WORKERS)


def arguments(value: dict[str, Any]) -> dict[str, Any]:
    """Take arguments of a generator whose numbers do not fill the memory."""
    for name, argument in value.items():
        if isinstance(argument, int | float) and abs(argument) > MOST_ROWS:
            raise ValueError(f"{name} must be at most {MOST_ROWS:,}")
        if isinstance(argument, str) and len(argument) > 1000:
            raise ValueError(f"{name} must have at most 1,000 characters")
    return value


def _every(rule: Rule, section: str, names: str) -> dict[str, Rule]:
    return {f"{section}.{name}" if section else name: rule for name in names.split()}


RULES: dict[str, Rule] = {
    **_every(taken, "", "name task"),
    "run_dir": ours(None),
    **_every(
        taken,
        "model",
        "preset dropout attention_dropout activation_dropout layer_norm_eps initializer_range tie_word_embeddings norm_order "
        "positions activation scale_embeddings embedding_norm label_smoothing",
    ),
    "model.init_from": inside,
    "model.attn_implementation": kernel,
    **{f"model.{name}": at_most(most) for name, most in LIMITS.items()},
    **_every(taken, "tokenizer", "kind lowercase normalize min_frequency"),
    "tokenizer.path": inside,
    "tokenizer.vocab_size": at_most(LIMITS["vocab_size"]),
    **_every(inside, "data", "root train validation test hub hub_config"),
    **_every(
        taken,
        "data",
        "source_column target_column text_column label_column words_column tags_column context_column question_column answer_column "
        "start_column window stride format generator validation_fraction text_unit on_bad_line "
        "too_long limit_train limit_eval license language",
    ),
    "data.generator_args": arguments,
    "data.stream_rows": at_most(MOST_ROWS),
    **_every(at_most(MOST_TOKENS), "batch", "max_tokens max_rows block_size"),
    **_every(taken, "batch", "packing mask_probability"),
    "optim.warmup_steps": at_most(MOST_STEPS),
    **_every(taken, "optim", "lr schedule min_lr beta1 beta2 eps weight_decay clip_norm"),
    **_every(
        taken,
        "loop",
        "eval_every save_every log_every precision matmul_precision compile gradient_checkpointing shard early_stopping final "
        "ema skip_logits",
    ),
    "loop.max_steps": at_most(MOST_STEPS),
    "loop.accumulate": at_most(2**16),
    **_every(at_most(MOST_CHECKPOINTS), "loop", "keep_last average_last"),
    "loop.seed": at_most(2**32 - 1),
    "loop.num_workers": workers,
    "loop.tracker": ours("none"),
    "loop.timeout": ours(_DEFAULT.timeout),
    "loop.push_to": ours(None),
    "loop.push_every": ours(None),
    "loop.push_revision": ours(_DEFAULT.push_revision),
    **_every(taken, "eval", "split metrics best_metric during_training limit bleu_tokenizer length_penalty_form look"),
    "eval.beams": at_most(GENERATION_LIMITS["num_beams"]),
    "eval.length_penalty": at_most(100),
    "eval.max_extra_tokens": at_most(GENERATION_LIMITS["max_new_tokens"]),
    "eval.batch_tokens": at_most(MOST_TOKENS),
    "eval.answer_tokens": at_most(512),
}


def obeyed(recipe: Recipe, run_dir: str, root: str | None) -> tuple[Recipe, list[str]]:
    """Return what of a foreign recipe is trained here, and a line for each key that was not taken as written.

    Args:
        recipe: as it was published.
        run_dir: folder of the new run.
        root: folder of the data, as the reader gives it; None = the recipe's, below the working folder.

    Raises:
        UserError: a value is beyond what a foreign recipe may ask for.
    """
    sections: dict[str, Any] = {}
    lines: list[str] = []
    for item in dataclasses.fields(Recipe):
        value = getattr(recipe, item.name)
        if not dataclasses.is_dataclass(value):
            sections[item.name] = run_dir if item.name == "run_dir" else _decided(item.name, value, lines)
            continue
        values = {
            key.name: root
            if root is not None and (item.name, key.name) == ("data", "root")
            else _decided(f"{item.name}.{key.name}", getattr(value, key.name), lines)
            for key in dataclasses.fields(value)
        }
        sections[item.name] = dataclasses.replace(value, **values)  # type: ignore[type-var]
    return Recipe(**sections), lines


def _decided(name: str, value: Any, lines: list[str]) -> Any:
    """Return the value that a key gets here."""
    try:
        decided = RULES[name](value)
    except ValueError as error:
        hint = "; give its folder with --data.root DIR" if name == "data.root" else ""
        raise UserError(f"published recipe: {name}: {reprlib.repr(value)} {error}{hint}") from None
    if decided != value:
        lines.append(f"not taken from the published recipe: {name} {reprlib.repr(value)}, here {decided!r}")
    return decided
