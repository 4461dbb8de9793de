"""One step has one gradient, however its rows are divided: over micro-batches, over processes, packed into rows."""

import itertools
import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from train.data import steps
from train.data.examples import Examples
from train.settings.reading import load_recipe

# Takes the steps of each case without moving the weights, and writes the gradient of every step as rank 0 has it.
WORKER = """
import json, os, sys
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import save_file
from train.data import collate, steps
from train.run import loop, setup
from train.settings import reading as recipe


def gradients(words):
    AcceleratorState._reset_state()
    GradientState._reset_state()
    with setup.set_up(recipe.load_recipe(words)) as run:
        rank, world = run.accelerator.process_index, run.accelerator.num_processes
        assert world == int(os.environ["WORLD_SIZE"])
        found, report = {}, []

        def record():
            for name, value in run.bare.named_parameters():
                found[f"{len(report)}.{name}"] = value.grad.clone()

        run.optimizer.step = record
        places = steps.Places(run.train, run.recipe, rank, world, 0, 0)
        batches = steps.deliveries(run.train, collate.Collator(run.recipe.task, run.tokenizer, run.recipe), places, 0)
        run.model.train()
        for delivery in batches:
            if delivery.place.epoch:
                break
            step = loop.train_step(run, delivery, None)
            mine = [batch.targets for batch in delivery.micro]
            shares = run.accelerator.gather(torch.tensor([sum(mine), len(mine)])).view(world, 2).tolist()
            report.append({"targets": step.targets, "shares": shares, "loss": step.loss, "norm": step.grad_norm})
            found[f"{len(report) - 1}.loss"] = torch.tensor(step.loss)
        return found, report


for case in json.load(open(sys.argv[1])):
    found, report = gradients(case["words"])
    if os.environ["RANK"] == "0":
        save_file(found, case["out"] + ".safetensors")
        with open(case["out"] + ".json", "w") as file:
            json.dump(report, file)
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


def launch(ranks, cases, tmp_path, processes):
    """Run the cases in one launch."""
    worker, listing = tmp_path / "worker.py", tmp_path / f"cases{processes}.json"
    worker.write_text(WORKER, encoding="utf-8")
    listing.write_text(json.dumps(cases), encoding="utf-8")
    ranks(worker, listing, processes=processes)


TASKS = ("translation", "causal", "masked")


def task_recipe(write_recipe, tmp_path, task, **sections):
    """Write a recipe of a task, with rows of very different lengths and without dropout."""
    data = tmp_path / "data"
    sections["batch"] = {"max_tokens": 96} | sections.pop("batch", {})
    model = {"preset": "tiny", "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    if task != "translation":
        sections |= {
            "task": task,
            "data": {"source_column": None, "target_column": None, "train": "lines.txt", "validation": "lines.txt"},
        }
        sections["batch"] |= {"block_size": 22}
        data.mkdir(exist_ok=True)
        draw = random.Random(5)
        lines = ["".join(draw.choices("abcdefg", k=draw.choice([1, 2, 5, 19]))) for _ in range(23)]
        (data / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    loop = {"max_steps": 1, "tracker": "none", "log_every": 1, "eval_every": 100, "save_every": 100}
    return write_recipe(task, rows=31, model=model, loop=loop, **sections)


def assert_same(one, two, rel):
    """Compare every gradient with the largest of its step, and the losses."""
    assert one.keys() == two.keys()
    for step in {name.split(".")[0] for name in one}:
        names = [name for name in one if name.startswith(f"{step}.") and not name.endswith(".loss")]
        largest = max(float(one[name].abs().max()) for name in names)
        worst = max(float((one[name] - two[name]).abs().max()) for name in names)
        assert largest > 1e-3
        assert worst <= rel * largest, (step, worst / largest)
        torch.testing.assert_close(one[f"{step}.loss"], two[f"{step}.loss"], rtol=rel, atol=0)


def test_the_gradient_is_that_of_one_micro_batch_on_any_shape_of_job(write_recipe, ranks, tmp_path):
    recipes = {task: [str(task_recipe(write_recipe, tmp_path, task))] for task in TASKS}
    recipes |= {f"packed-{task}": [*recipes[task], "--batch.packing", "true"] for task in TASKS}
    shapes = {1: (1, 2, 8), 2: (1, 4)}
    for processes, accumulations in shapes.items():
        cases = [
            {
                "words": [
                    *words,
                    "--loop.accumulate",
                    str(number),
                    "--run_dir",
                    str(tmp_path / f"{task}{processes}x{number}"),
                ],
                "out": str(tmp_path / f"{task}-{processes}x{number}"),
            }
            for task, words in recipes.items()
            for number in accumulations
        ]
        launch(ranks, cases, tmp_path, processes)
    for task in recipes:
        expected = load_file(tmp_path / f"{task}-1x1.safetensors")
        for shape in ("1x2", "1x8", "2x1", "2x4"):
            assert_same(expected, load_file(tmp_path / f"{task}-{shape}.safetensors"), rel=1e-6)
            report = json.loads((tmp_path / f"{task}-{shape}.json").read_text())
            # Every rank took as many micro-batches, and the shares were not equal, or the test would show nothing.
            assert all(len({count for _, count in step["shares"]}) == 1 for step in report)
            assert all(sum(share for share, _ in step["shares"]) == step["targets"] for step in report)
        uneven = [len({share for share, _ in step["shares"]}) > 1 for step in report]
        assert any(uneven)


class Lengths(Examples):
    """Stands for examples of which nothing but the lengths matters."""

    def __init__(self, lengths):
        self.of = lengths

    def lengths(self, epoch):
        """Return the lengths, the same in every epoch."""
        return self.of


@pytest.mark.parametrize("seed", range(40))
def test_every_rank_takes_the_same_number_of_steps_and_micro_batches(write_recipe, seed):
    draw = random.Random(seed)
    lengths = np.array([[draw.randint(1, draw.choice([4, 30]))] for _ in range(draw.randint(1, 70))])
    recipe = load_recipe(write_recipe())
    recipe.batch.max_tokens = int(lengths.max()) + draw.choice([0, 5, 100])
    recipe.loop.accumulate = draw.choice([1, 2, 5])
    for world in (1, 2, 3, 7):
        ranks = []
        for rank in range(world):
            places = steps.Places(Lengths(lengths), recipe, rank, world, 0, 0)
            ranks.append(list(itertools.takewhile(lambda place: place.epoch == 0, places)))
        assert len({len(steps) for steps in ranks}) == 1
        for step in zip(*ranks, strict=True):
            assert len({(place.position, place.batches, len(place.micro)) for place in step}) == 1
            assert any(place.micro[-1] for place in step)  # no micro-batch that is empty on all ranks
        rows = [row for steps in ranks for place in steps for micro in place.micro for row in micro]
        assert sorted(rows) == list(range(len(lengths)))
