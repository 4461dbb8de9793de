"""What `push_to_hub` of a model and a tokenizer leaves is complete: strangers load it, and what they push is complete too."""

import json
from pathlib import Path

import pytest
import torch
from hub_stranger import LANGUAGE_AUTO, TEMPLATES, TEXTS, numbers, run
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import save_file
from transformers import pipeline

import modeling_vanilla
import tokenizer as tokenizers
from modeling_vanilla import (
    VanillaForMultipleChoice,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaModel,
)

HEADS = {
    "AutoModel": VanillaModel,
    "AutoModelForSequenceClassification": VanillaForSequenceClassification,
    "AutoModelForTokenClassification": VanillaForTokenClassification,
    "AutoModelForQuestionAnswering": VanillaForQuestionAnswering,
    "AutoModelForMultipleChoice": VanillaForMultipleChoice,
}
TRANSLATOR = "encoder-decoder-AutoModelForSeq2SeqLM"

EACH = """
inputs = {path.stem: load_file(path) for path in pathlib.Path(job["inputs"]).iterdir()}
found = {}

def look(name, auto, label=None, **options):
    model = load(auto, name, **options)
    values = numbers(model, inputs[model.config.variant])
    found.update({f"{label or name.split('/')[1]}/{kind}": v.contiguous() for kind, v in values.items()})
    return model

for name, auto in job["models"].items():
    model = look(job["owner"] + "/" + name, auto)
    # By default transformers asks before it runs the code of the config, and hears no here; with False it does not ask.
    tokenizer = AutoTokenizer.from_pretrained(job["owner"] + "/" + name, **({} if job["again"] else {"trust_remote_code": False}))
    assert tokenizer.decode(tokenizer(texts[0]).input_ids, skip_special_tokens=True) == texts[0]
    if job["again"]:
        model.push_to_hub(name)
        tokenizer.push_to_hub(name)
"""
FIRST = (
    EACH
    + """
from huggingface_hub import snapshot_download
from transformers import pipeline

name, auto = job["name"], job["auto"]
for number, options in enumerate(job["revisions"]):
    model = look(name, auto, f"revision-{number}", **options)
    assert type(model).__module__.split(".")[-2] == job["head"], type(model).__module__
try:
    load(auto, name, revision="never")
except OSError as error:
    assert "never" in str(error), error
else:
    raise AssertionError("a revision that is not there was loaded")
look(snapshot_download(name), auto, "snapshot")
pipe = pipeline("translation", model=name, trust_remote_code=True)
assert type(pipe).__module__.startswith("transformers_modules."), type(pipe).__module__
pathlib.Path("translations.json").write_text(json.dumps(pipe(texts)))
save_file(found, "found.safetensors")
"""
)
SECOND = EACH + 'save_file(found, "found.safetensors")\n'


@pytest.fixture(scope="module")
def pushed(module_hub, build, batch_of, tmp_path_factory):
    """Push every kind of model by hand; return the folder, the Auto class of each, and the expected numbers."""
    root = tmp_path_factory.mktemp("pushed")
    (root / "inputs").mkdir()
    models, expected = {}, {}
    with module_hub.here(root / "home"):
        for variant, template in TEMPLATES.items():
            save_file(batch_of(variant), root / "inputs" / f"{variant}.safetensors")
            built = tokenizers.build("char", TEXTS, 31, template, min_frequency=1, show_progress=False)
            for auto, head in (HEADS | {LANGUAGE_AUTO[variant]: None}).items():
                model = build(variant, head)
                if model.can_generate():
                    model.generation_config.max_new_tokens = 6
                name = f"{variant}-{auto}"
                model.push_to_hub(name)
                built.push_to_hub(name)
                models[name] = auto
                expected |= {f"{name}/{kind}": value for kind, value in numbers(model, batch_of(variant)).items()}
        repo = module_hub.repo(f"alice/{TRANSLATOR}")
        repo.branches["stable"] = repo.tags["v1"] = repo.branches["main"]
        translations = pipeline("translation", model=f"alice/{TRANSLATOR}", device="cpu")(TEXTS)
    return root, models, expected, translations


@pytest.fixture(scope="module")
def first(module_hub, pushed):
    """Let the first stranger load everything and push it again; return what it found."""
    root, models, *_ = pushed
    sha = module_hub.repo(f"alice/{TRANSLATOR}").branches["main"]
    revisions = [{}, {"code_revision": "v1"}, {"code_revision": sha}]
    revisions += [{"revision": name} | code for name in ("v1", "stable", sha) for code in ({}, {"code_revision": sha})]
    job = {"models": models, "owner": "alice", "again": True, "inputs": str(root / "inputs")}
    job |= {"name": f"alice/{TRANSLATOR}", "auto": models[TRANSLATOR], "revisions": revisions, "head": sha}
    return run(root / "first", module_hub, "hf_bob", FIRST, **job), len(revisions)


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        # Not to the bit: another process may have another number of threads, and other places in memory.
        torch.testing.assert_close(
            found[name], value, atol=1e-6, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_stranger_gets_the_same_numbers(pushed, first):
    _, _, expected, _ = pushed
    found, revisions = first
    for label in [*(f"revision-{number}" for number in range(revisions)), "snapshot"]:
        for kind in ("head", "ids"):
            expected = expected | {f"{label}/{kind}": expected[f"{TRANSLATOR}/{kind}"]}
    same(found, expected)


def test_the_pipeline_of_the_model_comes_with_it(pushed, first):
    root, _, _, translations = pushed
    assert json.loads((root / "first" / "translations.json").read_text()) == translations


def test_what_a_stranger_pushes_again_works_for_the_next_one(module_hub, pushed, first):
    """No token either: the next stranger only reads."""
    root, models, expected, _ = pushed
    job = {"models": models, "owner": "bob", "again": False, "inputs": str(root / "inputs")}
    same(run(root / "second", module_hub, None, SECOND, **job), expected)


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_the_repositories_are_complete(module_hub, pushed, first, owner):
    package = Path(modeling_vanilla.__file__).parent
    for name, auto in pushed[1].items():
        files = module_hub.files(f"{owner}/{name}")
        assert {"model.safetensors", "README.md", "tokenizer.json", "tokenizer_config.json"} < set(files), name
        assert [path for path in files if path.endswith((".bin", ".pt", ".pth", ".pkl"))] == []
        config = json.loads(files["config.json"])
        code = {path: data for path, data in files.items() if path.endswith(".py")}
        assert {f"{target.split('.')[0]}.py" for target in config["auto_map"].values()} < set(code)
        assert code == {path: (package / path).read_bytes() for path in code}
        original = json.loads(module_hub.files(f"alice/{name}")["config.json"])
        assert config["auto_map"] == original["auto_map"]
        assert len(config["auto_map"]) == 2 + 4 + 1
        assert config.get("custom_pipelines") == original.get("custom_pipelines")
        assert ("custom_pipelines" in config) == (auto in ("AutoModelForSeq2SeqLM", "AutoModelForQuestionAnswering"))
        generates = auto in ("AutoModelForSeq2SeqLM", "AutoModelForCausalLM")
        assert ("generation_config.json" in files) == generates
        if generates:
            assert json.loads(files["generation_config.json"])["max_new_tokens"] == 6


# ---- where a push goes, and when it fails; by the package's own process


def test_a_branch_a_pull_request_and_shards(module_hub, build, batch_of, tmp_path):
    model = build("decoder")
    expected = model(**batch_of("decoder")).logits
    with module_hub.here(tmp_path):
        model.push_to_hub("places", private=True, commit_message="first")
        assert module_hub.repo("alice/places").private
        model.push_to_hub("places", revision="shards", max_shard_size="10KB")
        module_hub.repo("alice/places").private = False
        with torch.no_grad():
            model.lm_head.weight += 1
        changed = model(**batch_of("decoder")).logits
        assert model.push_to_hub("alice/places", token="hf_bob", create_pr=True).pr_revision == "refs/pr/1"
        shards = [path for path in module_hub.files("alice/places", "shards") if path.startswith("model-0")]
        assert len(shards) > 2
        for revision, logits in {"main": expected, "shards": expected, "refs/pr/1": changed}.items():
            again = type(model).from_pretrained("alice/places", revision=revision)
            assert torch.equal(again(**batch_of("decoder")).logits, logits), revision


@pytest.mark.parametrize("place", ["validate-yaml", "preupload", "objects/batch", "PUT /upload", "verify", "/commit/"])
def test_a_push_that_fails_leaves_nothing_and_can_be_repeated(hub_here, build, place):
    model = build("encoder")
    hub_here.fail(place, status=403)
    with pytest.raises((HfHubHTTPError, RuntimeError)):
        model.push_to_hub("fails")
    assert set(hub_here.files("alice/fails")) == {".gitattributes"}
    assert len(hub_here.repo("alice/fails").commits) == 1
    model.push_to_hub("fails")
    assert {"config.json", "model.safetensors", "modeling_vanilla.py"} < set(hub_here.files("alice/fails"))
