"""The Hub folder of a finished run: weights, config, code, tokenizer, card, and how it all came about."""

import contextlib
import re
import shlex
import shutil
import sys
from pathlib import Path

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

import tokenizer as tokenizers
from train import files
from train.errors import UserError
from train.hub import card
from train.measure import provenance, results, scoring
from train.model import loading
from train.settings.reading import load_recipe

FOLDER = "hub"
# What a Hub folder holds beside the code; nothing else goes in, whatever else lies in the run.
REQUIRED = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "recipe.yaml")
COPIED = (results.FILE, "metrics.jsonl")
PICTURES = ("curves.png", "attention.png")
OF_A_RUN = ("recipe.yaml", *COPIED, "final")
ALLOWED = {*REQUIRED, *COPIED, *PICTURES, "generation_config.json", files.MANIFEST}


def write_hub_folder(run_dir, repo_id: str, output=None) -> Path:
    """Write everything the Hub needs of a finished run: staged, checked, then renamed.

    Args:
        run_dir: a run with `final/` and `results.json`.
        repo_id: "user/name"; goes into the card.
        output: None = `RUN/hub`.

    Returns:
        The folder.

    Raises:
        UserError: no such run, not finished, not evaluated, or a name the Hub does not accept.
    """
    run_dir = Path(run_dir)
    recipe, _ = finished(run_dir, repo_id)
    model, tokenizer = loading.load(run_dir / "final", recipe.task)
    # generate() must do by itself what was measured; its own default ends every text after 20 tokens.
    model.generation_config = scoring.generation_config(recipe, model.config)
    output = Path(output) if output else run_dir / FOLDER
    with files.staged_folder(output, manifest=True) as staging:
        model.save_pretrained(staging, max_shard_size="1TB")
        tokenizers.write(tokenizer, staging)
        _write_recipe(run_dir / "recipe.yaml", staging)
        for name in COPIED:
            _copy_text(run_dir / name, staging)
        content = _without_places(files.read_object(staging / results.FILE))
        files.write_json(staging / results.FILE, content)
        _draw(run_dir, staging, model, tokenizer, content, recipe.name)
        pictures = [name for name in PICTURES if (staging / name).is_file()]
        card.render(repo_id, recipe, content, model, pictures).save(staging / "README.md")
        keep_allowed(staging)
    return output


def _draw(run_dir: Path, folder: Path, model, tokenizer, content: dict, title: str) -> None:
    """Draw the course of the run, and where an encoder-decoder looks in the first sample; no picture is worth a failure."""
    from train.pictures import plots  # here: a push during training needs none of it

    source = next((sample["source"] for sample in content.get("samples") or [] if "source" in sample), None)
    drawings = [("curves.png", lambda path: plots.loss_curve(run_dir / "metrics.jsonl", path, title))]
    if model.config.variant == "encoder-decoder" and source is not None:
        drawings.append(("attention.png", lambda path: plots.draw_attention(model, tokenizer, source, path)))
    for name, draw in drawings:
        try:
            draw(folder / name)
        except Exception as error:  # noqa: BLE001  (whatever a font, or a run without a loss, may raise)
            (folder / name).unlink(missing_ok=True)
            print(f"warning: {name}: not drawn: {error}", file=sys.stderr)


def finished(run_dir: Path, repo_id: str):
    """Return the recipe and results of a finished run, or say what is missing."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"repo-id {repo_id!r}: {error}") from None
    if "/" not in repo_id:
        raise UserError(f"repo-id {repo_id!r}: must be user/name")
    files.refuse_missing(run_dir)
    if not (run_dir / "recipe.yaml").is_file():
        model = (run_dir / "config.json").is_file()
        remedy = ", but a model folder: its push_to_hub sends it, see docs/guides/sharing.md" if model else ""
        raise UserError(f"{run_dir}: not a run, it has no recipe.yaml{remedy}")
    _refuse_links(run_dir)
    if not (run_dir / "final" / "config.json").is_file():
        raise UserError(f"{run_dir}: a run without final/: train it to its end first (python -m train fit)")
    content = results.read(run_dir)
    if not content or not content.get("metrics"):
        raise UserError(
            f"{run_dir}: a run without {results.FILE}: a card needs figures, run python -m train evaluate {run_dir}"
        )
    recipe = load_recipe([str(run_dir / "recipe.yaml")])
    if content.get("recipe_hash") not in (None, provenance.hash_of_file(run_dir / "recipe.yaml")):
        raise UserError(
            f"{run_dir}: {results.FILE} has the figures of another recipe, or an older version wrote it: "
            f"run python -m train evaluate {run_dir}"
        )
    return recipe, content


def _refuse_links(run_dir: Path) -> None:
    """Refuse a run in which something that is published is not the run's own file: a link may lead to any file at all.

    Raises:
        UserError: a link, or no file, with where it leads.
    """
    for path in (*(run_dir / name for name in OF_A_RUN), *sorted((run_dir / "final").rglob("*"))):
        target = path.resolve()
        if path.exists() and not target.is_relative_to(run_dir.resolve()):
            raise UserError(f"{path}: a link to {target}, which is not of this run; put the file itself there")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path}: must be a file, to be published")


def _write_recipe(path: Path, folder: Path) -> None:
    """Write a run's recipe without paths, and without keys that its version did not know: its hash is in the results."""
    content = yaml.safe_dump(provenance.public_content(path), sort_keys=False, allow_unicode=True)
    (folder / path.name).write_text(content, encoding="utf-8")


def _copy_text(path: Path, folder: Path) -> None:
    """Copy a text file of a run, writing paths below the working, the runs' and the home folder without those."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    places = [(Path.cwd(), "."), (path.resolve().parents[1], ".")]
    with contextlib.suppress(RuntimeError):  # a container's user may have no home
        places.append((Path.home(), "~"))
    for place, instead in places:
        if place != Path(place.anchor):
            text = text.replace(f"{place}/", f"{instead}/")
    (folder / path.name).write_text(text, encoding="utf-8")


def _without_places(content: dict) -> dict:
    """Return results.json with commands that name no folder: a run may have been trained on another machine than this."""
    for part in (part for part in results.parts(content).values() if "command" in part):
        words = [re.sub(r"^(--[^=]+=)?/(?:.*/)?([^/]+)/*$", r"\1\2", word) for word in shlex.split(part["command"])]
        part["command"] = shlex.join(words)
    return content


def is_allowed(name: str) -> bool:
    """Tell whether a file belongs into a Hub folder: it is on the list, or code of the package."""
    return name in ALLOWED or ("/" not in name and name.endswith(".py"))


def keep_allowed(folder: Path) -> None:
    """Remove whatever is neither on the list nor code of the package."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not is_allowed(path.name):
            path.unlink()
