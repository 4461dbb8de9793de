# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A search as text: its tree line by line, and a table of several."""

import json

from modeling_vanilla.look.search import Recorder, Result
from modeling_vanilla.look.search_text import as_json, table, tree


def test_text_of_a_tree(by_hand):
    assert tree(by_hand.close()).splitlines() == [
        "x c [1] -4.00",
        "a  [1] -1.00",
        "  b  [2] -1.50",
        "    .  [3] -3.00  the winner",
        "    !  [3] -9.00  ended, worse than the winner",
        "  .  [2] -2.01  ended, behind the winner by the length penalty alone",
    ]


def test_text_of_a_strangers_labels():
    recorder = Recorder(1, 1.0)
    recorder.end(recorder.add(None, "\x1b[31m\u202e", -1.0))
    assert tree(recorder.close()) == r"\x1b[31m\u202e  [1] -1.00  the winner"


def test_a_long_text_has_a_tree():
    recorder, node = Recorder(1, 1.0), None
    for step in range(5000):
        node = recorder.add(node, "a", -step)
        recorder.add(node, "b", -2 * step) if step % 7 else None
    recorder.end(node)
    assert len(tree(recorder.close()).splitlines()) == 2


def test_table_of_results(by_hand):
    """Scores are divided by the length to the power of the penalty, the reference's by its own length."""
    by_hand.tree.length_penalty = 2.0
    found = by_hand.close()
    results = [Result(found, "ab.", -3.0, 3, -3 / 9, (-5.0, 2), "model error"), Result(found, "ab.", -3.0, 3, -3 / 9)]
    lines = [line.split("  ") for line in table(results).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[1] == ["2", "2", "-3.0000", "3", "-0.3333", "-1.2500", "model error", "ab."]
    assert cells[2] == ["2", "2", "-3.0000", "3", "-0.3333", "ab."]


def test_json_holds_every_node(by_hand):
    found = by_hand.close()
    (content,) = json.loads(as_json([Result(found, "ab.", -3.0, 3, -1.0)]))
    assert [node["fate"] for node in content["search"]["nodes"]] == [node.fate for node in found.nodes]
