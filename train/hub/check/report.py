"""`python -m train hub-check`: does a folder, or a repository of the Hub, work for a stranger? Publishing asks this first.

`files.py`, `code.py` and `card.py` look without running anything; a process that does not know this project then uses the
folder, see `use.py`.
"""

import itertools
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train import files
from train.errors import UserError, plain
from train.hub import fetch, releases
from train.hub.check import card, code
from train.hub.check.confine import Deadline, OutOfTimeError
from train.hub.check.files import file_problems, listing_problems, pickle_problems, weight_problems
from train.hub.check.listing import MOST_FILES, entry_problems
from train.hub.check.mechanisms import mechanism_problems

SECONDS = 1800  # for all that is done with a folder
MOST_FOUND, MOST_SHOWN = 100, 1000  # faults of one check, and characters of each
MOST_ANSWERS = 1000  # findings of the processes that use a folder
NO_CODE = "none, nor a field that loads any"


@dataclass(frozen=True)
class Finding:
    """One line of a report: the name of a check, whether it passed, and what was seen (file, field, rule)."""

    name: str
    passed: bool
    detail: str


@dataclass
class Report:
    """What was found in a folder."""

    # In the order of the checks; a check that fails has one for each fault.
    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Say whether anything failed; a report without findings has not shown anything, so it failed too."""
        return not self.findings or not all(finding.passed for finding in self.findings)

    @property
    def problems(self) -> list[str]:
        """Return what failed, one line each."""
        return [f"{finding.name}: {finding.detail}" for finding in self.findings if not finding.passed]

    def add(self, name: str, problems: Iterable[str], seen: str) -> None:
        """Take in a check: what it yields are its faults; `seen` says what was looked at where there is none."""
        faults = []
        try:
            for problem in itertools.islice(problems, MOST_FOUND):
                faults.append(_shown(problem))
        except Exception as error:  # noqa: BLE001 - a folder may hold anything, a list where a table belongs
            faults.append(_unforeseen(error))
        name = _shown(name)
        self.findings += [Finding(name, False, problem) for problem in faults] or [Finding(name, True, _shown(seen))]

    def __str__(self) -> str:
        """Return the report as a table for people."""
        width = max([len(finding.name) for finding in self.findings], default=0)
        lines = [f"{f.name:<{width}}  {'pass' if f.passed else 'FAIL'}  {f.detail}" for f in self.findings]
        failed = len(self.problems)
        return "\n".join([*lines, "", f"{len(self.findings) - failed} passed, {failed} failed"])


def check(folder_or_id: str, revision: str | None = None, trust_remote_code: bool = False) -> Report:
    """Check a folder, or a repository of the Hub at the commit that a revision means now.

    Args:
        folder_or_id: a folder, or user/name.
        revision: branch, tag or commit of a repository; None = its main branch.
        trust_remote_code: run code that is not, byte for byte, that of the installed package.

    Raises:
        UserError: there is nothing to check.
    """
    commit = fetch.commit_at(folder_or_id, revision)
    if commit is None:
        _refuse_run(Path(folder_or_id))
        return check_folder(Path(folder_or_id), trust_remote_code)
    print(f"{folder_or_id} at commit {commit}", flush=True)
    listing = fetch.listing(folder_or_id, commit)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
        refuse_number(folder_or_id, listing)
        folder = fetch.folder(folder_or_id, commit, Path(empty) / "repository", listing)
        return check_folder(folder, trust_remote_code, listing)


def refuse_number(repo_id: str, listing: dict[str, dict[str, Any]]) -> None:
    """Raise a UserError for a repository of more files than are checked, before anything of it is fetched."""
    if len(listing) > MOST_FILES:
        raise UserError(f"{repo_id}: has {len(listing):,} files, at most {MOST_FILES:,} are checked")


def _refuse_run(folder: Path) -> None:
    """Raise a UserError for a run: what is published of it is in a folder of its own."""
    if (folder / files.RECIPE).is_file() and not (folder / files.CONFIG).is_file():
        command = f"python -m train publish {folder} --repo-id USER/NAME --dry-run"
        raise UserError(
            f"{folder}: a run, not what is published of it: `{command}` writes and checks {folder / files.HUB}"
        )


def check_folder(
    folder: Path, trust_remote_code: bool = False, listing: dict[str, dict[str, Any]] | None = None
) -> Report:
    """Check that a stranger can load, use, fine-tune and trust a folder.

    Args:
        folder: all files of a repository.
        trust_remote_code: run code that is not, byte for byte, that of the installed package or of a known release.
        listing: what the Hub says of the files, see `fetch.listing`; None = the folder's manifest.json, if it has one.

    Returns:
        The report; a fault of the folder is a finding in it, never an exception.
    """
    folder, report, deadline = Path(folder), Report(), Deadline(SECONDS)
    try:
        with deadline.alarm():
            _check_all(folder, report, trust_remote_code, listing, deadline)
    except OutOfTimeError as error:
        report.add("time", [str(error)], "")
    return report


def _check_all(
    folder: Path,
    report: Report,
    trust_remote_code: bool,
    listing: dict[str, dict[str, Any]] | None,
    deadline: Deadline,
) -> None:
    """Read the folder, and use it where nothing that was read forbids that."""
    report.add("entries", entry_problems(folder), "files of their own, each of a size that can be read")
    if report.failed:
        report.add("use", ["left out, nothing of the folder is opened before its entries are in order"], "")
        return
    from train.hub.check import use  # here: it needs transformers, which takes seconds

    auto_class = use.own_class(files.read_object(folder / files.CONFIG))
    report.add("files", file_problems(folder, auto_class), "complete, and only kinds that run nothing")
    report.add("no pickle", pickle_problems(folder), "no file is one, by name or by content")
    report.add("weights", weight_problems(folder), "safetensors as long as announced, all finite")
    compared = "as the Hub lists them" if listing is not None else "as in manifest.json, where there is one"
    report.add("sizes, hashes", listing_problems(folder, listing), compared)
    report.add("auto_map", code.auto_map_problems(folder), "every class that config.json names is there")
    report.add("imports", code.import_problems(folder), "neighbours, torch, transformers, standard library")
    report.add("trust", code.trust_problems(folder), "the tokenizer needs no code")
    is_unfit = report.failed
    report.add("card", card.card_problems(folder), "front matter, links and pictures")
    traced = "those of results.json; what it has the sha256 of is what is here, weights above all"
    traced = traced if (folder / files.RESULTS).is_file() else "there is no results.json to compare with"
    report.add("figures", card.figure_problems(folder), traced)
    report.add("release", releases.problems(folder), releases.note_on(folder))
    try:
        _use(folder, report, is_unfit, trust_remote_code, deadline)
    except Exception as error:  # noqa: BLE001 - as above
        report.add("use", [_unforeseen(error)], "")


def _use(folder: Path, report: Report, is_unfit: bool, trust_remote_code: bool, deadline: Deadline) -> None:
    """Let a stranger use the folder, unless that would run code that is not known."""
    from train.hub.check import use

    foreign = use.foreign_code(folder)
    runs = [f"{', '.join(foreign)}: not the code of the installed package or of a known release"] if foreign else []
    runs += mechanism_problems(folder)
    if trust_remote_code or not runs:
        report.add("foreign code", [], f"trusted: {'; '.join(runs)}" if runs else NO_CODE)
    if is_unfit:
        report.add("use", ["left out, nothing of the folder runs before its files and its code are in order"], "")
    elif runs and not trust_remote_code:
        report.add("use", [f"{one}; read it, then run it with --trust-remote-code" for one in runs], "")
    else:
        tag, text = card.front_matter(folder).get("pipeline_tag"), card.sample_text(folder)
        for name, passed, detail in itertools.islice(use.findings(folder, tag, text, deadline), MOST_ANSWERS):
            report.add(name, [] if passed else [detail], detail)


def _shown(text: str) -> str:
    """Return a text of a folder on one line, such that a terminal only shows it."""
    line = plain(" ".join(str(text).split()))
    return line if len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]} ..."


def _unforeseen(error: Exception) -> str:
    """Return an error that no check expected, as a fault of what was looked at."""
    return _shown(f"cannot be looked at: {type(error).__name__}: {error}")
