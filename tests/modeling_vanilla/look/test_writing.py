# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Files: the kind that the name promises, whole or not at all."""

import json
import math
from dataclasses import fields

import pytest
import torch
from small_models import view_of

from modeling_vanilla.look import as_json, write, writing
from modeling_vanilla.look.view import Numbers, Step, View


@pytest.fixture
def view() -> View:
    """Return a view with everything in it but a search."""
    weights = torch.softmax(torch.randn(2, 3, 4, 5), -1)
    numbers = Numbers("cross", 0, 1, torch.randn(4, 7), torch.randn(5, 7), torch.randn(5, 6), 0.3, torch.randn(4, 5))
    step = Step("b", ["b", "c"], [1.5, 0.25], [-math.inf] * 9)
    return view_of([*"abcd"], [*"efghi"], weights, numbers=[numbers], steps=[step], exact=[("cross", 1, 2)])


def test_json_holds_what_the_view_holds(view):
    read = json.loads(as_json(view))
    assert set(read) == {field.name for field in fields(View)}
    (seen,) = read["maps"]
    torch.testing.assert_close(torch.tensor(seen["weights"]), view.maps[0].weights, atol=0, rtol=1e-5)
    torch.testing.assert_close(torch.tensor(read["numbers"][0]["values"]), view.numbers[0].values, atol=0, rtol=1e-5)
    assert (seen["rows"], seen["hidden"][0]) == ([*"abcd"], [False] * 5)
    assert (read["exact"], read["steps"][0]["rest"]) == ([["cross", 1, 2]], [None] * 9)


@pytest.mark.parametrize("ending,start", [(".png", b"\x89PNG"), (".PDF", b"%PDF"), (".svg", b"<svg"), (".json", b"{")])
def test_the_ending_decides(view, tmp_path, ending, start):
    path = tmp_path / "new" / f"view{ending}"
    assert write(view, path) == path
    assert path.read_bytes().startswith(start)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["view", "view.jpg", "view.html.gz"])
def test_another_ending_is_refused(view, tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name}: must end in \.html, \.png, \.svg, \.pdf, \.json"):
        write(view, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_stays(view, tmp_path, monkeypatch):
    (tmp_path / "view.json").write_text("before")

    def broken(_, path):
        path.write_text("half")
        raise RuntimeError("broken")

    monkeypatch.setitem(writing.WRITERS, ".json", broken)
    with pytest.raises(RuntimeError, match="broken"):
        write(view, tmp_path / "view.json")
    monkeypatch.undo()
    monkeypatch.setattr(writing, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="choose layers, heads or a kind"):
        write(view, tmp_path / "view.json")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("view.json", "before")]


def test_a_link_of_that_name_is_replaced_and_not_followed(view, tmp_path):
    (tmp_path / "other").write_text("other")
    (tmp_path / "view.json").symlink_to(tmp_path / "other")
    write(view, tmp_path / "view.json")
    assert (tmp_path / "other").read_text() == "other"
    assert not (tmp_path / "view.json").is_symlink()
