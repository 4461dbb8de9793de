"""The file of a picture: a PNG that a reader sees either as it was or complete."""

from pathlib import Path

from matplotlib.figure import Figure

from modeling_vanilla.look import fonts
from train import files
from train.errors import UserError


def require(output: str | Path) -> None:
    """Refuse a name that promises another kind of picture.

    Raises:
        UserError: it does not end in .png.
    """
    if Path(output).suffix.lower() != ".png":
        raise UserError(f"--output: {output}: must end in .png, the only kind of picture that is written")


def save(figure: Figure, output: Path) -> Path:
    """Write a figure; a character that no font has would be a box, so it is an error here."""
    picture = fonts.rendered(figure)
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(output, picture)
    return output
