"""An index of shards names files beside itself: in a folder, in the cache of the Hub, and through links."""

import json
import os
import shutil

import huggingface_hub
import pytest
from transformers import AutoModelForSeq2SeqLM

from modeling_vanilla import VanillaForConditionalGeneration

INDEX = "model.safetensors.index.json"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def rename(folder, new, at: int = 0) -> str:
    """Write another name for one of the shards into the index, and return the old one."""
    index = json.loads((folder / INDEX).read_text("utf-8"))
    old = sorted(set(index["weight_map"].values()))[at]
    index["weight_map"] = {key: new if name == old else name for key, name in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return old


@pytest.mark.parametrize("there", [True, False], ids=["exists", "missing"])
@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "{absolute}",
        "sub/../../outside.safetensors",
        "./inside.safetensors",
        "sub/inside.safetensors",
        "..\\outside.safetensors",
        "C:outside.safetensors",
        "file:outside.safetensors",
        "..",
        "",
        "inside\x00.safetensors",
        "/proc/self/environ",
        "model.bin",
    ],
)
def test_a_shard_is_a_file_beside_its_index(hostile, name, there):
    """Where the file exists, it would have been loaded; where it does not, opening it would be another error."""
    folder = hostile("shards")
    outside = folder.parent / "outside.safetensors"
    old = rename(folder, name.format(absolute=outside))
    if there:
        shutil.copy(folder / old, outside)
        shutil.copy(folder / old, folder / "inside.safetensors")
    (folder / "sub").mkdir()
    for load in (AutoModelForSeq2SeqLM, VanillaForConditionalGeneration):
        with pytest.raises(ValueError, match="must be the name of a .safetensors file beside it"):
            load.from_pretrained(folder)


def test_a_shard_named_in_a_variant_or_a_subfolder(hostile):
    folder = hostile("shards")
    rename(folder, "../outside.safetensors")
    (folder / "deep").mkdir()
    for path in list(folder.glob("*.*")):
        path.rename(folder / "deep" / path.name)
    with pytest.raises(ValueError, match="outside.safetensors"):
        VanillaForConditionalGeneration.from_pretrained(folder, subfolder="deep")
    (folder / "deep" / INDEX).rename(folder / "deep" / "model.safetensors.index.fp16.json")
    with pytest.raises(ValueError, match="outside.safetensors"):
        VanillaForConditionalGeneration.from_pretrained(folder / "deep", variant="fp16")


@pytest.mark.parametrize("target", ["outside.safetensors", "missing.safetensors"])
def test_a_link_that_leaves_the_folder_is_refused(hostile, target):
    folder = hostile("shards")
    shard = min(folder.glob("*.safetensors"))
    shutil.move(shard, folder.parent / "outside.safetensors")
    shard.symlink_to(folder.parent / target)
    with pytest.raises(ValueError, match="is a link to .* outside of"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


def test_links_within_a_folder_and_to_a_folder_are_followed(hostile, tmp_path):
    folder = hostile("shards")
    shard = min(folder.glob("*.safetensors"))
    (folder / "store").mkdir()
    shutil.move(shard, folder / "store" / "x")
    shard.symlink_to(folder / "store" / "x")
    (tmp_path / "link").symlink_to(folder)
    AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "link")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: [index], "must hold the objects"),
        (lambda index: index | {"weight_map": []}, "must hold the objects"),
        (lambda index: index | {"weight_map": {}}, "must hold the objects"),
        (lambda index: {"weight_map": index["weight_map"]}, "must hold the objects"),
        (lambda index: index | {"weight_map": {"a": 3}}, "shard 3 must be the name"),
        (lambda index: index | {"weight_map": {"a": ["x.safetensors"]}}, "must be the name"),
        (lambda index: index | {"weight_map": {"a": "x" * 10**6}}, r"shard 'xxx.*\.\.\."),
    ],
)
def test_an_index_of_another_form_is_refused(hostile, change, message):
    folder = hostile("shards")
    index = change(json.loads((folder / INDEX).read_text("utf-8")))
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff\xfe"])
def test_an_index_that_is_no_json_is_refused(hostile, text):
    folder = hostile("shards")
    (folder / INDEX).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="is not JSON"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


def test_an_index_without_end_is_not_read(hostile):
    folder = hostile("shards")
    os.truncate(folder / INDEX, 10**12)  # sparse: it takes no room
    with pytest.raises(ValueError, match="has 1000000000000 bytes"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


@pytest.fixture
def cached(hostile, tmp_path, monkeypatch):
    """Return a function that lays a sharded folder out as the cache of the Hub does: links to blobs."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def make(name: str | None = None):
        folder = hostile("shards")
        if name is not None:
            old = rename(folder, name)
            shutil.copy(folder / old, tmp_path / "outside.safetensors")
        cache = tmp_path / "cache" / "models--owner--name"
        snapshot = cache / "snapshots" / COMMIT
        (cache / "blobs").mkdir(parents=True)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text(COMMIT)
        snapshot.mkdir(parents=True)
        for number, path in enumerate(sorted(folder.iterdir())):
            shutil.move(path, cache / "blobs" / f"{number:064x}")
            (snapshot / path.name).symlink_to(os.path.join("..", "..", "blobs", f"{number:064x}"))
        return cache.parent, snapshot

    return make


def test_the_cache_of_the_hub_loads(cached):
    cache, snapshot = cached()
    AutoModelForSeq2SeqLM.from_pretrained("owner/name", cache_dir=cache)
    AutoModelForSeq2SeqLM.from_pretrained(snapshot)


@pytest.mark.parametrize("name", ["../../../../outside.safetensors", "{absolute}"])
def test_a_repository_names_no_file_of_this_machine(cached, tmp_path, name):
    """huggingface_hub 2 refuses to look such a name up; where an older one finds the file, this package refuses it."""
    cache, snapshot = cached(name.format(absolute=tmp_path / "outside.safetensors"))
    assert (tmp_path / "outside.safetensors").is_file()
    with pytest.raises((ValueError, OSError), match="outside.safetensors|must be the name of"):
        AutoModelForSeq2SeqLM.from_pretrained("owner/name", cache_dir=cache)
    with pytest.raises(ValueError, match="must be the name of a .safetensors file beside it"):
        AutoModelForSeq2SeqLM.from_pretrained(snapshot)


def test_a_link_out_of_the_cache_is_refused(cached, tmp_path):
    _, snapshot = cached()
    shard = min(snapshot.glob("*.safetensors"))
    shutil.move(shard.resolve(), tmp_path / "outside.safetensors")
    shard.unlink()
    shard.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(ValueError, match="is a link to"):
        AutoModelForSeq2SeqLM.from_pretrained(snapshot)
