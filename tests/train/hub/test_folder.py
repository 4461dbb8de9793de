"""The Hub folder: complete, nothing else in it, and loaded by a process that cannot import the package."""

import html
import json
import re
import runpy

import pytest
import torch
import yaml
from hub_stranger import read
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import GenerationConfig, pipeline

import tokenizer as tokenizers
from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
)
from train import files
from train.errors import UserError
from train.hub import folder as hub_folder
from train.hub import publish
from train.measure import provenance
from train.settings.reading import load_recipe
from train.tasks import TASKS

PAIRS = [("March 1, 2020", "2020년 3월 1일"), ("2 May 1999", "1999년 5월 2일")]
HEADS = {
    "translation": (VanillaForConditionalGeneration, "encoder-decoder", "AutoModelForSeq2SeqLM"),
    "causal": (VanillaForCausalLM, "decoder", "AutoModelForCausalLM"),
    "masked": (VanillaForMaskedLM, "encoder", "AutoModelForMaskedLM"),
    "classification": (VanillaForSequenceClassification, "encoder", "AutoModelForSequenceClassification"),
    "tagging": (VanillaForTokenClassification, "encoder", "AutoModelForTokenClassification"),
    "answering": (VanillaForQuestionAnswering, "encoder", "AutoModelForQuestionAnswering"),
}
FIGURES = {"loss": 1.23456, "bleu": 41.0234, "exact_match": 0.9871}


def finished_run(folder, task="translation", metrics=FIGURES):
    """Lay out a finished, evaluated run with a tiny model."""
    head, variant, _ = HEADS[task]
    run = folder / "run-en-ko"
    run.mkdir()
    (folder / "recipe.yaml").write_text(
        f"name: run-en-ko\ntask: {task}\nrun_dir: {run}\ndata: {{root: {folder}, train: [a.en, a.ko]}}\n"
        "tokenizer: {kind: char}\noptim: {lr: 0.0123, warmup_steps: 77}\neval: {beams: 3, length_penalty: 0.7}\n"
    )
    load_recipe([str(folder / "recipe.yaml")]).save(run / "recipe.yaml")
    texts = [text for pair in PAIRS for text in pair]
    tokenizer = tokenizers.build("char", texts, 200, TASKS[task].template, min_frequency=1, show_progress=False)
    sizes = {"d_model": 24, "d_ff": 29, "num_heads": 4, "num_layers": 2, "max_position_embeddings": 40}
    torch.manual_seed(0)
    model = head(VanillaConfig(variant=variant, vocab_size=len(tokenizer), **sizes))
    model.save_pretrained(run / "final")
    tokenizer.save_pretrained(run / "final")
    (run / "final" / "training_args.bin").write_bytes(b"pickle")
    (run / "metrics.jsonl").write_text('{"event": "train", "step": 9, "loss": 1.0}\n')
    content = {
        "metrics": metrics,
        "split": "test",
        "settings": {
            "beams": 3,
            "length_penalty": 0.7,
            "length_penalty_form": "length**p",
            "max_extra_tokens": 50,
            "signatures": {"bleu": "nrefs:1|tok:13a"},
            "examples": 1000,
        },
        "command": f"python -m train evaluate {run}",
        "versions": {"torch": "2.0", "python": "3.11"},
        "seed": 0,
        "data_hash": "abc123",
        "parameters": 12345,
        "train": {"step": 9, "seconds": 90.0, "tokens": 1234, "hardware": "a toaster"},
        "samples": [{"source": s, "reference": t, "prediction": "a | b\nc"} for s, t in PAIRS],
    }
    (run / "results.json").write_text(json.dumps(content))
    return run, model


@pytest.fixture
def drawn():
    """Ask for the pictures in the folder."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Leave the pictures out where no test looks at them: they take as long as all the rest."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(hub_folder, "_draw", lambda *_: None)


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path)


def test_the_folder_is_complete_and_holds_nothing_else(run, tmp_path, drawn):
    folder = publish.write_hub_folder(run[0], "somebody/run-en-ko")
    assert folder == run[0] / "hub"
    names = {path.name for path in folder.iterdir()}
    code = {name for name in names if name.endswith(".py")}
    assert names - code == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
        "recipe.yaml",
        "results.json",
        "metrics.jsonl",
        "manifest.json",
        "curves.png",
        "attention.png",
    }
    assert {"modeling_vanilla.py", "configuration_vanilla.py", "attention.py"} <= code
    weights = load_file(folder / "model.safetensors")
    for name, value in run[1].state_dict().items():
        if name in weights:
            assert torch.equal(weights[name], value), name
    assert sum(value.numel() for value in weights.values()) == sum(p.numel() for p in run[1].parameters())


def test_generation_is_configured_as_measured(run):
    config = GenerationConfig.from_pretrained(publish.write_hub_folder(run[0], "somebody/run-en-ko"))
    assert (config.num_beams, config.length_penalty, config.do_sample) == (3, 0.7, False)
    assert (config.pad_token_id, config.decoder_start_token_id, config.eos_token_id) == (0, 2, 3)
    assert config.max_new_tokens == 39  # the position table less the start token, not generate's 20


HOSTILE = "<img src=x onerror=a()> [x](https://evil.org) ![y](z) `a` *b* | c \\ <!-- www.evil.org \u202e\x1b[2J @me"


def test_samples_are_text_on_the_card(run):
    content = json.loads((run[0] / "results.json").read_text())
    content["samples"] = [{"source": HOSTILE, "reference": HOSTILE, "prediction": HOSTILE}]
    (run[0] / "results.json").write_text(json.dumps(content))
    card = ModelCard.load(publish.write_hub_folder(run[0], "somebody/run-en-ko") / "README.md")
    table = [line for line in card.text.splitlines() if "evil" in line and line.startswith("| ")]
    assert len(table) == 1
    cells = table[0].split("|")[1:-1]
    assert len(cells) == 3
    for cell in cells:
        bare = re.sub(r"&#\d+;", "", cell)
        assert not re.search(r"[<>\[\]()`*\\!@]|://|www\.|[\x00-\x1f\u202e]", bare)
        assert html.unescape(cell).strip() == HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    outside = re.sub(r"```.*?```", "", card.text, flags=re.DOTALL)
    assert "<img" not in outside and "](https://evil" not in outside


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "results.json", "metrics.jsonl", "final", "final/config.json", "final/notes.txt"]
)
def test_a_link_out_of_the_run_is_not_published(run, tmp_path, name):
    """Not even one whose content would do: a file of that name, moved elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    path = run[0] / name
    if path.exists():
        path.rename(elsewhere)
    else:
        elsewhere.write_text("my key")
    path.symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}.*: a link to {re.escape(str(elsewhere))}"):
        publish.write_hub_folder(run[0], "somebody/run-en-ko")
    assert not (run[0] / "hub").exists()


def test_a_link_inside_a_run_is_its_own_file(run):
    path = run[0] / "metrics.jsonl"
    path.rename(run[0] / "metrics.1.jsonl")
    path.symlink_to("metrics.1.jsonl")
    folder = publish.write_hub_folder(run[0], "somebody/run-en-ko")
    assert (folder / "metrics.jsonl").is_file() and not (folder / "metrics.jsonl").is_symlink()


STRANGER = """
import json
import torch, transformers
results = []
for auto, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)  # no flag
    ids = tokenizer("May 1, 2020", return_tensors="pt")["input_ids"]
    transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)
    model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True).eval()
    extra = {}
    if model.config.is_encoder_decoder:
        extra = {"decoder_input_ids": torch.tensor([[2, 7, 8]])}
        model.generate(ids)
    with torch.no_grad():
        results.append([ids.tolist(), model(input_ids=ids, **extra)[0].tolist()])
with open("results.json", "w") as file:
    json.dump(results, file)
"""


def test_a_process_without_the_package_loads_every_kind(tmp_path):
    """Same logits there as here: weights, buffers and code all arrived."""
    arguments, models = [], []
    for task, (_, _, auto) in HEADS.items():
        (tmp_path / task).mkdir()
        run, model = finished_run(tmp_path / task, task)
        arguments += [auto, publish.write_hub_folder(run, "somebody/run-en-ko", tmp_path / f"hub-{task}")]
        models.append(model.eval())
    read(tmp_path, STRANGER, *arguments)
    found = json.loads((tmp_path / "elsewhere" / "results.json").read_text())
    for model, (ids, logits) in zip(models, found, strict=True):
        extra = {"decoder_input_ids": torch.tensor([[2, 7, 8]])} if model.config.is_encoder_decoder else {}
        with torch.no_grad():
            here = model(input_ids=torch.tensor(ids), **extra)[0]
        torch.testing.assert_close(torch.tensor(logits), here, atol=1e-5, rtol=0)


def test_the_card_holds_the_measured_figures(run, drawn):
    card = ModelCard.load(publish.write_hub_folder(run[0], "somebody/run-en-ko") / "README.md")
    front = card.data.to_dict()
    assert front["language"] == ["en", "ko"]
    assert (front["library_name"], front["pipeline_tag"], front["license"]) == (
        "transformers",
        "translation",
        "unknown",
    )
    measured = {(result.metric_type, result.metric_value) for result in card.data.eval_results}
    assert measured == {("loss", 1.23456), ("sacrebleu", 41.0234), ("exact_match", 0.9871)}
    assert {result.dataset_split for result in card.data.eval_results} == {"test"}
    for words in (
        "| BLEU (0-100) | 41.02 |",
        "| exact match (0-1) | 0.9871 |",
        "nrefs:1|tok:13a",
        "12,345 parameters",
        "1,000 examples",
        "abc123",
        "0.0123",
        "| training time | 1.5 minutes |",
        "| hardware | a toaster, 1 process(es) |",
        "![Losses and other figures, learning rate and gradient norm over the steps](curves.png)",
        "(attention.png)",
        'pipeline("translation", model="somebody/run-en-ko"',
        "python -m train evaluate",
        "vaswani2017attention",
        "AutoModelForSeq2SeqLM.from_pretrained",
        "VanillaForConditionalGeneration",
        "beam search of width 3, at most 50 tokens more than the input, length penalty 0.7",
        "a &#124; b c |",
    ):
        assert words in card.text, words
    assert "{{" not in card.text
    assert "{%" not in card.text
    assert "None" not in card.text


LABELS = {
    "translation": "token",
    "causal": "token",
    "masked": "hidden token",
    "classification": "text",
    "tagging": "word",
    "answering": "position",
}


@pytest.mark.parametrize("task", HEADS)
def test_the_card_names_the_unit_of_the_loss_and_the_best_step(tmp_path, task):
    run, model = finished_run(tmp_path, task, metrics={"loss": 1.0})
    content = json.loads((run / "results.json").read_text())
    content["train"] |= {"best": 0.5, "best_step": 3}
    content["samples"] = [
        {"text": "1", "label": 1, "prediction": 0},
        {"text": "b", "label": "bad", "prediction": "good"},
    ]
    model.config.id2label = {0: "good", 1: "bad"}  # an earlier version wrote the numbers of the classes
    model.save_pretrained(run / "final")
    (run / "results.json").write_text(json.dumps(content))
    card = ModelCard.load(publish.write_hub_folder(run, "somebody/run") / "README.md")
    assert f"| loss (nats per {LABELS[task]}) | 1.0000 |" in card.text
    assert [result.metric_name for result in card.data.eval_results] == [f"loss (nats per {LABELS[task]})"]
    assert "| best step | the validation loss has not been better since step 3 (0.5000), and the weights" in card.text
    assert "| 1 | bad | good |\n| b | bad | good |" in card.text
    assert ("| classes | good, bad |" in card.text) == (TASKS[task].label_column is not None)
    assert re.search(r"It needs transformers\s+5\.17 or newer; transformers 4 loads the tokenizer alone\.", card.text)


def test_the_card_shows_texts_to_try_with_what_the_model_answered(run):
    front = ModelCard.load(publish.write_hub_folder(run[0], "somebody/run-en-ko") / "README.md").data.to_dict()
    assert front["widget"] == [{"text": source, "output": {"text": "a | b\nc"}} for source, _ in PAIRS]


@pytest.mark.parametrize(
    ("lines", "license", "language", "base", "words"),
    [
        ("", "unknown", ["en", "ko"], None, "states no licence"),
        ("data: {license: cc-by-4.0, language: [ko]}", "cc-by-4.0", ["ko"], None, "Its licence is `cc-by-4.0`"),
        ("data: {hub: some/texts, train: train}", "unknown", ["en", "ko"], None, "huggingface.co/datasets/some/texts"),
        ("data: {generator: dates, train: null}", "apache-2.0", ["en", "ko"], None, "part of the training code"),
        ("model: {init_from: some/base}", "unknown", ["en", "ko"], "some/base", "fine-tuned from [some/base]"),
        ("model: {init_from: /home/me/base}", "unknown", ["en", "ko"], None, "Local files of the recipe"),
    ],
)
def test_the_card_says_where_the_model_comes_from(run, lines, license, language, base, words):
    recipe = yaml.safe_load((run[0] / "recipe.yaml").read_text())
    for section, values in (yaml.safe_load(lines) or {}).items():
        recipe[section] |= values
    (run[0] / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    card = ModelCard.load(publish.write_hub_folder(run[0], "somebody/run-en-ko") / "README.md")
    front = card.data.to_dict()
    assert (front["license"], front["language"], front.get("base_model")) == (license, language, base)
    assert ("from-scratch" in front["tags"]) == ("init_from" not in lines)
    assert front.get("datasets") == (["some/texts"] if "hub" in lines else None)
    assert words in " ".join(card.text.split())
    assert "/home/me" not in str(card)


def test_the_manifest_lists_every_file(run):
    folder = publish.write_hub_folder(run[0], "somebody/run-en-ko")
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(listed) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert files.damage(folder) is None


def test_figures_of_another_recipe_are_refused(run):
    results = json.loads((run[0] / "results.json").read_text())
    (run[0] / "results.json").write_text(json.dumps(results | {"recipe_hash": "0" * 64}))
    with pytest.raises(UserError, match="figures of another recipe.*train evaluate"):
        publish.write_hub_folder(run[0], "somebody/run-en-ko")


def test_a_run_of_a_version_with_fewer_keys_is_published(run):
    """What a later version knows beside is neither in its recipe nor in the hash of it."""
    recipe = yaml.safe_load((run[0] / "recipe.yaml").read_text())
    del recipe["loop"]["push_to"], recipe["data"]["license"]
    (run[0] / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    content = json.loads((run[0] / "results.json").read_text())
    content["recipe_hash"] = provenance.hash_of_file(run[0] / "recipe.yaml")
    (run[0] / "results.json").write_text(json.dumps(content))
    folder = publish.write_hub_folder(run[0], "somebody/run-en-ko")
    assert provenance.hash_of_file(folder / "recipe.yaml") == content["recipe_hash"]
    assert "license" not in yaml.safe_load((folder / "recipe.yaml").read_text())["data"]
    assert load_recipe([str(folder / "recipe.yaml")]).optim.lr == 0.0123


def test_a_recipe_that_pushed_does_not_push_for_others(run):
    own = {"recipe_hash": provenance.recipe_hash(load_recipe([str(run[0] / "recipe.yaml")]))}
    recipe = yaml.safe_load((run[0] / "recipe.yaml").read_text())
    recipe["loop"] |= {"push_to": "me/private-things", "push_every": 1000, "push_revision": "mine"}
    (run[0] / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (run[0] / "results.json").write_text(json.dumps(json.loads((run[0] / "results.json").read_text()) | own))
    folder = publish.write_hub_folder(run[0], "somebody/run-en-ko")
    loop = yaml.safe_load((folder / "recipe.yaml").read_text())["loop"]
    assert (loop["push_to"], loop["push_every"], loop["push_revision"]) == (None, None, "checkpoints")
    assert b"private-things" not in b"".join(path.read_bytes() for path in folder.iterdir())


def test_a_picture_that_cannot_be_drawn_is_left_out(run, capsys, drawn):
    (run[0] / "metrics.jsonl").write_text("")
    folder = publish.write_hub_folder(run[0], "somebody/run-en-ko")
    assert "curves.png: not drawn" in capsys.readouterr().err
    assert not (folder / "curves.png").exists()
    text = (folder / "README.md").read_text()
    assert "curves.png" not in text
    assert "(attention.png)" in text


@pytest.mark.parametrize("task", HEADS)
def test_the_python_in_the_card_runs(tmp_path, task, monkeypatch):
    """The block a reader copies first, executed as it stands, with the folder in the place of the repository."""
    run, model = finished_run(tmp_path, task, metrics={"loss": 1.0})
    folder = publish.write_hub_folder(run, "somebody/run-en-ko")
    # A text that never ends must fit, with its prompt.
    room = re.findall(r"max_new_tokens=(\d+)", (folder / "README.md").read_text())
    assert room == [str(model.config.max_position_embeddings // 2)] * 2 * (task == "causal")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    blocks = re.findall(r"```python\n(.*?)```", ModelCard.load(folder / "README.md").text, re.DOTALL)
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        script = tmp_path / f"block{number}.py"
        script.write_text(block.replace("somebody/run-en-ko", str(folder)))
        runpy.run_path(str(script))


def test_no_path_of_this_machine_leaves_it(run, tmp_path, monkeypatch, drawn):
    monkeypatch.chdir(tmp_path)
    content = json.loads((run[0] / "results.json").read_text())
    elsewhere = {
        "command": "python -m train fit a.yaml --data.root=/mnt/kim/data/ --run_dir /mnt/kim/one --optim.lr 1"
    }
    content |= elsewhere | {"other_splits": {"validation": content | elsewhere}}
    (run[0] / "results.json").write_text(json.dumps(content))
    folder = publish.write_hub_folder(run[0], "somebody/run-en-ko")
    assert "fit a.yaml --data.root=data --run_dir one --optim.lr 1`" in (folder / "README.md").read_text()
    assert all(b"/kim" not in path.read_bytes() for path in folder.iterdir())
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert (recipe["run_dir"], recipe["data"]["train"], recipe["optim"]["lr"]) == (None, ["a.en", "a.ko"], 0.0123)


def test_a_run_that_is_not_finished_is_refused(run, tmp_path):
    results = (run[0] / "results.json").read_text()
    (run[0] / "results.json").unlink()
    with pytest.raises(UserError, match="results.json.*evaluate"):
        publish.write_hub_folder(run[0], "somebody/name")
    (run[0] / "results.json").write_text(results)
    (run[0] / "final").rename(run[0] / "other")
    with pytest.raises(UserError, match="final/"):
        publish.write_hub_folder(run[0], "somebody/name")
    with pytest.raises(UserError, match="nowhere: no such folder"):
        publish.write_hub_folder(tmp_path / "nowhere", "somebody/name")
    with pytest.raises(UserError, match="repo-id"):
        publish.write_hub_folder(run[0], "some body/na/me")
    assert not (run[0] / "hub").exists()


def test_a_failure_leaves_the_old_folder_as_it_was(run, monkeypatch):
    folder = publish.write_hub_folder(run[0], "somebody/first")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(hub_folder, "keep_allowed", fail)
    with pytest.raises(OSError, match="disk full"):
        publish.write_hub_folder(run[0], "somebody/second")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not [path for path in run[0].iterdir() if path.name.startswith(".staging")]


def test_pipelines_travel_with_a_translator(run):
    folder = publish.write_hub_folder(run[0], "somebody/name")
    config = json.loads((folder / "config.json").read_text())
    assert set(config["custom_pipelines"]) == {"translation", "summarization", "text2text-generation"}
    translator = pipeline("translation", model=str(folder), device="cpu")
    inputs = translator.tokenizer("May 1, 2020", return_tensors="pt")
    expected = translator.tokenizer.decode(translator.model.generate(**inputs)[0], skip_special_tokens=True)
    assert translator("May 1, 2020") == [{"translation_text": expected}]
