# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Every code block of docs/guides and of the README runs: one fresh process per page, in a folder with what a reader has.

`play_guide.py` says how a guide is read and what is compared. Here are the stand-ins for the models that a reader has, and
the tests; the last ones see that a wrong guide fails, at its line.
"""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from train.settings.reading import load_recipe
from train.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ROOT / "docs" / "guides"
READMES = (ROOT / "README.md", ROOT / "README.ko.md")  # the same code in both: test_pages.py
PLAYER = ROOT / "tests" / "play_guide.py"
WITH_CODE = (
    "use",
    "trust",
    "own-data",
    "finetune",
    "lora",
    "translate-a-file",
    "sentence-embeddings",
    "convert",
    "export",
    "look",
    "paper",
    "publishing",
    "sharing",
    "tasks",
    "captions",
    "find-then-answer",
)
SLOW = ("own-data", "tasks", "find-then-answer")  # several commands, each a process of its own
ONLINE = ("publishing", "sharing")  # these speak to a Hub
SECONDS = 300
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # small models: more threads only wait for each other

spec = importlib.util.spec_from_file_location("play_guide", PLAYER)
play_guide = importlib.util.module_from_spec(spec)
sys.modules["play_guide"] = play_guide
spec.loader.exec_module(play_guide)


# ---- what the reader has


TEXTS = [
    "Friday, November 20, 2026",
    "the 3rd of May, 1999",
    "the film was released by the studio in 1995 .",
    "the cat sat on the mat , and the dog ran .",
    "What is lost can be found. How are you? A new day begins!",
]
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}


def train_dates(starter, folder: Path) -> None:
    """Train what `make demo` trains, but small and short: a real model that has not learnt much."""
    few = '{"train": 4000, "validation": 50, "test": 50}'
    words = ["--model.d_model", "64", "--model.d_ff", "128", "--loop.max_steps", "100", "--optim.warmup_steps", "20"]
    words += ["--loop.tracker", "none", "--data.generator_args", few]
    starter.fit(folder, *words, recipe=ROOT / "train" / "recipes" / "dates-en-ko.yaml")


def make_others(folder: Path) -> None:
    """Save small random models of the other architectures, each with a tokenizer, below the names of the Hub."""
    import torch
    import transformers

    import tokenizer as tokenizers
    from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForMaskedLM

    torch.manual_seed(0)

    def save(name: str, kind: str, template: str, make) -> None:
        built = tokenizers.build(kind, TEXTS, 400, template, min_frequency=1, show_progress=False, model_max_length=64)
        model = make(built)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:  # not Marian's table of sinusoids
                    parameter.add_(torch.randn_like(parameter) * 0.2)  # or a lost weight would hardly show
        model.save_pretrained(folder / name)
        built.save_pretrained(folder / name)

    def bert(built):
        return transformers.BertForMaskedLM(
            transformers.BertConfig(vocab_size=len(built), max_position_embeddings=64, **SIZES)
        )

    def gpt2(built):
        config = transformers.GPT2Config(
            vocab_size=len(built), n_embd=24, n_layer=2, n_head=4, n_positions=64, bos_token_id=3, eos_token_id=3
        )
        return transformers.GPT2LMHeadModel(config)

    def translator(built, config_class, model_class, start):
        sides = dict(layers=2, attention_heads=4, ffn_dim=40)
        sizes = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()}
        ids = dict(pad_token_id=0, bos_token_id=2, eos_token_id=3, forced_eos_token_id=3, decoder_start_token_id=start)
        return model_class(config_class(vocab_size=len(built), d_model=24, max_position_embeddings=64, **sizes, **ids))

    save("google-bert/bert-base-uncased", "wordpiece", "encoder", bert)
    save("openai-community/gpt2", "byte_bpe", "causal", gpt2)
    marian = (transformers.MarianConfig, transformers.MarianMTModel, 0)
    save("Helsinki-NLP/opus-mt-en-de", "bpe", "seq2seq", lambda built: translator(built, *marian))
    bart = (transformers.BartConfig, transformers.BartForConditionalGeneration, 3)
    save("facebook/bart-base", "byte_bpe", "seq2seq", lambda built: translator(built, *bart))
    tiny = functools.partial(VanillaConfig.tiny, d_model=32, num_heads=4)
    save(
        "runs/wikitext-2-mlm/final",
        "wordpiece",
        "encoder",
        lambda built: VanillaForMaskedLM(tiny(variant="encoder", vocab_size=len(built))),
    )
    save(
        "runs/shakespeare-char-cpu/final",
        "char",
        "causal",
        lambda built: VanillaForCausalLM(tiny(variant="decoder", vocab_size=len(built))),
    )


def make_captions(folder: Path) -> None:
    """Save an untrained model of captions with its tokenizer."""
    from train import captions
    from train.data.shapes import LANGUAGES, scenes

    tokenizer = captions.tokenizer_of([one.caption(lang) for one in scenes(300, False, 0) for lang in LANGUAGES])
    for part in (captions.model_of(tokenizer), tokenizer):
        part.save_pretrained(folder)


@pytest.fixture(scope="session")
def shelf(starter, tmp_path_factory) -> Path:
    """Return a folder with the stand-ins, made once for all workers of a parallel run."""
    from filelock import FileLock

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "guides"
    with FileLock(str(root / "guides.lock")):
        if not (folder / "done").exists():
            train_dates(starter, folder / "runs" / "dates-en-ko")
            make_others(folder)
            make_captions(folder / "runs" / "captions")
            (folder / "you").mkdir()
            (folder / "you" / "dates-en-ko").symlink_to(folder / "runs" / "dates-en-ko" / "final")
            (folder / "done").touch()
    return folder


@pytest.fixture
def reader(shelf, tmp_path):
    """Return a function that plays a guide in a folder of its own, and gives the finished process."""
    for path in shelf.glob("*/*"):  # models are read, what a guide writes goes beside them
        link = tmp_path / "folder" / path.relative_to(shelf)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)

    def run(guide: Path, online: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        paths = [str(ROOT)] + [p for p in [os.environ.get("PYTHONPATH")] if p]
        environment = (
            ONE_THREAD
            | os.environ
            | {
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONUTF8": "1",
                "HF_HUB_OFFLINE": "1",
                "HF_HOME": str(tmp_path / "hub"),
                "CUDA_VISIBLE_DEVICES": "",
            }
            | (online or {})
        )
        return subprocess.run(
            [sys.executable, str(PLAYER), str(guide)],
            cwd=tmp_path / "folder",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )

    return run


def guides() -> list[Path]:
    """Return all guides; the tests are collected before there is one to fail for want of them."""
    return sorted(GUIDES.glob("*.md"))


# ---- the tests


def runnable(guide: Path) -> int:
    """Count the blocks of a guide that run."""
    return sum(block.language in play_guide.RUN for block in play_guide.read_blocks(guide))


@pytest.mark.parametrize("guide", [*guides(), *READMES], ids=lambda path: path.stem)
def test_every_fence_is_known(guide):
    play_guide.read_blocks(guide)


@pytest.mark.parametrize(
    "name", ["README", *(pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in WITH_CODE)]
)
def test_guide_runs(name, reader, hub, tmp_path):
    guide = READMES[0] if name == "README" else GUIDES / f"{name}.md"
    if lacking := play_guide.missing(guide):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    hub.add_user("you")
    online = hub.variables(tmp_path / "hub", "hf_you") | {"HF_HUB_OFFLINE": "0"} if name in ONLINE else None
    done = reader(guide, online)
    assert done.returncode == 0, done.stdout[-6000:]
    assert len(re.findall(rf"(?m)^{re.escape(str(guide))}:\d+: (?:python|bash)$", done.stdout)) == runnable(guide) > 0


def test_no_guide_with_code_is_left_out():
    assert [path.stem for path in guides() if runnable(path)] == sorted(WITH_CODE)


def test_own_data_has_a_recipe_for_each_task(tmp_path):
    """What the two guides write into their YAML files is read as `fit` reads it: without training, so in every run."""
    text = "\n".join((GUIDES / name).read_text("utf-8") for name in ("own-data.md", "tasks.md"))
    written = re.findall(r"(?ms)^cat > (\S+\.yaml) <<'END'\n(.*?)^END$", text)
    for name, content in written:
        (tmp_path / name).write_text(content, encoding="utf-8")
    recipes = [load_recipe([str(tmp_path / name)]) for name, _ in written]
    assert sorted(recipe.task for recipe in recipes) == sorted(TASKS)
    folders = {str(recipe.folder) for recipe in recipes} | {"runs/own-trainer"}
    assert set(re.findall(r"runs/own-\w+", text)) == folders


def test_the_index_names_every_guide():
    index = (GUIDES / "README.md").read_text("utf-8")
    assert [path.name for path in guides() if path.name != "README.md" and f"]({path.name})" not in index] == []


def played(reader, tmp_path, text: str) -> tuple[int, str]:
    """Play a guide of these lines; return the exit code and the last lines of what it says, paths shortened."""
    path = tmp_path / "sample.md"
    path.write_text(text, encoding="utf-8")
    done = reader(path)
    return done.returncode, done.stdout.replace(str(tmp_path), "")


RIGHT = """# A guide

```python
x = [1,
     2]
print(len(x))  # 2
print(x, sep="")  # [1, ...]
```

Then a shell, in the same folder, and back:

```bash
python -c "import train; print(train.__name__)"
echo $((1 + 1)) > two.txt; ls -d runs
```

```text
train
runs
```

<!-- output not compared -->

```python
print(open("two.txt").read() * x[1])  # something else
```

```yaml
this is: {not run
```
"""


def test_a_right_guide_passes(reader, tmp_path):
    code, text = played(reader, tmp_path, RIGHT)
    assert code == 0, text
    assert [line for line in text.splitlines() if line.startswith("/sample.md")] == [
        "/sample.md:4: python",
        "/sample.md:13: bash",
        "/sample.md:25: python",
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("     2]\n", "     2]\nassert len(x) == 3\n"), "/sample.md:6: AssertionError"),
        (("len(x))  # 2", "len(x))  # 3"), "/sample.md:6: prints '2\\n', the guide says '3'"),
        (("print(len(x))", "False and print(len(x))"), "/sample.md:6: prints nothing, the guide says '2'"),
        (("x = [1,", "x = (1,"), "/sample.md:5: SyntaxError"),
        (("echo $((1 + 1))", "false; echo 2"), "/sample.md:13: exit code 1"),
        (("python -c", "python -W error -c 'import x' | cat; python -c"), "/sample.md:13: exit code 1"),
        (("train\nruns", "train"), "/sample.md:13: prints\n"),
        (("* x[1]", "* y[1]"), "/sample.md:25: NameError"),
        (("```yaml", "```yml"), "/sample.md:28: '```yml'"),
        (("not run\n```", "not run\n"), "/sample.md:28: a fence that nothing closes"),
        (("```text", "   ```text"), "/sample.md:17: '```text'"),
    ],
)
def test_a_wrong_guide_fails_at_its_line(reader, tmp_path, wrong, message):
    assert RIGHT.count(wrong[0]) == 1
    code, text = played(reader, tmp_path, RIGHT.replace(*wrong))
    assert code == 1
    assert message in text


def test_the_player_describes_itself(capsys):
    assert (play_guide.main(["-h"]), play_guide.main([])) == (0, 2)
    assert capsys.readouterr().out.count("python tests/play_guide.py docs/guides/use.md [--all]") == 2


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "sample.md"
    path.write_text("# A guide\n\n<!-- needs: torch, no-such-package, pytest>=999 -->\n")
    assert play_guide.missing(path) == ["no-such-package", "pytest>=999"]
