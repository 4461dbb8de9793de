"""`python -m train reproduce`: train what somebody published once more, and compare every figure with theirs."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train import data, evaluate, files, hub_fetch, receipts, results
from train.errors import UserError
from train.recipe import Recipe, load_recipe

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Comparison:
    """One figure, published and reproduced; `allowed` is how far they may lie apart, as `receipts.TOLERANCE` writes it."""

    split: str
    name: str
    published: float
    reproduced: float | None
    allowed: str

    @property
    def within(self) -> bool:
        """Say whether the difference is allowed; a figure that is missing, or is no number, is not."""
        if self.reproduced is None:
            return False
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
        tolerance: "bleu=1,loss=2%", over what results.json states.
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
    if (wanted := published.get("recipe_hash")) not in (None, receipts.hash_of_file(recipe_path)):
        raise UserError(f"{place}: {RECIPE} is not the recipe of its figures (recipe_hash {str(wanted)[:12]})")
    words = [str(recipe_path), f"--run_dir={folder}", *([f"--data.root={root}"] if root else [])]
    recipe = load_recipe(words)
    _say(f"published: {place}, {', '.join(published['metrics'])} on split {published['split']!r}")
    for line in differences(published):
        _say(line)
    check_data(recipe, published)
    if code := train(recipe):
        return code
    if os.environ.get("RANK", "0") != "0":
        return 0
    compared = compare(published, _measured(folder, recipe, published), allowed)
    _say(f"\n{table(compared)}\n{_weights(published, folder)}")
    return int(not all(one.within for one in compared))


def _say(line: str) -> None:
    """Print on the main process only."""
    if os.environ.get("RANK", "0") == "0":
        print(line, flush=True)


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
        found = {name: hub_fetch.file(place, commit, name) for name in (RECIPE, results.FILE)}
    paths = {}
    for name, path in found.items():
        if path is None or not path.is_file():
            raise UserError(f"{place}: has no {name}, so there is nothing to reproduce")
        paths[name] = path
    try:
        content = files.parse_json(paths[results.FILE].read_bytes())
        known = bool(content["metrics"]) and isinstance(content["split"], str)
        known = known and all(
            isinstance(part["metrics"][name], int | float)
            for part in results.parts(content).values()
            for name in part["metrics"]
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place}: {results.FILE}: cannot be read ({type(error).__name__}: {error})") from None
    if not known:
        raise UserError(f"{place}: {results.FILE}: metrics: must name at least one figure")
    return paths[RECIPE], content


def differences(published: dict[str, Any]) -> list[str]:
    """Return a line for each version, and for the code and the machine, that is not the one of the published run."""
    trained, here = published.get("train") or {}, receipts.versions()
    then = trained.get("versions") or published.get("versions") or {}
    lines = [
        f"version: {name} {then.get(name, 'unknown')} published, {here.get(name, 'none')} here"
        for name in sorted(then.keys() | here.keys())
        if then.get(name) != here.get(name)
    ]
    old, new = trained.get("code") or published.get("code") or {}, receipts.code()
    if old != new or old.get("changed"):
        lines.append(f"code: {_code(old)} published, {_code(new)} here")
    machine = trained.get("hardware", "unknown hardware")
    if machine != receipts.hardware():
        lines.append(f"hardware: {machine} published, {receipts.hardware()} here")
    return lines


def _code(state: dict[str, Any]) -> str:
    """Return in words which code ran."""
    commit = state.get("commit")
    words = f"commit {commit[:12]}" if commit else f"version {state.get('version', 'unknown')}"
    return f"{words} with changes" if state.get("changed") else words


def check_data(recipe: Recipe, published: dict[str, Any]) -> None:
    """Read the data and compare it with what the figures were measured on, before anything is trained.

    Raises:
        UserError: it is missing, naming what and where it belongs, or it is other data, naming both hashes.
    """
    try:
        here = data.fingerprint(data.load_splits(recipe))
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
            evaluate.evaluate_folder(folder, recipe, split)
    return results.read(folder) or {}


def compare(published: dict[str, Any], reproduced: dict[str, Any], allowed: dict[str, str]) -> list[Comparison]:
    """Return a comparison of every published figure.

    Args:
        published: content of results.json.
        reproduced: that of the new run.
        allowed: tolerances that go before those that `published` states.
    """
    new = results.parts(reproduced)
    found = []
    for split, part in results.parts(published).items():
        stated = {name: value for name, value in (part.get("tolerance") or {}).items() if _is_tolerance(value)}
        tolerance = receipts.TOLERANCE | stated | allowed
        for name, value in part["metrics"].items():
            again = new.get(split, {}).get("metrics", {}).get(name)
            found.append(Comparison(split, name, value, again, tolerance.get(name, "0")))
    return found


def table(compared: list[Comparison]) -> str:
    """Return the comparisons as a table for people."""
    rows = [("split", "figure", "published", "reproduced", "difference", "allowed", "within")]
    for one in compared:
        new = "none" if one.reproduced is None else f"{one.reproduced:.4f}"
        apart = "" if one.reproduced is None else f"{one.reproduced - one.published:+.4f}"
        rows.append(
            (one.split, one.name, f"{one.published:.4f}", new, apart, one.allowed, "yes" if one.within else "NO")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _weights(published: dict[str, Any], folder: Path) -> str:
    """Say whether the weights are the same to the bit, which they can be on the same machine and versions only."""
    old, new = published.get("weights"), receipts.weights(folder / "final")
    if not old:
        return "weights: no sha256 was published"
    return f"weights: {'the same sha256' if old == new else 'another sha256'} ({', '.join(new.values())})"


def parse_tolerance(text: str | None) -> dict[str, str]:
    """Return figure -> tolerance of "bleu=1,loss=2%".

    Raises:
        UserError: no such figure, or no such number.
    """
    found = {}
    for entry in text.split(",") if text else []:
        name, _, value = entry.strip().partition("=")
        if name not in receipts.TOLERANCE:
            raise UserError(f"--tolerance {entry!r}: must name a figure: {', '.join(receipts.TOLERANCE)}")
        if not _is_tolerance(value):
            raise UserError(f"--tolerance {entry!r}: must be a number, or one with %, not below 0")
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
