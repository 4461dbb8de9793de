"""Checkpoints of a run: what their files are called, writing them whole, trusting none that does not verify.

    checkpoints/step-00000100/{model.safetensors, config.json, optimizer.safetensors, rng-00000.safetensors,
    state.json, manifest.json}

safetensors and JSON only: nothing that is read back can execute code.
"""

import copy
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from modeling_vanilla import __version__
from train import files
from train.errors import UserError
from train.run import writer
from train.run.run import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE = "model.safetensors", "optimizer.safetensors", "state.json"
RANDOM_FILE = "rng-{:05d}.safetensors"
FORMAT = 1
"""Of what a checkpoint holds; one that says nothing has format 1. A change that an older version would misread counts up."""

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class State:
    """What a checkpoint says of itself, in JSON.

    Attributes:
        progress: where the run stands.
        processes: how many trained it.
        identity: hashes of what it was trained on, which a resume compares.
        scheduled: whether the recipe asked for a checkpoint at this step.
        history: the parts of the run's way, see `train.run.history`; an early version wrote none.
    """

    progress: Progress
    processes: int
    identity: dict[str, str]
    scheduled: bool
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Snapshot:
    """One moment of a run, to be written as a checkpoint.

    Attributes:
        state: what the checkpoint says of itself.
        model: the bare model, not wrapped by accelerate.
        tensors: of the other files, by the file's name.
        weights: copies of the model's; None = those that it has.
    """

    state: State
    model: "PreTrainedModel"
    tensors: dict[str, Tensors]
    weights: Tensors | None = None

    @classmethod
    def of(
        cls,
        state: State,
        model: "PreTrainedModel",
        moments: Tensors,
        random_states: Sequence[Tensors] = (),
        extra: dict[str, Tensors] | None = None,
    ) -> "Snapshot":
        """Return what is to be written, nothing copied yet: with the random state of each rank, and further files by name.

        Raises:
            ValueError: a weight is not finite.
        """
        for name, parameter in model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise ValueError(f"step {state.progress.step}: {name} is not finite, so no checkpoint is written")
        random = {RANDOM_FILE.format(rank): tensors for rank, tensors in enumerate(random_states)}
        return cls(state, model, {OPTIMIZER_FILE: moments, **random, **(extra or {})})

    def copied(self) -> "Snapshot | None":
        """Return a copy that can be written while the model trains on; None where it does not fit into main memory."""
        tensors = [
            *self.model.parameters(),
            *(value for of_file in self.tensors.values() for value in of_file.values()),
        ]
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if any(type(tensor.data) is not torch.Tensor for tensor in tensors) or needed > writer.free_memory() // 2:
            return None
        try:
            copies = {
                file: {name: value.to("cpu", copy=True) for name, value in of_file.items()}
                for file, of_file in self.tensors.items()
            }
            by_address: Any = {}  # tied matrices stay one tensor, so that they are written once
            for tensor in self.model.state_dict().values():
                by_address.setdefault(tensor.data_ptr(), tensor.detach().to("cpu", copy=True))
            weights = {name: by_address[tensor.data_ptr()] for name, tensor in self.model.state_dict().items()}
        except (MemoryError, RuntimeError):  # torch has a RuntimeError for a CPU without memory
            return None
        with torch.device("meta"):  # saving changes the config for a moment, which must not be the one in use
            shell = type(self.model)(copy.deepcopy(self.model.config))
            torch.nn.Module.to(shell, dtype=self.model.dtype)
        if self.model.can_generate():
            shell.generation_config = copy.deepcopy(self.model.generation_config)
        return Snapshot(self.state, shell, copies, weights)

    def write(self, run_dir: Path) -> Path:
        """Write the checkpoint: staged, synced, listed in a manifest, renamed once, read back and compared.

        Raises:
            OSError: the disk did not take it; nothing of it is left, the checkpoints on disk stay as they are.
        """
        folder = folder_of(run_dir, self.state.progress.step)
        try:
            with files.staged_folder(folder, manifest=True) as staging:
                write_model(self.model, staging, self.weights)
                for name, tensors in self.tensors.items():
                    save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, staging / name)
                about = {"format": FORMAT, "version": __version__}
                files.write_json(staging / STATE_FILE, about | dataclasses.asdict(self.state))
        except Exception as error:  # safetensors reports a full disk with an exception of its own
            raise OSError(f"{folder}: checkpoint not written: {error}") from error
        problem = files.damage(folder)
        if problem:
            raise OSError(f"{folder}: checkpoint does not read back: {problem}")
        return folder


def moments_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """Return an optimiser's tensors as `parameter/quantity`: names survive a change of the groups' order."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{quantity}": value.detach()
        for parameter, quantities in optimizer.state.items()
        for quantity, value in quantities.items()
    }


def folder_of(run_dir: Path, step: int) -> Path:
    """Return the folder of one step's checkpoint."""
    return Path(run_dir) / files.CHECKPOINTS / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(folder.name.removeprefix("step-"))


def folders(run_dir: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    return sorted((Path(run_dir) / files.CHECKPOINTS).glob("step-*"))


def write_model(model: "PreTrainedModel", folder: Path, weights: Tensors | None = None) -> None:
    """Write a Hugging Face model folder: weights (None = the model's) in one safetensors file, config and code."""
    noisy = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder, state_dict=weights, max_shard_size="1TB")
    finally:
        if noisy:
            logging.enable_progress_bar()


def prune(run_dir: Path, keep: int) -> None:
    """Delete old checkpoints, except the newest `keep` scheduled ones and the newest of all.

    Call it after `Snapshot.write`, which has verified the newest. A checkpoint forced by a signal is not scheduled: it goes as
    soon as a later one exists, so that the set kept, and hence its average, is that of a run that was not interrupted.
    """
    newest_first = folders(run_dir)[::-1]
    scheduled = [folder for folder in newest_first if (state := peek(folder)) and state.scheduled]
    for folder in newest_first[1:]:
        if folder not in scheduled[:keep]:
            files.remove_folder(folder)


def newest(run_dir: Path) -> Path | None:
    """Return the newest checkpoint whose every file verifies, None when the run has none yet.

    A damaged one is named on stderr and skipped.

    Raises:
        UserError: there are checkpoints and all are damaged; starting anew silently would hide the loss.
    """
    damaged = []
    for folder in folders(run_dir)[::-1]:
        problem = files.damage(folder) or _unreadable(folder)
        if problem is None:
            return folder
        damaged.append(f"{folder.name}: {problem}")
        print(f"warning: {folder}: damaged checkpoint skipped: {problem}", file=sys.stderr)
    if damaged:
        raise UserError(
            f"{Path(run_dir) / 'checkpoints'}: no checkpoint is intact ({'; '.join(damaged)}); "
            "delete that folder to train from the start"
        )
    return None


def set_aside(run_dir: Path, chosen: Path) -> None:
    """Rename the checkpoints after the chosen one, which are damaged: pruning must never count them as the newest."""
    for folder in folders(run_dir):
        if folder.name > chosen.name:
            target = folder.with_name(f"damaged-{folder.name}")
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)


def load(folder: Path, model: "PreTrainedModel", optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and moments into a model and its optimiser, in place.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape.
    """
    load_weights(folder, model)
    moments: dict[str, Tensors] = {}
    for key, tensor in load_file(folder / OPTIMIZER_FILE).items():
        name, _, quantity = key.rpartition("/")
        moments.setdefault(name, {})[quantity] = tensor
    names = {parameter: name for name, parameter in model.named_parameters()}
    state: dict[int, Tensors] = {}
    layout = optimizer.state_dict()["param_groups"]
    for group, numbered in zip(optimizer.param_groups, layout, strict=True):
        for parameter, index in zip(group["params"], numbered["params"], strict=True):
            if names[parameter] in moments:
                state[index] = moments.pop(names[parameter])
    if moments:
        raise UserError(f"{folder / OPTIMIZER_FILE}: {next(iter(moments))} belongs to no parameter of this model")
    optimizer.load_state_dict({"state": state, "param_groups": layout})


def load_weights(folder: Path, model: "PreTrainedModel") -> None:
    """Put a folder's weights into a model, in place.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape.
    """
    path = Path(folder) / WEIGHTS_FILE
    put_weights(load_file(path), model, str(path))


def put_weights(weights: Tensors, model: "PreTrainedModel", origin: str) -> None:
    """Put tensors into a model, in place; every name and shape must agree.

    Args:
        weights: tensors by name; a tied matrix is there once.
        model: the bare model.
        origin: where they come from, for the error.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape.
    """
    try:
        outcome = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UserError(f"{origin}: {error}") from None
    addresses = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    filled = {address for name, address in addresses.items() if name not in outcome.missing_keys}
    missing = [name for name in outcome.missing_keys if addresses[name] not in filled]
    if missing or outcome.unexpected_keys:
        raise UserError(f"{origin}: missing tensors {missing[:3]}, unexpected ones {outcome.unexpected_keys[:3]}")


def read_state(folder: Path) -> State:
    """Return what a checkpoint says of itself.

    Raises:
        UserError: it cannot be read, or another version of this program wrote it in another format.
    """
    fields = files.read_json(folder / STATE_FILE)
    known = isinstance(fields, dict)
    number = fields.get("format", 1) if known else None
    if number != FORMAT:
        author = f", written by version {fields['version']}" if known and "version" in fields else ""
        raise UserError(
            f"{folder}: a checkpoint of format {number}{author}; version {__version__} reads format {FORMAT}: "
            "go on with the version that wrote it, or train into another folder with --run_dir"
        )
    try:
        progress, history = Progress(**fields["progress"]), fields.get("history") or []
        return State(progress, fields["processes"], fields["identity"], fields["scheduled"], history)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder}: {STATE_FILE} is of another version of this program ({error}); "
            "go on with that one, or train into another folder with --run_dir"
        ) from None


def read_random_state(folder: Path, rank: int) -> Tensors | None:
    """Return the random state of one rank, None if the checkpoint was written by fewer ranks."""
    path = folder / RANDOM_FILE.format(rank)
    return load_file(path) if path.is_file() else None


def peek(folder: Path) -> State | None:
    """Return a checkpoint's state, None where it cannot be read."""
    try:
        return read_state(folder)
    except (OSError, ValueError):
        return None


def _unreadable(folder: Path) -> str | None:
    """Check what digests cannot: that the manifest lists what a resume needs, and that the weights are finite."""
    listed = files.read_json(folder / files.MANIFEST)["files"]
    for name in (WEIGHTS_FILE, OPTIMIZER_FILE, STATE_FILE, RANDOM_FILE.format(0)):
        if name not in listed:
            return f"{name} is not in {files.MANIFEST}"
    for name, tensor in load_file(folder / WEIGHTS_FILE).items():
        if not torch.isfinite(tensor).all():
            return f"{WEIGHTS_FILE}: {name} is not finite"
    return None
