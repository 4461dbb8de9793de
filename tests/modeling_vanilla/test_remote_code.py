"""A reader without this package loads saved folders with `trust_remote_code` and gets the same numbers."""

import inspect
import json
import sys
from pathlib import Path

import pytest
import torch
from hub_stranger import read
from safetensors.torch import load_file, save_file

from modeling_vanilla import VanillaForSequenceClassification, VanillaForTokenClassification, VanillaModel

VARIANTS = ("encoder-decoder", "encoder", "decoder")
KINDS = {
    "base": VanillaModel,
    "language": None,
    "classifier": VanillaForSequenceClassification,
    "tokens": VanillaForTokenClassification,
}
LANGUAGE_AUTO = {
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "encoder": "AutoModelForMaskedLM",
    "decoder": "AutoModelForCausalLM",
}


TASKS = [f"AutoModelFor{task}" for task in "SequenceClassification TokenClassification QuestionAnswering".split()]
TASKS.append("AutoModelForMultipleChoice")


def numbers(model, inputs):
    """Return what `model` computes: its base, its head where that was saved, and what it generates.

    Both sides run this function. The weights of a head that was not saved are random: there only the base counts.
    """
    with torch.no_grad():
        found = {"base": model.base_model(**inputs)[0]}
        if type(model).__name__ in model.config.architectures:
            found["head"] = model(**inputs)[0]
            if model.can_generate():
                found["ids"] = model.generate(inputs["input_ids"], max_new_tokens=6, num_beams=2, do_sample=False)
    return found


READER = (
    """
import json, pathlib
import torch, transformers
from safetensors.torch import load_file, save_file
"""
    + inspect.getsource(numbers)
    + """
def load(auto, folder, **options):
    loaded = getattr(transformers, auto).from_pretrained(folder, **options)
    assert type(loaded).__module__.startswith("transformers_modules."), type(loaded).__module__
    return loaded

root = pathlib.Path(sys.argv[1])
inputs = {p.stem: load_file(p) for p in (root / "inputs").iterdir()}
found = {}
for folder in sorted((root / "models").iterdir()):
    for auto in json.loads((folder / "config.json").read_text())["auto_map"]:
        model = load(auto, folder, trust_remote_code=True)
        if auto == "AutoConfig":
            continue
        name = f"{folder.name}/{auto}"
        values = numbers(model, inputs[model.config.variant])
        if "head" in values:  # the class that was saved, and its weights: publish them once more
            again = root / "again" / folder.name
            model.save_pretrained(again)
            assert {p.name for p in again.iterdir()} == {p.name for p in folder.iterdir()}
            for kind, value in numbers(load(auto, again, trust_remote_code=True), inputs[model.config.variant]).items():
                values["again " + kind] = value
        found |= {f"{name}/{kind}": value.contiguous() for kind, value in values.items()}
refused = []
for options in ({"trust_remote_code": False}, {}):
    for auto in ("AutoConfig", "AutoModel"):
        try:
            load(auto, folder, **options)
        except ValueError as error:
            refused.append(str(error))
save_file(found, root / "found.safetensors")
(root / "refused.json").write_text(json.dumps(refused))
assert not [name for name in sys.modules if name.split(".")[0] == "modeling_vanilla"]
"""
)


@pytest.fixture(scope="module")
def published(build, batch_of, tmp_path_factory):
    """Save every kind of model and read them all in one process; return its folder and the expected numbers."""
    root = tmp_path_factory.mktemp("published")
    (root / "inputs").mkdir()
    expected = {}
    for variant in VARIANTS:
        save_file(batch_of(variant), root / "inputs" / f"{variant}.safetensors")
        for kind, head in KINDS.items():
            model = build(variant, head, num_labels=3, norm_order="pre" if variant == "decoder" else "post")
            folder = root / "models" / f"{kind}-{variant}"
            model.save_pretrained(folder)
            values = numbers(model, batch_of(variant))
            own = {"base": "AutoModel", "classifier": TASKS[0], "tokens": TASKS[1]}.get(kind)
            own = own or LANGUAGE_AUTO[variant]
            for auto in ("AutoModel", *TASKS, LANGUAGE_AUTO[variant]):
                expected[f"{folder.name}/{auto}/base"] = values["base"]
            expected |= {f"{folder.name}/{own}/{name}": value for name, value in values.items()}
            expected |= {f"{folder.name}/{own}/again {name}": value for name, value in values.items()}

    read(root, READER, root)
    return root, expected


def test_every_auto_class_gives_the_same_numbers(published):
    root, expected = published
    found = load_file(root / "found.safetensors")
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_nothing_runs_without_the_flag(published):
    refused = json.loads((published[0] / "refused.json").read_text())
    assert len(refused) == 4
    assert all("trust_remote_code=True" in message for message in refused)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_whole_map_is_in_every_config(published, variant, kind):
    config = json.loads((published[0] / "models" / f"{kind}-{variant}" / "config.json").read_text())
    assert set(config["auto_map"]) == {
        "AutoConfig",
        "AutoModel",
        *TASKS,
        LANGUAGE_AUTO[variant],
    }
    for value in config["auto_map"].values():
        module = value.split(".")[0]
        assert (published[0] / "models" / f"{kind}-{variant}" / f"{module}.py").is_file()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pipelines_of_the_saved_class_come_with_it(published, variant, kind):
    folder = published[0] / "models" / f"{kind}-{variant}"
    named = json.loads((folder / "config.json").read_text()).get("custom_pipelines", {})
    translates = (variant, kind) == ("encoder-decoder", "language")
    assert set(named) == ({"translation", "summarization", "text2text-generation"} if translates else set())
    for entry in named.values():
        module, name = entry["impl"].split(".")
        assert f"class {name}(" in (folder / f"{module}.py").read_text()


def test_the_code_beside_the_weights_is_the_code_of_the_package(published):
    package = Path(sys.modules[VanillaModel.__module__].__file__).parent
    for folder in (published[0] / "models").iterdir():
        copied = {path.name: path.read_bytes() for path in folder.glob("*.py")}
        assert copied == {p.name: p.read_bytes() for p in package.glob("*.py") if not p.name.startswith("__")}
