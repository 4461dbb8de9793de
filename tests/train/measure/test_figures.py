"""Figures that a task has, and BLEU over words as the language cuts them: every pair, every way to say it."""

import json
import logging
from pathlib import Path

import pytest
import sacrebleu
import yaml

from modeling_vanilla.configuration_vanilla import PIPELINES
from train import __main__ as command
from train.commands import reproduction
from train.errors import UserError
from train.measure import evaluate, scoring
from train.run import folder
from train.settings import rules
from train.settings.reading import load_recipe
from train.tasks import FIGURES, TASKS, shown_as

RECIPES = Path(__file__).resolve().parents[3] / "train" / "recipes"
ALL = sorted(FIGURES)
# Written down by hand: what a task's own output can be judged by.
OF_TASK = {
    "translation": "bits_per_byte bleu bleu_lowercase chrf distinct exact_match loss per perplexity rouge1 rouge2 rougeL wer "
    "word_perplexity",
    "causal": "bits_per_byte loss perplexity word_perplexity",
    "masked": "loss masked_accuracy perplexity",
    "classification": "accuracy f1 loss",
    "answering": "answer_exact_match answer_f1 loss span_f1",
    "tagging": "entity_f1 entity_precision entity_recall loss word_accuracy",
}
CHINESE = ["今天天气很好", "我喜欢学习语言", "他在公园里跑步", "猫在睡觉"]


@pytest.fixture
def write(tmp_path):
    """Write a recipe of a task and return its path."""

    def function(task="translation", **sections):
        path = tmp_path / "recipe.yaml"
        content = {"name": "x", "task": task, "data": {"train": "a.tsv"}} | sections
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return function


def test_every_table_of_figures_has_all_of_them():
    names = {name for figures in OF_TASK.values() for name in figures.split()}
    assert set(FIGURES) == names


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", [*ALL, "blue"])
def test_a_figure_that_the_task_has_not_is_one_line_at_reading(write, task, name):
    possible = OF_TASK[task].split()
    path = write(task)
    for words in ([f"--eval.metrics=[{name}]"], [f"--eval.during_training=[loss, {name}]"]):
        if name in possible:
            assert load_recipe([path, *words]).eval
            continue
        with pytest.raises(UserError) as caught:
            load_recipe([path, *words])
        key = words[0].partition("=")[0][2:]
        said = str(caught.value)
        assert f"command line: {key}: '{name}' must be a figure that the task {task} has: " in said
        assert sorted(said.rpartition(": ")[2].split(", ")) == possible
    chosen = [path, f"--eval.best_metric={name}", "--loop.early_stopping=2"]
    rule = (
        f"must be a figure that the task {task} has" if name not in possible else "must be one of eval.during_training"
    )
    if name == "loss":
        assert load_recipe(chosen).eval.best_metric == "loss"
    else:
        with pytest.raises(UserError, match=f"eval.best_metric: '{name}' {rule}"):
            load_recipe(chosen)
    if name in possible:
        assert load_recipe([*chosen, f"--eval.during_training=[{name}]"]).eval.best_metric == name


def test_a_wrong_figure_ends_the_command_with_2_and_leaves_nothing(write, capsys, tmp_path):
    path = write(eval={"metrics": ["masked_accuracy"]})
    assert command.main(["fit", str(path), "--run_dir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("languages", "task", "tokenizer"),
    [
        (["en", "zh"], "translation", "zh"),
        (["zh", "en"], "translation", "13a"),
        (["zh"], "translation", "zh"),
        (["en", "ja"], "translation", "ja-mecab"),
        (["en", "ko"], "translation", "ko-mecab"),
        (["ko", "de"], "translation", "13a"),
        ([], "translation", "13a"),
        (["zh"], "causal", "13a"),
    ],
)
@pytest.mark.parametrize("installed", [True, False])
def test_the_language_chooses_the_tokenizer_of_bleu(write, monkeypatch, languages, task, tokenizer, installed):
    monkeypatch.setattr(rules.importlib.util, "find_spec", lambda name: object() if installed else None)
    path = write(task, data={"train": "a.tsv", "language": languages})
    expected = tokenizer if installed or "mecab" not in tokenizer else "char"
    assert load_recipe(path).eval.bleu_tokenizer == expected
    assert load_recipe([path, "--eval.bleu_tokenizer=intl"]).eval.bleu_tokenizer == "intl"


def test_a_tokenizer_that_is_not_installed_is_one_line(write, monkeypatch):
    monkeypatch.setattr(rules.importlib.util, "find_spec", lambda name: None)
    path = write(eval={"bleu_tokenizer": "ko-mecab", "metrics": ["bleu"]})
    with pytest.raises(
        UserError, match=r"eval.bleu_tokenizer: 'ko-mecab' needs packages: pip install 'sacrebleu\[ko\]'"
    ):
        load_recipe(path)
    assert load_recipe([path, "--eval.metrics=[chrf]"]).eval.bleu_tokenizer == "ko-mecab"


def test_a_recipe_resolved_by_an_earlier_version_keeps_13a(write, tmp_path):
    """Its figures were measured with it, whatever its language; and its run goes on only with it."""
    path = write(data={"train": "a.tsv", "language": ["en", "zh"]})
    old = load_recipe(path).to_dict()
    assert old["eval"].pop("bleu_tokenizer") == "zh"
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000001").mkdir(parents=True)
    (run / "recipe.yaml").write_text(yaml.safe_dump(old), encoding="utf-8")
    assert load_recipe(run / "recipe.yaml").eval.bleu_tokenizer == "13a"
    folder.refuse_other(run, load_recipe([path, "--eval.bleu_tokenizer=13a"]))
    with pytest.raises(UserError, match="eval.bleu_tokenizer: this folder's run has '13a', the recipe 'zh'"):
        folder.refuse_other(run, load_recipe(path))


@pytest.mark.parametrize("name", ["bleu", "bleu_lowercase"])
def test_a_perfect_chinese_translation_has_a_bleu_of_100(write, accelerator, caplog, name):
    recipe = load_recipe(write(data={"train": "a.tsv", "language": ["en", "zh"]}))
    values, details, said = compared(recipe, accelerator, CHINESE, name, caplog)
    assert values == {name: pytest.approx(100)}
    assert "|tok:zh|" in details["signatures"][name]
    assert said == []
    # Half right: sacrebleu itself says how much that is.
    wrong = [*CHINESE[:2], "他在家", "狗在睡觉"]
    values, _, _ = compared(recipe, accelerator, wrong, "bleu", caplog)
    assert values["bleu"] == pytest.approx(sacrebleu.corpus_bleu(wrong, [CHINESE], tokenize="zh").score)


def test_texts_without_spaces_are_warned_of_where_words_end_at_one(write, accelerator, caplog):
    recipe = load_recipe(write())
    values, details, said = compared(recipe, accelerator, CHINESE, "bleu", caplog)
    assert values == {"bleu": 0.0}  # four words of one sentence each: no 4-gram
    assert "|tok:13a|" in details["signatures"]["bleu"]
    assert len(said) == 1
    assert "bleu with the tokenizer 13a: 4 of 4 lines hold no space" in said[0]
    assert "data.language" in said[0]
    assert compared(recipe, accelerator, CHINESE, "bleu", caplog)[2] == []  # once is enough for a run
    evaluate._warn_of_unspaced(["a line\n今天天气很好\n我喜欢\n"], "word_perplexity", "compare", accelerator)
    assert "word_perplexity: 2 of 3 lines" in caplog.messages[-1]
    caplog.clear()
    evaluate._warn_of_unspaced(["two words", "one", ""], "word_perplexity", "compare", accelerator)
    assert caplog.messages == []


def test_bleu_of_korean_says_what_it_took_for_words(write, accelerator, caplog):
    """The tagger where it is installed, else characters."""
    recipe = load_recipe(write(data={"train": "a.tsv", "language": ["en", "ko"]}))
    values, details, said = compared(recipe, accelerator, CHINESE, "bleu", caplog)
    assert values == {"bleu": pytest.approx(100)}
    assert f"|tok:{recipe.eval.bleu_tokenizer}|" in details["signatures"]["bleu"]
    assert recipe.eval.bleu_tokenizer in ("ko-mecab", "char")
    assert said == []


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("multi30k-de-en", "translation"),
        ("dates-en-ko", "translation"),
        ("scitldr", "summarization"),
        ("cmudict-g2p", "text2text-generation"),
        ("korean-chatbot", "text2text-generation"),
        ("nsmc", "text-classification"),
    ],
)
def test_a_card_names_the_pipeline_of_the_recipe(name, pipeline):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    shown = shown_as(recipe.task, recipe.eval.metrics, recipe.data.language)
    assert shown.pipeline == pipeline
    assert (shown is TASKS[recipe.task]) == (pipeline == TASKS[recipe.task].pipeline)
    if TASKS[recipe.task].has_pairs:
        assert pipeline in PIPELINES
        assert ("translation" in shown.summary) == (pipeline == "translation")


def compared(recipe, accelerator, predictions, name, caplog):
    """Return the figure of predictions for Chinese, what is noted beside it, and the warnings."""
    caplog.clear()
    details = {"signatures": {}}
    rows = {"source": [*map(str, range(len(CHINESE)))], "target": CHINESE}
    with caplog.at_level(logging.WARNING, logger="train.measure.evaluate"):
        evaluation = scoring.Evaluation(None, None, recipe, accelerator, "")
        answers = dict(zip(rows["source"], predictions, strict=True))
        values = evaluate._compare(evaluation, answers, rows, [name], details)
    return values, details, list(caplog.messages)


FORM = "nrefs:1|case:mixed|eff:no|tok:{}|smooth:exp|version:{}"


@pytest.mark.parametrize(
    ("published", "reproduced", "forms"),
    [
        (FORM.format("zh", "2.6.0"), FORM.format("zh", "2.7.0"), ""),
        (FORM.format("13a", "2.6.0"), FORM.format("zh", "2.6.0"), "tok:13a published, tok:zh here"),
        (None, FORM.format("zh", "2.6.0"), "no signature published, case:mixed|eff:no|nrefs:1|smooth:exp|tok:zh here"),
    ],
)
def test_a_figure_is_compared_with_one_of_the_same_signature(published, reproduced, forms):
    parts = [
        {"split": "test", "metrics": {"bleu": 40.0}, "settings": {"signatures": {"bleu": text} if text else {}}}
        for text in (published, reproduced)
    ]
    (one,) = reproduction.compare(*parts, {})
    assert one.forms == forms
    assert one.within == (not forms)
    assert (f"NO, another figure: {forms}" in reproduction.table([one])) == bool(forms)


def test_what_a_stranger_writes_as_a_signature_is_no_error():
    for settings in (None, 3, {"signatures": [1]}, {"signatures": {"bleu": {"a": 1}}}):
        part = json.loads(json.dumps({"split": "test", "metrics": {"bleu": 1.0}, "settings": settings}))
        assert not reproduction.compare(
            part, {"split": "test", "metrics": {"bleu": 1.0}, "settings": {"signatures": {"bleu": "tok:13a"}}}, {}
        )[0].within
