"""Command line: `python -m tokenizer build --kind bpe --vocab-size 8000 --template seq2seq --output DIR FILES...`."""

import argparse
import gc
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from transformers import PreTrainedTokenizerFast

from tokenizer.build import build, check_output, save
from tokenizer.special import FORMS, KINDS, TEMPLATES
from tokenizer.texts import check_file, read_texts

MOST_SHOWN = 2000
"""Characters of a message; it may quote what is a whole file."""


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m tokenizer", description="Build a tokenizer from text files.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("build", help="build a tokenizer and save it")
    command.add_argument("files", nargs="+", metavar="FILE", help="text (one per line), .tsv or .csv; .gz too")
    command.add_argument("--kind", choices=KINDS, default="bpe", help="default: %(default)s")
    command.add_argument("--vocab-size", type=int, default=8000, help="most tokens, special ones included")
    command.add_argument("--template", choices=list(TEMPLATES), required=True, help="what goes around a text")
    command.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder")
    command.add_argument("--column", action="append", default=[], metavar="COLUMN", help="of a table; may be repeated")
    command.add_argument("--lowercase", action="store_true", help="fold case")
    command.add_argument(
        "--normalize",
        choices=list(FORMS),
        help="form of Unicode; default: nfc, for byte_bpe none (the text as it stands)",
    )
    command.add_argument("--min-frequency", type=int, default=2, help="merge only what occurs so often")
    command.add_argument(
        "--add-prefix-space", action="store_true", help="for byte_bpe and char: texts begin with a space"
    )
    command.add_argument("--max-length", type=int, default=None, help="model_max_length, in tokens")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 for what the user can put right."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that cannot print a character shows its escape
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    try:
        _build(args)
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split())
        line = line if len(line) <= MOST_SHOWN else f"{line[: MOST_SHOWN // 2]} ... {line[-MOST_SHOWN // 2 :]}"
        print(f"python -m tokenizer: error: {line}", file=sys.stderr)
        return 2
    return 0


def _build(args: argparse.Namespace) -> None:
    output = Path(args.output)
    check_output(output)
    for path in args.files:
        check_file(Path(path), args.column)
    first: list[str] = []
    tokenizer = build(
        args.kind,
        _remember(read_texts(args.files, args.column, keep_newlines=args.kind == "char"), first),
        args.vocab_size,
        args.template,
        lowercase=args.lowercase,
        normalize=args.normalize,
        min_frequency=args.min_frequency,
        add_prefix_space=args.add_prefix_space,
        show_progress=not args.quiet,
        model_max_length=args.max_length,
    )
    save(tokenizer, output)
    print(_summary(tokenizer, args, output, first[0].strip()))


def _remember(texts: Iterator[str], first: list[str]) -> Iterator[str]:
    """Pass the texts on and keep the first that is not blank, as a sample."""
    for text in texts:
        if not first and text.strip():
            first.append(text)
        yield text


def _summary(tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace, output: Path, sample: str) -> str:
    sample = sample[:200]
    ids = tokenizer(sample, split_special_tokens=True)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    back = tokenizer.decode(ids, skip_special_tokens=True)
    verdict = "the same" if back == sample else "not the same"
    fewer = "" if len(tokenizer) == args.vocab_size else f" (the texts give no more of the {args.vocab_size} allowed)"
    return "\n".join(
        [
            f"{args.kind} tokenizer, {len(tokenizer)} tokens{fewer}, template {args.template}, saved in {output}",
            f"sample:  {sample!r}",
            f"tokens:  {len(ids)}: {' '.join(map(repr, tokens[:24]))}{' ...' if len(tokens) > 24 else ''}",
            f"decoded: {back!r} ({verdict})",
        ]
    )


if __name__ == "__main__":
    gc.freeze()  # what is imported stays: no search for garbage there, above all not at the end
    sys.exit(main())
