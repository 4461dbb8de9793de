"""Recipes of 0.1.0 and 0.1.1, which had no `tokenizer.normalize`, mean what they meant."""

import json
from pathlib import Path

import pytest
import yaml

import tokenizer
from train.errors import UserError
from train.measure import provenance
from train.run import folder
from train.settings.reading import load_recipe
from train.settings.recipe import Recipe
from train.settings.sections import TokenizerSection

OLD = Path(__file__).parents[2] / "data" / "0.1.0" / "encoder-decoder"


@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_a_recipe_leaves_the_same_form_open_as_the_builder(kind):
    for form in (None, *tokenizer.FORMS):
        recipe = Recipe("r", "causal", tokenizer=TokenizerSection(kind=kind, normalize=form))
        assert recipe.tokenizer.normalize == tokenizer.form_for(kind, form)


@pytest.mark.parametrize(
    ("kind", "form"), [("char", "none"), ("bpe", "none"), ("byte_bpe", "none"), ("wordpiece", "nfc")]
)
def test_a_resolved_recipe_of_0_1_0_takes_the_text_as_that_did(tmp_path, kind, form, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not beside a reader's own runs/, from which a recipe goes on
    content = yaml.safe_load((OLD / "recipe.yaml").read_text(encoding="utf-8"))
    assert "normalize" not in content["tokenizer"]
    content["tokenizer"]["kind"] = kind
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml").tokenizer.normalize == form
    del content["tokenizer"]["path"]  # written by hand: the default of today is meant
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml").tokenizer.normalize == tokenizer.form_for(kind, None)


def test_the_hash_of_a_recipe_of_0_1_0_stays():
    published = json.loads((OLD / "results.json").read_text(encoding="utf-8"))
    assert provenance.hash_of_file(OLD / "recipe.yaml") == published["recipe_hash"]


def test_a_run_of_0_1_0_goes_on_with_the_form_it_was_begun_with(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000100").mkdir(parents=True)
    (run / "recipe.yaml").write_bytes((OLD / "recipe.yaml").read_bytes())
    content = yaml.safe_load((OLD / "recipe.yaml").read_text(encoding="utf-8"))
    by_hand = {"kind": "char", "vocab_size": 80}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(content | {"tokenizer": by_hand}), encoding="utf-8")
    assert load_recipe(path).tokenizer.normalize == "nfc"
    assert load_recipe([path, "--run_dir", run]).tokenizer.normalize == "none"
    for recipe in (path, run / "recipe.yaml"):
        folder.refuse_other(run, load_recipe([recipe, "--run_dir", run]))
    with pytest.raises(UserError, match="tokenizer.normalize: this folder's run has 'none', the recipe 'nfc'"):
        folder.refuse_other(run, load_recipe([path, "--run_dir", run, "--tokenizer.normalize", "nfc"]))


def test_what_differs_is_told_in_words_of_yaml(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000100").mkdir(parents=True)
    (run / "recipe.yaml").write_bytes((OLD / "recipe.yaml").read_bytes())
    with pytest.raises(UserError, match=r"loop\.early_stopping: this folder's run has null, the recipe 3: must be"):
        folder.refuse_other(run, load_recipe([OLD / "recipe.yaml", f"--run_dir={run}", "--loop.early_stopping", "3"]))
