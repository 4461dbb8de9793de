"""FSDP2: weights, gradients and moments divided among the processes, instead of DDP's copy for each (Zhao et al. 2023).

Each layer is one group, gathered when it is needed and dropped after; embeddings and head are the root's group, since the
matrix they share must stay within one. torch's `fully_shard` is called here and not through accelerate, which knows no FSDP
on a CPU; so two processes on a CPU test the code that GPUs run.

What leaves the loop is whole: checkpoints, evaluation and the final model are those of a plain model, in the same files.
"""

import contextlib
import copy
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from train.errors import UserError
from train.model import build, optim
from train.run import checkpoint

if TYPE_CHECKING:
    from train.run.run import Run
    from train.settings.recipe import Recipe


def take_over_flag(recipe: "Recipe") -> None:
    """Make a wish for sharding in accelerate's launch file the recipe's own key.

    accelerate must not see its flag: it would divide the model itself, by rules of its own.
    """
    if os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() == "true":
        recipe.loop.shard = True


def prepare(
    accelerator: Accelerator, model: PreTrainedModel, recipe: "Recipe"
) -> tuple[torch.nn.Module, AcceleratedOptimizer]:
    """Return a model, ready for the loop, and its optimiser: sharded where the recipe asks for it and several processes share.

    Raises:
        UserError: `loop.compile` or `loop.ema` is set too.
    """
    if not (recipe.loop.shard and accelerator.num_processes > 1):
        return accelerator.prepare(model, optim.build_optimizer(model, recipe.optim))
    for name, reason in (("compile", "the two were never tried together"), ("ema", "the average is of whole weights")):
        if value := getattr(recipe.loop, name):
            raise UserError(f"loop.{name}: {value}: must be left out where loop.shard is true; {reason}")
    # As for evaluation: it gets its device and its autocast, and no DDP.
    model = accelerator.prepare_model(model, evaluation_mode=True)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for stack in (model.model.encoder, model.model.decoder):
        for layer in stack.layers if stack is not None else ():
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # After sharding, which replaces the parameters.
    return model, accelerator.prepare_optimizer(optim.build_optimizer(model, recipe.optim))


def is_sharded(model: torch.nn.Module) -> bool:
    """Tell whether a model's parameters are divided among processes."""
    return isinstance(next(model.parameters()), DTensor)


def clip(accelerator: Accelerator, model: torch.nn.Module, most: float) -> torch.Tensor:
    """Scale the gradients down to a global norm, over all processes; return the norm they had."""
    if not is_sharded(model):
        return accelerator.clip_grad_norm_(model.parameters(), most)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    torch.nn.utils.clip_grads_with_norm_(model.parameters(), most, norm)
    return norm


def whole(run: "Run") -> "Run":
    """Return a run whose model is whole on every process, for an evaluation; an unsharded one as it is.

    Every process calls it.
    """
    if not is_sharded(run.bare):
        return run
    model = _gathered(run, run.accelerator.device)
    return dataclasses.replace(run, model=model, bare=model)


def gathered(run: "Run") -> tuple[PreTrainedModel, checkpoint.Tensors]:
    """Return a run's model and moments for a checkpoint; every process calls it, the main process alone gets them whole."""
    moments = checkpoint.moments_of(run.bare, run.optimizer.optimizer)
    if not is_sharded(run.bare):
        return run.bare, moments
    is_main = run.accelerator.is_main_process
    model = _gathered(run, torch.device("cpu" if is_main else "meta"))
    full = {}
    for name, value in moments.items():  # one at a time, from all processes
        tensor = value.full_tensor() if isinstance(value, DTensor) else value
        if is_main:
            full[name] = tensor.cpu()
    return model, full


def load(source: Path, run: "Run") -> None:
    """Put a checkpoint into a run; a sharded one reads it whole and keeps its share, so any number of processes may.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape.
    """
    if not is_sharded(run.bare):
        checkpoint.load(source, run.bare, run.optimizer.optimizer)
        return
    model = _plain(run, torch.device("cpu"))
    optimizer = optim.build_optimizer(model, run.recipe.optim)
    checkpoint.load(source, model, optimizer)
    shards: dict[str, Any] = dict(run.bare.named_parameters())
    inner = run.optimizer.optimizer
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shard = shards[name]
            shard.copy_(_share(parameter.detach(), shard))
            for quantity, value in optimizer.state.get(parameter, {}).items():
                fits = value.shape == shard.shape
                inner.state[shard][quantity] = _share(value, shard) if fits else value.to(shard.device)


def _share(full: torch.Tensor, like: DTensor) -> DTensor:
    """Return a tensor that every process has, divided as a parameter is."""
    # src_data_rank=None: each takes its share of its own copy, nothing is sent.
    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def _gathered(run: "Run", device: torch.device) -> PreTrainedModel:
    """Return a run's model, whole, on a device; on "meta" without its values."""
    model = _plain(run, device)
    shards: Any = run.bare.parameters()
    for parameter, shard in zip(model.parameters(), shards, strict=True):  # one at a time, from all processes
        full = shard.full_tensor()
        if device.type != "meta":
            parameter.copy_(full)
    return model


def _plain(run: "Run", device: torch.device) -> PreTrainedModel:
    """Return a model of a run's class and numbers, whole, its weights still to be filled."""
    state = torch.get_rng_state()  # initialisation draws numbers that dropout would have got
    config: Any = copy.deepcopy(run.bare.config)
    with torch.device("meta") if device.type == "meta" else contextlib.nullcontext():
        model: Any = build.head_of(run.recipe.task)(config)
    torch.set_rng_state(state)
    return model.to(device)
