"""What every lab is asked for, at a size that says nothing but takes no time."""

from argparse import Namespace

import pytest


@pytest.fixture
def smoke(tmp_path):
    """Return a function that runs a lab and writes what it ends with; it returns the outcome."""

    def function(lab, name: str, **options):
        outcome = lab.run(Namespace(**({"seeds": 1, "quick": True} | options)))
        paths = outcome.write(tmp_path, name, {"seeds": 1})
        assert {path.suffix for path in paths} == {".md", ".json", ".svg", ".png"}
        assert (tmp_path / f"{name}.svg").stat().st_size < 100_000
        assert outcome.conclusion in (tmp_path / f"{name}.md").read_text("utf-8")
        assert all(len(row) == len(table.columns) for table in outcome.tables for row in table.rows)
        return outcome

    return function
