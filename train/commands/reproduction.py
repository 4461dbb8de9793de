"""Train what somebody published once more, and compare every figure with theirs."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train import files
from train.commands.evaluate_folder import evaluate_folder
from train.data import splits
from train.errors import UserError, plain
from train.hub import fetch as hub_fetch
from train.hub import foreign
from train.hub.check.card import is_figure
from train.measure import provenance, results
from train.run import history
from train.settings.reading import load_recipe
from train.settings.recipe import Recipe
from train.tasks import FIGURES

RECIPE = "recipe.yaml"
MOST_BYTES = {RECIPE: 1 << 16, results.FILE: 1 << 24}
SPLITS = ("train", "validation", "test")
OBJECTS = ("versions", "code")
MOST_PARTS = 1000


@dataclass(frozen=True)
class Comparison:
    """One figure, published and reproduced.

    Attributes:
        allowed: how far they may lie apart, as `Figure.tolerance` writes it.
        forms: the two signatures of the scorer in words, where they differ: then it is another figure of the same name.
    """

    split: str
    name: str
    published: float
    reproduced: float | None
    allowed: str
    forms: str = ""

    @property
    def within(self) -> bool:
        """Say whether the difference is allowed; one that is missing, no number, or scored in another way is not."""
        if self.forms or not is_figure(self.reproduced) or not is_figure(self.published):
            return False
        assert self.reproduced is not None
        # A hair more: 2.02 - 2.00 is a little above 1% of 2 in floating point.
        return abs(self.reproduced - self.published) <= _limit(self.allowed, self.published) * (1 + 1e-9)


def reproduce(
    place: str,
    revision: str | None,
    run_dir: str | None,
    root: str | None,
    tolerance: str | None,
    train: Callable[[Recipe], int],
) -> int:
    """Train a published recipe in a run folder of its own, measure it, and print a table of published and reproduced.

    The same command again goes on where it stopped, as `fit` does.

    Args:
        place: a run or Hub folder, or user/name.
        revision: branch, tag or commit of a repository; None = its main branch.
        run_dir: folder of the new run; None = `runs/<name>-reproduced`.
        root: folder of the data; None = as the recipe says.
        tolerance: "bleu=1,loss=2%", instead of ours; only the reader may widen one.
        train: trains a recipe and returns an exit code.

    Returns:
        0 where every figure is within its tolerance, 1 where one is not, or what `train` returned.

    Raises:
        UserError: nothing published there, other data, or a recipe that the figures do not belong to.
    """
    allowed = parse_tolerance(tolerance)
    recipe_path, published = fetch(place, revision)
    folder = Path(run_dir) if run_dir else Path("runs") / f"{load_recipe(recipe_path).name}-reproduced"
    if folder.resolve() == Path(place).resolve():
        raise UserError(f"--run_dir {folder}: is what was published; train into another folder")
    if (wanted := published.get("recipe_hash")) not in (None, provenance.hash_of_file(recipe_path)):
        raise UserError(f"{place}: {RECIPE} is not the recipe of its figures (recipe_hash {str(wanted)[:12]})")
    recipe, changed = foreign.obeyed(load_recipe(recipe_path), str(folder), root)
    _say(f"published: {place}, {', '.join(published['metrics'])} on split {published['split']!r}")
    say_lines([*changed, *differences(published)])
    check_data(recipe, published)
    if code := train(recipe):
        return code
    if os.environ.get("RANK", "0") != "0":
        return 0
    compared = compare(published, _measured(folder, recipe, published), allowed)
    _say(f"\n{table(compared)}\n{_weights(published, folder)}")
    return int(not all(one.within for one in compared))


def say_lines(lines: list[str]) -> None:
    """Print one line each: a text of somebody else must not write lines of ours, such as those of the table."""
    for line in lines:
        _say(" ".join(line.split()))


def _say(line: str) -> None:
    """Print on the main process only."""
    if os.environ.get("RANK", "0") == "0":
        print(plain(line), flush=True)


def fetch(place: str, revision: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the recipe's file and the content of results.json, from a folder or from the Hub.

    Raises:
        UserError: one of them is missing or cannot be read.
    """
    found: dict[str, Path | None]
    commit = hub_fetch.commit_at(place, revision)
    if commit is None:
        found = {name: Path(place) / name for name in (RECIPE, results.FILE)}
    else:
        _say(f"{place} at commit {commit}")
        found = {name: hub_fetch.file(place, commit, name, MOST_BYTES[name]) for name in (RECIPE, results.FILE)}
    paths = {}
    for name, path in found.items():
        if path is None or not path.is_file():
            raise UserError(f"{place}: has no {name}, so there is nothing to reproduce")
        if path.stat().st_size > MOST_BYTES[name]:
            raise UserError(
                f"{place}: {name} has {path.stat().st_size:,} bytes, at most {MOST_BYTES[name]:,} are read"
            )
        paths[name] = path
    try:
        content = files.parse_json(paths[results.FILE].read_bytes())
        problem = _problem(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place}: {results.FILE}: cannot be read ({type(error).__name__}: {error})") from None
    if problem:
        raise UserError(f"{place}: {results.FILE}: {problem}")
    return paths[RECIPE], content


def _problem(content: dict[str, Any]) -> str | None:
    """Return what of results.json cannot be compared; another form raises what Python raises of it."""
    if not content["metrics"] or not isinstance(content["split"], str):
        return "metrics: must name at least one figure"
    for split, part in results.parts(content).items():
        if split not in SPLITS:
            return f"split {split!r} must be one of {', '.join(SPLITS)}"
        for name, value in part["metrics"].items():
            if not re.fullmatch(r"\w{1,64}", name, re.ASCII):
                return f"metrics: {name[:64]!r} must be the name of a figure"
            if not is_figure(value):
                return f"metrics: must name at least one figure, each a finite number; {name} is {str(value)[:40]!r}"
        if not isinstance(part.get("tolerance") or {}, dict):
            return "tolerance: must be an object"
    for name in ("train", "versions", "code"):
        if not isinstance(content.get(name) or {}, dict):
            return f"{name}: must be an object"
    parts = history.of_results(content)
    if len(parts) > MOST_PARTS or not all(
        isinstance(part.get(name) or {}, dict) for part in parts for name in OBJECTS
    ):
        return f"train: must have objects for versions and code, in at most {MOST_PARTS} parts of history"
    return None


def differences(published: dict[str, Any]) -> list[str]:
    """Return a line for each version, and for the code and the machine, that is not the one of the published run.

    A run that changed on its way is compared in each of its parts.
    """
    parts = history.of_results(published)
    lines = [line for part in parts for line in _differences_of(part)]
    ways = [
        f"step {str(part.get('step', 0))[:20]}: {str(part.get('processes', 1))[:20]} process(es)" for part in parts
    ]
    if len(parts) > 1:
        lines.append(f"the published run changed on its way: {', '.join(ways)}")
    return list(dict.fromkeys(lines))


def _differences_of(part: dict[str, Any]) -> list[str]:
    """Return the differences between here and a part of the published run."""
    then, here = part.get("versions") or {}, provenance.versions()
    lines = [
        f"version: {name} {str(then.get(name, 'unknown'))[:40]} published, {here.get(name, 'none')} here"
        for name in sorted(here)
        if then.get(name) != here.get(name)
    ]
    old, new = part.get("code") or {}, provenance.code()
    if old != new or old.get("changed"):
        lines.append(f"code: {_code(old)} published, {_code(new)} here")
    machine = str(part.get("hardware", "unknown hardware"))[:200]
    if machine != provenance.hardware():
        lines.append(f"hardware: {machine} published, {provenance.hardware()} here")
    return lines


def _code(state: dict[str, Any]) -> str:
    """Return in words which code ran."""
    commit = state.get("commit")
    words = f"commit {str(commit)[:12]}" if commit else f"version {str(state.get('version', 'unknown'))[:40]}"
    return f"{words} with changes" if state.get("changed") else words


def check_data(recipe: Recipe, published: dict[str, Any]) -> None:
    """Read the data and compare it with what the figures were measured on, before anything is trained.

    Raises:
        UserError: it is missing, naming what and where it belongs, or it is other data, naming both hashes.
    """
    try:
        here = splits.fingerprint(splits.load_splits(recipe))
    except UserError as error:
        raise UserError(f"{error}; {_needed(recipe)}") from None
    wanted = published.get("data_hash")
    if here != wanted:
        raise UserError(
            f"data: its sha256 is {here}, that of the published run {wanted}: other rows give other figures; {_needed(recipe)}"
        )


def _needed(recipe: Recipe) -> str:
    """Say in words what data the recipe needs, and where it is looked for."""
    own = recipe.data
    if own.hub:
        return f"the recipe reads the data set {own.hub} of the Hub"
    if own.generator:
        return f"the recipe makes it with the generator {own.generator}"
    lists = [[value] if isinstance(value, str) else value or [] for value in (own.train, own.validation, own.test)]
    names = ", ".join(name for names in lists for name in names)
    return f"the recipe reads {names} below {own.root!r}: put them there, or say --data.root DIR"


def _measured(folder: Path, recipe: Recipe, published: dict[str, Any]) -> dict[str, Any]:
    """Return the new run's results.json, with every split that was published; what the run left out is measured now."""
    content = results.read(folder) or {}
    known = results.parts(content) if content else {}
    for split in results.parts(published):
        if split not in known:
            evaluate_folder(folder, recipe, split)
    return results.read(folder) or {}


def compare(published: dict[str, Any], reproduced: dict[str, Any], allowed: dict[str, str]) -> list[Comparison]:
    """Return a comparison of every published figure.

    Args:
        published: content of results.json.
        reproduced: that of the new run.
        allowed: the reader's tolerances, which go before ours and those that `published` states.
    """
    new = results.parts(reproduced)
    found = []
    for split, part in results.parts(published).items():
        stated = part.get("tolerance") or {}
        for name, value in part["metrics"].items():
            again = new.get(split, {}).get("metrics", {}).get(name)
            rule = allowed.get(name) or _narrower(
                FIGURES[name].tolerance if name in FIGURES else "0", stated.get(name), value
            )
            forms = _differing_forms(part, new.get(split, {}), name)
            found.append(Comparison(split, name, value, again, rule, forms))
    return found


def _differing_forms(published: dict[str, Any], reproduced: dict[str, Any], name: str) -> str:
    """Return where the signatures of a figure's scorer differ, in words; sacrebleu's version may be another one."""
    texts = [_signature(part, name) for part in (published, reproduced)]
    old, new = ({field for field in text.split("|") if not field.startswith("version:")} for text in texts)
    words = ["|".join(sorted(one - other))[:100] or "no signature" for one, other in ((old, new), (new, old))]
    return "" if old == new else f"{words[0]} published, {words[1]} here"


def _signature(part: dict[str, Any], name: str) -> str:
    """Return the signature of a figure's scorer, as an evaluation states it; "" where it states none."""
    settings = part.get("settings")
    signatures = settings.get("signatures") if isinstance(settings, dict) else None
    return str(signatures.get(name, "")) if isinstance(signatures, dict) else ""


def _narrower(own: str, stated: Any, published: float) -> str:
    """Return the narrower tolerance of a figure: whoever is judged may promise more than the rule, and not less."""
    if not _is_tolerance(stated) or _limit(stated, published) >= _limit(own, published):
        return own
    return str(stated)


def table(compared: list[Comparison]) -> str:
    """Return the comparisons as a table for people."""
    rows = [("split", "figure", "published", "reproduced", "difference", "allowed", "within")]
    for one in compared:
        new = "none" if one.reproduced is None else f"{one.reproduced:.4f}"
        apart = "" if one.reproduced is None else f"{one.reproduced - one.published:+.4f}"
        within = "yes" if one.within else f"NO, another figure: {one.forms}" if one.forms else "NO"
        rows.append((one.split, one.name, f"{one.published:.4f}", new, apart, one.allowed, within))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _weights(published: dict[str, Any], folder: Path) -> str:
    """Say whether the weights are the same to the bit, which they can be on the same machine and versions only."""
    old, new = published.get("weights"), provenance.weights(folder / "final")
    if not old:
        return "weights: no sha256 was published"
    return f"weights: {'the same sha256' if old == new else 'another sha256'} ({', '.join(new.values())})"


_FORM = "write FIGURE=NUMBER, such as bleu=0.5 or loss=2%"


def parse_tolerance(text: str | None) -> dict[str, str]:
    """Return figure -> tolerance of "bleu=1,loss=2%".

    Raises:
        UserError: no such figure, or no such number.
    """
    found = {}
    for entry in text.split(",") if text else []:
        name, _, value = entry.strip().partition("=")
        if name not in FIGURES:
            raise UserError(f"--tolerance {entry!r}: must name a figure: {', '.join(FIGURES)}; {_FORM}")
        if not _is_tolerance(value):
            raise UserError(f"--tolerance {entry!r}: must be a number, or one with %, not below 0; {_FORM}")
        found[name] = value
    return found


def _is_tolerance(value: Any) -> bool:
    try:
        return isinstance(value, str) and 0 <= _limit(value, 1.0) < math.inf
    except ValueError:
        return False


def _limit(tolerance: str, published: float) -> float:
    """Return the allowed difference from a published value."""
    if tolerance.endswith("%"):
        return float(tolerance[:-1]) / 100 * abs(published)
    return float(tolerance)
