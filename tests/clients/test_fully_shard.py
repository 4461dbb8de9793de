# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Training sharded over two processes: FSDP2 by hand, FSDP2 by transformers' plan, and tensor parallel.

One process on the whole batch is the oracle. The file is test and worker: the ranks run it as a script.
"""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import modeling_vanilla as mv

HEADS = {
    "encoder-decoder": mv.VanillaForConditionalGeneration,
    "encoder": mv.VanillaForMaskedLM,
    "decoder": mv.VanillaForCausalLM,
}
TABLES = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
WAYS = ("layers", "tables", "plan", "tensor")
STEPS = 3


def batch_of(variant: str, step: int) -> dict[str, torch.Tensor]:
    """Return four rows of one step: padded, and with another number of labels in each half."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(7, 98, (4, 6), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    mask[2, 3:] = 0
    labels = torch.randint(7, 98, (4, 5 if variant == "encoder-decoder" else 6), generator=generator)
    labels[0, 2:] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def share_of(batch: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """Return the two rows of one process."""
    return {name: rows[2 * rank : 2 * rank + 2] for name, rows in batch.items()}


def stacks_of(model) -> list:
    return [stack for stack in (model.model.encoder, model.model.decoder) if stack is not None]


def shard(model, way: str, tied: bool):
    """Shard a model by hand: each layer and the rest, as torchtitan does; for "tables" token matrices apart too.

    One matrix must stay within one group: tied tables are given to `fully_shard` together.
    """
    mesh = init_device_mesh("cpu", (2,))
    if way == "tables":
        tables = [stack.embed_tokens for stack in stacks_of(model)] + [model.lm_head]
        for group in [tables] if tied else tables:
            fully_shard(group, mesh=mesh)
    for stack in stacks_of(model):
        for layer in stack.layers:
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather one parameter or gradient from all processes."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach()


def distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    return max((left[name] - right[name]).abs().max().item() for name in left)


def train(one, two, variant: str, split: bool) -> dict:
    """Train both models for some steps and return how far apart they get; with `split` each process has its rows."""
    rank, world = dist.get_rank(), dist.get_world_size()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    optimisers = [torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9) for model in (one, two)]
    gradients = 0.0
    for step in range(STEPS):
        batch = batch_of(variant, step)
        places = batch["labels"][:, 1:] if variant == "decoder" else batch["labels"]
        count = places.ne(-100).sum()
        for optimiser in optimisers:
            optimiser.zero_grad()
        one(**batch, num_items_in_batch=count).loss.backward()
        # FSDP divides the sum of the gradients by the number of processes.
        inputs, factor = (share_of(batch, rank), world) if split else (batch, 1)
        (two(**inputs, num_items_in_batch=count).loss * factor).backward()
        wanted = {name: parameter.grad for name, parameter in one.named_parameters()}
        gradients = max(gradients, distance({n: whole(p.grad) for n, p in two.named_parameters()}, wanted))
        for optimiser in optimisers:
            optimiser.step()
    after = one.state_dict()
    return {
        "gradients": gradients,
        "parameters": distance({name: whole(value) for name, value in two.state_dict().items()}, after),
        "moved": {name: (after[name] - before[name]).abs().max().item() for name in TABLES if name in after},
    }


def saved(one, two, variant: str, way: str, folder: Path) -> float:
    """Save the sharded model, load it in one process and return how far its logits are from those of `one`."""
    head = type(one)
    if way in ("layers", "tables"):
        state = {name: whole(value) for name, value in two.state_dict().items()}  # every process takes part
        if dist.get_rank() == 0:
            head(one.config).save_pretrained(folder, state_dict=state)
    else:
        two.save_pretrained(folder)
    dist.barrier()
    with torch.no_grad():
        inputs = batch_of(variant, STEPS)
        got = head.from_pretrained(folder).eval()(**inputs).logits
        return (got - one.eval()(**inputs).logits).abs().max().item()


def work(root: Path) -> None:
    """Run every case on this process, and write what was found from the first."""
    dist.init_process_group("gloo")
    assert dist.get_world_size() == 2
    found = {}
    for variant, head in HEADS.items():
        for tied in (True, False):
            torch.manual_seed(0)
            start = root / f"{variant}-{tied}"
            config = mv.VanillaConfig.tiny(variant=variant, vocab_size=98, tie_word_embeddings=tied, dropout=0.0)
            if dist.get_rank() == 0:
                head(config).save_pretrained(start)
            dist.barrier()
            for way in WAYS:
                one = head.from_pretrained(start).train()
                if way in ("plan", "tensor"):
                    from transformers.distributed import DistributedConfig

                    sizes = {"fsdp_size": 2} if way == "plan" else {"tp_size": 2}
                    two = head.from_pretrained(start, distributed_config=DistributedConfig(**sizes)).train()
                else:
                    two = shard(copy.deepcopy(one), way, tied)
                name = f"{variant}, {'tied' if tied else 'untied'}, {way}"
                found[name] = train(one, two, variant, split=way != "tensor")
                found[name]["logits"] = saved(one, two, variant, way, root / f"saved-{name}")
    if dist.get_rank() == 0:
        (root / "found.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(ranks, tmp_path_factory) -> dict:
    """Run the worker once on two processes, and return the findings of all cases."""
    root = tmp_path_factory.mktemp("sharded")
    ranks(__file__, root)
    return json.loads((root / "found.json").read_text())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tied", ["tied", "untied"])
@pytest.mark.parametrize("variant", HEADS)
def test_trains_like_one_process(found, variant, tied, way):
    result = found[f"{variant}, {tied}, {way}"]
    assert result["gradients"] < 1e-5
    assert result["parameters"] < 1e-5
    # All names of the token matrices are there, and what is compared was trained, not left alone.
    assert len(result["moved"]) == (3 if variant == "encoder-decoder" else 2)
    assert min(result["moved"].values()) > 0.01
    assert result["logits"] < 1e-5


if __name__ == "__main__":
    work(Path(sys.argv[1]))
