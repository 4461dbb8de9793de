"""Folders that an earlier release wrote: known by their code, and right or refused where the package is imported."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from released import BEAMS, DATA, KINDS, SEARCH, folder_of, generated, strangers_ids

import modeling_vanilla
from modeling_vanilla import VanillaForCausalLM
from train import __main__ as command
from train import files
from train.hub import releases
from train.hub.check import report, use

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]


# ---- the table


def test_the_version_is_one_number():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == modeling_vanilla.__version__ == releases.VERSION


def test_every_version_that_was_released_has_a_row():
    """`python -m train.hub.releases`, on a commit of that version, prints a missing one."""
    headings = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    known = releases.known()
    assert {"0.1.0", *headings} - {releases.VERSION} <= set(known)
    if releases.VERSION in known:  # released: its code must not change any more, or old and new are one version
        assert known[releases.VERSION].files == {path.name: files.sha256(path) for path in releases.shipped()}


def test_the_row_of_0_1_0_is_its_code():
    assert releases.known()["0.1.0"].files == {path.name: files.sha256(path) for path in (DATA / "code").iterdir()}


def test_the_row_of_this_version_is_what_save_pretrained_writes(build, tmp_path):
    build("decoder", VanillaForCausalLM).save_pretrained(tmp_path)
    written = {path.name: files.sha256(path) for path in tmp_path.glob("*.py")}
    assert releases.row()[releases.VERSION]["files"] == written
    assert releases.note_on(tmp_path) == f"code of {releases.VERSION}"


CHANGES = {
    "another byte": lambda folder: (folder / "layers.py").write_bytes((folder / "layers.py").read_bytes() + b"\n"),
    "a file less": lambda folder: (folder / "sentences.py").unlink(),
    "a file more": lambda folder: (folder / "more.py").write_text(""),
    "a file below": lambda folder: (folder / "layers").mkdir() or (folder / "layers" / "__init__.py").write_text(""),
    "two names changed": lambda folder: (
        (folder / "heads.py").rename(folder / "x.py")
        and (folder / "losses.py").rename(folder / "heads.py")
        and (folder / "x.py").rename(folder / "losses.py")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_only_all_of_a_release_and_nothing_else_is_known(change, tmp_path):
    folder = folder_of("decoder", tmp_path / "old")
    assert releases.release_of(folder).version == "0.1.0"
    assert use.foreign_code(folder) == []
    CHANGES[change](folder)
    assert releases.release_of(folder) is None
    assert change == "a file below" or use.foreign_code(folder) != []


# ---- hub-check


@pytest.mark.parametrize(
    ("version", "wrong"), [("5.17.0", False), ("5.23.4", False), ("5.24.0", True), ("6.0.0", True)]
)
def test_hub_check_knows_what_is_wrong_with_a_release(version, wrong, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("train.hub.check.use.findings", lambda *_: iter([("ran", True, "")]))
    monkeypatch.setattr(transformers, "__version__", version)
    folder = folder_of("encoder-decoder", tmp_path / "old")
    assert command.main(["hub-check", str(folder)]) == int(wrong)
    said = capsys.readouterr().out
    line = r"release +pass  code of 0.1.0, known; right with transformers before 5.24"
    if wrong:
        line = rf"release +FAIL  code of 0.1.0, known; wrong with transformers 5.24 and newer, this is {version}: .*--mend"
    assert re.search(line, said), said
    assert re.search(r"ran +pass", said), "known code needs no --trust-remote-code"


def test_a_version_that_the_code_does_not_have_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("train.hub.check.use.findings", lambda *_: iter([]))
    folder = folder_of("encoder-decoder", tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {releases.FIELD: "0.1.1"}))
    line = "release: config.json: modeling_vanilla_version is '0.1.1', its code is that of 0.1.0"
    assert line in report.check_folder(folder).problems


# ---- loading, where the package is imported

LOADER = """
import json, sys
import torch, transformers

root, kinds, search, beams, inputs = json.loads(sys.argv[1])
ids = torch.tensor(inputs)
found = {}


def note(name, model):
    assert type(model).__module__.startswith("modeling_vanilla."), (name, type(model).__module__)
    assert type(model.config).__module__.startswith("modeling_vanilla."), (name, type(model.config).__module__)
    if model.can_generate():
        found[name] = {way: model.generate(ids, num_beams=n, **search).tolist() for way, n in beams.items()}


for kind, auto in kinds.items():  # the code of the folder, before anybody has imported the package
    remote = getattr(transformers, auto).from_pretrained(f"{root}/{kind}", trust_remote_code=True)
    assert type(remote).__module__.startswith("transformers_modules."), type(remote).__module__

import modeling_vanilla

for kind, auto in kinds.items():
    folder = f"{root}/{kind}"
    for trust in (True, None):
        for name in (auto, "AutoModel"):
            note(f"{kind} {name} {trust}", getattr(transformers, name).from_pretrained(folder, trust_remote_code=trust))
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = getattr(transformers, auto).from_pretrained(folder, config=config, trust_remote_code=True)
    note(f"{kind} with config", model)
if "encoder-decoder" in kinds:
    pipe = transformers.pipeline("translation", model=f"{root}/encoder-decoder", trust_remote_code=True)
    assert type(pipe).__module__.startswith("modeling_vanilla."), type(pipe).__module__
    note("encoder-decoder pipeline", pipe.model)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """Return a place with a folder of every kind that 0.1.0 wrote."""
    root = tmp_path_factory.mktemp("old")
    for kind in KINDS:
        folder_of(kind, root / kind)
    return root


def test_the_code_of_the_package_loads_a_folder_of_0_1_0_and_generates_what_that_did(old):
    """Also with trust_remote_code, and also after the folder's own code was loaded once."""
    expected = generated()
    done = subprocess.run(
        [sys.executable, "-c", LOADER, json.dumps([str(old), KINDS, SEARCH, BEAMS, expected["inputs"]])],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 2 * 3 + 1
    for name, ways in found.items():
        assert ways == expected[name.split()[0]], name


def test_the_table_says_truly_with_what_0_1_0_is_wrong(old, tmp_path):
    """Without the package the folder's own code runs: right or wrong as the table says of the transformers here."""
    found, expected = strangers_ids(old, tmp_path / "work"), generated()
    assert {found[f"version {kind}"] for kind in KINDS} == {None}
    is_right = all(found[kind] == expected[kind] for kind in KINDS)
    assert is_right != releases.known()["0.1.0"].is_wrong_here
