"""What a lab ends with: tables, a picture, and one sentence that is computed from the numbers."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
from matplotlib.figure import Figure

Cell = str | int | float | Sequence[float]


@dataclass
class Table:
    """A table; a cell that is a list holds one number for each seed and is shown as mean ± standard deviation."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]

    def markdown(self) -> str:
        """Return it as a table of Markdown, its columns aligned for a terminal too."""
        cells = [self.columns, *([shown(cell) for cell in row] for row in self.rows)]
        cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
        widths = [max(len(row[at]) for row in cells) for at in range(len(self.columns))]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([f"**{self.title}**", "", *lines])


@dataclass
class Outcome:
    """The end of a lab.

    Attributes:
        conclusion: One sentence (or a few), built from the numbers by code, never fixed text.
        figure: A matplotlib figure, or None.
    """

    tables: list[Table]
    conclusion: str
    figure: Figure | None = None
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return what the terminal shows."""
        return "\n\n".join([*(table.markdown() for table in self.tables), *self.notes, self.conclusion])

    def write(self, folder: Path, name: str, settings: dict[str, Any]) -> list[Path]:
        """Write NAME.md, NAME.json and, with a figure, NAME.svg and NAME.png; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{name}.md", folder / f"{name}.json"]
        paths[0].write_text(self.text() + "\n", "utf-8")
        content = {"settings": settings, "tables": [asdict(table) for table in self.tables]}
        content |= {"notes": self.notes, "conclusion": self.conclusion}
        paths[1].write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
        if self.figure:
            # Text stays text: small files, and the browser finds a font for Hangul. No date: the same bytes each time.
            with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
                self.figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            self.figure.savefig(folder / f"{name}.png", dpi=130)
            paths += [folder / f"{name}.svg", folder / f"{name}.png"]
        return paths


def shown(cell: Cell) -> str:
    """Return a cell as text: three significant digits, mean ± standard deviation over seeds."""
    if isinstance(cell, str | int):
        return str(cell)
    if isinstance(cell, float):
        return f"{cell:.3g}"
    numbers = list(cell)
    return f"{mean(numbers):.3g}" + (f" ± {stdev(numbers):.2g}" if len(numbers) > 1 else "")
