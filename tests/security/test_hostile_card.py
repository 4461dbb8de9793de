"""A card that somebody else wrote is read in one pass, and its links lead nowhere but into the folder."""

import re
import time

import pytest

from train.hub.check import card, report

CARD = (
    "---\nlicense: apache-2.0\nlibrary_name: transformers\ntags: [vanilla]\npipeline_tag: translation\n---\n# Name\n"
)
SLOW = {
    "links without end": CARD + "](" * 250_000,
    "links with spaces": CARD + ("](" + " " * 20) * 20_000,
    "sources without end": CARD + "src='" * 100_000,
    "code without end": CARD + "```" * 99_999 + "`" * 99_999,
    "empty lines": "---\n" + "\n" * 200_000 + "x",
    "empty lines in front": CARD.replace("# Name", "\n" * 200_000),
    "aliases": "---\na: &a [x, x]\n"
    + "".join(f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}, *a]\n" for i in range(60))
    + "---\n",
    "nested": "---\na: " + "[" * 5_000 + "\n---\n",
    "keys": "---\n" + "? " * 20_000 + "\n---\n",
    "a number in sixties": "---\na: 1" + ":1" * 30_000 + "\n---\n",
    "names of arguments": "---\nself: 1\nignore_metadata_errors: 2\n---\n",
    "results of another type": "---\neval_results: 5\nmodel_name: x\n---\n",
}


@pytest.mark.parametrize("name", SLOW)
def test_a_card_is_read_in_time(folder, used, name):
    (folder / "README.md").write_text(SLOW[name])
    started = time.process_time()
    card.front_matter(folder)
    assert [name for name in report.check_folder(folder).problems if not name.startswith(("card: ", "use: "))] == []
    assert time.process_time() - started < 10


def test_the_links_of_a_card_are_found(folder):
    text = (
        CARD
        + "[a](a.md) ![b]( <b.png> 'title') [c](c.md#part) [d](https://x.org/d) `[e](e.md)` <img src='f.png'> [g](../g)"
    )
    (folder / "README.md").write_text(text)
    found = [re.search("link to ([^,]*),", line)[1] for line in card.card_problems(folder)]
    assert found == ["a.md", "b.png", "c.md", "../g", "f.png"]
