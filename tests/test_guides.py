# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Every code block of docs/guides runs: one fresh process per guide, in a folder that holds what a reader has.

`python` blocks share one namespace, `bash` blocks run in the same folder in between, in the order of the page. A comment
behind a `print(...)` is what it prints, and a `text` block right below a block is all that the block prints, with what
it says on stderr where the guide shows that (`...` stands for anything); both are compared. What small stand-ins of the models cannot reproduce is marked in the guide:

    <!-- needs: peft, transformers>=5.20 -->    near the top: packages without which the guide is skipped
    <!-- output not compared -->                above a block: it runs, and what it prints is not looked at

By hand, on the models themselves: `python tests/test_guides.py docs/guides/use.md --all` plays a guide in the current
folder and compares every output.
"""

import ast
import contextlib
import functools
import io
import linecache
import os
import re
import subprocess
import sys
import tokenize
import traceback
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ROOT / "docs" / "guides"
RUN, SHOWN = ("python", "bash"), ("console", "text", "yaml")
SECONDS = 300


class GuideError(Exception):
    """A guide is wrong: its file, the line, and why."""


@dataclass
class Block:
    """One fenced block: its language, the number of its first line, its lines, and whether its output counts."""

    language: str
    line: int
    code: str
    compared: bool = True
    printed: str | None = None  # the text block right below


def read_blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a guide, in order; raise GuideError for a fence that is unknown or stays open."""
    blocks, inside, between = [], None, ""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        fence = re.match(r"^\s*(```+|~~~+)\s*(.*?)\s*$", line)
        if inside is not None and fence is None:
            inside.code += line + "\n"
        elif inside is not None:
            if fence[2]:
                raise GuideError(f"{path}:{number}: a fence opens within the block of line {inside.line}")
            if inside.language == "text" and blocks and not between.strip():
                blocks[-1].printed = inside.code
            blocks.append(inside)
            inside, between = None, ""
        elif fence is not None:
            if fence[2] not in RUN + SHOWN or line != f"```{fence[2]}":
                raise GuideError(f"{path}:{number}: {line.strip()!r}: not ``` and one of {', '.join(RUN + SHOWN)}")
            inside = Block(fence[2], number + 1, "", "<!-- output not compared -->" not in between)
        else:
            between += line + "\n"
    if inside is not None:
        raise GuideError(f"{path}:{inside.line - 1}: a fence that nothing closes")
    return blocks


def missing(path: Path) -> list[str]:
    """Return what of a guide's `<!-- needs: ... -->` is not installed here."""
    from packaging.requirements import Requirement

    found = re.search(r"<!-- needs: (.*?) -->", path.read_text("utf-8"))
    lacking = []
    for requirement in map(Requirement, found[1].split(",") if found else []):
        try:
            fits = requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
        except metadata.PackageNotFoundError:
            fits = False
        if not fits:
            lacking.append(str(requirement))
    return lacking


def same(stated: str, printed: str) -> bool:
    """Compare what a guide states with what was printed, blanks aside; `...` stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in stated.split("...")]
    return re.fullmatch(r"\s*.*\s*".join(parts), " ".join(printed.split()), re.DOTALL) is not None


def stated_outputs(block: Block) -> dict[int, str]:
    """Return the comments behind the `print` calls of a python block, by the line of the block."""
    calls = [
        node
        for node in ast.walk(ast.parse(block.code))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    ends = {node.end_lineno: node.lineno for node in calls}
    tokens = tokenize.generate_tokens(io.StringIO(block.code).readline)
    # By the line where the call starts: that is what the frame of the caller says.
    return {ends[t.start[0]]: t.string[1:].strip() for t in tokens if t.type == tokenize.COMMENT and t.start[0] in ends}


def run_python(path: Path, block: Block, names: dict) -> str:
    """Run a python block as if it stood alone in the guide's file; return what it printed."""
    by_line: dict[int, str] = {}

    def recorded_print(*values, **options):
        target = options.get("file")
        if target in (None, sys.stdout):
            text = io.StringIO()
            print(*values, **(options | {"file": text}))
            line = sys._getframe(1).f_lineno - block.line + 1
            by_line[line] = by_line.get(line, "") + text.getvalue()
        print(*values, **options)

    code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
    stated = stated_outputs(block) if block.compared else {}
    captured = io.StringIO()
    names["print"] = recorded_print
    with contextlib.redirect_stdout(captured):
        exec(code, names)
    for line, text in stated.items():
        if line not in by_line:
            raise GuideError(f"{path}:{block.line + line - 1}: prints nothing, the guide says {text!r}")
        if not same(text, by_line[line]):
            raise GuideError(f"{path}:{block.line + line - 1}: prints {by_line[line]!r}, the guide says {text!r}")
    return captured.getvalue()


def run_bash(path: Path, block: Block) -> tuple[str, str]:
    """Run a bash block, stopping at the first command that fails; return its stdout and its stderr."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise GuideError(f"{path}:{block.line}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout, done.stderr


def play(path: Path, compare_all: bool = False) -> None:
    """Run all blocks of a guide in the current folder."""
    names = {"__name__": "__main__"}
    linecache.checkcache(str(path))
    for block in read_blocks(path):
        if block.language not in RUN:
            continue
        block.compared |= compare_all
        print(f"{path}:{block.line}: {block.language}", flush=True)
        output, errors = run_bash(path, block) if block.language == "bash" else (run_python(path, block, names), "")
        print(output + errors, end="", flush=True)
        if block.compared and block.printed is not None:
            # A library's warnings are no output; a line of stderr that the guide shows has to be there.
            stated = [s for s in block.printed.splitlines() if not any(same(s, e) for e in errors.splitlines())]
            if not same("\n".join(stated), output):
                raise GuideError(f"{path}:{block.line}: prints\n{output}{errors}\nthe guide says\n{block.printed}")


def main(words: list[str]) -> int:
    """Play one guide; on an error print the line of the guide last."""
    path = Path(words[0]).resolve()
    sys.path[0] = ""  # as in a script of the reader's own, not the folder of the tests
    try:
        play(path, "--all" in words)
    except GuideError as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException as error:
        traceback.print_exc()
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", "?")
        print(f"{path}:{line}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


# ---- what the reader has


TEXTS = [
    "Friday, November 20, 2026",
    "the 3rd of May, 1999",
    "the film was released by the studio in 1995 .",
    "the cat sat on the mat , and the dog ran .",
    "What is lost can be found. How are you? A new day begins!",
]
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}


def train_dates(folder: Path) -> None:
    """Train what `make demo` trains, but small and short: a real model that has not learnt much."""
    few = '{"train": 4000, "validation": 50, "test": 50}'
    words = ["--model.d_model", "64", "--model.d_ff", "128", "--loop.max_steps", "100", "--optim.warmup_steps", "20"]
    words += ["--loop.tracker", "none", "--data.generator_args", few, "--run_dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "train", "fit", "train/recipes/dates-en-ko.yaml", *words],
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def make_others(folder: Path) -> None:
    """Save small random models of the other architectures, each with a tokenizer, below the names of the Hub."""
    import torch
    import transformers

    import tokenizer as tokenizers
    from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForMaskedLM

    torch.manual_seed(0)

    def save(name: str, kind: str, template: str, make) -> None:
        built = tokenizers.build(kind, TEXTS, 400, template, min_frequency=1, show_progress=False, model_max_length=64)
        make(built).save_pretrained(folder / name)
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


@pytest.fixture(scope="session")
def shelf(tmp_path_factory) -> Path:
    """Return a folder with the stand-ins, made once for all workers of a parallel run."""
    from filelock import FileLock

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "guides"
    with FileLock(str(root / "guides.lock")):
        if not (folder / "done").exists():
            train_dates(folder / "runs" / "dates-en-ko")
            make_others(folder)
            (folder / "you").mkdir()
            (folder / "you" / "dates-en-ko").symlink_to(folder / "runs" / "dates-en-ko" / "final")
            (folder / "done").touch()
    return folder


@pytest.fixture
def reader(shelf, tmp_path):
    """Return a function that plays a guide in a folder of its own, and gives the finished process."""
    (tmp_path / "folder").mkdir()
    for path in shelf.iterdir():
        if path.name != "done":  # models are read, what a guide writes goes beside them
            (tmp_path / "folder" / path.name).symlink_to(path)

    def run(guide: Path) -> subprocess.CompletedProcess:
        paths = [str(ROOT)] + [p for p in [os.environ.get("PYTHONPATH")] if p]
        environment = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUTF8": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "hub"),
            "CUDA_VISIBLE_DEVICES": "",
        }
        return subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), str(guide)],
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


@pytest.mark.parametrize("guide", guides(), ids=lambda path: path.stem)
def test_guide_runs(guide, reader):
    if lacking := missing(guide):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    if not any(block.language in RUN for block in read_blocks(guide)):
        return
    done = reader(guide)
    assert done.returncode == 0, done.stdout[-6000:]
    assert done.stdout.count(f"{guide}:") == sum(block.language in RUN for block in read_blocks(guide))


def test_there_are_guides_with_code():
    counts = {path.stem: sum(block.language in RUN for block in read_blocks(path)) for path in guides()}
    assert [name for name, count in counts.items() if not count and name != "README"] == []
    assert len(counts) >= 9


@pytest.mark.parametrize("guide", guides(), ids=lambda path: path.stem)
def test_links_lead_to_files(guide):
    text = re.sub(r"^```.*?^```", "", guide.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\[([^]]*)\]\(([^)#\s]+)[^)]*\)", text)
    assert len(links) == text.count("](") > 0
    local = [(words, guide.parent / target) for words, target in links if "://" not in target]
    assert [str(target) for _, target in local if not target.exists()] == []
    # A link whose words are a name in code leads to the file that defines it.
    names = [(words[1:-1], target) for words, target in local if target.suffix == ".py" and words.startswith("`")]
    defined = r"^\s*(?:def |class )?{}\b(?: =|[(:])"
    wrong = [n for n, t in names if n != t.name and not re.search(defined.format(n), t.read_text("utf-8"), re.M)]
    assert wrong == []


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
print(x, end="")  # [1, ...]
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


def test_what_is_missing_is_named(tmp_path):
    path = tmp_path / "sample.md"
    path.write_text("# A guide\n\n<!-- needs: torch, no-such-package, pytest>=999 -->\n")
    assert missing(path) == ["no-such-package", "pytest>=999"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
