"""The Hub folder of a finished run: weights, config, code, tokenizer, card, and how it all came about."""

import ast
import dataclasses
import json
import shutil
import sys
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from train import card, evaluate, files, results, scoring
from train.errors import UserError
from train.recipe import load_recipe

FOLDER = "hub"
# What a Hub folder holds beside the code; nothing else goes in, whatever else lies in the run.
REQUIRED = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "README.md", "recipe.yaml")
COPIED = (results.FILE, "metrics.jsonl")
PICTURES = ("curves.png", "attention.png")
ALLOWED = {*REQUIRED, *COPIED, *PICTURES, "generation_config.json", files.MANIFEST}
# What a reader of remote code has: transformers, what that always brings along, and torch.
READERS_PACKAGES = {"torch", "transformers", "huggingface_hub"}


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
    model, tokenizer = evaluate.load_model(run_dir / "final", recipe.task)
    # generate() must do by itself what was measured; its own default ends every text after 20 tokens.
    model.generation_config = scoring.generation_config(recipe, model.config)
    output = Path(output) if output else run_dir / FOLDER
    with files.staged_folder(output, manifest=True) as staging:
        model.save_pretrained(staging, max_shard_size="1TB")
        tokenizer.save_pretrained(staging)
        public(recipe).save(staging / "recipe.yaml")
        for name in COPIED:
            _copy_text(run_dir / name, staging)
        content = json.loads((staging / results.FILE).read_text(encoding="utf-8"))
        _draw(run_dir, staging, model, tokenizer, content)
        pictures = [name for name in PICTURES if (staging / name).is_file()]
        card.render(repo_id, recipe, content, model, pictures).save(staging / "README.md")
        keep_allowed(staging)
        check(staging)
    return output


def _draw(run_dir: Path, folder: Path, model, tokenizer, content: dict) -> None:
    """Draw the course of the run, and where an encoder-decoder looks in the first sample; no picture is worth a failure."""
    from train import plots  # here: a push during training needs none of it

    source = next((sample["source"] for sample in content.get("samples") or [] if "source" in sample), None)
    drawings = [("curves.png", lambda path: plots.curves_of(run_dir, path))]
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
    if not (run_dir / "recipe.yaml").is_file():
        raise UserError(f"{run_dir}: not a run, it has no recipe.yaml")
    if not (run_dir / "final" / "config.json").is_file():
        raise UserError(f"{run_dir}: a run without final/: train it to its end first (python -m train fit)")
    content = results.read(run_dir)
    if not content or not content.get("metrics"):
        raise UserError(
            f"{run_dir}: a run without {results.FILE}: a card needs figures, run python -m train evaluate {run_dir}"
        )
    return load_recipe([str(run_dir / "recipe.yaml")]), content


def public(recipe):
    """Return the recipe without the paths of the machine it ran on: nobody else has them, and they name people."""
    data, tokenizer, model = recipe.data, recipe.tokenizer, recipe.model
    return dataclasses.replace(
        recipe,
        run_dir=None,
        data=dataclasses.replace(data, root="." if Path(data.root).is_absolute() else data.root, hub=_name(data.hub)),
        tokenizer=dataclasses.replace(tokenizer, path=_name(tokenizer.path)),
        model=dataclasses.replace(model, init_from=_name(model.init_from)),
        loop=dataclasses.replace(recipe.loop, push_to=None),  # whoever runs it again must not push here
    )


def _name(path: str | None) -> str | None:
    """Return the last part of an absolute path, anything else as it is."""
    return Path(path).name if path and Path(path).is_absolute() else path


def _copy_text(path: Path, folder: Path) -> None:
    """Copy a text file of a run, writing paths below the working, the runs' and the home folder without those."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    for place, instead in ((Path.cwd(), "."), (path.resolve().parents[1], "."), (Path.home(), "~")):
        if place != Path(place.anchor):
            text = text.replace(f"{place}/", f"{instead}/")
    (folder / path.name).write_text(text, encoding="utf-8")


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


def check(folder: Path) -> None:
    """Check that a stranger without the package can load a folder: files, code, and what config.json names of it.

    Raises:
        RuntimeError: names what is missing; that is a fault of this program, not of its user.
    """
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise RuntimeError(f"{folder}: missing {', '.join(missing)}")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    auto_map, pipelines = config.get("auto_map") or {}, config.get("custom_pipelines") or {}
    if "AutoConfig" not in auto_map or "AutoModel" not in auto_map:
        raise RuntimeError(f"{folder}/config.json: auto_map {auto_map} lacks AutoConfig or AutoModel")
    references = [("auto_map", reference) for reference in auto_map.values()]
    references += [(f"custom_pipelines, {task}", entry.get("impl")) for task, entry in pipelines.items()]
    for origin, reference in references:
        if not _is_class(folder, reference):
            raise RuntimeError(f"{folder}/config.json: {origin} names {reference}, which is not there")
    for task, entry in pipelines.items():
        if unknown := [auto for auto in entry.get("pt", ()) if auto not in auto_map]:
            raise RuntimeError(f"{folder}/config.json: custom_pipelines, {task} loads {unknown}, which auto_map lacks")
    for path in folder.glob("*.py"):
        _check_imports(path)


def _is_class(folder: Path, reference: str | None) -> bool:
    """Tell whether `module.Class` is defined in a file of the folder."""
    module, _, name = (reference or "").partition(".")
    path = folder / f"{module}.py"
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def _check_imports(path: Path) -> None:
    """Check that a file imports its neighbours, the standard library and what every reader has, and nothing else."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level > 1 or not node.module or not (path.parent / f"{node.module}.py").is_file():
                raise RuntimeError(
                    f"{path}:{node.lineno}: relative import of {node.module}, which is not in the folder"
                )
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in (name.split(".")[0] for name in names):
                if name not in READERS_PACKAGES and name not in sys.stdlib_module_names:
                    raise RuntimeError(f"{path}:{node.lineno}: imports {name}, which a reader may not have")
