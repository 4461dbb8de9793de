"""A tiny translation task with its model, for the tests of evaluation: thirteen dates to score."""

import json
from pathlib import Path

import torch

import tokenizer as tokenizers
from modeling_vanilla import VanillaConfig
from train.settings.reading import load_recipe
from train.tasks import TASKS

SIZES = {"d_model": 24, "d_ff": 29, "num_heads": 4, "num_layers": 2, "max_position_embeddings": 96}
LINES = ["to be or not to be", "that is the question", "whether tis nobler", "in the mind to suffer", "the slings"]


def recipe_of(folder: Path, task: str, text: str, *overrides: str):
    """Write a recipe and read it back."""
    path = folder / f"{task}.yaml"
    path.write_text(f"name: tiny-{task}\ntask: {task}\n{text}", encoding="utf-8")
    return load_recipe([str(path), *overrides])


def translation_recipe(folder: Path, *overrides: str):
    """Thirteen dates: a prime number, so that no batch or share divides it evenly."""
    text = "data: {generator: dates, generator_args: {train: 40, validation: 5, test: 13}}\ntokenizer: {kind: char}\n"
    words = ["--eval.metrics=[loss, exact_match, bleu]", "--eval.beams=2", "--eval.batch_tokens=70", *overrides]
    return recipe_of(folder, "translation", text, *words)


def model_and_tokenizer(head, recipe, splits, **more):
    """Build a tiny model with dropout and label smoothing on: neither may show in an evaluation."""
    columns = ("source", "target") if recipe.task == "translation" else ("text",)
    texts = [text for column in columns for text in splits["train"][column][:]]
    kind, template = recipe.tokenizer.kind, TASKS[recipe.task].template
    built = tokenizers.build(kind, texts, 300, template, min_frequency=1, show_progress=False)
    torch.manual_seed(0)
    config = VanillaConfig(
        variant=recipe.variant, vocab_size=len(built), dropout=0.3, label_smoothing=0.1, **SIZES, **more
    )
    return head(config), built


TWO = """
import json, sys
from pathlib import Path
from accelerate import Accelerator
from train.data.splits import load_splits
from train.measure.evaluate import evaluate
from train.model import loading
from train.settings.reading import load_recipe
recipe, accelerator = load_recipe(sys.argv[1]), Accelerator(cpu=True)
model, tokenizer = loading.load(Path(sys.argv[2]) / "final", recipe.task)
figures = dict(evaluate(model, tokenizer, load_splits(recipe), recipe, accelerator, "validation"))
if accelerator.is_main_process:
    print(json.dumps(figures))
"""


def measured_by_two(starter, folder: Path, recipe: Path, run: Path) -> dict[str, float]:
    """Return the validation figures of a run as two processes measure them."""
    script = folder / "two.py"
    script.write_text(TWO)
    return json.loads(starter.ranks(script, recipe, run).strip().splitlines()[-1])
