"""The tokenizer of `tokenizer.path` is judged by what the task needs, and gets the task's template."""

import dataclasses
import itertools

import pytest
from datasets import Dataset, NamedSplit
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

import tokenizer
from modeling_vanilla import VanillaConfig, VanillaForMaskedLM
from train.__main__ import main
from train.data import encoding
from train.errors import UserError
from train.model import build, loading, template
from train.settings.recipe import Recipe
from train.settings.sections import ModelSection, TokenizerSection
from train.tasks import TASKS

TEMPLATES = {
    "translation": "seq2seq",
    "causal": "causal",
    "masked": "encoder",
    "classification": "encoder",
    "tagging": "encoder",
    "answering": "encoder",
}
TEXTS = ["the dog runs", "a cat sits", "날씨가 좋다"] * 3
ROWS = Dataset.from_dict(
    {
        "source": ["<2ko> the dog"],
        "target": ["a cat"],
        "text": ["the dog"],
        "words": [["the", "dog"]],
        "context": ["the dog"],
        "question": ["a cat"],
    },
    split=NamedSplit("train"),
)


def recipe_of(task: str, path, **model) -> Recipe:
    section = ModelSection(preset="tiny", **model)
    return Recipe("r", task, model=section, tokenizer=TokenizerSection(path=str(path) if path else None))


def made(task: str, source: PreTrainedTokenizerFast, folder) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a run, as a reader loads it, whose recipe names this one."""
    source.save_pretrained(folder / "source")
    build.make_tokenizer(recipe_of(task, folder / "source"), ROWS, folder / "made")
    return AutoTokenizer.from_pretrained(folder / "made")


def words(roles: dict[str, str], single: str | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words with these roles; `single` is what it puts around a text."""
    vocab = {word: number for number, word in enumerate([*dict.fromkeys(roles.values()), "the", "dog", "a"])}
    core = Tokenizer(models.WordLevel(vocab, unk_token=roles.get("unk_token", "a")))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if single:
        core.post_processor = processors.TemplateProcessing(single=single, special_tokens=list(vocab.items()))
    return PreTrainedTokenizerFast(tokenizer_object=core, **roles)


@pytest.mark.parametrize(("task", "other"), list(itertools.product(TEMPLATES, tokenizer.TEMPLATES)))
def test_a_tokenizer_of_another_template_gets_that_of_the_task(tmp_path, caplog, task, other):
    source = tokenizer.build("bpe", TEXTS, 300, other, show_progress=False, model_max_length=40)
    result, right = (
        made(task, source, tmp_path),
        tokenizer.build("bpe", TEXTS, 300, TEMPLATES[task], show_progress=False),
    )
    assert result("the dog").data == right("the dog").data
    assert result("the dog", "a cat").data == right("the dog", "a cat").data
    assert (result.padding_side, result.model_max_length) == (right.padding_side, 40)
    assert result.split_special_tokens == source.split_special_tokens
    assert [record.levelname for record in caplog.records] == ([] if other == TEMPLATES[task] else ["WARNING"])


@pytest.mark.parametrize(
    ("roles", "single"),
    [
        ({"pad_token": "[PAD]", "bos_token": "[B]", "eos_token": "[E]", "unk_token": "[UNK]"}, "[B] $A"),
        ({"pad_token": "[PAD]", "bos_token": "[E]", "eos_token": "[E]"}, None),
        (
            {"pad_token": "[PAD]", "bos_token": "[B]", "eos_token": "[E]", "cls_token": "[C]", "sep_token": "[S]"},
            "[C] $A [S]",
        ),
    ],
    ids=["start only", "one token for both", "class and separator"],
)
def test_the_end_token_of_others_is_added(tmp_path, roles, single):
    source = words(roles, single)
    result = made("translation", source, tmp_path)
    plain = source("the dog", add_special_tokens=False)["input_ids"]
    assert result("the dog")["input_ids"] == [*plain, source.eos_token_id]
    assert result.decode(result("the dog")["input_ids"], skip_special_tokens=True) == "the dog"


def test_a_class_that_sets_its_own_template_does_not_set_it_again(tmp_path):
    vocab = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", "<pad>", "▁", "a", "▁a"])}
    source = LlamaTokenizer(vocab=vocab, merges=[("▁", "a")], pad_token="<pad>")
    assert made("translation", source, tmp_path)("a")["input_ids"] == [6, 2]


@pytest.mark.parametrize(
    "single", ["$A [E]", "[B] $A [E]", "$A [E] the"], ids=["end", "start and end", "language behind"]
)
def test_a_template_that_ends_a_text_stays(tmp_path, caplog, single):
    source = words({"pad_token": "[PAD]", "bos_token": "[B]", "eos_token": "[E]"}, single)
    assert made("translation", source, tmp_path)("the dog").data == source("the dog").data
    assert not caplog.records


@pytest.mark.parametrize(("task", "role"), [(task, role) for task, entry in TASKS.items() for role in entry.roles])
def test_a_missing_role_is_one_line(tmp_path, task, role):
    roles = {f"{name}_token": f"[{name}]" for name in TASKS[task].roles if name != role}
    with pytest.raises(UserError, match=rf"source: has no {template.WORDS[role]} token, which {task} needs") as caught:
        made(task, words(roles), tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_fit_refuses_it_with_exit_code_two(tmp_path, capsys):
    words({"pad_token": "[PAD]", "eos_token": "[E]"}, "$A [E]").save_pretrained(tmp_path / "t5")
    (tmp_path / "p.tsv").write_text("source\ttarget\na dog\tthe dog\n")
    (tmp_path / "r.yaml").write_text(
        f"name: r\ntask: translation\nrun_dir: {tmp_path / 'run'}\nmodel: {{preset: tiny}}\n"
        f"tokenizer: {{path: {tmp_path / 't5'}}}\ndata: {{root: {tmp_path}, train: p.tsv}}\n"
        "loop: {max_steps: 1, tracker: none}\noptim: {warmup_steps: 1}\neval: {split: train}\n"
    )
    assert main(["fit", str(tmp_path / "r.yaml")]) == 2
    assert "has no start token, which translation needs" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_pretrained_model_keeps_its_template_and_starts_as_its_config_says(tmp_path, caplog):
    source = words({"pad_token": "[PAD]", "eos_token": "[E]"}, "$A [E] the")
    recipe = recipe_of("translation", None, init_from=str(tmp_path))
    assert template.judged(source, recipe, "x", ROWS) is source
    packed = dataclasses.replace(recipe, batch=dataclasses.replace(recipe.batch, packing=True))
    with pytest.raises(UserError, match="start token"):
        template.judged(source, packed, "x", ROWS)


def test_an_added_special_token_in_the_data_is_named(tmp_path, caplog):
    source = tokenizer.build("bpe", TEXTS, 300, "seq2seq", show_progress=False)
    source.add_special_tokens({"extra_special_tokens": ["<2ko>", "<2de>"]})
    made("translation", source, tmp_path)
    (record,) = caplog.records
    assert "<2ko> in the data is split like any text" in record.getMessage()
    assert "<2de>" not in record.getMessage()
    whole = tokenizer.build("bpe", TEXTS, 300, "seq2seq", show_progress=False)
    whole.add_tokens(["<2ko>"])  # what the message names
    assert whole.tokenize("<2ko> the dog", split_special_tokens=True)[0] == "<2ko>"


def test_unknown_tokens_are_told_with_an_example(caplog):
    built = tokenizer.build("char", ["좋다 abc"] * 3, 100, "encoder", normalize="none", show_progress=False)
    recipe = Recipe("r", "masked")
    for text, share in (
        ("좋다 abc" * 100 + "x", None),
        ("좋다", None),
        ("좋다 abcxy", "25.0"),
        ("\u110c\u1169 a", "50.0"),
    ):
        caplog.clear()
        rows = Dataset.from_dict({"text": [text]}, split=NamedSplit("test"))
        encoding.encode(rows, built, recipe)
        assert [record.levelname for record in caplog.records] == ([] if share is None else ["WARNING"])
        if share:
            assert (
                caplog.records[0]
                .getMessage()
                .startswith(f"test data: {share} % of the tokens of column text are <unk>")
            )
            assert ("tokenizer.normalize: nfc" in caplog.records[0].getMessage()) == (share == "50.0")


def test_a_model_is_measured_with_the_roles_that_it_needs(tmp_path):
    config = VanillaConfig.tiny(variant="encoder", vocab_size=10)
    VanillaForMaskedLM(config).save_pretrained(tmp_path)
    words({"pad_token": "[PAD]", "cls_token": "[C]", "sep_token": "[S]"}).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no mask token, which masked needs"):
        loading.load(tmp_path, "masked")
