# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""DistributedDataParallel over two processes, every head of every variant, with its strict default.

By default DDP refuses a model with a parameter that took no part in the loss. One process on the whole batch is the
oracle of the gradients. The file is test and worker: the ranks run it as a script.
"""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import modeling_vanilla as mv

VARIANTS = ("encoder-decoder", "encoder", "decoder")
TASKS = (
    mv.VanillaForSequenceClassification,
    mv.VanillaForTokenClassification,
    mv.VanillaForQuestionAnswering,
    mv.VanillaForMultipleChoice,
)
MODELS = [
    ("encoder-decoder", mv.VanillaForConditionalGeneration),
    ("encoder", mv.VanillaForMaskedLM),
    ("decoder", mv.VanillaForCausalLM),
    *((variant, head) for variant in VARIANTS for head in TASKS),
]
OPTIONS = {
    "paper": {},
    # Every parameter that a config can add.
    "all": {
        "norm_order": "pre",
        "positions": "learned",
        "embedding_norm": True,
        "type_vocab_size": 2,
        "tie_word_embeddings": False,
    },
}
CASES = {f"{variant} {head.__name__} {name}": (variant, head, name) for variant, head in MODELS for name in OPTIONS}


def batch_of(head: type, step: int) -> dict[str, torch.Tensor]:
    """Return four rows with padding and labels; the two processes have equally many labels, two rows each."""
    generator = torch.Generator().manual_seed(step)
    shape = (4, 3, 6) if head is mv.VanillaForMultipleChoice else (4, 6)
    ids = torch.randint(7, 31, shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[0, ..., :2] = 0
    mask[3, ..., 4:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if head is mv.VanillaForQuestionAnswering:
        return inputs | {"start_positions": torch.tensor([2, 0, 1, 0]), "end_positions": torch.tensor([4, 5, 2, 3])}
    if head in (mv.VanillaForSequenceClassification, mv.VanillaForMultipleChoice):
        return inputs | {"labels": torch.tensor([0, 2, 1, 0])}
    if head is mv.VanillaForTokenClassification:
        return inputs | {"labels": ids % 3}
    return inputs | {"labels": ids}


def check(variant: str, head: type, options: dict) -> dict:
    """Take two steps with DDP and with one process; return how far gradients and parameters come apart."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    config = mv.VanillaConfig.tiny(variant=variant, vocab_size=31, num_labels=3, dropout=0.0, **options)
    one = head(config).train()
    two = DistributedDataParallel(copy.deepcopy(one))
    optimisers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (one, two)]
    gradients = 0.0
    for step in range(2):  # the second step is the one that complains of a parameter without a gradient
        batch = batch_of(head, step)
        for optimiser in optimisers:
            optimiser.zero_grad()
        one(**batch).loss.backward()
        two(**{name: rows[2 * rank : 2 * rank + 2] for name, rows in batch.items()}).loss.backward()
        theirs = dict(two.module.named_parameters())
        for name, parameter in one.named_parameters():
            gradients = max(gradients, (theirs[name].grad - parameter.grad).abs().max().item())
        for optimiser in optimisers:
            optimiser.step()
    apart = max((theirs[n] - p).abs().max().item() for n, p in one.named_parameters())
    return {"gradients": gradients, "parameters": apart}


def work(root: Path) -> None:
    """Run every case on this process, and write what was found from the first."""
    dist.init_process_group("gloo")
    assert dist.get_world_size() == 2
    found = {name: check(variant, head, OPTIONS[options]) for name, (variant, head, options) in CASES.items()}
    if dist.get_rank() == 0:
        (root / "found.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(ranks, tmp_path_factory) -> dict:
    """Run the worker once on two processes, and return the findings of all cases."""
    root = tmp_path_factory.mktemp("ddp")
    ranks(__file__, root)
    return json.loads((root / "found.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_trains_like_one_process(found, case):
    assert found[case]["gradients"] < 1e-5
    assert found[case]["parameters"] < 1e-5


if __name__ == "__main__":
    work(Path(sys.argv[1]))
