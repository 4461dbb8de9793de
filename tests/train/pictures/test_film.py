"""The film of a run: which evaluations are shown, and each map in its place."""

import json

import matplotlib.image
import pytest
import torch

from modeling_vanilla.look.view import Map, View
from modeling_vanilla.look.writing import as_json
from train import files
from train.errors import UserError
from train.pictures import film


@pytest.fixture
def run(tmp_path):
    """Write three maps of two heads: all on the first column, then on the second, then on the third."""
    (tmp_path / files.MAPS).mkdir()
    for number in range(3):
        weights = torch.zeros(1, 2, 4, 3)
        weights[..., number] = 1.0
        hidden = torch.zeros(4, 3, dtype=torch.bool)
        seen = Map("cross", ["2", "일", "</s>", "d"], ["a", "b", "</s>"], list("wxyz"), [1], [0, 1], weights, hidden)
        text = as_json(View("run", "Model", "ab", None, [seen]))
        (tmp_path / files.MAPS / f"step-{number + 1:08d}.json").write_text(text, "utf-8")
    return tmp_path


def test_a_map_for_each_evaluation_and_head_side_by_side(run):
    """All that is dark moves one cell to the right from map to map, as the weights do."""
    picture = matplotlib.image.imread(film.of_run(run))[..., :3]
    blue = (picture[..., 2] - picture[..., 0] > 0.3).sum(0) > 2 * 4 * 15  # two heads of four cells of 19 pixels
    left, right = ([at for at in range(1, len(blue)) if blue[at] and not blue[at + step]] for step in (-1, 1))
    assert len(left) == len(right) == 3
    cells = [end - begin + 1 for begin, end in zip(left, right, strict=True)]
    assert max(cells) - min(cells) <= 2
    assert abs((left[2] - left[1]) - (left[1] - left[0])) <= 2
    assert left[1] - left[0] > 4 * min(cells), "a map of three cells, the room between, and one cell"


def test_all_evaluations_or_ten_of_them(run):
    assert film.frames(3) == [0, 1, 2]
    assert film.frames(100) == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert film.frames(11)[0::9] == [0, 10]


@pytest.mark.parametrize("content", ["{}", '{"maps": []}', '{"maps": [{"weights": [[1.0]], "heads": [0]}]}', "[]"])
def test_a_map_that_is_none(run, content):
    path = run / files.MAPS / "step-00000002.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=r"step-00000002.json: must be a view"):
        film.of_run(run)


def test_a_folder_without_maps(tmp_path):
    with pytest.raises(UserError, match="has no maps"):
        film.of_run(tmp_path)


def test_a_file_that_is_no_json(run):
    (run / files.MAPS / "step-00000001.json").write_text(json.dumps({"maps": 3})[:-1], "utf-8")
    with pytest.raises(UserError, match=r"step-00000001.json:1"):
        film.of_run(run)
