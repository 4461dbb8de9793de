"""Rules of the house: who may import whom, what a reader on the Hub can load, what the wheel holds, no pickle.

Each rule is a function from source text to the list of its violations, tried on a sample that breaks it, and then on
the tree.
"""

import ast
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGES = ("modeling_vanilla", "tokenizer", "train")

# What each package may import of this project, and of the world (None: anything).
ALLOWED = {
    # huggingface_hub is a dependency of transformers itself: no reader lacks it.
    "modeling_vanilla": (set(), {"torch", "transformers", "huggingface_hub"}),
    "tokenizer": ({"tokenizer"}, None),
    "train": ({"train", "tokenizer", "modeling_vanilla"}, None),
    "lab": ({"lab", "train", "tokenizer", "modeling_vanilla"}, None),
    "space": (set(), None),  # runs where nothing of this project is installed
}

PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# torch.load and torch.save, and what of accelerate goes through them.
PICKLING_CALLS = {"torch.load", "torch.save", "torch.serialization.load", "accelerate.utils.load"}
PICKLING_METHODS = {"register_for_checkpointing", "load_state", "save_state"}


def sources(package: str) -> list[Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, f"{package} has no source"
    return paths


def ships(path: Path) -> bool:
    """Tell whether a file of modeling_vanilla/ is copied beside saved weights."""
    return path.parent == ROOT / "modeling_vanilla" and path.name not in ("__init__.py", "__main__.py")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute name of everything imported anywhere in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module


def package_rule(source: str, package: str) -> list[str]:
    """`train` uses the other two; those two know neither each other nor `train`."""
    ours, world = ALLOWED.get(package, (set(), None))
    wrong = []
    for line, name in imported(ast.parse(source)):
        top = name.split(".")[0]
        known = top in ours if top in PACKAGES else world is None or top in world | set(sys.stdlib_module_names)
        if not known:
            wrong.append(f"{line}: {package} imports {name}")
    return wrong


def on_import(source: str) -> str:
    """Return what of a source runs when it is imported: functions lose their bodies."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def relative_rule(source: str, modules: set[str]) -> list[str]:
    """A reader on the Hub follows `from .name import X` at the start of a line to a file beside it, nothing else."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        if (
            node.level > 1
            or node.module is None
            or "." in node.module
            or node.col_offset
            or node.module not in modules
        ):
            wrong.append(f"{node.lineno}: from {'.' * node.level}{node.module or ''} import")
    return wrong


def prose_rule(source: str) -> list[str]:
    """The reader looks for imports with a regular expression: no line of prose may look like one."""
    tree = ast.parse(source)
    real = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    pattern = re.compile(r"^\s*(from\s+\S+\s+import\b|import\s+\S)")
    lines = enumerate(source.splitlines(), start=1)
    return [f"{number}: {line.strip()}" for number, line in lines if pattern.match(line) and number not in real]


def pickle_rule(source: str) -> list[str]:
    """Nothing is read or written through pickle: it runs what the file says."""
    tree = ast.parse(source)
    wrong = [f"{line}: imports {name}" for line, name in imported(tree) if name.split(".")[0] in PICKLES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in PICKLING_CALLS or node.attr in PICKLING_METHODS:
                wrong.append(f"{node.lineno}: {name}")
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            wrong.append(f"{node.value.lineno}: allow_pickle")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "torch":
            wrong += [f"{node.lineno}: from torch import {a.name}" for a in node.names if a.name in {"load", "save"}]
    return wrong


def violations(package: str, rule: Callable[[str], list[str]]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{found}" for path in sources(package) for found in rule(path.read_text("utf-8"))
    ]


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("modeling_vanilla", "import numpy"),
        ("modeling_vanilla", "from modeling_vanilla.attention import X"),
        ("modeling_vanilla", "if TYPE_CHECKING:\n    import datasets"),
        ("modeling_vanilla", "def f():\n    from train.run import loop"),
        ("tokenizer", "import modeling_vanilla as m"),
        ("tokenizer", "from train.data.splits import load"),
        ("space", "from modeling_vanilla import VanillaConfig"),
    ],
)
def test_package_rule_can_fail(package, line):
    assert len(package_rule(f"import re\nimport torch.nn\nfrom transformers import x\n{line}\n", package)) == 1


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_they_may(package):
    """A folder of modeling_vanilla/ never ships: its functions may also import what an extra brings."""
    wrong = []
    for path in sources(package):
        source = path.read_text("utf-8")
        if package == "modeling_vanilla" and path.parent != ROOT / package:
            wrong += [f"{path}:{line}" for line in package_rule(source, "a folder of modeling_vanilla")]
            source = on_import(source)
        wrong += [f"{path}:{line}" for line in package_rule(source, package)]
    assert wrong == []


def test_what_an_extra_brings_is_imported_inside_functions_only():
    source = "class A:\n    def f(self):\n        import matplotlib\n"
    assert package_rule(on_import(source), "modeling_vanilla") == []
    assert len(package_rule(on_import(f"import matplotlib\n{source}"), "modeling_vanilla")) == 1
    assert len(package_rule("def f():\n    import train", "a folder of modeling_vanilla")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from . import a",
        "from .sub.a import X",
        "from ..a import X",
        "from .missing import X",
        "if x:\n    from .a import X",
    ],
)
def test_relative_rule_can_fail(line):
    assert relative_rule("from .a import (\n    X,\n    Y,\n)\n", {"a"}) == []
    assert len(relative_rule(line, {"a"})) == 1


@pytest.mark.parametrize("line", ['"""Read\nfrom .a import X.\n"""', '"""Text\n    import torch\n"""'])
def test_prose_rule_can_fail(line):
    assert prose_rule("import torch\nfrom .a import (\n    X,\n)\nx = 'from .a import X'\n") == []
    assert len(prose_rule(line)) == 1


def test_what_ships_loads_as_remote_code():
    shipped = [path for path in sources("modeling_vanilla") if ships(path)]
    modules = {path.stem for path in shipped}
    for path in shipped:
        source = path.read_text("utf-8")
        assert (path.name, relative_rule(source, modules), prose_rule(source)) == (path.name, [], [])


def test_the_flat_files_are_what_ships():
    """What `save_pretrained` copies: the files of the classes, and what they import."""
    starts = [ROOT / "modeling_vanilla" / f"{name}.py" for name in ("modeling_vanilla", "configuration_vanilla")]
    copied = {Path(path) for start in starts for path in [start, *get_relative_import_files(start)]}
    assert copied == {path for path in sources("modeling_vanilla") if ships(path)}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from dill import loads",
        "x = torch.load(path, weights_only=True)",
        "torch.save(x, path)",
        "from torch import load",
        "accelerator.register_for_checkpointing(x)",
        "accelerator.load_state(path)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_pickle_rule_can_fail(line):
    assert (
        pickle_rule("model.load_state_dict(safetensors.torch.load_file(path))\nnp.load(p, allow_pickle=False)") == []
    )
    assert len(pickle_rule(line)) == 1


@pytest.mark.parametrize("package", ALLOWED)
def test_nothing_goes_through_pickle(package):
    assert violations(package, pickle_rule) == []


# A room of train/ imports those before it, and files of its own; so do the files that are no room.
ROOMS = (
    *("errors", "processes", "files", "tasks", "metrics", "settings", "model", "data", "pictures", "cost", "measure"),
    *("run", "hub", "commands", "demo", "captions", "__main__"),
)


def train_imports() -> dict[str, set[str]]:
    """Return which module of train/ imports which, wherever in its source; imports for types count."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources("train")}
    packages = {module.removesuffix(".__init__"): module for module in paths}
    arrows: dict[str, set[str]] = {module: set() for module in paths}
    for module, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [name for alias in node.names for name in (f"{node.module}.{alias.name}", node.module)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            arrows[module] |= {packages[name] for name in names if name in packages and name.count(".")} - {module}
    return arrows


def way_rule(arrows: dict[str, set[str]]) -> list[str]:
    """Every arrow between two rooms goes down."""
    room = {module: module.split(".")[1] for module in arrows}
    assert {*room.values()} - {"__init__"} == {*ROOMS}
    return [
        f"{module} imports {other}"
        for module, others in arrows.items()
        for other in sorted(others)
        if room[other] != room[module] and ROOMS.index(room[other]) > ROOMS.index(room[module])
    ]


def circle_rule(arrows: dict[str, set[str]]) -> list[str]:
    """No file imports one that imports it, by whatever way."""
    left = dict(arrows)
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def test_the_rules_of_the_rooms_can_fail():
    arrows = train_imports()
    assert way_rule(arrows | {"train.data.steps": {"train.run.loop"}}) == ["train.data.steps imports train.run.loop"]
    circle = {"train.data.steps": {"train.data.batching"}, "train.data.batching": {"train.data.steps"}}
    assert {*circle} <= {*circle_rule(arrows | circle)}


def test_a_room_imports_only_those_before_it():
    assert way_rule(train_imports()) == []


def test_no_circle_of_imports():
    assert circle_rule(train_imports()) == []


def json_rule(source: str) -> list[str]:
    """Python's reader of JSON fails in four ways, so `train.files` alone calls it and makes one of them."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [
        f"{node.lineno}: {ast.unparse(node)}" for node in calls if ast.unparse(node) in ("json.loads", "json.load")
    ]


def test_json_rule_can_fail():
    assert json_rule("files.parse_json(text)\njson.dumps(x)") == []
    assert len(json_rule("json.loads(text)")) == 1


def test_json_is_read_in_one_place():
    # The two scripts read their job before anything of this project is imported; one of them never may.
    allowed = ("train/files.py", "train/hub/check/stranger.py", "train/hub/check/ours.py")
    assert [line for line in violations("train", json_rule) if not line.startswith(allowed)] == []


def test_the_wheel_asks_for_torch_and_transformers_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    names = [re.match(r"[\w-]+", line)[0] for line in project["project"]["dependencies"]]
    assert names == ["torch", "transformers"]
    wanted = {extra: lines for extra, lines in project["project"]["optional-dependencies"].items() if extra != "all"}
    pinned = {
        re.match(r"[\w-]+", line)[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    named = {re.match(r"[\w-]+", line)[0] for lines in wanted.values() for line in lines} | set(names)
    assert named - pinned == set()


def test_the_wheel_holds_modeling_vanilla_only(tmp_path, monkeypatch):
    build_meta = pytest.importorskip("setuptools.build_meta")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for package in (*ALLOWED, "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("data", "__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    wheel = zipfile.ZipFile(tmp_path / build_meta.build_wheel(str(tmp_path)))
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assets = sorted((ROOT / "modeling_vanilla" / "look" / "page-assets").iterdir())
    assert files == {path.relative_to(ROOT).as_posix() for path in [*sources("modeling_vanilla"), *assets]}


def test_model_and_tokenizer_agree_on_the_special_ids():
    from modeling_vanilla import VanillaConfig
    from tokenizer import special

    config = VanillaConfig()
    assert config.pad_token_id == special.PAD_ID
    assert config.bos_token_id == config.decoder_start_token_id == special.BOS_ID
    assert config.eos_token_id == special.EOS_ID


def test_a_reader_finds_the_tests_of_every_file():
    """By its name, or in the table of tests/README.md, which names no file too many."""
    page = (ROOT / "tests" / "README.md").read_text("utf-8")
    named = re.findall(r"^\| (`.*`) \| (\[.*\)) \|$", page, re.MULTILINE)
    listed = [file for files, _ in named for file in re.findall(r"`([^`]+)`", files)]
    paths = [path.relative_to(ROOT) for package in PACKAGES for path in sources(package) if path.name != "__init__.py"]
    alone = [str(path) for path in paths if not (ROOT / "tests" / path.parent / f"test_{path.name}").is_file()]
    assert sorted(listed) == sorted(alone)
    assert [
        link for _, links in named for link in re.findall(r"\((.*?)\)", links) if not (ROOT / "tests" / link).exists()
    ] == []
