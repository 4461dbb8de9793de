"""Recipes: precedence, the round trip through YAML, and one line for every kind of mistake."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from modeling_vanilla import VanillaConfig
from train.errors import UserError
from train.model.start import SHAPING
from train.settings import synonyms
from train.settings.reading import _keys, load_recipe
from train.settings.recipe import Recipe
from train.settings.sections import WEIGHTLESS, ModelSection

RECIPES = Path(__file__).parents[3] / "train" / "recipes"
SHIPPED = {
    "banking77",
    "clinc150",
    "cmudict-g2p",
    "cogs",
    "dates-en-ko",
    "korean-chatbot",
    "korean-chatbot-lm",
    "multi30k-de-en",
    "multi30k-en-fr",
    "scan-length",
    "scan-simple",
    "scan-turn-left",
    "scitldr",
    "sentences-ko-en",
    "multi30k-en-de",
    "multi30k-en-de-cpu",
    "tatoeba-en-de",
    "shakespeare-char",
    "shakespeare-char-cpu",
    "wikitext-2",
    "wikitext-2-mlm",
    "nsmc",
    "nsmc-mlm",
    "english-mlm",
    "wmt14-en-de-base",
    "wmt14-en-de-big",
    "ud-english-ewt-tags",
    "ud-korean-gsd-tags",
    "wnut17",
    "restaurants8k",
}
SMALL = "name: small\ntask: causal\ndata:\n  train: text.txt\n"


@pytest.fixture
def write(tmp_path):
    """Write a recipe and return its path."""

    def function(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return function


def mistake(argv) -> str:
    """Return the message of the error a recipe gives."""
    with pytest.raises(UserError) as caught:
        load_recipe(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_command_line_beats_file_beats_default(write):
    path = write(SMALL + "optim:\n  lr: 1e-3\n  beta1: 0.8\n")
    recipe = load_recipe([path, "--optim.lr", "5e-4", "--batch.max_rows=7", "--data.test", "[a.txt, b.txt]"])
    assert (recipe.optim.lr, recipe.optim.beta1, recipe.optim.beta2) == (5e-4, 0.8, 0.98)
    assert (recipe.batch.max_rows, recipe.data.train, recipe.data.test) == (7, "text.txt", ["a.txt", "b.txt"])


def test_a_list_grows_and_a_section_is_one_value(write):
    words = ["--eval.metrics+", "perplexity", "--data.language+=ko", "--optim", "{lr: 0.5}", "--optim.min_lr", "0.1"]
    recipe = load_recipe(
        [write(SMALL), *words, "--data.generator_args.seed", "3", "--data.generator", "dates", "--data.train=null"]
    )
    assert (recipe.eval.metrics, recipe.data.language) == (["loss", "perplexity"], ["ko"])
    assert (recipe.optim.lr, recipe.optim.min_lr, recipe.data.generator_args) == (0.5, 0.1, {"seed": 3})


def test_defaults_are_the_papers_section_5_3(write):
    optim = load_recipe(write(SMALL)).optim
    assert (optim.beta1, optim.beta2, optim.eps, optim.warmup_steps) == (0.9, 0.98, 1e-9, 4000)
    assert (optim.lr, optim.schedule) == (None, "inverse_sqrt")


def test_resolved_recipe_reads_back_equal(write, tmp_path):
    path = write(SMALL + "optim:\n  eps: 1e-9\nmodel:\n  d_model: 24\n  dropout: 0\n")
    recipe = load_recipe([path, "--data.source_column", "3", "--run_dir", "elsewhere/run", "--eval.metrics", "[loss]"])
    recipe.save(tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe
    assert recipe.data.source_column == 3
    assert recipe.folder == Path("elsewhere/run")


def test_null_on_the_command_line_takes_a_value_away(write):
    recipe = load_recipe([write(SMALL + "optim:\n  lr: 1e-3\n"), "--optim.lr", "null"])
    assert recipe.optim.lr is None


def test_folder_is_named_by_the_run(write):
    assert load_recipe(write(SMALL)).folder == Path("runs/small")


def test_variant_follows_from_the_task(write):
    tasks = {"translation": "encoder-decoder", "causal": "decoder", "masked": "encoder", "classification": "encoder"}
    for task, variant in tasks.items():
        assert load_recipe([write(SMALL), "--task", task]).variant == variant


def test_architecture_holds_what_the_recipe_sets_and_nothing_else(write):
    recipe = load_recipe(write(SMALL + "model:\n  preset: gpt2\n  d_model: 24\n  tie_word_embeddings: false\n"))
    assert recipe.model.architecture() == {"d_model": 24, "tie_word_embeddings": False}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim:\n  warmup: 3\n", ["optim.warmup", "no such key", "optim.warmup_steps"]),
        ("optmi:\n  lr: 3\n", ["optmi", "no such key", "optim"]),
        ("optim:\n  lr: high\n", ["optim.lr", "'high'", "float"]),
        ("loop:\n  max_steps: 1.5\n", ["loop.max_steps", "1.5", "int"]),
        ("loop:\n  max_steps: 0\n", ["loop.max_steps", "0", "at least 1"]),
        ("loop:\n  seed: -1\n", ["loop.seed", "-1", "at least 0"]),
        ("optim:\n  beta2: 1.0\n", ["optim.beta2", "1.0", "below 1"]),
        ("optim:\n  lr: .nan\n", ["optim.lr", "nan", "above 0"]),
        ("optim:\n  lr: .inf\n", ["optim.lr", "inf", "above 0"]),
        ("optim:\n  warmup_steps: 0\n", ["optim.warmup_steps", "0", "equation 3"]),
        ("optim:\n  schedule: step\n", ["optim.schedule", "'step'", "cosine"]),
        (
            "optim:\n  warmup_steps: 200\nloop:\n  max_steps: 200\n",
            ["optim.warmup_steps", "200", "below loop.max_steps"],
        ),
        ("loop:\n  max_steps: 12:30\n", ["loop.max_steps", "'12:30'", "number"]),
        ("loop:\n  max_steps: 1e3\n", ["loop.max_steps", "'1000.0'", "int"]),
        ("loop:\n  max_steps: null\n", ["loop.max_steps", "null", "100000"]),
        ("loop:\n  compile: ~\n", ["loop.compile", "null", "false"]),
        ("eval:\n  metrics:\n", ["eval.metrics", "null", "['loss']"]),
        ("model:\n  activation: 1\n", ["model.activation", "'1'", "str"]),
        ("tokenizer:\n  kind: true\n", ["tokenizer.kind", "'True'", "wordpiece"]),
        ("batch:\n  mask_probability: 0\n", ["batch.mask_probability", "above 0"]),
        ("data: text.txt\n", ["data", "'text.txt'", "section"]),
        ("eval:\n  metrics: [loss, perplexitty]\n", ["eval.metrics", "'perplexitty'", "causal has: loss, perplexity"]),
        ("eval:\n  best_metric: perplexity\n", ["eval.best_metric", "'perplexity'", "eval.during_training"]),
        ("model:\n  preset: large\n", ["model.preset", "'large'", "transformer_big"]),
        ("tokenizer:\n  kind: words\n", ["tokenizer.kind", "'words'", "wordpiece"]),
        ("optim:\n  lr: 1e-3\n  lr: 1e-4\n", [":7", "'lr'", "twice"]),
        ("optim: [1\n", ["recipe.yaml:", "YAML"]),
    ],
)
def test_mistake_in_the_file_is_named_in_one_line(write, text, words):
    text = text if text.startswith("data:") else SMALL + text
    text = text if "name:" in text else SMALL.split("data:")[0] + text
    message = mistake(write(text))
    assert all(word in message for word in ["recipe.yaml", *words]), message


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--optim.lr", "-1"], ["optim.lr", "-1", "above 0"]),
        (["--optim.lrr", "1"], ["optim.lrr", "no such key", "optim.lr"]),
        (["--optim.lr=x"], ["optim.lr", "'x'", "float"]),
        (["stray"], ["stray", "neither a key nor its value"]),
        (["--", "x"], ["--: neither a key nor its value"]),
        (["--=1"], ["--=1: neither a key nor its value"]),
        (["--optim.lr"], ["optim.lr: no value given; write --optim.lr VALUE"]),
        (["--optim.lr", "--loop.seed", "1"], ["optim.lr: no value given"]),
        (["--optim.lr.x", "1"], ["optim.lr.x: no such key; did you mean optim.lr?"]),
        (["--optim.lr+", "1"], ["optim.lr+: no such key; did you mean optim.lr?"]),
        (["--optim", "{lrr: 1}"], ["optim.lrr: no such key; did you mean optim.lr?"]),
        (["--data.validation_fraction", "1"], ["data.validation_fraction", "1", "below 1"]),
        (["--data.generator", "dates", "--data.hub", "x/y"], ["data.generator", "data.hub"]),
        (["--data.generator", "dates"], ["data.train", "text.txt", "data.generator"]),
        (["--data.train", "null"], ["data.train", "training data"]),
        (["--data.text_column", "-1"], ["data.text_column", "-1"]),
        (["--data.text_unit", "file", "--task", "translation"], ["data.text_unit", "translation"]),
        (["--name", "../up"], ["name", "'../up'", "folder"]),
    ],
)
def test_mistake_on_the_command_line_is_named_in_one_line(write, words, found):
    message = mistake([write(SMALL), *words])
    assert all(word in message for word in ["command line", *found]) or "data." in message, message
    assert all(word in message for word in found), message


def test_missing_and_foreign_files_are_named(write, tmp_path):
    assert "absent.yaml" in mistake(str(tmp_path / "absent.yaml"))
    assert "recipe.yaml" in mistake(write(""))
    assert "recipe.yaml" in mistake(write("- a\n- b\n"))
    assert "name" in mistake(write("task: causal\ndata:\n  train: a\n"))
    assert "come first" in mistake(["--optim.lr", "1"])
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    assert "UTF-8" in mistake(str(tmp_path / "latin.yaml"))


def test_every_shipped_recipe_is_here():
    assert {path.stem for path in RECIPES.glob("*.yaml")} == SHIPPED


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_shipped_recipe_loads_and_describes_a_model(name, tmp_path):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.name == name
    make = getattr(VanillaConfig, recipe.model.preset or "transformer_base")
    config = make(**({"variant": recipe.variant, "vocab_size": 31} | recipe.model.architecture()))
    if recipe.batch.block_size:
        assert recipe.batch.block_size + (1 if recipe.task == "causal" else 2) <= config.max_position_embeddings
    recipe.save(tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_shipped_recipe_says_how_to_run_it_and_repeats_no_default(name):
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    head = text[: text.index(f"name: {name}")]
    assert f"train fit train/recipes/{name}.yaml" in head
    assert all(word in head for word in ("Launch:", "Machine:", "Time:", "Result:"))
    given, default = yaml.safe_load(text), Recipe(name="", task="causal").to_dict()
    repeated = [
        f"{section}.{key}"
        for section, values in given.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value == default[section][key] and not _told(section, key)
    ]
    assert repeated == []


def _told(section: str, key: str) -> bool:
    """Tell the keys that a reader looks for in a recipe even where they hold the default."""
    return bool(
        re.fullmatch(
            r"tokenizer\.kind|tokenizer\.vocab_size|batch\.max_tokens|optim\.warmup_steps|loop\.(\w+)",
            f"{section}.{key}",
        )
    )


# What YAML 1.1 makes of the words on the left: False, True, a date, 83, 750, a merge of mappings.
@pytest.mark.parametrize("word", ["no", "NO", "on", "yes", "off", "y", "2024-01-01", "0123", "08", "12:30", "=", "<<"])
@pytest.mark.parametrize("on_the_command_line", [False, True])
def test_a_plain_word_is_the_text_that_stands_there(write, word, on_the_command_line):
    path = write(SMALL if on_the_command_line else f"{SMALL}  root: {word}\n  test: [{word}, other]\n")
    words = ["--data.root", word, "--data.test", f"[{word}, other]"] if on_the_command_line else []
    recipe = load_recipe([path, *words])
    assert (recipe.data.root, recipe.data.test) == (word, [word, "other"])


def test_norwegian_is_a_language_and_a_date_a_name(write):
    recipe = load_recipe(write("name: 2024-01-01\ntask: causal\ndata:\n  train: text.txt\n  language: [no, en]\n"))
    assert (recipe.name, recipe.data.language) == ("2024-01-01", ["no", "en"])


def test_a_number_where_text_must_be_says_how_to_write_it(write):
    assert mistake(write("name: 7\ntask: causal\n")).endswith("name: '7' must be str; in quotes it is text")


@pytest.mark.parametrize(
    ("word", "value"), [("yes", True), ("on", True), ("true", True), ("no", False), ("off", False)]
)
def test_a_switch_takes_the_words_it_took_before(write, word, value):
    assert load_recipe(write(SMALL + f"loop:\n  compile: {word}\n")).loop.compile is value


@pytest.mark.parametrize(("word", "value"), [("1_000", 1000), ("0x10", 16), ("0123", 123), ("1000", 1000), ("+7", 7)])
def test_a_number_is_read_to_the_base_of_ten_unless_it_says_so(write, word, value):
    assert load_recipe(write(SMALL + f"loop:\n  save_every: {word}\n")).loop.save_every == value


@pytest.mark.parametrize(("steps", "warmup"), [(100_000, 4000), (39_999, 3999), (200, 20), (9, 1), (1, 1)])
def test_an_open_warmup_is_a_tenth_of_a_short_run(write, tmp_path, steps, warmup):
    recipe = load_recipe([write(SMALL), "--loop.max_steps", str(steps)])
    assert recipe.optim.warmup_steps == warmup
    recipe.save(tmp_path / "resolved.yaml")
    assert yaml.safe_load((tmp_path / "resolved.yaml").read_text())["optim"]["warmup_steps"] == warmup
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


def test_an_open_learning_rate_is_that_of_the_papers_warmup(write, tmp_path):
    def rate(text: str, *words: str) -> float | None:
        return load_recipe([write(SMALL + text), "--loop.max_steps", "200", *words]).optim.lr

    equation_3 = {width: (width * 4000) ** -0.5 for width in (512, 64, 1024)}
    assert rate("") == pytest.approx(equation_3[512], rel=1e-3)
    assert rate("model:\n  d_model: 64\n") == pytest.approx(equation_3[64], rel=1e-3)
    assert rate("model:\n  init_from: somewhere\n") == pytest.approx(equation_3[1024], rel=1e-3)
    assert rate("optim:\n  warmup_steps: 30\n") is None  # equation 3, as it was asked for
    assert rate("", "--optim.lr", "0.5") == 0.5
    assert load_recipe([write(SMALL), "--loop.max_steps", "100000"]).optim.lr is None
    path, run = write(SMALL + f"loop:\n  max_steps: 200\nrun_dir: {tmp_path / 'run'}\n"), tmp_path / "run"
    (run / "checkpoints" / "step-100").mkdir(parents=True)
    load_recipe(path).save(run / "recipe.yaml")
    assert load_recipe([path, "--loop.max_steps", "900"]).optim.lr == load_recipe(path).optim.lr  # goes on


def test_a_start_on_the_command_line_brings_its_architecture(write, tmp_path):
    written = "model:\n  preset: bert_base\n  d_model: 64\n  activation: relu\n  dropout: 0.3\n  attn_implementation: eager\n"
    recipe = load_recipe([write(SMALL + written), "--model.init_from", "somewhere"])
    assert recipe.model == ModelSection(init_from="somewhere", dropout=0.3, attn_implementation="eager")
    recipe.save(tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe
    asked = ["--model.init_from", "somewhere", "--model.d_model", "32"]  # nobody wrote this without meaning it
    assert load_recipe([write(SMALL + written), *asked]).model.architecture() == {"d_model": 32, "dropout": 0.3}
    assert load_recipe([write(SMALL + written), "--model.init_from", "null"]) == load_recipe(write(SMALL + written))
    both = load_recipe(write(SMALL + written + "  init_from: somewhere\n"))  # left as it is, refused later
    assert (both.model.preset, both.model.d_model) == ("bert_base", 64)


def test_the_keys_of_training_are_keys_of_a_model():
    assert set(WEIGHTLESS) < {item.name for item in fields(ModelSection)}
    assert not set(WEIGHTLESS) & set(SHAPING)


def test_the_warmup_of_a_run_stays_where_its_end_moves(write, tmp_path):
    path, run = write(SMALL + f"loop:\n  max_steps: 200\nrun_dir: {tmp_path / 'run'}\n"), tmp_path / "run"
    run.mkdir()
    load_recipe(path).save(run / "recipe.yaml")
    assert load_recipe([path, "--loop.max_steps", "900"]).optim.warmup_steps == 90  # nothing of the run could be lost
    (run / "checkpoints" / "step-100").mkdir(parents=True)
    assert load_recipe([path, "--loop.max_steps", "900"]).optim.warmup_steps == 20
    assert load_recipe([path, "--loop.max_steps", "900", "--optim.warmup_steps", "30"]).optim.warmup_steps == 30


def test_a_resolved_recipe_of_before_keeps_a_warmup_without_end(write, tmp_path):
    recipe = load_recipe([write(SMALL), "--loop.max_steps", "200"])
    recipe.optim.warmup_steps = 4000  # as 0.1.0 wrote it down
    recipe.save(tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml").optim.warmup_steps == 4000
    assert "optim.warmup_steps: 4000 must be below" in mistake([tmp_path / "resolved.yaml", "--loop.max_steps", "300"])


# What users of the Trainer, of transformers' configs and of fairseq type, and what is meant by it.
TYPED = {
    "learning_rate": "optim.lr",
    "lr": "optim.lr",
    "hidden_size": "model.d_model",
    "intermediate_size": "model.d_ff",
    "ffn_dim": "model.d_ff",
    "max_length": "model.max_position_embeddings",
    "epochs": "loop.max_steps",
    "num_train_epochs": "loop.max_steps",
    "batch_size": "batch.max_rows or batch.max_tokens",
    "per_device_train_batch_size": "batch.max_rows or batch.max_tokens",
    "gradient_accumulation_steps": "loop.accumulate",
    "warmup_ratio": "optim.warmup_steps",
    "max_steps": "loop.max_steps",
    "vocab_size": "model.vocab_size or tokenizer.vocab_size",
    "optim.learning-rate": "optim.lr",
    "model.hidden_size": "model.d_model",
    "loop.max_stps": "loop.max_steps",
}


@pytest.mark.parametrize(("typed", "meant"), TYPED.items())
def test_a_key_of_another_program_gets_the_one_that_is_meant(write, typed, meant):
    words = f"{typed}: no such key; did you mean {meant}?"
    assert words in mistake([write(SMALL), f"--{typed}", "3"])
    section, _, key = typed.rpartition(".")
    text = f"{section}: {{{key}: 3}}" if section else f"{typed}: 3"
    assert words in mistake(write(f"{SMALL}{text}\n"))


def test_a_device_is_no_key_of_a_recipe(write):
    assert "device: no such key; a GPU is used where there is one; ACCELERATE_USE_CPU=true" in mistake(
        [write(SMALL), "--device", "cpu"]
    )


def test_every_key_that_is_hinted_at_exists():
    meant = {key for keys, _ in synonyms._MEANT.values() for key in keys.split(" or ") if key}
    assert meant <= set(_keys())
    assert not set(synonyms._MEANT) & {key.rpartition(".")[2] for key in _keys()}  # these name themselves


@pytest.mark.parametrize("words", [["--optim.warmup", "5"], ["--optim.warmup=5"]])
def test_the_beginning_of_a_key_is_no_key(write, words):
    assert "optim.warmup: no such key; did you mean optim.warmup_steps?" in mistake([write(SMALL), *words])


def test_the_users_folder_stands_for_its_sign(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = load_recipe([write(SMALL + "  root: ~/data\n  test: [~/a, b]\n"), "--run_dir=~/runs/x"])
    assert (recipe.data.root, recipe.data.test) == (f"{tmp_path}/data", [f"{tmp_path}/a", "b"])
    assert recipe.folder == tmp_path / "runs" / "x"


def test_words_of_yaml_stand_in_messages(write):
    assert "data.train: null must name the training data" in mistake(write("name: a\ntask: causal\n"))
    assert "'번역기' must be ASCII letters, digits" in mistake(write(SMALL.replace("small", "번역기")))


@pytest.mark.parametrize(
    ("data", "split"),
    [
        ("  test: t.txt\n  validation: v.txt\n", "test"),
        ("  validation: v.txt\n", "validation"),
        ("  validation_fraction: 0.1\n", "validation"),
        ("", "test"),
    ],
)
def test_the_final_figures_are_of_what_there_is(write, tmp_path, data, split):
    recipe = load_recipe(write(SMALL + data))
    assert recipe.eval.split == split
    recipe.save(tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe
    assert load_recipe([write(SMALL + data), "--eval.split", "train"]).eval.split == "train"


def test_a_run_that_was_begun_keeps_its_split(write, tmp_path):
    """0.1.x wrote down `test` where a recipe without test data said nothing, and measured nothing."""
    path, run = write(SMALL + "  validation: v.txt\neval: {metrics: []}\n"), tmp_path / "run"
    (run / "checkpoints" / "step-00000100").mkdir(parents=True)
    old = load_recipe([path, "--eval.split", "test"])
    old.save(run / "recipe.yaml")
    assert load_recipe([path, f"--run_dir={run}"]).eval.split == "test"
