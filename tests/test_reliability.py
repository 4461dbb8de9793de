"""The table of faults names tests that exist, and every case once."""

import re
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
LINK = re.compile(r"\[(test_\w+)\]\(([^)]+\.py)\)")


def test_every_test_named_in_the_table_exists():
    links = LINK.findall(TABLE.read_text(encoding="utf-8"))
    assert len(links) > 60
    for name, target in links:
        source = (TABLE.parent / target).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{target} has no {name}"


def test_every_case_has_one_row():
    rows = re.findall(r"^\| ([NICDAH]\d+) \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    counts = {"N": 16, "I": 24, "C": 30, "D": 13, "A": 13, "H": 21}
    assert rows == [f"{letter}{number}" for letter, count in counts.items() for number in range(1, count + 1)]
