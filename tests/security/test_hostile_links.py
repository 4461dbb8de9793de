"""A folder that somebody else made may hold links under every name that is written there: what they lead to stays as it is."""

import json

import pytest

from modeling_vanilla.convert.folders import copy_tokenizer
from train import files
from train.data import sources
from train.errors import UserError
from train.hub import mend
from train.measure import results
from train.pictures import curves
from train.run.tracking import Tracker
from train.settings.reading import load_recipe


@pytest.fixture
def secret(tmp_path):
    """Return a file outside of the folder, and see afterwards that it is as it was."""
    path = tmp_path / "secret"
    path.write_text("as it was")
    path.chmod(0o600)
    yield path
    assert path.read_text() == "as it was"
    assert path.stat().st_mode & 0o777 == 0o600


LINKS = ["attention.py", ".staging-config.json", ".staging-manifest.json", ".staging-attention.py", "sub/x.json"]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("dry_run", [True, False])
def test_mending_writes_through_no_link(folder, secret, name, dry_run):
    (folder / "layers.py").unlink()  # there is something to mend
    (folder / "manifest.json").write_text('{"files": {}}')
    (folder / name).unlink(missing_ok=True)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(secret)
    with pytest.raises(UserError, match=f"{name}: a link"):
        mend.mend_folder(folder, dry_run)
    assert not (folder / "layers.py").exists()


@pytest.mark.parametrize("name", ["config.json", "native.so"])
def test_mending_reads_no_file_without_end(folder, name):
    (folder / "layers.py").unlink()
    with open(folder / name, "ab") as file:
        file.truncate(1 << 42)  # of zeros that take no place
    with pytest.raises(UserError, match=f"{name}: (has 4,398,046,511,104 bytes|neither code of)"):
        mend.mend_folder(folder)


@pytest.mark.parametrize("name", ["results.json", ".staging-results.json"])
def test_a_document_is_written_beside_a_model_and_nowhere_else(tmp_path, secret, name):
    """`evaluate` writes results.json into the folder that it measures."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).symlink_to(secret)
    files.write_json(folder / "results.json", {"split": "test"})
    assert not (folder / "results.json").is_symlink()
    assert json.loads((folder / "results.json").read_text()) == {"split": "test"}
    assert [path.name for path in folder.iterdir()] == ["results.json"]


def test_a_picture_replaces_a_link(tmp_path, secret):
    run = tmp_path / "run"
    run.mkdir()
    lines = [{"event": "train", "step": step, "loss": float(step)} for step in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "curves.png").symlink_to(secret)
    curves.of_run(run)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG") and not (run / "curves.png").is_symlink()


def test_a_run_folder_with_a_link_is_not_locked(tmp_path, secret):
    (tmp_path / ".lock").symlink_to(secret)
    with pytest.raises(OSError, match=r"\.lock"), files.lock(tmp_path):
        raise AssertionError("locked")


def test_a_line_of_the_log_goes_through_no_link(tmp_path, secret):
    (tmp_path / "metrics.jsonl").symlink_to(secret)
    tracker = Tracker.__new__(Tracker)
    tracker.main, tracker.path = True, tmp_path / "metrics.jsonl"
    with pytest.raises(OSError, match=r"metrics\.jsonl"):
        tracker._write({"step": 1})


def test_a_conversion_copies_no_file_of_elsewhere(folder, secret, tmp_path):
    (folder / "vocab.txt").symlink_to(secret)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ValueError, match=r"vocab\.txt: a link to .*secret, which is not of this folder"):
        copy_tokenizer(folder, target)
    assert not (target / "vocab.txt").exists()


def test_a_tokenizer_in_the_cache_of_the_hub_is_copied(tmp_path):
    """There every file is a link to a blob."""
    snapshot, target = tmp_path / "models--a--b" / "snapshots" / ("0" * 40), tmp_path / "target"
    for place in (snapshot, tmp_path / "models--a--b" / "blobs", target):
        place.mkdir(parents=True)
    for name, text in (("config.json", "{}"), ("vocab.txt", "a\n")):
        (tmp_path / "models--a--b" / "blobs" / name).write_text(text)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    copy_tokenizer(snapshot, target)
    assert (target / "vocab.txt").read_text() == "a\n"


@pytest.mark.parametrize("text", ['{"split": ["a"]}', '{"other_splits": [1]}', '{"split": null}', "[]"])
def test_results_of_another_form_are_one_line(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=r"results\.json: "):
        results.read(tmp_path)


@pytest.mark.parametrize("way", ["absolute", "up", "own"])
def test_a_data_set_names_no_file_of_this_machine(tmp_path, secret, monkeypatch, way):
    """Its card may say which files it has: `datasets` reads them wherever they are."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder, recipe = tmp_path / "set", tmp_path / "recipe.yaml"
    folder.mkdir()
    (folder / "a.txt").write_text("hello\n")
    (tmp_path / "secret.txt").write_text("my key\n")
    name = {"absolute": str(tmp_path / "secret.txt"), "up": "../secret.txt", "own": "a.txt"}[way]
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {name}\n---\n")
    recipe.write_text(f"name: a\ntask: causal\ndata: {{hub: {folder}, train: train}}\n")
    if way == "own":
        assert list(sources.hub_split(load_recipe(recipe), "train")) == [{"text": "hello"}]
        return
    with pytest.raises(UserError, match=r"secret\.txt is no file of the data set"):
        sources.hub_split(load_recipe(recipe), "train")
