"""A Hub folder in use: a process that knows nothing of this project does everything, and its numbers are compared with ours."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers.models.auto import modeling_auto

import modeling_vanilla
from modeling_vanilla import VanillaConfig, doctor
from modeling_vanilla import doctor_subject as subjects
from modeling_vanilla.doctor_files import SAMPLE
from train import files, stranger

SCRIPT = Path(stranger.__file__)
PACKAGE = Path(modeling_vanilla.__file__).parent
TIMEOUT = 1800  # seconds
TOLERANCE = 1e-5
# What a process needs to start; nothing else of the environment reaches the code of a repository: no token, no setting.
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "SYSTEMROOT", "CUDA_VISIBLE_DEVICES")
# What the doctor knows about a model and its folder that is a fault anywhere; the rest is about a model's architecture.
OF_A_FOLDER = ("weights", "save-load", "tied", "special-ids")
STOCK = {
    "AutoModelForSeq2SeqLM": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "AutoModelForCausalLM": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "AutoModelForMaskedLM": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "AutoModelForSequenceClassification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "AutoModelForTokenClassification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "AutoModelForQuestionAnswering": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    "AutoModelForMultipleChoice": modeling_auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES,
}
# Pipelines of transformers that read a text, as a card names them.
TEXT_PIPELINES = ("text-generation", "fill-mask", "text-classification", "token-classification", "feature-extraction")


def foreign_code(folder: Path) -> list[str]:
    """Return the names of the code files that are not, byte for byte, those of the installed package."""
    return sorted(
        path.name
        for path in folder.glob("*.py")
        if not (PACKAGE / path.name).is_file() or path.read_bytes() != (PACKAGE / path.name).read_bytes()
    )


def own_class(config: dict) -> str | None:
    """Return the Auto class that loads the weights as they were saved; None where config.json does not say."""
    saved, auto_map = config.get("architectures"), config.get("auto_map")
    saved = saved[0] if isinstance(saved, list) and saved else ""
    for auto, reference in auto_map.items() if isinstance(auto_map, dict) else ():
        if auto.startswith("AutoModel") and str(reference).partition(".")[2] == saved:
            return auto
    for auto, names in STOCK.items():
        if saved and saved in names.values():
            return auto
    return "AutoModel" if saved else None


def findings(folder: Path, tag: str | None, text: str | None) -> Iterator[tuple[str, bool, str]]:
    """Yield what a stranger found in a folder, and whether its numbers are those of the installed package.

    Args:
        folder: its code runs, in a process of its own.
        tag: `pipeline_tag` of the card.
        text: that the tokenizer and the pipelines are tried on; None = an English sentence.
    """
    config = files.read_object(folder / "config.json")
    ours = config.get("model_type") == VanillaConfig.model_type
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        job = _job(folder, config, tag, text)
        found, computed = _visit(job, Path(work))
    yield from found
    with _quiet():
        if ours and job["own"]:
            yield _compared(folder, job, computed)
        if ours or not any(folder.glob("*.py")):
            yield from _doctored(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what libraries say while they load out of the report: a fault is said by the check that finds it."""
    logs = transformers.utils.logging
    verbosity, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(verbosity)
        if bars:
            logs.enable_progress_bar()


def _job(folder: Path, config: dict, tag: str | None, text: str | None) -> dict[str, Any]:
    """Describe the visit, see `stranger.Stranger`."""
    auto_map, own = config.get("auto_map") or {}, own_class(config)
    remote = [auto for auto in auto_map if auto.startswith(("AutoConfig", "AutoModel"))]
    autos = remote or ["AutoConfig", "AutoModel", *([own] if own and own != "AutoModel" else [])]
    tasks = list(config.get("custom_pipelines") or {})
    return {
        "folder": str(folder.resolve()),
        "paths": [str(Path(transformers.__file__).parents[1])],
        "threads": torch.get_num_threads(),
        "autos": autos,
        "remote": remote,
        "own": own,
        "trust": any(folder.glob("*.py")),
        "vocab_size": config.get("vocab_size"),
        "tokenizer": any(folder.glob("tokenizer*")) or any(folder.glob("vocab*")),
        "inputs": _inputs(config),
        "pipelines": tasks + [task for task in TEXT_PIPELINES if task == tag],
        "text": text or SAMPLE,
        "fit": _positions(config) // 2,
    }


def _inputs(config: dict) -> dict[str, list[list[int]]]:
    """Draw two rows of ordinary ids for each side, as long as the positions allow."""
    special = {value for name, value in config.items() if name.endswith("_token_id") and isinstance(value, int)}
    size = config.get("vocab_size") or 100
    ordinary = [value for value in range(size) if value not in special] or list(range(size))
    draw = torch.Generator().manual_seed(0)

    def rows(length: int) -> list[list[int]]:
        chosen = torch.randint(len(ordinary), (2, max(1, min(length, _positions(config) // 2))), generator=draw)
        return [[ordinary[value] for value in row] for row in chosen.tolist()]

    if config.get("is_encoder_decoder"):
        return {"input_ids": rows(7), "decoder_input_ids": rows(5)}
    return {"input_ids": rows(7)}


def _positions(config: dict) -> int:
    """Return how many tokens a model can read."""
    return config.get("max_position_embeddings") or config.get("n_positions") or 64


def _visit(job: dict, work: Path) -> tuple[list[tuple[str, bool, str]], dict[str, torch.Tensor]]:
    """Run the stranger in an empty cache and an empty home; return its findings and its numbers."""
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (work / "home").mkdir()
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"HOME": str(work / "home"), "HF_HOME": str(work / "home" / "hf"), "HF_HUB_OFFLINE": "1"}
    environment |= {"TMPDIR": str(work), "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-X", "utf8", str(SCRIPT), str(work / "job.json")],
            cwd=work / "home",
            env=environment,
            # transformers asks a person whether it may run code: no answer is a no.
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
        said, code = done.stderr.strip().splitlines(), done.returncode
    except subprocess.TimeoutExpired:
        said, code = [f"not done after {TIMEOUT} seconds"], -1
    try:
        found = [tuple(line) for line in files.parse_json((work / "findings.json").read_bytes())]
        return found, load_file(work / "numbers.safetensors")
    except OSError:
        return [("stranger", False, f"the process ended with code {code}: {said[-1] if said else 'nothing said'}")], {}


def _compared(folder: Path, job: dict, computed: dict[str, torch.Tensor]) -> tuple[str, bool, str]:
    """Compare what every class computed with what the installed package computes from the same folder."""
    name = "same numbers"
    inputs = {side: torch.tensor(rows) for side, rows in job["inputs"].items()}
    try:
        loaded: Any = getattr(transformers, job["own"]).from_pretrained(folder).eval()
        expected = stranger.numbers(loaded, inputs)
    except Exception as error:  # noqa: BLE001 - a folder may hold anything
        return name, False, f"the installed package cannot run it: {subjects.one_line(error)}"
    parts = {key: value for key, value in computed.items() if key.split("/")[1] in expected}
    if not any(key.startswith(f"{job['own']}/") for key in parts):
        return name, False, f"{job['own']} computed nothing to compare"
    for key, value in parts.items():
        wanted = expected[key.split("/")[1]]
        close = value.shape == wanted.shape and torch.allclose(
            value.double(), wanted.double(), rtol=TOLERANCE, atol=TOLERANCE
        )
        if not close:
            return name, False, f"{key}: differs from what the installed package computes from the same weights"
    return name, True, f"{len(parts)} outputs of {len(job['autos']) - 1} classes are those of the installed package"


def _doctored(folder: Path) -> Iterator[tuple[str, bool, str]]:
    """Let the doctor examine the folder: weights that are missing or left over, tied weights, special ids."""
    try:
        for found in doctor.examine(subjects.load(str(folder)), OF_A_FOLDER):
            yield f"doctor {found.name}", found.outcome != "FAIL", found.meaning
    except ValueError as error:
        yield "doctor", False, str(error)
