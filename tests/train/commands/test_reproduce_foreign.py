"""A recipe of somebody else says what to train and nothing else: every key has its rule, and a hostile value is not obeyed."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from train import __main__ as command
from train.commands import reproduction
from train.errors import UserError
from train.hub import foreign
from train.settings import reading as recipes

PAGE = Path(__file__).resolve().parents[3] / "docs" / "security.md"
KEYS = [name for name in recipes._keys() if "." in name] + ["name", "task", "run_dir"]
GOOD = {"name": "x", "task": "translation", "data": {"train": ["a.en", "a.de"]}}
# A hostile value of each key that is not simply taken, and what comes of it: a value, or the rule that it breaks.
HUGE = 10**12
OUTSIDE = "must not lead out of the folder"
HOSTILE = {
    "run_dir": ("/etc", "here"),
    "model.init_from": ("/home/me/secret", OUTSIDE),
    "model.attn_implementation": ("flash_attention_2", "sdpa"),
    "tokenizer.path": ("../../secret", OUTSIDE),
    "tokenizer.vocab_size": (HUGE, "must be at most"),
    "data.root": ("/etc", OUTSIDE),
    "data.train": (["../a", "b"], OUTSIDE),
    "data.validation": ("~/b", OUTSIDE),
    "data.test": (["b", "/etc/passwd"], OUTSIDE),
    "data.hub": ("/etc", OUTSIDE),
    "data.hub_config": ("https://x.org/y", OUTSIDE),
    "data.generator_args": ({"train": HUGE}, "train must be at most 10,000,000"),
    "data.stream_rows": (HUGE, "must be at most"),
    "batch.max_tokens": (HUGE, "must be at most"),
    "batch.max_rows": (HUGE, "must be at most"),
    "batch.block_size": (HUGE, "must be at most"),
    "optim.warmup_steps": (HUGE, "must be at most"),
    "loop.max_steps": (HUGE, "must be at most"),
    "loop.accumulate": (HUGE, "must be at most"),
    "loop.keep_last": (HUGE, "must be at most 100"),
    "loop.average_last": (HUGE, "must be at most 100"),
    "loop.seed": (HUGE, "must be at most"),
    "loop.num_workers": (60, 4),
    "loop.tracker": ("wandb", "none"),
    "loop.timeout": (1e-9, 1800.0),
    "loop.push_to": ("reader/precious", None),
    "loop.push_every": (7, None),
    "loop.push_revision": ("main", "checkpoints"),
    "eval.beams": (HUGE, "must be at most"),
    "eval.length_penalty": (1e9, "must be at most"),
    "eval.max_extra_tokens": (HUGE, "must be at most"),
    "eval.batch_tokens": (HUGE, "must be at most"),
    "eval.answer_tokens": (HUGE, "must be at most"),
    **{f"model.{name}": (HUGE, "must be at most") for name in foreign.LIMITS},
}


def with_value(name: str, value) -> recipes.Recipe:
    """Return a recipe in which one key has a value, whatever the rules of a recipe say of it."""
    made = recipes.Recipe("x", "translation")
    section, _, key = name.rpartition(".")
    if not section:
        return dataclasses.replace(made, **{key: value})
    return dataclasses.replace(made, **{section: dataclasses.replace(getattr(made, section), **{key: value})})


def value_of(recipe: recipes.Recipe, name: str):
    """Return the value of a key."""
    for part in name.split("."):
        recipe = getattr(recipe, part)
    return recipe


@pytest.mark.parametrize("name", KEYS)
def test_every_key_has_its_rule_and_is_on_the_page(name):
    assert name in foreign.RULES, f"{name}: say in train/hub/foreign.py what a foreign recipe may do with it"
    assert re.search(rf"`{re.escape(name)}`", PAGE.read_text("utf-8")), f"{name} is not in docs/security.md"
    taken = foreign.RULES[name] is foreign.taken
    assert taken == (name not in HOSTILE)
    if taken:
        value = value_of(recipes.Recipe("x", "causal"), name)
        assert foreign.RULES[name](value) is value
        return
    value, expected = HOSTILE[name]
    if isinstance(expected, str) and expected not in ("here", "sdpa", "none", "checkpoints"):
        with pytest.raises(UserError, match=f"published recipe: {re.escape(name)}: .*{re.escape(expected)}"):
            foreign.obeyed(with_value(name, value), "here", None)
    else:
        decided, lines = foreign.obeyed(with_value(name, value), "here", None)
        assert value_of(decided, name) == expected
        assert name == "run_dir" or any(name in line for line in lines)


def test_there_is_no_rule_for_a_key_that_is_gone():
    assert set(foreign.RULES) == set(KEYS)


def test_the_recipes_of_this_project_are_taken_as_they_are():
    for path in sorted((PAGE.parents[1] / "train" / "recipes").glob("*.yaml")):
        _, lines = foreign.obeyed(recipes.load_recipe(path), "here", None)
        assert [line for line in lines if "loop.tracker" not in line] == []


def test_the_folder_of_the_data_is_the_readers():
    decided, lines = foreign.obeyed(with_value("data.root", "/their/data"), "here", "/my/data")
    assert (decided.data.root, decided.run_dir) == ("/my/data", "here")
    assert not [line for line in lines if "data.root" in line]
    with pytest.raises(UserError, match="give its folder with --data.root DIR"):
        foreign.obeyed(with_value("data.root", "/their/data"), "here", None)


@pytest.fixture
def published(tmp_path):
    """Return a folder with a recipe and its figures, to change."""
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(GOOD | {"loop": {"push_to": "reader/precious"}}))
    (folder / "results.json").write_text(json.dumps({"metrics": {"loss": 2.0}, "split": "test"}))
    return folder


def test_what_is_trained_pushes_nowhere_and_the_reader_is_told(published, tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(reproduction, "check_data", lambda recipe, published: None)
    code = reproduction.reproduce(
        str(published), None, str(tmp_path / "new"), None, None, lambda one: trained.append(one) or 3
    )
    assert code == 3
    assert (trained[0].loop.push_to, trained[0].folder) == (None, tmp_path / "new")
    assert "not taken from the published recipe: loop.push_to 'reader/precious', here None" in capsys.readouterr().out


FORGED = {
    "a tolerance without end": {"tolerance": {"loss": "1e99"}, "metrics": {"loss": 0.0001}},
    "a tolerance in percent": {"tolerance": {"loss": "99999999%"}, "metrics": {"loss": 0.0001}},
    "a figure that nobody has": {"tolerance": {"magic": "1e99"}, "metrics": {"magic": 3.0}},
}


@pytest.mark.parametrize("name", FORGED)
def test_the_publisher_does_not_set_the_rule(name):
    content = {"split": "test"} | FORGED[name]
    (one,) = reproduction.compare(content, {"split": "test", "metrics": {"loss": 5.0, "magic": 2.0}}, {})
    assert not one.within
    assert one.allowed == {"loss": "1%"}.get(one.name, "0")


@pytest.mark.parametrize(
    ("stated", "reader", "allowed"),
    [
        ("0.1%", None, "0.1%"),
        ("5%", None, "1%"),
        ("0.001", None, "0.001"),
        ("1", None, "1%"),
        ("5%", "7%", "7%"),
        (5, None, "1%"),
    ],
)
def test_a_publisher_may_narrow_a_tolerance_and_a_reader_widen_it(stated, reader, allowed):
    content = {"split": "test", "metrics": {"loss": 2.0}, "tolerance": {"loss": stated}}
    (one,) = reproduction.compare(content, {"split": "test", "metrics": {}}, {"loss": reader} if reader else {})
    assert one.allowed == allowed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"metrics": {"loss": Infinity}, "split": "test"}', "each a finite number; loss is 'inf'"),
        ('{"metrics": {"loss": NaN}, "split": "test"}', "each a finite number"),
        ('{"metrics": {"loss": true}, "split": "test"}', "each a finite number"),
        ('{"metrics": {"loss": 1' + "0" * 400 + '}, "split": "test"}', "each a finite number"),
        ('{"metrics": {"loss": 1' + "0" * 5000 + '}, "split": "test"}', "cannot be read"),
        ("[" * 100_000 + "]" * 100_000, "cannot be read"),
        ('{"metrics": {"loss\\nall is well": 1}, "split": "test"}', "must be the name of a figure"),
        ('{"metrics": {"loss": 1}, "split": "\\u001b[2J"}', r"split '\x1b[2J' must be one of train, validation, test"),
        ('{"metrics": {"loss": 1}, "split": "test", "train": [1]}', "train: must be an object"),
        ('{"metrics": {"loss": 1}, "split": "test", "tolerance": [1]}', "tolerance: must be an object"),
        ('{"metrics": {"loss": 1}, "split": "test", "x": "' + "a" * (1 << 24) + '"}', "at most 16,777,216 are read"),
    ],
    ids=range(11),
)
def test_foreign_figures_are_bounded_before_they_are_used(published, capsys, tmp_path, text, line):
    (published / "results.json").write_text(text)
    assert command.main(["reproduce", str(published), "--run_dir", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1 and "\x1b" not in said and len(said) < 1000
    assert not (tmp_path / "new").exists()


def test_a_foreign_recipe_of_any_size_is_not_read(published, capsys):
    (published / "recipe.yaml").write_text("#" * (1 << 17))
    assert command.main(["reproduce", str(published)]) == 2
    assert "recipe.yaml has 131,072 bytes" in capsys.readouterr().err


def test_a_version_cannot_move_the_cursor(capsys):
    lines = reproduction.differences({"train": {"versions": {"torch": "\x1b[2J" + "9" * 10_000}}})
    reproduction._say("\n".join(lines))
    said = capsys.readouterr().out
    assert "\x1b" not in said and len(said) < 3000


def test_a_text_of_theirs_writes_no_line_of_ours(capsys):
    published = {"versions": {"python": "3\ntest  bleu  99  99  0  0.5  yes"}, "hardware": "a\n\x1b[2Jb"}
    reproduction.say_lines(reproduction.differences(published))
    said = capsys.readouterr().out
    assert "3 test  bleu" not in said and "3 test bleu" in said
    assert all(line.startswith(("version: ", "hardware: ", "code: ")) for line in said.splitlines())
