"""`python -m train hub-check`: does a Hub repository work for a stranger? Publishing asks this first.

`publish.check` is to become `check_folder`: what it looked for is in `hub_check_code` and below.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from train import hub_check_code


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

    def add(self, name: str, problems: Iterator[str], seen: str) -> None:
        """Take in a check: what it yields are its faults; `seen` says what was looked at where there is none."""
        found = list(problems)
        self.findings += [Finding(name, False, problem) for problem in found] or [Finding(name, True, seen)]

    def __str__(self) -> str:
        """Return the report as a table for people."""
        width = max([len(finding.name) for finding in self.findings], default=0)
        lines = [f"{f.name:<{width}}  {'pass' if f.passed else 'FAIL'}  {f.detail}" for f in self.findings]
        failed = len(self.problems)
        return "\n".join([*lines, "", f"{len(self.findings) - failed} passed, {failed} failed"])


Problems = Callable[[Path], Iterator[str]]


def check_folder(folder: Path) -> Report:
    """Check that a stranger can load, use, fine-tune and trust a folder.

    Returns:
        The report; a fault of the folder is a finding in it, never an exception.
    """
    report, folder = Report(), Path(folder)
    report.add("auto_map", hub_check_code.auto_map_problems(folder), "every class that config.json names is there")
    report.add("imports", hub_check_code.import_problems(folder), "neighbours, torch, transformers, standard library")
    return report
