"""`--limit N`: what it sets, where it goes, and its mistakes."""

import json
from pathlib import Path

import pytest

from train.__main__ import main
from train.errors import UserError
from train.settings.limit import load
from train.settings.reading import load_recipe

RECIPES = Path(__file__).resolve().parents[3] / "train" / "recipes"


def test_it_sets_limits_and_a_folder_of_its_own(write_recipe, tmp_path):
    path = str(write_recipe())
    for words in (["--limit", "5"], ["--limit=5"]):
        recipe = load([path, "--optim.lr", "0.5", *words, "--loop.seed=3"])
        assert (recipe.data.limit_train, recipe.data.limit_eval, recipe.eval.limit) == (5, 5, 5)
        assert recipe.folder == tmp_path / "tiny-limit-5"
        assert (recipe.optim.lr, recipe.loop.seed) == (0.5, 3)
    other = load([path, "--limit", "5", "--data.limit_train", "9", "--run_dir", "elsewhere"])
    assert (other.data.limit_train, other.data.limit_eval, str(other.folder)) == (9, 5, "elsewhere")
    assert load([path]) == load_recipe([path])


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_a_try_of_every_recipe_is_short(name):
    whole, quick = load_recipe(RECIPES / name), load([str(RECIPES / name), "--limit", "50"])
    steps = quick.loop.max_steps
    assert steps == 200
    assert quick.optim.warmup_steps <= steps // 10
    assert (quick.data.limit_train, quick.data.limit_eval, quick.eval.limit) == (50, 50, 50)
    assert [step for step in range(1, steps) if step % quick.loop.eval_every == 0] == []  # one evaluation: at the end
    assert quick.batch.max_rows <= 16
    assert quick.loop.push_to is None
    assert (quick.model, quick.tokenizer, quick.batch.max_tokens) == (
        whole.model,
        whole.tokenizer,
        whole.batch.max_tokens,
    )


def test_what_the_command_line_sets_beside_it_wins(write_recipe):
    path = str(write_recipe(loop={"max_steps": 3000, "save_every": 100, "push_to": "you/tiny", "push_every": 200}))
    assert load([path, "--limit", "5"]).loop.push_to is None
    longer = load([path, "--loop.max_steps", "900", "--limit", "5", "--batch.max_rows=64"])
    assert (longer.loop.max_steps, longer.loop.eval_every, longer.batch.max_rows) == (900, 900, 64)
    short = load([str(write_recipe(loop={"max_steps": 4})), "--limit", "5"])
    assert (short.loop.max_steps, short.optim.warmup_steps) == (4, 1)
    long = str(write_recipe(optim={"warmup_steps": 500}, loop={"max_steps": 3000}))
    shorter = load([long, "--limit", "5", "--loop.max_steps", "30"])
    assert (shorter.loop.max_steps, shorter.optim.warmup_steps) == (30, 3)
    with pytest.raises(UserError, match="optim.warmup_steps: 500 must be below loop.max_steps, 30"):
        load([long, "--limit", "5", "--loop.max_steps", "30", "--optim.warmup_steps", "500"])


@pytest.mark.parametrize("words", [["--limit"], ["--limit", "0"], ["--limit=-3"], ["--limit", "few"], ["--limit="]])
def test_what_is_no_number_of_rows_is_refused(write_recipe, words):
    with pytest.raises(UserError, match=r"--limit: .*: must be a number of rows, at least 1"):
        load([str(write_recipe()), *words])


def test_a_try_leaves_the_run_itself_free(write_recipe, fit, tmp_path, capsys):
    recipe = write_recipe(loop={"max_steps": 2})
    assert main(["fit", str(recipe), "--limit", "4"]) == 0
    assert "4 training rows" in capsys.readouterr().out
    results = json.loads((tmp_path / "tiny-limit-4" / "results.json").read_text())
    assert results["settings"]["examples"] == 4
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("", [], r"empty; a recipe must hold keys and values"),
        ("task: causal", [], r"name: missing; a recipe must have it"),
        ("eval: {metrics: loss}", [], r"eval\.metrics: 'loss' must be a list, such as \[loss\]"),
        (None, ["--optim.lr"], r"optim\.lr: no value given; write --optim\.lr VALUE"),
        (None, ["more.yaml"], r"more\.yaml: neither a key nor its value; overrides are written --KEY VALUE"),
        (None, ["-optim.lr", "1"], r"-optim\.lr: neither a key nor its value"),
    ],
)
def test_what_is_missing_or_out_of_place_is_said_plainly(write_recipe, content, words, message):
    recipe = write_recipe()
    if content is not None:
        recipe.write_text(content if "name" in message or not content else f"name: a\ntask: causal\n{content}")
    with pytest.raises(UserError, match=message) as caught:
        load([str(recipe), *words])
    assert "\n" not in str(caught.value)
