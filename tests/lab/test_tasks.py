"""The ladder's tasks: groups by length, padding, and Multi30k from a folder."""

import gzip

import pytest
import torch

from lab import made, tasks
from lab.rungs import greedy


def test_made_groups_have_their_length_and_no_row_of_the_training():
    task = tasks.task_of("reverse", None)
    for group, [(source, target)] in task.groups.items():
        assert source.shape == (200, int(group) + 1) and target.shape == (200, int(group) + 2)
    longest = max(next(task.batches(seed))[0].shape[1] for seed in range(30))
    assert task.beyond == {"20"} and longest <= 17


def test_groups_hold_every_pair_once_by_its_length():
    pairs = [([4] * n, [made.START, n]) for n in (3, 9, 1, 5, 5, 7)]
    groups = tasks.grouped(pairs, [len(source) for source, _ in pairs], (0, 4, 6, 6, 99))
    assert {name: sorted(target[:, 1].tolist()) for name, [(_, target)] in groups.items()} == {
        "1 to 3": [1, 3],
        "5 to 5": [5, 5],
        "7 to 9": [7, 9],
    }


def test_shuffled_batches_are_an_epoch_of_rows_of_like_length():
    pairs = [([4 + n] * (1 + n % 5), [made.START, 4 + n]) for n in range(60)]
    rows = tasks.shuffled(pairs, 6, seed=1)
    batches = [next(rows) for _ in range(10)]
    assert sorted(target[row, 1].item() for _, target in batches for row in range(6)) == [4 + n for n in range(60)]
    assert all(source.ne(made.PAD).sum(1).max() - source.ne(made.PAD).sum(1).min() <= 1 for source, _ in batches)
    again = tasks.shuffled(pairs, 6, seed=1)
    assert all(torch.equal(a, b) for batch in batches for a, b in zip(batch, next(again)))


def test_dates_are_ids_of_characters():
    data = tasks.dates_of(train=50, test=5)
    source, target = data.test[0]
    assert len(source) == len(data.texts["test"][0][0]) + 1 and source[-1] == made.END
    assert target[0] == made.START and target[-1] == made.END and len(target) == len(data.texts["test"][1][0]) + 2


def test_multi30k_is_fetched_by_a_line(tmp_path):
    with pytest.raises(ValueError, match=r"train.en.gz is missing; --data names its folder.*curl -fL"):
        tasks.task_of("multi30k", tmp_path)


def test_bleu_of_a_model_that_writes_the_reference(tmp_path, monkeypatch):
    """A folder in the form of Multi30k; what is written as the reference has BLEU 100, the empty text 0."""
    lines = {
        "en": [f"a dog sees {n} cats ." for n in range(30)],
        "de": [f"ein Hund sieht {n} Katzen ." for n in range(30)],
    }
    for name in ("train", "test_2016_flickr"):
        for side, texts in lines.items():
            with gzip.open(tmp_path / f"{name}.{side}.gz", "wt", encoding="utf-8") as stream:
                stream.write("\n".join(texts) + "\n")
    task = tasks.task_of("multi30k", tmp_path)
    [(name, batches)] = task.groups.items()
    assert name == "6 to 6"
    answers = iter([[[i for i in row if i > made.END] for row in target.tolist()] for _, target in batches])
    monkeypatch.setattr(tasks, "greedy", lambda *_: next(answers))
    assert task.score(None, batches) == pytest.approx(100)
    monkeypatch.setattr(tasks, "greedy", lambda _, source, longest: [[]] * len(source))
    assert task.score(None, batches) == 0
    assert greedy is not tasks.greedy
