"""`python -m train hub-check`: does a folder, or a repository of the Hub, work for a stranger? Publishing asks this first.

What is looked at without running anything is in `hub_check_files`, `hub_check_code` and `hub_check_card`; a process that does
not know this project then uses the folder, see `hub_check_stranger`.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train import files, hub_check_card, hub_check_code, hub_check_files, hub_fetch
from train.errors import UserError
from train.hub import releases


@dataclass(frozen=True)
class Finding:
    """One line of a report: the name of a check, whether it passed, and what was seen (file, field, rule)."""

    name: str
    passed: bool
    detail: str


@dataclass
class Report:
    """What was found in a folder.

    Attributes:
        findings: in the order of the checks; a check that fails has one for each fault.
    """

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
        found = []
        try:
            for problem in problems:
                found.append(" ".join(problem.split()))
        except Exception as error:  # noqa: BLE001 - a folder may hold anything, a list where a table belongs
            found.append(_unforeseen(error))
        self.findings += [Finding(name, False, problem) for problem in found] or [Finding(name, True, seen)]

    def __str__(self) -> str:
        """Return the report as a table for people."""
        width = max([len(finding.name) for finding in self.findings], default=0)
        lines = [f"{f.name:<{width}}  {'pass' if f.passed else 'FAIL'}  {f.detail}" for f in self.findings]
        failed = len(self.problems)
        return "\n".join([*lines, "", f"{len(self.findings) - failed} passed, {failed} failed"])


def check(place: str, revision: str | None = None, trust_remote_code: bool = False) -> Report:
    """Check a folder, or a repository of the Hub at the commit that a revision means now.

    Args:
        place: a folder, or user/name.
        revision: branch, tag or commit of a repository; None = its main branch.
        trust_remote_code: run code that is not, byte for byte, that of the installed package.

    Raises:
        UserError: there is nothing to check.
    """
    commit = hub_fetch.commit_at(place, revision)
    if commit is None:
        _refuse_run(Path(place))
        return check_folder(Path(place), trust_remote_code)
    print(f"{place} at commit {commit}", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as empty:
        folder = hub_fetch.folder(place, commit, Path(empty) / "repository")
        return check_folder(folder, trust_remote_code, hub_fetch.listing(place, commit))


def _refuse_run(folder: Path) -> None:
    """Send whoever points at a run to what is published of it.

    Raises:
        UserError: the folder is a run.
    """
    if (folder / "recipe.yaml").is_file() and not (folder / "config.json").is_file():
        command = f"python -m train publish {folder} --repo-id USER/NAME --dry-run"
        raise UserError(
            f"{folder}: a run, not what is published of it: `{command}` writes and checks {folder / 'hub'}"
        )


def check_folder(
    folder: Path, trust_remote_code: bool = False, listing: dict[str, dict[str, Any]] | None = None
) -> Report:
    """Check that a stranger can load, use, fine-tune and trust a folder.

    Args:
        folder: all files of a repository.
        trust_remote_code: run code that is not, byte for byte, that of the installed package or of a known release.
        listing: what the Hub says of the files, see `hub_fetch.listing`; None = the folder's manifest.json, if it has one.

    Returns:
        The report; a fault of the folder is a finding in it, never an exception.
    """
    from train import hub_check_stranger as use  # here: it needs transformers, which takes seconds

    folder, report = Path(folder), Report()
    own = use.own_class(files.read_object(folder / "config.json"))
    report.add("files", hub_check_files.file_problems(folder, own), "complete, and only kinds that run nothing")
    report.add("no pickle", hub_check_files.pickle_problems(folder), "no file is one, by name or by content")
    report.add("weights", hub_check_files.weight_problems(folder), "safetensors as long as announced, all finite")
    compared = "as the Hub lists them" if listing is not None else "as in manifest.json, where there is one"
    report.add("sizes, hashes", hub_check_files.listing_problems(folder, listing), compared)
    report.add("auto_map", hub_check_code.auto_map_problems(folder), "every class that config.json names is there")
    report.add("imports", hub_check_code.import_problems(folder), "neighbours, torch, transformers, standard library")
    report.add("trust", hub_check_code.trust_problems(folder), "the tokenizer needs no code")
    unfit = report.failed
    report.add("card", hub_check_card.card_problems(folder), "front matter, links and pictures")
    traced = "those of results.json; its receipts are of these files"
    traced = traced if (folder / "results.json").is_file() else "there is no results.json to compare with"
    report.add("figures", hub_check_card.figure_problems(folder), traced)
    report.add("release", releases.problems(folder), releases.note_on(folder))
    foreign = use.foreign_code(folder)
    if unfit:
        report.add("use", ["left out, nothing of the folder runs before its files and its code are in order"], "")
    elif foreign and not trust_remote_code:
        rule = "not the code of the installed package or of a known release; read it, then run it with --trust-remote-code"
        report.add("use", [f"{', '.join(foreign)}: {rule}"], "")
    else:
        tag, text = hub_check_card.front_matter(folder).get("pipeline_tag"), hub_check_card.sample_text(folder)
        try:
            for name, passed, detail in use.findings(folder, tag, text):
                report.add(name, [] if passed else [detail], detail)
        except Exception as error:  # noqa: BLE001 - as above
            report.add("use", [_unforeseen(error)], "")
    return report


def _unforeseen(error: Exception) -> str:
    """Return an error that no check expected, as a fault of what was looked at."""
    return " ".join(f"cannot be looked at: {type(error).__name__}: {error}".split())
