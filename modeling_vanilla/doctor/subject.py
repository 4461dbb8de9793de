# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the doctor examines: a text model of any architecture, loaded in fp32, and one way to call it.

Dimension letters: B batch, S source length, T length, V vocabulary.
"""

import copy
import inspect
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.auto import modeling_auto
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from ..convert.folders import INDEX, TOKENIZER_FILES, complete_folder, read_json
from ..file_checks import check_tokenizer

LIMIT = 1e-4
# The Auto class of each head that has labels for every token, and which of their logits a label belongs to.
HEADS = {
    "seq2seq": ("AutoModelForSeq2SeqLM", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    "causal": ("AutoModelForCausalLM", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "masked": ("AutoModelForMaskedLM", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
}


class Skip(Exception):
    """Raised by a check that has no meaning for a model; the message says why."""


@dataclass(frozen=True)
class Measure:
    """What a check measured, the largest value that passes, and a few words about where it was measured."""

    value: float
    limit: float = LIMIT
    note: str = ""


def printable(text: str) -> str:
    """Write what a terminal would obey, or not show, as an escape: a folder's names and tensors may be called anything."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def one_line(error: BaseException) -> str:
    """Return the type of an error and the first 200 characters of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest |got - expected|, as a share of |expected| + s, over two tensors (..., V).

    s is the standard deviation of the expected values around their mean over all places, column by column: what of
    the logits depends on the place. A constant that a column carries does not count, however large it is.

    Returns:
        Infinity where one is not finite and the other is something else.
    """
    if got.shape != expected.shape:
        raise ValueError(f"shapes {tuple(got.shape)} and {tuple(expected.shape)} differ")
    got, expected = got.double().flatten(0, -2), expected.double().flatten(0, -2)  # (N, V)
    finite = expected.isfinite()
    if not got[finite].isfinite().all() or not torch.equal(got[~finite], expected[~finite]):  # NaN equals nothing
        return math.inf
    known = expected.where(finite, 0)
    spread = (known - known.mean(0)).std() if len(known) > 1 else known.std()
    share = (got - expected).abs() / (spread + expected.abs()).clamp(min=1e-30)
    return float(share[finite].max())


@dataclass
class Subject:
    """A model under examination.

    Attributes:
        model: The model as its folder names it, in fp32 and evaluation mode.
        head: "causal", "seq2seq", "masked", or None where there is no language model's head.
        missing: What `from_pretrained` reported: keys that are missing, unexpected, of another size.
        files: Names of the tokenizer's files.
        weight_files: The files that hold the weights.
    """

    model: PreTrainedModel
    head: str | None = None
    tokenizer: Any = None
    tokenizer_error: str | None = None
    files: list[str] = field(default_factory=list)
    weight_files: list[Path] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def core(self) -> Any:
        """What is called: the language model, or the model below another head."""
        return self.model if self.head else self.model.base_model

    @cached_property
    def layout(self) -> str:
        """Return "encoder-decoder", "decoder" or "encoder"."""
        config = self.core.config
        if config.is_encoder_decoder:
            return "encoder-decoder"
        known = {auto for auto, names in HEADS.values() if config.model_type in names}
        known = set(getattr(config, "auto_map", None) or known)
        # A model without a head: which heads the others of its kind have tells what it is.
        alone = self.head is None and "AutoModelForCausalLM" in known and "AutoModelForMaskedLM" not in known
        return "decoder" if self.head == "causal" or getattr(config, "is_decoder", False) or alone else "encoder"

    @cached_property
    def rows(self) -> int:
        """Number of ids that the embedding knows."""
        weight = getattr(self.core.get_input_embeddings(), "weight", None)
        return self.core.config.vocab_size if weight is None else weight.shape[0]

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """Return the length of a text and the width of its padding: 12 and 8, or less where there is no room."""
        config = self.core.config
        sizes = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
        # Two places less: RoBERTa and others number their positions from 2.
        most = min([20, *(size - 2 for size in sizes if isinstance(size, int) and size > 0)])
        if most < 7:
            raise Skip(f"{most + 2} positions are too few for a test")
        return most - 2 * most // 5, 2 * most // 5

    @cached_property
    def special(self) -> set[int]:
        """Every id that a config or the tokenizer gives a role."""
        ids = set(getattr(self.tokenizer, "all_special_ids", ()))
        for config in (self.core.config, getattr(self.core, "generation_config", None)):
            for name, value in (config.to_dict() if config else {}).items():
                if name.endswith("_token_id"):
                    ids |= set(value if isinstance(value, list) else [value])
        return {value for value in ids if isinstance(value, int)}

    def ids(self, rows: int, length: int, salt: int = 0) -> torch.Tensor:
        """Draw ordinary ids (rows, length); another salt gives others."""
        allowed = torch.ones(self.rows, dtype=torch.bool)
        allowed[[value for value in self.special if 0 <= value < self.rows]] = False
        ordinary = allowed.nonzero().flatten()
        if len(ordinary) < 5:
            ordinary = torch.arange(self.rows)
        generator = torch.Generator().manual_seed(1000 * self.seed + salt)
        return ordinary[torch.randint(len(ordinary), (rows, length), generator=generator)]

    @property
    def padding(self) -> int:
        """The id of padding, or any other where there is none."""
        pad = self.core.config.pad_token_id
        return pad if isinstance(pad, int) and 0 <= pad < self.rows else int(self.ids(1, 1, salt=99))

    def accepts(self, name: str) -> bool:
        """Say whether the model's forward has an argument of that name."""
        return name in inspect.signature(self.core.forward).parameters

    def call(self, ids: torch.Tensor, mask=None, target=None, target_mask=None, **more) -> Any:
        """Call the model on ids (B, T), or on a source (B, S) and a target (B, T)."""
        inputs = {"input_ids": ids, "attention_mask": mask, **more}
        if self.layout == "encoder-decoder":
            target = self.ids(len(ids), 6, salt=7) if target is None else target
            inputs |= {"decoder_input_ids": target, "decoder_attention_mask": target_mask}
        device = self.core.device
        inputs = {name: value.to(device) if torch.is_tensor(value) else value for name, value in inputs.items()}
        return self.core(**{name: value for name, value in inputs.items() if value is not None})

    def read(self, out: Any) -> torch.Tensor:
        """Return the logits (B, T, V), or the last hidden states of a model without them."""
        return (out.logits if self.head else out.last_hidden_state).float().cpu()

    def scores(self, *args, **more) -> torch.Tensor:
        """Call the model and return its logits (B, T, V)."""
        return self.read(self.call(*args, **more))

    @cached_property
    def fresh(self) -> PreTrainedModel:
        """The same model from its config alone: its buffers are what the constructor computes."""
        with no_init_weights():
            return type(self.model)._from_config(copy.deepcopy(self.model.config), dtype=torch.float32).eval()

    @cached_property
    def reloaded(self) -> "Subject":
        """The model after it was saved and loaded."""
        _ = self.fresh  # its memory stays taken: what loading does not fill must not be right by chance
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            self.model.save_pretrained(folder)
            cls: Any = type(self.model)
            keywords = {"dtype": torch.float32, "output_loading_info": True, "use_safetensors": True}
            model, report = cls.from_pretrained(folder, **keywords)
        return replace(self, model=model.eval(), report=report)


def load(name: str, trust_remote_code: bool = False, seed: int = 0) -> Subject:
    """Load a model and its tokenizer from a folder or from the Hub.

    Raises:
        ValueError: No such model, an incomplete folder, code that is not trusted, or not a text model.
    """
    if any(Path(name).glob("*.bin")) and not any(Path(name).glob("*.safetensors")):
        raise ValueError(f"{name}: its weights are pickle, which is not read; save the model again as safetensors")
    folder = complete_folder(name, lambda config: None)
    source = str(folder) if Path(name).exists() else name
    trust = {"trust_remote_code": trust_remote_code}
    config = _safely(name, lambda: AutoConfig.from_pretrained(source, **trust))
    if _safely(name, config.get_text_config) is not config or not isinstance(getattr(config, "vocab_size", None), int):
        raise ValueError(f"{name}: model_type={config.model_type!r} is no text model of one vocabulary")
    head, cls = _model_class(config)
    keywords = {"dtype": torch.float32, "output_loading_info": True, "use_safetensors": True}
    if cls.__name__.startswith("AutoModel"):
        keywords |= trust
    model, report = _safely(name, lambda: cls.from_pretrained(source, **keywords))
    subject = Subject(model.eval(), head, report=report, seed=seed)
    if subject.core.main_input_name != "input_ids":
        raise ValueError(f"{name}: {type(model).__name__} reads {subject.core.main_input_name}, it is no text model")
    index = folder / INDEX
    shards = set(read_json(index)["weight_map"].values()) if index.exists() else {"model.safetensors"}
    subject.weight_files = [folder / shard for shard in sorted(shards)]
    subject.files = [file for file in TOKENIZER_FILES if (folder / file).is_file()]
    subject.files += [path.name for path in folder.glob("*.model")]
    if subject.files:
        try:
            check_tokenizer(get_tokenizer_config(source))
            subject.tokenizer = AutoTokenizer.from_pretrained(source, **trust)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of tokenizers is no Exception
            subject.tokenizer_error = one_line(error)
    with torch.no_grad():
        _safely(name, lambda: subject.call(subject.ids(2, subject.lengths[0])))
    return subject


def _safely(name: str, function: Callable[[], Any]) -> Any:
    """Call a function of a library that may raise anything about a model that it cannot use."""
    try:
        return function()
    except Exception as error:
        message = " ".join(str(error).split())
        if "trust_remote_code" in message:
            message = "it holds its own code; --trust-remote-code runs it"
        raise ValueError(f"{name}: {message or type(error).__name__}") from error


def _model_class(config: PreTrainedConfig) -> tuple[str | None, Any]:
    """Return the head's kind and the class that loads the model with the head that its folder names."""
    class_name = (getattr(config, "architectures", None) or [""])[0]
    remote = {target.split(".")[-1]: auto for auto, target in (getattr(config, "auto_map", None) or {}).items()}
    for head, (auto, names) in HEADS.items():
        if head == "seq2seq" and not config.is_encoder_decoder:
            continue
        listed = {name for value in names.values() for name in ((value,) if isinstance(value, str) else value)}
        if class_name and (class_name in listed or remote.get(class_name) == auto):
            return head, getattr(transformers, auto)
    if class_name in remote:
        return None, getattr(transformers, remote[class_name])
    return None, getattr(transformers, class_name, AutoModel) if class_name else AutoModel
