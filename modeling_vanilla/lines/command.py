# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla translate`, `generate`, `fill`, `classify`: a line in, a line out, in their order."""

import contextlib
import json
import logging as std_logging
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from transformers import AutoConfig, set_seed
from transformers import pipeline as make_pipeline
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging

from .. import pipeline_text2text
from ..configuration_vanilla import VERSION
from ..convert.folders import complete_folder
from ..file_checks import check_tokenizer
from ..pipeline_calls import longest_input
from . import writing
from .reading import count_and_hash, hash_of_files, lines, name_of, windows
from .tasks import Answer, Classify, Fill, Generate, Task, Translate, plain

DTYPES = ("float32", "bfloat16", "float16")
# Options that change no text, but for rounding: a run may go on with others.
FREE = ("model", "file", "output", "resume", "batch_size", "device", "quiet", "trust_remote_code")
INTERRUPTED = 130  # as a shell reports a process that Ctrl-C ended


def command(task: Task) -> Callable[[ArgumentParser, Sequence[str]], int]:
    """Return the function of one word of the command line."""

    def run(parser: ArgumentParser, words: Sequence[str]) -> int:
        options = _parsed(task, parser, words)
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        teller = std_logging.getLogger(pipeline_text2text.__name__)  # of single texts; here their number is told
        teller.disabled = True
        try:
            return _run(task, options)
        finally:
            logging.set_verbosity(verbosity)
            teller.disabled = False

    return run


translate, generate, fill, classify = (command(task) for task in (Translate(), Generate(), Fill(), Classify()))


@dataclass
class Count:
    """What has been seen, for the last line on the screen."""

    lines: int = 0
    tokens: int = 0
    long: int = 0
    unknown: int = 0
    since: float = field(default_factory=time.perf_counter)

    def told(self, limit: int | None, way: str) -> str:
        """Return it in words."""
        seconds = time.perf_counter() - self.since
        rates = f"{self.lines / seconds:,.1f} lines/s, {self.tokens / seconds:,.0f} tokens read/s"
        told = [f"{self.lines:,} lines in {seconds:,.1f} s: {rates}"]
        if self.long:
            done = {"split": "translated in sentences", "cut": "cut off"}[way]
            told.append(f"longer than the {limit} tokens that the model reads, and {done}: {self.long:,}")
        if self.unknown:
            told.append(f"with tokens that are unknown to the model: {self.unknown:,}")
        return "\n".join(told)


def _run(task: Task, options: Namespace) -> int:
    """Load the model, answer all lines, and tell how fast."""
    pipe, files = _loaded(task, options)
    total, content = count_and_hash(options.file) if options.file and options.file.is_file() else (None, "")
    if getattr(options, "sample", False):
        set_seed(options.seed)
    count = Count()
    try:
        with _written(options, content, files) as (file, done), _bar(options, total, done) as bar:
            for rows in _rows(task, pipe, options, count, done, bar):
                writing.write(file, rows)
    except BrokenPipeError:  # who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except torch.OutOfMemoryError as error:
        raise ValueError(f"--batch-size: {options.batch_size} lines at once need more memory than there is") from error
    except KeyboardInterrupt:
        resumes = "; --resume goes on" if options.output is not None else ""
        print(f"modeling_vanilla: interrupted{resumes}", file=sys.stderr)
        return INTERRUPTED
    if not options.quiet:
        print(count.told(longest_input(pipe.model, pipe.tokenizer), options.long), file=sys.stderr)
    return 0


def _rows(task: Task, pipe: Any, options: Namespace, count: Count, done: int, bar: Any) -> Iterator[list[str]]:
    """Yield what is written for each window of lines behind the first `done`."""
    number = done
    for window in windows(lines(options.file, done)):
        lengths = _measured(task, pipe, window, number, options, count)
        results = _answered(task, pipe, window, lengths, options, bar)
        number, count.lines = number + len(window), count.lines + len(window)
        yield [row for text, answers in zip(window, results, strict=True) for row in _shown(text, answers, options)]


def _loaded(task: Task, options: Namespace) -> tuple[Any, list[Path]]:
    """Return the pipeline, and the files that decide over what it answers.

    Raises:
        ValueError: No such model, an incomplete folder, another head, a device that is not there.
    """
    folder = complete_folder(options.model, lambda config: None)
    source = str(folder) if Path(options.model).exists() else options.model
    trust = {"trust_remote_code": options.trust_remote_code}
    pipeline: Any = make_pipeline  # its types know the tasks of transformers alone
    try:
        check_tokenizer(get_tokenizer_config(source))
        config = AutoConfig.from_pretrained(source, **trust)
        if not task.fits(config):
            names = ", ".join(getattr(config, "architectures", None) or ["no head"])
            raise ValueError(f"{names} is not what {options.command} needs; {task.does}")
        torch.empty(0, device=options.device or "cpu")
        pipe = pipeline(task.pipeline, model=source, device=options.device, dtype=options.dtype or "auto", **trust)
    except (ValueError, OSError, ImportError, RuntimeError, AssertionError) as error:  # torch asserts that it has CUDA
        raise ValueError(f"{options.model}: {error}") from error
    if options.output is None:
        return pipe, []
    return pipe, [path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".model", ".spm")]


@contextlib.contextmanager
def _written(options: Namespace, content: str, files: list[Path]) -> Iterator[tuple[BinaryIO, int]]:
    """Give what is written to, and the number of lines that are answered there already."""
    if options.output is None:
        yield sys.stdout.buffer, 0
        return
    job = {name: value for name, value in vars(options).items() if name not in FREE}
    job |= {"input": content, "model": hash_of_files(files), "modeling_vanilla": VERSION}
    lines_per_text = 1 if options.json else options.n_best
    with writing.to_file(options.output, job, lines_per_text, options.resume) as (file, done):
        yield file, done


def _bar(options: Namespace, total: int | None, done: int) -> Any:
    """Return a progress bar on stderr, which shows nothing where that is no terminal."""
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit=" lines", file=sys.stderr, disable=True if options.quiet else None)


def _measured(task: Task, pipe: Any, window: list[str], first: int, options: Namespace, count: Count) -> list[int]:
    """Return the lengths of texts in tokens, 0 for blank ones, and count what is worth telling.

    Raises:
        ValueError: A line is too long, or is not what the task takes; the message says which.
    """
    limit, unknown = longest_input(pipe.model, pipe.tokenizer), pipe.tokenizer.unk_token_id
    prefix = getattr(pipe, "prefix", None) or ""
    texts = [prefix + text for text in window if text.strip()]
    encoded = iter(pipe.tokenizer(texts, verbose=False)["input_ids"] if texts else ())
    lengths = []
    for number, text in enumerate(window, start=first + 1):
        ids = next(encoded) if text.strip() else []
        lengths.append(len(ids))
        is_long = limit is not None and len(ids) + task.places(options) > limit
        reason = task.wrong(text, pipe.tokenizer) if ids else None
        if is_long and options.long == "refuse":
            reason = f"{len(ids)} tokens, more than the {limit - task.places(options)} that there is room for"
        if reason is not None:
            raise ValueError(f"{name_of(options.file)}, line {number}: {reason}")
        count.tokens, count.long = count.tokens + len(ids), count.long + is_long
        count.unknown += unknown is not None and unknown in ids
    return lengths


def _answered(task: Task, pipe: Any, window: list[str], lengths: list[int], options: Namespace, bar) -> list[list]:
    """Answer texts in batches of like length, and return the answers in the order of the texts."""
    answers: list[list[Answer]] = [[] for _ in window]
    order = sorted((n for n, length in enumerate(lengths) if length), key=lambda n: -lengths[n])
    bar.update(len(window) - len(order))
    settings = task.arguments(options, longest_input(pipe.model, pipe.tokenizer))
    results = pipe((window[n] for n in order), batch_size=options.batch_size, **settings)
    for n, result in zip(order, results, strict=True):
        answers[n] = list(task.answers(result))
        bar.update()
    return answers


def _shown(text: str, answers: list[Answer], options: Namespace) -> list[str]:
    """Return what is written of the answers to one text; a blank text has none, and gets blank lines."""
    if options.json:
        found = [{name: value for name, value in asdict(one).items() if value is not None} for one in answers]
        return [json.dumps({"source": text, "answers": found}, ensure_ascii=False)]
    return plain(answers, options.scores) + [""] * (options.n_best - len(answers))


def _parsed(task: Task, parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    parser.description = f"{task.does} A line in, a line out, in their order; blank lines stay blank."
    parser.epilog = f"example: python -m modeling_vanilla {task.example}"
    parser.add_argument("model", metavar="MODEL", help="a model folder, a run folder (its final/), or a Hub id")
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="UTF-8; default: standard input")
    parser.add_argument("--output", metavar="FILE", type=Path, help="a new file; default: standard output")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted --output, if there is one")
    parser.add_argument("--batch-size", metavar="N", type=int, default=64, help="lines at once; default: 64")
    task.add_options(parser)
    parser.add_argument("--n-best", metavar="N", type=int, default=1, help=f"{task.best}; N lines for each line")
    parser.add_argument("--scores", action="store_true", default=None, help="the score and a tab before each text")
    parser.add_argument("--json", action="store_true", help="a JSON object for each line: source, answers")
    if len(task.ways) > 1:
        shown = ", ".join(task.ways)
        parser.add_argument(
            "--long", choices=task.ways, help=f"a line that is too long: {shown}; default: {task.ways[0]}"
        )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; default: an accelerator if there is one"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; default: that of the folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no rate")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code of the folder; read it first")
    options = parser.parse_args(words)
    options.command = parser.prog.split()[-1]
    options.long = getattr(options, "long", None) or task.ways[0]
    for name in ("batch_size", "n_best"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: {getattr(options, name)} must be at least 1")
    if options.file is not None and not options.file.exists():
        raise ValueError(f"{options.file}: no such file")
    if options.resume and (options.output is None or options.file is None or not options.file.is_file()):
        raise ValueError("--resume: needs a FILE and --output; a pipe cannot be read again")
    if options.resume and getattr(options, "sample", False):
        raise ValueError("--resume and --sample exclude each other: what is drawn depends on where the run began")
    if options.output is not None:
        writing.check(options.output, options.resume)
    task.check(options)
    return options
