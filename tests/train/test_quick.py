"""`--limit N`: what it sets, where it goes, and its mistakes."""

import json

import pytest

from train.__main__ import main
from train.errors import UserError
from train.quick import load
from train.recipe import load_recipe


def test_it_sets_three_limits_and_a_folder_of_its_own(write_recipe, tmp_path):
    path = str(write_recipe())
    for words in (["--limit", "5"], ["--limit=5"]):
        recipe = load([path, "--optim.lr", "0.5", *words, "--loop.seed=3"])
        assert (recipe.data.limit_train, recipe.data.limit_eval, recipe.eval.limit) == (5, 5, 5)
        assert recipe.folder == tmp_path / "tiny-limit-5"
        assert (recipe.optim.lr, recipe.loop.seed) == (0.5, 3)
    other = load([path, "--limit", "5", "--data.limit_train", "9", "--run_dir", "elsewhere"])
    assert (other.data.limit_train, other.data.limit_eval, str(other.folder)) == (9, 5, "elsewhere")
    assert load([path]) == load_recipe([path])


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
