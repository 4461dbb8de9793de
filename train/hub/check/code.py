"""The code in a Hub folder, read and not run: what config.json names is there, and a reader can import it all."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from train import files
from train.hub.check import listing

# What a reader of remote code has: transformers, what that always brings along, and torch.
READERS_PACKAGES = {"torch", "transformers", "huggingface_hub"}
MOST_NAMES = 100  # classes that a config names; each is looked up, loaded and run


def auto_map_problems(folder: Path) -> Iterator[str]:
    """Yield what `auto_map` and `custom_pipelines` of config.json name that the folder does not hold."""
    config = files.read_object(folder / files.CONFIG)
    auto_map, pipelines = config.get("auto_map"), config.get("custom_pipelines") or {}
    if auto_map is None and not pipelines and not any(folder.glob("*.py")):
        return  # a model of transformers itself: it needs no code
    auto_map = auto_map or {}
    if len(auto_map) + len(pipelines) > MOST_NAMES:
        yield f"config.json: auto_map and custom_pipelines name {len(auto_map) + len(pipelines):,} classes, at most {MOST_NAMES}"
        return
    for auto in ("AutoConfig", "AutoModel"):
        if auto not in auto_map:
            yield f"config.json: auto_map lacks {auto}; it must name every class that loads"
    references = [(f"auto_map, {auto}", reference) for auto, reference in auto_map.items()]
    references += [(f"custom_pipelines, {task}", entry.get("impl")) for task, entry in pipelines.items()]
    for origin, reference in references:
        if not _is_class(folder, reference):
            yield f"config.json: {origin} names {reference}, which is not there"
    for task, entry in pipelines.items():
        if unknown := [auto for auto in entry.get("pt", ()) if auto not in auto_map]:
            yield f"config.json: custom_pipelines, {task} loads {', '.join(unknown)}, which auto_map lacks"


def trust_problems(folder: Path) -> Iterator[str]:
    """Yield what makes the tokenizer code that a reader has to trust: `tokenizer.json` needs none."""
    for name in (files.CONFIG, "tokenizer_config.json"):
        auto_map = files.read_object(folder / name).get("auto_map") or {}
        for auto in ("AutoTokenizer", "AutoProcessor"):
            if auto in auto_map:
                yield f"{name}: auto_map names {auto}; a tokenizer must load without trust_remote_code"


def import_problems(folder: Path) -> Iterator[str]:
    """Yield every import that is neither a neighbour, nor of the standard library, nor of what every reader has."""
    for path in (path for path in listing.code_files(folder) if path.suffix == ".py"):
        name = listing.name_of(path, folder)
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            yield f"{name}: is not Python: {error}"
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                if node.level > 1 or not node.module or not (path.parent / f"{node.module}.py").is_file():
                    module = node.module or ", ".join(alias.name for alias in node.names)
                    yield f"{name}:{node.lineno}: relative import of {module}, which is not a file of the folder"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                for package in (imported.split(".")[0] for imported in names if imported):
                    if package not in READERS_PACKAGES and package not in sys.stdlib_module_names:
                        yield f"{name}:{node.lineno}: imports {package}, which a reader may not have"


def _is_class(folder: Path, reference: str | None) -> bool:
    """Tell whether `module.Class` is defined in a file of the folder."""
    module, _, name = (reference if isinstance(reference, str) else "").partition(".")
    path = files.inside(folder, f"{module}.py")
    if path is None or path.parent != folder:
        return False
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
