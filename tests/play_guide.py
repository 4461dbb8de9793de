# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Play a guide: run every code block of a page of docs/guides, in the current folder, and compare what it prints.

    python tests/play_guide.py docs/guides/use.md [--all]

`python` blocks share one namespace, `bash` blocks run in the same folder in between, in the order of the page. A comment
behind a `print(...)` is what it prints, and a `text` block right below a block is all that the block prints, with what
it says on stderr where the guide shows that (`...` stands for anything); both are compared. What small stand-ins of the models cannot reproduce is marked in the guide:

    <!-- needs: peft, transformers>=5.20 -->    near the top: packages without which the guide is skipped
    <!-- output not compared -->                above a block: it runs, and what it prints is not looked at

With `--all` those are compared too: for a folder that holds the models themselves.
"""

import ast
import atexit
import contextlib
import gc
import io
import linecache
import re
import subprocess
import sys
import tokenize
import traceback
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

RUN, SHOWN = ("python", "bash"), ("console", "mermaid", "text", "yaml")


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
    comments = [token for token in tokens if token.type == tokenize.COMMENT and token.start[0] in ends]
    return {ends[token.start[0]]: token.string[1:].strip() for token in comments}


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
        exec(code, names)  # noqa: S102  (what a player is for)
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
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0 if words else 2
    path = Path(words[0]).resolve()
    gc.disable()  # as in train/processes/imports.py: what a guide imports is most of what it makes
    atexit.register(gc.freeze)
    sys.path[0] = ""  # as in a script of the reader's own, not the folder of the tests
    try:
        play(path, "--all" in words)
    except GuideError as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException as error:  # noqa: BLE001  (a guide may raise anything, and leave by sys.exit)
        traceback.print_exc()
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = lines[-1] if lines else getattr(error, "lineno", "?")
        print(f"{path}:{line}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
