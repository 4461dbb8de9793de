"""hub-check by mutation: a folder that is right passes, and one that is broken in one way fails with the line that says so."""

import json
import re
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from train import __main__ as command
from train import files
from train.hub import folder as hub_folder
from train.hub.check import report as hub_check
from train.measure import provenance


@pytest.fixture(scope="module")
def good(starter, tmp_path_factory):
    """Return the Hub folder of a small translator that was really trained."""
    run = starter.fit(
        tmp_path_factory.mktemp("runs") / "dates-en-ko", "--loop.max_steps=4", "--eval.metrics=[loss,bleu]"
    )
    return hub_folder.write_hub_folder(run, "somebody/dates-en-ko")


@pytest.fixture
def folder(good, tmp_path):
    """Return a copy of it, to break."""
    target = shutil.copytree(good, tmp_path / "hub")
    (target / "manifest.json").unlink()  # or it would find every change, before the check that is meant
    return target


KNOWN = {}  # reading a recipe takes longer than all other checks here: hash each content once


@pytest.fixture
def static(monkeypatch):
    """Leave out the process that uses the folder; it is `test_hub_check_use`'s."""
    hash_of_file = provenance.hash_of_file

    def remembered(path):
        text = path.read_text()
        if text not in KNOWN:
            KNOWN[text] = hash_of_file(path)
        return KNOWN[text]

    monkeypatch.setattr(provenance, "hash_of_file", remembered)
    monkeypatch.setattr("train.hub.check.use.findings", lambda *_: iter([("use", True, "left out")]))


def edit(path, change):
    """Change the JSON object in a file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


ODD = [
    ("config.json", {"auto_map": "modeling.Model"}, "auto_map"),
    ("config.json", {"custom_pipelines": ["translation"]}, "auto_map"),
    ("config.json", {"architectures": 5}, None),
    ("tokenizer_config.json", {"auto_map": 5}, "trust"),
    ("results.json", {"metrics": {"loss": "low"}}, "figures"),
    ("results.json", {"other_splits": {"test": 3}}, "figures"),
    ("results.json", {"weights": ["model.safetensors"]}, "figures"),
]


@pytest.mark.parametrize(("name", "values", "check"), ODD, ids=[f"{name} {next(iter(v))}" for name, v, _ in ODD])
def test_a_value_of_another_kind_is_a_finding_too(static, folder, name, values, check):
    edit(folder / name, lambda content: content.update(values))
    report = hub_check.check_folder(folder)
    assert report.failed == (check is not None)
    assert check is None or any(line.startswith(f"{check}: ") for line in report.problems)


def front(folder, change):
    """Change the front matter of the card."""
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    data = yaml.safe_load(head)
    change(data)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(data)}---\n{text}")


def add_to(path, text):
    """Add text to the end of a file."""
    path.write_text(path.read_text() + text)


def set_weight(folder, value):
    """Put a value into one weight, and keep the receipts in step."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = "model.encoder.layers.0.self_attn.q_proj.weight"
    weights[name][0, 0] = value
    save_file(weights, path, {"format": "pt"})
    edit(folder / "results.json", lambda content: content.pop("weights", None))


def truncate(folder):
    """Cut the last bytes off the weights."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def index(folder, shard):
    """Let the weights be found through an index that names `shard`."""
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))


MUTATIONS = {
    "code file missing": (
        lambda f: (f / "layers.py").unlink(),
        r"imports: stacks.py:\d+: relative import of layers",
    ),
    "import that a reader lacks": (
        lambda f: add_to(f / "layers.py", "\nimport numpy\n"),
        r"layers.py:\d+: imports numpy",
    ),
    "import of this package": (
        lambda f: add_to(f / "layers.py", "\nfrom modeling_vanilla import VanillaConfig\n"),
        r"layers.py:\d+: imports modeling_vanilla",
    ),
    "import of a folder": (lambda f: add_to(f / "layers.py", "\nfrom .sub.layers import X\n"), "import of sub.layers"),
    "import of everything": (lambda f: add_to(f / "layers.py", "\nfrom . import tasks\n"), "import of tasks"),
    "no Python": (lambda f: add_to(f / "layers.py", "\ndef f(:\n"), "imports: layers.py: is not Python"),
    "class that does not exist": (
        lambda f: edit(f / "config.json", lambda c: c["auto_map"].update(AutoModel="modeling_vanilla.Nothing")),
        "auto_map: config.json: auto_map, AutoModel names modeling_vanilla.Nothing",
    ),
    "map without AutoModel": (
        lambda f: edit(f / "config.json", lambda c: c["auto_map"].pop("AutoModel")),
        "auto_map lacks AutoModel",
    ),
    "no map": (lambda f: edit(f / "config.json", lambda c: c.pop("auto_map")), "auto_map lacks AutoConfig"),
    "pipeline that does not exist": (
        lambda f: edit(
            f / "config.json", lambda c: c["custom_pipelines"].update(t={"impl": "pipeline_text2text.Nothing"})
        ),
        "custom_pipelines, t names pipeline_text2text.Nothing",
    ),
    "pipeline without a file": (
        lambda f: edit(f / "config.json", lambda c: c["custom_pipelines"].update(t={"impl": "elsewhere.X"})),
        "custom_pipelines, t names elsewhere.X",
    ),
    "pipeline without a class": (
        lambda f: edit(f / "config.json", lambda c: c["custom_pipelines"].update(t={})),
        "custom_pipelines, t names None",
    ),
    "pipeline that loads nothing": (
        lambda f: edit(
            f / "config.json", lambda c: c["custom_pipelines"]["translation"].update(pt=["AutoModelForCTC"])
        ),
        "translation loads AutoModelForCTC, which auto_map lacks",
    ),
    "pickle by name": (
        lambda f: (f / "training_args.bin").write_bytes(b"x"),
        "no pickle: training_args.bin: .bin files",
    ),
    "pickle by content": (lambda f: (f / "notes.txt").write_bytes(b"\x80\x04\x95"), "notes.txt: begins as a pickle"),
    "zip by content": (lambda f: (f / "merges.txt").write_bytes(b"PK\x03\x04"), "merges.txt: begins as a zip"),
    "another kind": (lambda f: (f / "run.sh").write_text("true"), "files: run.sh: a file of kind '.sh'"),
    "folder inside": (
        lambda f: (f / "a").mkdir() or (f / "a" / "x.so").write_bytes(b"x"),
        "files: a/x.so: a file of kind",
    ),
    "picture that is none": (lambda f: (f / "curves.png").write_text("x"), "curves.png: is not a png picture"),
    "link to elsewhere": (lambda f: (f / "more.json").symlink_to("/etc/hostname"), "more.json: a link"),
    "NaN": (
        lambda f: set_weight(f, torch.nan),
        "weights: model.safetensors: .*q_proj.weight: 1 of .* NaN or infinite",
    ),
    "infinity": (lambda f: set_weight(f, torch.inf), "q_proj.weight: 1 of 1024 values"),
    "truncated weights": (truncate, r"weights: model.safetensors: \d+ bytes are not what its header announces"),
    "weights that are none": (
        lambda f: (f / "model.safetensors").write_bytes(b"x" * 99),
        "weights: model.safetensors: ",
    ),
    "shard outside": (lambda f: index(f, "../outside.safetensors"), r"weight_map names '\.\./outside"),
    "shard missing": (lambda f: index(f, "model-2.safetensors"), "model-2.safetensors: no such file"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "files: model.safetensors: missing"),
    "no config": (lambda f: (f / "config.json").unlink(), "files: config.json: missing"),
    "config that is no JSON": (lambda f: (f / "config.json").write_text("{"), "files: config.json: is not JSON"),
    "no generation_config": (
        lambda f: (f / "generation_config.json").unlink(),
        "files: generation_config.json: missing",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "files: tokenizer.json: missing"),
    "tokenizer that needs trust": (
        lambda f: edit(f / "tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": ["a.B", None]})),
        "trust: tokenizer_config.json: auto_map names AutoTokenizer",
    ),
    "no card": (lambda f: (f / "README.md").unlink(), "card: README.md: missing"),
    "card that is no YAML": (
        lambda f: (f / "README.md").write_text("---\ntags: [a\n---\n"),
        "card: README.md: front matter",
    ),
    "card without front matter": (lambda f: (f / "README.md").write_text("# Name\n"), "license: missing in the front"),
    "model index that is none": (
        lambda f: front(f, lambda d: d.update({"model-index": [3]})),
        "README.md: front matter: ",
    ),
    "no licence": (lambda f: front(f, lambda d: d.pop("license")), "README.md: license: missing"),
    "no such licence": (lambda f: front(f, lambda d: d.update(license="mine")), "license: 'mine' must be a name"),
    "licence without a link": (lambda f: front(f, lambda d: d.update(license="other")), "other needs license_name"),
    "no such language": (
        lambda f: front(f, lambda d: d.update(language="Korean")),
        "language: 'Korean' must be a code",
    ),
    "language that YAML reads as no": (
        lambda f: front(f, lambda d: d.update(language=[False])),
        "language: False must",
    ),
    "no such id": (lambda f: front(f, lambda d: d.update(datasets=["a b"])), "datasets: 'a b' must be an id"),
    "picture missing": (
        lambda f: add_to(f / "README.md", "\n![curve](curve.png)\n"),
        "card: README.md: link to curve.png",
    ),
    "picture in HTML": (lambda f: add_to(f / "README.md", '\n<img src="a.png">\n'), "link to a.png"),
    "link outside": (lambda f: add_to(f / "README.md", "\n[x](../hub/../../x.md)\n"), r"link to \.\./hub"),
    "forged figure": (
        lambda f: edit(f / "results.json", lambda c: c["metrics"].update(bleu=41.0)),
        "figures: README.md: model-index: BLEU .* a figure that results.json does not have",
    ),
    "weights of another run": (
        lambda f: edit(f / "results.json", lambda c: c.update(weights={"model.safetensors": "0" * 64})),
        "figures: results.json: weights: model.safetensors was measured as 000000000000",
    ),
    "recipe of another run": (
        lambda f: add_to(f / "recipe.yaml", "\n") or _replace(f / "recipe.yaml", "warmup_steps: 3", "warmup_steps: 2"),
        "figures: results.json: recipe_hash",
    ),
    "recipe that is none": (lambda f: (f / "recipe.yaml").write_text("x: 1"), "figures: recipe.yaml: "),
    "wrong sha": (
        lambda f: files.write_json(f / "manifest.json", {"files": {"README.md": _lie(f / "README.md")}}),
        "sizes, hashes: README.md does not have the sha256",
    ),
}


def _replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _lie(path):
    return files.digest(path) | {"sha256": "0" * 64}


@pytest.mark.parametrize("fault", MUTATIONS)
def test_a_broken_folder_fails_with_its_line(folder, static, fault):
    change, line = MUTATIONS[fault]
    change(folder)
    report = hub_check.check_folder(folder)
    assert report.failed
    assert [problem for problem in report.problems if re.search(line, problem)], report.problems
    assert all("\n" not in problem and str(folder) not in problem for problem in report.problems)


def test_the_listing_of_the_hub_counts(folder, static):
    listing = {path.name: files.digest(path) for path in folder.iterdir()}
    assert not hub_check.check_folder(folder, listing=listing).failed
    size = listing["config.json"]["size"]
    for name, entry, line in (
        ("config.json", {"size": size + 1}, f"config.json: has {size} bytes, the Hub lists {size + 1}"),
        ("model.safetensors", listing["model.safetensors"] | {"sha256": "0" * 64}, "the Hub lists 000000000000"),
        ("config.json", {"size": size, "blob_id": "1" * 40}, "config.json: blob_id .*, the Hub lists 111111111111"),
        ("absent.json", {"size": 1}, "absent.json: is listed and did not arrive"),
    ):
        report = hub_check.check_folder(folder, listing=listing | {name: entry})
        assert [problem for problem in report.problems if re.search(line, problem)], report.problems
    del listing["tokenizer.json"]
    assert "sizes, hashes: tokenizer.json: is not in the listing of the Hub" in (
        hub_check.check_folder(folder, listing=listing).problems
    )


def test_nothing_of_a_folder_runs_before_it_is_in_order(folder, monkeypatch):
    monkeypatch.setattr("train.hub.check.use.findings", lambda *_: 1 / 0)
    truncate(folder)
    assert hub_check.check_folder(folder).problems[-1].startswith("use: left out")


def test_a_folder_without_a_card_is_used_all_the_same(folder, monkeypatch):
    monkeypatch.setattr("train.hub.check.use.findings", lambda *_: iter([("ran", True, "")]))
    (folder / "README.md").unlink()
    (folder / "manifest.json").unlink(missing_ok=True)
    report = hub_check.check_folder(folder)
    assert report.problems == ["card: README.md: missing"]
    assert "ran" in [finding.name for finding in report.findings]


def test_other_code_runs_only_when_it_is_trusted(folder, monkeypatch):
    monkeypatch.setattr("train.hub.check.use.findings", lambda *_: iter([("ran", True, "")]))
    add_to(folder / "layers.py", "\n# changed\n")
    (folder / "more.py").write_text("")
    report = hub_check.check_folder(folder)
    assert report.problems == [
        "use: layers.py, more.py: not the code of the installed package or of a known release; read it, then run it with --trust-remote-code"
    ]
    assert "ran" in [finding.name for finding in hub_check.check_folder(folder, trust_remote_code=True).findings]


def test_the_command_says_it_all_and_ends_with_1(folder, static, capsys):
    assert command.main(["hub-check", str(folder)]) == 0
    assert "0 failed" in capsys.readouterr().out
    (folder / "layers.py").unlink()
    assert command.main(["hub-check", str(folder)]) == 1
    assert re.search(r"imports +FAIL  stacks.py:\d+: relative import of layers", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["no such/place/at all"], "neither a folder nor an id"),
        ([".", "--revision", "main"], "is a folder here, which has no revisions"),
        (["run"], "run: a run, not what is published of it: `python -m train publish run "),
    ],
)
def test_a_place_that_cannot_be_checked_is_the_users_mistake(words, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("name: run\n")
    assert command.main(["hub-check", *words]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_a_report_of_nothing_has_shown_nothing():
    assert hub_check.Report().failed
