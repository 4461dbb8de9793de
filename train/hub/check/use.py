"""A Hub folder in use: a process that knows nothing of this project does everything, and its numbers are compared with ours.

Both happen in processes of their own, which `confine` bounds: this one reads their answers, and nothing of the folder.
"""

import json
import reprlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.models.auto import modeling_auto

import modeling_vanilla
from modeling_vanilla import VanillaConfig, doctor
from modeling_vanilla.doctor.folder_checks import SAMPLE
from modeling_vanilla.doctor.subject import one_line
from modeling_vanilla.file_checks import LIMITS
from train import files
from train.hub import releases
from train.hub.check import confine, listing, stranger

SCRIPT, OUR_SCRIPT = Path(stranger.__file__), Path(__file__).with_name("ours.py")
PACKAGE = Path(modeling_vanilla.__file__).parent
MOST_ANSWER = 1 << 26  # bytes of what a process answers
TOLERANCE = 1e-5
# What the doctor knows about a model and its folder that is a fault anywhere; the rest is about a model's architecture.
OF_A_FOLDER = ("weights", "save-load", "tied", "special-ids", "generate-forward", "unknown-input")
# What only the code of a folder can mend; that of transformers itself fails it in every folder alike.
OF_ITS_CODE = ("unknown-input",)
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
    """Return the code files, in sub-folders too, that are not those of the installed package or of a release to the byte."""
    if releases.release_of(folder):
        return []
    return [
        name
        for path in listing.code_files(folder)
        for name in [listing.name_of(path, folder)]
        if not (PACKAGE / name).is_file() or path.read_bytes() != (PACKAGE / name).read_bytes()
    ]


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


def findings(
    folder: Path, tag: str | None, text: str | None, deadline: confine.Deadline
) -> Iterator[tuple[str, bool, str]]:
    """Yield what a stranger found in a folder, and whether its numbers are those of the installed package.

    Args:
        folder: its code runs, in a process of its own.
        tag: `pipeline_tag` of the card.
        text: that the tokenizer and the pipelines are tried on; None = an English sentence.
        deadline: of the whole check.
    """
    config = files.read_object(folder / files.CONFIG)
    job = _job(folder, config, tag, text)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        job["numbers"] = str(Path(work, "stranger", "numbers.safetensors"))
        yield from _answers("stranger", SCRIPT, job, Path(work), deadline)
        if job["ours"] or not job["trust"]:  # else it is a model that the installed package does not know
            yield from _answers("installed", OUR_SCRIPT, job, Path(work), deadline)


def of_the_package(job: dict) -> Iterator[tuple[str, bool, str]]:
    """Yield what the installed package finds in a folder, and whether it computes what the stranger computed.

    Runs in the process of `ours.py`.
    """
    transformers.utils.logging.set_verbosity_error()  # a fault is reported by the check that finds it
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    if job["ours"] and job["auto_class"]:
        try:
            computed = load_file(job["numbers"])
        except (OSError, SafetensorError):
            computed = {}
        yield _compared(folder, job, computed)
    yield from _doctored(folder, [name for name in OF_A_FOLDER if job["ours"] or name not in OF_ITS_CODE])


def _job(folder: Path, config: dict, tag: str | None, text: str | None) -> dict[str, Any]:
    """Describe the visit, see `stranger.Stranger`."""
    auto_map, auto_class = config.get("auto_map") or {}, own_class(config)
    remote = [auto for auto in auto_map if auto.startswith(("AutoConfig", "AutoModel"))]
    autos = remote or ["AutoConfig", "AutoModel", *([auto_class] if auto_class and auto_class != "AutoModel" else [])]
    tasks = list(config.get("custom_pipelines") or {})
    code = listing.code_files(folder)
    size = config.get("vocab_size")
    return {
        "folder": str(folder.resolve()),
        "paths": [str(Path(transformers.__file__).parents[1])],
        "threads": torch.get_num_threads(),
        "autos": autos,
        "remote": remote,
        "auto_class": auto_class,
        "ours": config.get("model_type") == VanillaConfig.model_type,
        "own_paths": [str(PACKAGE), str(SCRIPT.parents[2])],
        "trust": any(path.suffix == ".py" for path in code),
        "code": [files.sha256(path) for path in code],
        "memory": confine.memory_for(sum(path.stat().st_size for path in folder.glob("*.safetensors"))),
        "vocab_size": size if isinstance(size, int) else None,
        "tokenizer": any(folder.glob("tokenizer*")) or any(folder.glob("vocab*")),
        "inputs": _inputs(config),
        "pipelines": tasks + [task for task in TEXT_PIPELINES if task == tag],
        "text": text or SAMPLE,
        "fit": _positions(config) // 2,
    }


def _inputs(config: dict) -> dict[str, list[list[int]]]:
    """Draw two rows of ordinary ids for each side, as long as the positions allow."""
    size = _number(config, ("vocab_size",), 100)
    values = {value for name, value in config.items() if name.endswith("_token_id") and isinstance(value, int)}
    special = sorted(value for value in values if 0 <= value < size)
    if len(special) == size:
        special = []
    draw = torch.Generator().manual_seed(0)

    def ordinary(number: int) -> int:
        """Return the ordinary id of that number: a list of all of them could fill the memory."""
        for value in special:
            number += number >= value
        return number

    def rows(length: int) -> list[list[int]]:
        shape = (2, max(1, min(length, _positions(config) // 2)))
        chosen = torch.randint(size - len(special), shape, generator=draw)
        return [[ordinary(value) for value in row] for row in chosen.tolist()]

    if config.get("is_encoder_decoder"):
        return {"input_ids": rows(7), "decoder_input_ids": rows(5)}
    return {"input_ids": rows(7)}


def _positions(config: dict) -> int:
    """Return how many tokens a model can read."""
    return _number(config, ("max_position_embeddings", "n_positions"), 64)


def _number(config: dict, names: tuple[str, ...], default: int) -> int:
    """Return the first of some fields that is set, within what any model may have."""
    value = next((config[name] for name in names if config.get(name)), default)
    if not isinstance(value, int) or not 0 < value <= LIMITS[names[0]]:
        raise ValueError(f"config.json: {names[0]}={reprlib.repr(value)} must be from 1 to {LIMITS[names[0]]:,}")
    return value


def _answers(
    kind: str, script: Path, job: dict, work: Path, deadline: confine.Deadline
) -> list[tuple[str, bool, str]]:
    """Run a script on a job and return its findings, or the one that it did not end in order."""
    work = work / kind
    work.mkdir()
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    code, last_line = confine.run(["-I", str(script), str(work / "job.json")], work, deadline)
    answer = work / "findings.json"
    try:
        if answer.is_symlink() or answer.stat().st_size > MOST_ANSWER:
            raise ValueError("it cannot be read")
        return [
            (str(name), passed is True, str(detail)) for name, passed, detail in files.parse_json(answer.read_bytes())
        ]
    except (OSError, ValueError, TypeError):
        return [(kind, False, f"the process ended with code {code}: {last_line}")]


def _compared(folder: Path, job: dict, computed: dict[str, torch.Tensor]) -> tuple[str, bool, str]:
    """Compare what every class computed with what the installed package computes from the same folder."""
    name = "same numbers"
    inputs = {side: torch.tensor(rows) for side, rows in job["inputs"].items()}
    try:
        loaded: Any = getattr(transformers, job["auto_class"]).from_pretrained(folder).eval()
        expected = stranger.numbers(loaded, inputs)
    except Exception as error:  # noqa: BLE001 - a folder may hold anything
        return name, False, f"the installed package cannot run it: {one_line(error)}"
    compared = {key: value for key, value in computed.items() if key.split("/")[1] in expected}
    if not any(key.startswith(f"{job['auto_class']}/") for key in compared):
        return name, False, f"{job['auto_class']} computed nothing to compare"
    for key, value in compared.items():
        value_here = expected[key.split("/")[1]]
        close = value.shape == value_here.shape and torch.allclose(
            value.double(), value_here.double(), rtol=TOLERANCE, atol=TOLERANCE
        )
        if not close:
            return name, False, f"{key}: differs from what the installed package computes from the same weights"
    return name, True, f"{len(compared)} outputs of {len(job['autos']) - 1} classes are those of the installed package"


def _doctored(folder: Path, names: list[str]) -> Iterator[tuple[str, bool, str]]:
    """Let the doctor examine the folder: its weights and ids, what it generates, what it does not know."""
    try:
        for finding in doctor.examine(doctor.load(str(folder)), names):
            if finding.outcome != "skipped":
                yield f"doctor {finding.name}", finding.outcome != "FAIL", finding.meaning
    except ValueError as error:
        yield "doctor", False, str(error)
