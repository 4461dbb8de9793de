# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A reader without this package gets the pipelines with the model; config.json names those the saved class can run."""

import copy
import json

import pytest
from hub_stranger import read
from transformers import pipeline

import tokenizer as tokenizers
from modeling_vanilla import (
    VanillaConfig,
    VanillaForConditionalGeneration,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaModel,
)

TEXTS = ["Two dogs run. A cat sleeps!", "", "안녕하세요. 저는 학생입니다."]
QUESTIONS = [{"question": "Who runs?", "context": TEXTS[0]}, {"question": "누구?", "context": TEXTS[2]}]
TEMPLATES = {"encoder": "encoder", "encoder-decoder": "seq2seq", "decoder": "causal"}
SEQ2SEQ = ("translation", "summarization", "text2text-generation")
LANGUAGES = "translation_en_to_ko"  # config.json does not name it, and it is a translation

READER = """
import json, pathlib
from transformers import pipeline

root = pathlib.Path(sys.argv[1])
found = {}
for name, (folder, task, inputs, settings) in json.loads((root / "calls.json").read_text()).items():
    pipe = pipeline(task, model=folder, trust_remote_code=True, device="cpu")
    assert type(pipe).__module__.startswith("transformers_modules."), type(pipe).__module__
    assert type(pipe.model).__module__.startswith("transformers_modules."), type(pipe.model).__module__
    found[name] = pipe(inputs, batch_size=2, **settings)
    pipe.save_pretrained(root / "again" / name)
    assert {p.name for p in (root / "again" / name).iterdir()} == {p.name for p in pathlib.Path(folder).iterdir()}
    again = pipeline(task, model=str(root / "again" / name), trust_remote_code=True, device="cpu")
    assert again(inputs, batch_size=2, **settings) == found[name]
refused = []
for task, kind, flag in (
    ("translation", "translator", None),
    ("question-answering", "translator", True),
    ("question-answering", "masks", True),
    (None, "translator", True),
):
    try:
        pipeline(task, model=str(root / kind), trust_remote_code=flag, device="cpu")
    except (ValueError, KeyError, RuntimeError) as error:
        refused.append(str(error))
assert not [name for name in sys.modules if name.split(".")[0] == "modeling_vanilla"]
(root / "found.json").write_text(json.dumps([found, refused]))
"""


@pytest.fixture(scope="module")
def published(build, tmp_path_factory):
    """Save models with their tokenizers, and return what pipelines say of them here and in a process of its own."""
    root = tmp_path_factory.mktemp("published")
    calls = {}
    for variant, template in TEMPLATES.items():
        words = tokenizers.build("bpe", TEXTS, 330, template, min_frequency=1, show_progress=False)
        models = {f"answers-{variant}": VanillaForQuestionAnswering}
        models |= {"encoder-decoder": {"translator": None}, "encoder": {"masks": None}}.get(variant, {})
        for name, model_class in models.items():
            build(variant, model_class, vocab_size=len(words), jitter=0.3).save_pretrained(root / name)
            words.save_pretrained(root / name)
        # No task is as good as one where the folder has but one.
        task = None if variant == "encoder" else "question-answering"
        calls[f"answers-{variant}"] = (str(root / f"answers-{variant}"), task, QUESTIONS, {"top_k": 3})
    for task in (*SEQ2SEQ, LANGUAGES):
        settings = {"num_beams": 3, "return_scores": True, "no_repeat_ngram_size": 1}
        calls[task] = (str(root / "translator"), task, TEXTS, settings)
    (root / "calls.json").write_text(json.dumps(calls))
    read(root, READER, root)
    return root, calls, *json.loads((root / "found.json").read_text())


def rounded(value):
    """Answers whose scores may differ in the last digit: another process aligns its memory otherwise."""
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return {key: pytest.approx(item) if key.endswith("score") else item for key, item in value.items()}


def test_the_answers_are_those_of_a_process_with_the_package(published):
    _, calls, found, _ = published
    assert set(found) == set(calls)
    for name, (folder, task, inputs, settings) in calls.items():
        here = pipeline(task or "question-answering", model=folder, device="cpu")  # no flag
        assert type(here).__module__.startswith("modeling_vanilla.")
        expected = here(inputs, batch_size=2, **settings)
        assert found[name] == rounded(expected)


def test_nothing_else_runs(published):
    """Not without the flag, not with a head that was not saved; and three pipelines are a choice."""
    flag, head, other, choice = published[3]
    assert "trust_remote_code=True" in flag
    for message in (head, other):
        assert "question-answering" in message
    assert "Pick one in translation, summarization, text2text-generation" in choice


def test_the_flag_does_no_harm_where_the_package_is(published):
    pipe = pipeline("translation", model=str(published[0] / "translator"), trust_remote_code=True, device="cpu")
    assert type(pipe.model) is VanillaForConditionalGeneration
    assert type(pipe).__module__ == "modeling_vanilla.pipeline_text2text"


@pytest.mark.parametrize("variant", TEMPLATES)
def test_config_json_names_what_the_saved_class_can_run(build, variant, tmp_path):
    expected = {
        VanillaModel: (),
        VanillaForSequenceClassification: (),
        VanillaForQuestionAnswering: ("question-answering",),
        None: SEQ2SEQ if variant == "encoder-decoder" else (),
    }
    for model_class, tasks in expected.items():
        model = build(variant, model_class)
        model.save_pretrained(tmp_path)
        text = (tmp_path / "config.json").read_text()
        content = json.loads(text)
        assert tuple(content.get("custom_pipelines", {})) == tuple(sorted(tasks))
        for entry in content.get("custom_pipelines", {}).values():
            module, name = entry["impl"].split(".")
            assert f"class {name}(" in (tmp_path / f"{module}.py").read_text(encoding="utf-8")
            (auto,) = entry["pt"]
            assert content["auto_map"][auto] == f"modeling_vanilla.{type(model).__name__}"
        # A round trip is exact, whatever a pipeline or a file writes over the entry.
        config = VanillaConfig.from_pretrained(tmp_path)
        assert config.custom_pipelines == {}, "the package has registered them"
        config.custom_pipelines = {"translation": {"impl": "elsewhere.Evil", "pt": ["AutoModel"]}}
        config.save_pretrained(tmp_path)
        assert (tmp_path / "config.json").read_text() == text
        assert VanillaConfig.from_dict(copy.deepcopy(content)).to_dict() == config.to_dict()


def test_a_config_without_a_model_names_none(tmp_path):
    VanillaConfig().save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
