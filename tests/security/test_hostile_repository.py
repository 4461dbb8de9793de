"""hub-check on a repository whose owner means harm: nothing of it runs, nothing hangs, and no file of this machine is read."""

import hashlib
import json
import os
import re
import sys
import time

import pytest

from train import files
from train.hub.check import card, confine, listing, report, use

CARD = (
    "---\nlicense: apache-2.0\nlibrary_name: transformers\ntags: [vanilla]\npipeline_tag: translation\n---\n# Name\n"
)


def edit(path, **values):
    """Set fields of a JSON file, which is made where it is missing."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(files.read_object(path) | values))


def test_the_folder_that_the_others_are_made_of_passes(folder, used):
    assert report.check_folder(folder).problems == []
    assert len(used) == 1


CODE = [
    "custom_generate/generate.py",
    "sub/x.py",
    "sub/sub/__init__.py",
    ".hidden/x.py",
    "tokenization_x.py",
    "sitecustomize.py",
    "__pycache__/layers.cpython-311.pyc",
    "native.so",
    "sub/native.pyd",
    "run.sh",
    "x.PY",
    "chat_template.jinja",
    "additional_chat_templates/tools.jinja",
    "setup.cfg",
    "x.pth",
    "model.gguf",
    "no_ending",
]


@pytest.mark.parametrize("name", CODE)
def test_a_file_of_code_anywhere_fails_unless_it_is_trusted(folder, used, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x = 1\n")
    examined = report.check_folder(folder)
    assert [problem for problem in examined.problems if name in problem]
    assert not used
    examined = report.check_folder(folder, trust_remote_code=True)
    # What is neither Python nor a template belongs into no repository of a model, whoever trusts it.
    assert bool(used) == name.lower().endswith((".py", ".jinja"))
    assert not used or f"trusted: {name}" in str(examined)


@pytest.mark.parametrize("name", ["custom_generate/generate.py", "more.json", "linked", "model.safetensors"])
def test_a_link_is_neither_followed_nor_opened(folder, used, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("x = 1\n")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    examined = report.check_folder(folder, trust_remote_code=True)
    assert examined.problems[0] == f"entries: {name}: a link; a repository must hold the file itself"
    assert "secret" not in str(examined) and not used


def test_a_pipe_is_not_waited_for(folder, used):
    os.mkfifo(folder / "config.jsonl")
    started = time.monotonic()
    assert "config.jsonl: a pipe, a socket or a device" in report.check_folder(folder).problems[0]
    assert time.monotonic() - started < 10 and not used


def test_too_many_files_and_too_large_ones_are_not_read(folder, used, monkeypatch):
    with open(folder / "README.md", "r+b") as file:
        file.truncate(1 << 40)  # of zeros that take no place
    assert "README.md: has 1,099,511,627,776 bytes" in report.check_folder(folder).problems[0]
    (folder / "README.md").write_text(CARD)
    (folder / "names.py").write_text("import a" + ".b" * 200_000)
    assert "names.py: has 400,008 bytes" in report.check_folder(folder).problems[0]
    (folder / "names.py").unlink()
    monkeypatch.setattr(listing, "MOST_FILES", 5)
    assert report.check_folder(folder).problems[0] == "entries: holds more than 5 files"
    assert not used


MECHANISMS = {
    "auto_map of another repository": ("config.json", {"auto_map": {"AutoConfig": "evil/code--m.C"}}, "auto_map"),
    "auto_map of another file": (
        "config.json",
        {"auto_map": {"AutoConfig": "/etc/m.C", "AutoModel": "../m.C"}},
        "auto_map",
    ),
    "auto_map below": (
        "config.json",
        {"text_config": {"auto_map": {"AutoConfig": "m.C"}}},
        "config.json: auto_map names",
    ),
    "tokenizer": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["m.C", None]}}, "auto_map"),
    "processor": ("processor_config.json", {"auto_map": {"AutoProcessor": "m.C"}}, "processor_config.json: auto_map"),
    "pictures": (
        "preprocessor_config.json",
        {"auto_map": {"AutoImageProcessor": "m.C"}},
        "preprocessor_config.json: auto_map",
    ),
    "generation": ("generation_config.json", {"custom_generate": "evil/code"}, "custom_generate names"),
    "kernel": ("config.json", {"attn_implementation": "evil/kernel"}, "attn_implementation names a kernel"),
    "inner kernel": ("config.json", {"_experts_implementation_internal": "evil/k"}, "_internal names a kernel"),
    "kernel for a part": (
        "config.json",
        {"attn_implementation": {"": "evil/kernel"}},
        "attn_implementation names a kernel",
    ),
    "kernels": ("config.json", {"kernel_config": {"x": "evil/kernel"}}, "kernel_config names kernels"),
    "quantisation": ("config.json", {"quantization_config": {"quant_method": "mxfp4"}}, "asks for 'mxfp4'"),
    "other weights": ("config.json", {"transformers_weights": "x.safetensors"}, "leads to other weights"),
    "template": (
        "tokenizer_config.json",
        {"chat_template": "{% for x in y %}{% endfor %}"},
        "chat_template is a program",
    ),
    "templates": (
        "tokenizer_config.json",
        {"chat_template": [{"name": "a", "template": "b"}]},
        "chat_template is a program",
    ),
    "file of a template": ("chat_template.json", {"chat_template": "x"}, "chat_template.json: chat_template is"),
    "adapter": ("adapter_config.json", {"base_model_name_or_path": "evil/model"}, "leads to another model"),
    "vocabulary elsewhere": ("tokenizer_config.json", {"vocab": "words.txt"}, "vocab names a file"),
    "file elsewhere": (
        "tokenizer_config.json",
        {"special_tokens_map_file": "/etc/passwd"},
        "names a file that is not beside",
    ),
    "files elsewhere": (
        "tokenizer_config.json",
        {"fast_tokenizer_files": ["../tokenizer.4.0.json"]},
        "names a file that is not beside",
    ),
    "config elsewhere": (
        "config.json",
        {"configuration_files": ["../config.4.0.0.json"]},
        "names a file that is not beside",
    ),
    "adapter alone": ("adapter_config.json", {"peft_type": "LORA"}, "an adapter, which is loaded into another model"),
    "a thousand classes": (
        "config.json",
        {"auto_map": {f"AutoModel{i}": "modeling_vanilla.VanillaModel" for i in range(1000)}},
        "name 1,0",
    ),
    "in a folder": ("1_Pooling/config.json", {"auto_map": {"AutoModel": "m.C"}}, "1_Pooling/config.json: auto_map"),
}


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_field_that_loads_code_fails_in_every_file(folder, used, name):
    file, values, line = MECHANISMS[name]
    edit(folder / file, **values)
    assert [problem for problem in report.check_folder(folder).problems if line in problem]
    assert not used


def test_a_module_of_sentence_transformers_is_code(folder, used):
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Pooling"}, {"type": "evil.Module"}]')
    problems = report.check_folder(folder).problems
    assert [problem for problem in problems if "type 'evil.Module' is imported" in problem] and not used
    assert "Pooling" not in str(problems)


def test_a_word_may_have_the_name_of_a_field(folder, used):
    edit(folder / "vocab.json", auto_map=5, chat_template=6)
    edit(folder / "config.json", label2id={"chat_template": 0})
    assert report.check_folder(folder).problems == []


@pytest.mark.parametrize("document", ["results.json", "manifest.json"])
@pytest.mark.parametrize("way", ["absolute", "up", "none"])
def test_a_document_names_no_file_of_this_machine(folder, used, tmp_path, document, way):
    secret = tmp_path / "secret"
    secret.write_text("my key")
    name = {"absolute": str(secret), "up": "../secret", "none": "\0"}[way]
    digest = hashlib.sha256(b"my key").hexdigest()
    if document == "results.json":
        edit(folder / document, metrics={"loss": 1.0}, weights={name: "0" * 64})
    else:
        edit(folder / document, files={name: {"size": 6, "sha256": digest}})
    examined = report.check_folder(folder)
    assert examined.failed, "the file was found there"
    assert digest[:12] not in str(examined) and "6 bytes" not in str(examined)


@pytest.mark.parametrize("weights", [None, {}, {"tokenizer.json": ""}], ids=["none", "empty", "of another file"])
def test_figures_that_name_no_weights_may_be_those_of_others(folder, used, weights):
    edit(folder / "results.json", metrics={"loss": 1.0}, weights=weights)
    problems = report.check_folder(folder).problems
    assert [problem for problem in problems if "weights: lacks the sha256 of model.safetensors" in problem]


def test_a_recipe_beside_the_figures_imports_nothing(folder, used, monkeypatch):
    """The hash of recipe.yaml is compared in the process that reports."""
    (folder / "recipe.yaml").write_text(
        "name: a\ntask: translation\ndata: {generator: dates}\nmodel.class_path: this.Zen\n"
    )
    edit(folder / "results.json", metrics={"loss": 1.0}, recipe_hash="0" * 64)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    problems = report.check_folder(folder).problems
    assert [problem for problem in problems if "model.class_path: no such key" in problem]
    assert "this" not in sys.modules


ODD_FIGURES = [
    '{"metrics": {"loss": NaN}}',
    '{"metrics": {"loss": 1' + "0" * 400 + "}}",
    '{"metrics": {"loss": true}}',
]


@pytest.mark.parametrize("text", ODD_FIGURES, ids=["NaN", "huge", "true"])
def test_a_figure_is_a_finite_number(folder, used, text):
    (folder / "results.json").write_text(text)
    problems = report.check_folder(folder).problems
    assert [problem for problem in problems if "must be a finite number" in problem]


def test_numbers_are_bounded_before_they_take_memory(monkeypatch):
    ids = use._inputs({"vocab_size": 50, "bos_token_id": 3, "eos_token_id": 0, "pad_token_id": -1})["input_ids"]
    assert len(ids) == 2 and {value for row in ids for value in row} <= set(range(50)) - {0, 3}
    assert use._inputs({"vocab_size": 2, "a_token_id": 0, "b_token_id": 1})["input_ids"]
    started = time.process_time()
    use._inputs({"vocab_size": 2**24})
    assert time.process_time() - started < 1
    for name, value in (("vocab_size", 10**8), ("vocab_size", "x"), ("vocab_size", -5), ("n_positions", 10**40)):
        with pytest.raises(ValueError, match="must be from 1 to"):
            use._inputs({name: value})


def test_escape_codes_do_not_reach_the_terminal(folder, used):
    hostile = "\x1b[2J\u202e\u2066\x07\r"
    (folder / f"a{hostile}.txt").write_text("")
    examined = str(report.check_folder(folder))
    assert "must not have a name with characters that cannot be seen" in examined
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", examined)
    (folder / f"a{hostile}.txt").unlink()
    (folder / "a\nb.txt").write_text("")
    assert "a b.txt: must not have a name" in str(report.check_folder(folder))
    (folder / "a\nb.txt").unlink()
    (folder / "README.md").write_text(CARD + f"[x](a{hostile}.md)")
    edit(folder / "config.json", architectures=[hostile])
    edit(folder / "results.json", metrics={"loss": 1.0}, weights={hostile: hostile})
    examined = str(report.check_folder(folder))
    assert "link to a" in examined
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", examined)


def test_a_report_has_an_end(folder, used):
    (folder / "README.md").write_text(CARD + "[x](y.md)" * 1000 + f"[x](a{'b' * 5000})")
    examined = report.check_folder(folder)
    assert len(examined.problems) <= report.MOST_FOUND
    assert max(map(len, examined.problems)) < 1100


def test_a_check_that_does_not_end_is_ended(folder, used, monkeypatch):
    def endless(_):
        while True:
            try:
                time.sleep(60)
            except Exception:  # noqa: BLE001 - as a library might
                yield "never"

    monkeypatch.setattr(report, "SECONDS", 1)
    monkeypatch.setattr(card, "card_problems", endless)
    started = time.monotonic()
    assert report.check_folder(folder).problems == ["time: not done after 1 seconds"]
    assert time.monotonic() - started < 10 and not used


DEEP = ["[" * 200_000, '{"a":' * 200_000, "1" * 100_000]


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "results.json", "manifest.json", "recipe.yaml"]
)
@pytest.mark.parametrize("text", DEEP, ids=["list", "object", "number"])
def test_a_document_nested_without_end_is_a_finding(folder, used, name, text):
    (folder / name).write_text(text)
    if name == "recipe.yaml":
        edit(folder / "results.json", metrics={"loss": 1.0}, recipe_hash="0" * 64)
    assert report.check_folder(folder).failed and not used or name == "recipe.yaml"


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "-" * 100_000 + "1", "1" + "+1" * 100_000, "x" + ".y" * 100_000], ids=len
)
def test_code_nested_without_end_is_a_finding(folder, used, text):
    (folder / "deep.py").write_text(text)
    assert report.check_folder(folder).failed and not used


TRIES = """
import os, socket, subprocess
for attempt in (
    lambda: subprocess.run(["touch", {marker!r}]),
    lambda: open({marker!r}, "w").close(),
    lambda: socket.create_connection(("127.0.0.1", 9), 1),
):
    try:
        attempt()
    except OSError:
        pass

def generate(model, *inputs, **options):
    return type(model).generate(model, *inputs, **options)
"""


def test_what_trusted_code_tries_is_found(folder, tmp_path):
    """With real processes."""
    marker = tmp_path / "marker"
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(TRIES.format(marker=str(marker)))
    problems = report.check_folder(folder, trust_remote_code=True).problems
    assert not marker.exists()
    for line in ("processes: subprocess.Popen touch", f"writes: open {marker}", r"network: socket\.\w+"):
        assert [problem for problem in problems if re.match(line, problem)], (line, problems)


@pytest.mark.slow
def test_code_that_the_listing_lacks_does_not_run(folder, tmp_path, monkeypatch):
    """The listing is that of what runs: the process compares contents, and not names."""
    marker = tmp_path / "marker"
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(TRIES.format(marker=str(marker)))
    listed = listing.code_files
    monkeypatch.setattr(listing, "code_files", lambda place: [path for path in listed(place) if path.parent == place])
    problems = report.check_folder(folder).problems
    assert [problem for problem in problems if re.match("code: .*generate.py", problem)], problems
    assert not [problem for problem in problems if problem.startswith(("processes", "writes", "network"))]
    assert not marker.exists()


@pytest.mark.slow
def test_a_tokenizer_without_end_ends_its_process_and_not_the_check(folder, monkeypatch):
    """Each replacement doubles a text: sixty of them ask for more than there is."""
    monkeypatch.setattr(confine, "ALLOWANCE", 1 << 30)
    path = folder / "tokenizer.json"
    double = {"type": "Replace", "pattern": {"String": "o"}, "content": "oo"}
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "Sequence", "normalizers": [double] * 60}})
    )
    problems = report.check_folder(folder).problems
    assert [problem for problem in problems if re.match("stranger: the process ended with code -6", problem)], problems
