"""The files of a Hub folder: only kinds that run nothing, each what its name says, none missing, as long as it should be."""

from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from modeling_vanilla.convert.folders import INDEX, complete_folder
from train import files
from train.hub.check.listing import DATA_NAMES, name_of, paths

TEXT = {".json", ".jsonl", ".py", ".md", ".yaml", ".yml", ".txt", ".jinja"}
# First bytes of the other kinds; of safetensors the header is read.
PICTURES = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff"}
PICKLED = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib", ".h5", ".msgpack", ".zip"}
MAGIC = {b"PK\x03\x04": "a zip, as torch.save writes it"} | {
    bytes([0x80, version]): "a pickle" for version in range(2, 6)
}
REQUIRED = (files.CONFIG, "tokenizer.json", "tokenizer_config.json")
WEIGHTS = "model.safetensors"
# Classes whose `generate` a reader will call.
GENERATING = ("AutoModelForSeq2SeqLM", "AutoModelForCausalLM")


def file_problems(folder: Path, auto_class: str | None) -> Iterator[str]:
    """Yield what is missing, and what is not of a kind that a model's reader needs.

    Args:
        folder: of the repository.
        auto_class: the Auto class of the saved weights.
    """
    for name in REQUIRED:
        if not (folder / name).is_file():
            yield f"{name}: missing"
    if not (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file():
        yield f"{WEIGHTS}: missing; weights must be safetensors"
    if auto_class in GENERATING and not (folder / files.GENERATION).is_file():
        yield f"generation_config.json: missing; without it {auto_class} stops after 20 tokens"
    yield from _length_problems(folder, auto_class)
    for path in paths(folder):
        name, kind = name_of(path, folder), path.suffix.lower()
        if path.name not in DATA_NAMES and kind not in TEXT | set(PICTURES) | {".safetensors"} | PICKLED:
            yield f"{name}: a file of kind {kind or path.name!r}, must be {', '.join(sorted(TEXT | set(PICTURES)))} or safetensors"
        elif (kind in TEXT or path.name in DATA_NAMES) and not _is_text(path):
            yield f"{name}: is not text in UTF-8"
        elif kind in PICTURES and not _head(path).startswith(PICTURES[kind]):
            yield f"{name}: is not a {kind[1:]} picture"
        elif kind == ".json" and (fault := _json_fault(path)):
            yield f"{name}: is not JSON: {fault}"


def _length_problems(folder: Path, auto_class: str | None) -> Iterator[str]:
    """Yield a limit of the output with which `generate` of a decoder runs past its positions: its prompt takes some."""
    positions = files.read_object(folder / files.CONFIG).get("max_position_embeddings")
    new_tokens = files.read_object(folder / files.GENERATION).get("max_new_tokens")
    if (
        auto_class == "AutoModelForCausalLM"
        and isinstance(positions, int)
        and isinstance(new_tokens, int)
        and new_tokens >= positions - 1
    ):
        yield f"generation_config.json: max_new_tokens={new_tokens} leaves a prompt no place in {positions} positions; set max_length"


def pickle_problems(folder: Path) -> Iterator[str]:
    """Yield every file that is a pickle by its name or by its first bytes: loading one runs what it says."""
    for path in paths(folder):
        name, kind = name_of(path, folder), path.suffix.lower()
        if kind in PICKLED:
            yield f"{name}: {kind} files are or may hold pickles, which run code on loading; weights must be safetensors"
        elif kind != ".safetensors":  # it begins with the length of its header, which may be any number
            head = _head(path)
            for magic, kind_of_file in MAGIC.items():
                if head.startswith(magic):
                    yield f"{name}: begins as {kind_of_file}"


def weight_problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the weights: shards, sizes, headers, numbers that are none."""
    names = [WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(files.parse_json((folder / INDEX).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            yield f"{INDEX}: weight_map cannot be read ({type(error).__name__})"
            return
        if outside := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
            yield f"{INDEX}: weight_map names {outside[0]!r}, must be a file of the folder"
            return
    if not (folder / names[0]).is_file() and names == [WEIGHTS]:
        return  # reported already
    try:
        complete_folder(folder, lambda config: None)
    except ValueError as error:
        yield str(error).replace(f"{folder}/", "")
        return
    for name in names:
        try:
            yield from (f"{name}: {fault}" for fault in _tensor_faults(folder / name))
        except SafetensorError as error:
            yield f"{name}: {error}"


def _tensor_faults(path: Path) -> Iterator[str]:
    """Yield every tensor that holds something else than numbers."""
    with safe_open(path, "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no dict
            value = tensors.get_tensor(name)
            if value.is_floating_point() and (wrong := int((~value.isfinite()).sum())):
                yield f"{name}: {wrong} of {value.numel()} values are NaN or infinite"


def listing_problems(folder: Path, listing: dict[str, dict] | None) -> Iterator[str]:
    """Yield every file whose size or hash is not the listed one.

    Args:
        folder: of the repository.
        listing: file -> {"size", and "sha256" or "blob_id" (git's)}; None = the folder's own manifest, if it has one.
    """
    if listing is None:
        if (folder / files.MANIFEST).is_file() and (fault := files.damage(folder)):
            yield fault
        return
    present = {name_of(path, folder) for path in paths(folder)}
    for name in sorted(listing.keys() | present):
        if name not in listing:
            yield f"{name}: is not in the listing of the Hub"
        elif name not in present:
            yield f"{name}: is listed and did not arrive"
        else:
            actual, listed = files.digest(folder / name), listing[name]
            if actual["size"] != listed["size"]:
                yield f"{name}: has {actual['size']} bytes, the Hub lists {listed['size']}"
                continue
            kind = "sha256" if "sha256" in listed else "blob_id"
            value = str(actual["sha256"]) if kind == "sha256" else files.git_hash(folder / name)
            if value != listed[kind]:
                yield f"{name}: {kind} {value[:12]}, the Hub lists {listed[kind][:12]}"


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(16)


def _is_text(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return all("\0" not in block for block in iter(lambda: file.read(1 << 20), ""))
    except UnicodeDecodeError:
        return False


def _json_fault(path: Path) -> str | None:
    try:
        files.parse_json(path.read_bytes())
    except ValueError as error:
        return str(error)
    return None
