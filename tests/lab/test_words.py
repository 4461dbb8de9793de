"""The words lab: neighbours, plane and rotation against what their definitions say; the corpora."""

import argparse
import gzip

import pytest
import torch

from lab import corpora, words
from modeling_vanilla.losses import IGNORE


@pytest.fixture(scope="module")
def texts():
    return corpora.sentences("dates", 300)


@pytest.fixture(scope="module")
def vocabulary(texts):
    return corpora.Vocabulary(texts, 500, least=1)


@pytest.fixture(scope="module")
def trained(texts, vocabulary):
    return [words.train_one(vocabulary.encode(texts), len(vocabulary), seed, 3) for seed in (0, 1)]


def test_dates_are_words_of_both_languages(texts):
    row = next(row for row in texts if "=" in row and row[-1].endswith("요일"))
    assert row[row.index("=") + 1].endswith("년")


def test_a_vocabulary_numbers_words_by_frequency_and_pads():
    vocabulary = corpora.Vocabulary([["b", "a", "b"], ["c", "b", "a"]], 2, least=2)
    assert vocabulary.encode([["b", "a", "c"], ["a"]]).tolist() == [[3, 4, 1], [4, 0, 0]]


def test_hidden_words_are_labelled_and_no_others(texts, vocabulary):
    ids = vocabulary.encode(texts)
    given, labels = next(corpora.hidden_words(ids, 0, 64))
    hidden = given.eq(corpora.MASK)
    assert torch.equal(hidden, labels.ne(IGNORE))
    assert not (labels == corpora.PAD).any()
    assert 0.15 < hidden.sum() / given.ne(corpora.PAD).sum() < 0.35


def test_neighbours_are_those_of_the_largest_cosine():
    matrix = torch.randn(11, 5, dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(matrix[7], matrix, dim=-1).tolist()
    expected = sorted((number for number in range(3, 11) if number != 7), key=lambda number: -cosine[number])
    assert words.neighbours(matrix, 7, 4) == expected[:4]


def test_the_plane_is_that_of_the_largest_variance():
    torch.manual_seed(0)
    matrix = torch.randn(40, 6, dtype=torch.float64) * torch.tensor([1, 9, 2, 1, 5, 1])
    points, shares = words.plane(matrix)
    values = torch.linalg.eigvalsh(torch.cov(matrix.T)).flip(0)
    torch.testing.assert_close(points.var(0), values[:2])
    torch.testing.assert_close(shares, values[:2] / values.sum())


def test_the_same_month_in_any_spelling_is_a_hit():
    matrix = torch.eye(8)
    matrix[3, 4] = matrix[4, 3] = 0.9  # rows 3 and 4 are close
    matrix[5, 4] = matrix[6, 3] = 0.3  # 4 is the nearest of 5, 3 of 6
    assert words.hits(matrix, [[3, 4], [5]]) == (1.0, 1.0)
    assert words.hits(matrix, [[3, 5], [4, 6]]) == (0.0, 1.0)


def test_names_of_months_come_in_all_spellings():
    months = words.date_names("months")
    assert set(months[1]) == {"January", "january", "JANUARY", "Jan", "jan", "JAN"}
    assert len(months[5]) == 3  # May has no shorter form


def test_rotated_queries_and_keys_give_the_same_logits_and_queries_alone_do_not(trained, texts, vocabulary):
    model = trained[0].model.double().eval()
    ids = vocabulary.encode(texts[:3])
    rotation = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0]
    with torch.no_grad():
        logits = model(ids).logits
        torch.testing.assert_close(words.rotated(model, rotation, ("q_proj", "k_proj"))(ids).logits, logits)
        assert (words.rotated(model, rotation, ("q_proj",))(ids).logits - logits).abs().max() > 1e-3
    trained[0].model.float()


def test_roles_are_read_from_iso_dates_alone():
    examples = words.role_sentences(200)
    for row, place, role in examples:
        assert (row[place - 1], row[place - 3]) == ("-", row[place - 3])
        year = place - (2 if role == "month" else 4)
        assert row[year].isdigit() and len(row[year]) == 4
    assert {role for *_, role in examples} == {"month", "day"}


def test_tables_and_conclusion_hold_a_number_for_each_seed(trained, texts, vocabulary):
    ids = vocabulary.encode(texts)
    groups = words.groups_of("dates", vocabulary)
    tables = [words.groups_table(trained, vocabulary, groups), words.rotation_table(trained, ids[:3])]
    tables += [words.contexts_table(trained, ids, 50), words.roles_table(trained, vocabulary)]
    assert all(len(cell) == 2 for table in tables for row in table.rows for cell in row if isinstance(cell, list))
    assert "hidden word" in words.conclusion("dates", tables, trained)
    colours = words.drawn_words("dates", trained[0].after, vocabulary, words.shown_words("dates", vocabulary))
    assert (colours["June"], colours["Sunday"]) == ("C0", "C1")
    assert words.figure(trained[0], vocabulary, colours) is not None


def test_words_of_a_corpus_are_drawn_beside_their_neighbours(trained, vocabulary):
    colours = words.drawn_words("multi30k", trained[0].after, vocabulary, ["Friday"])
    near = words.neighbours(trained[0].after, vocabulary.ids["Friday"], 3)
    assert list(colours) == ["Friday", *(vocabulary.words[number - corpora.FIRST] for number in near)]


def test_a_corpus_that_is_missing_names_the_line_that_fetches_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"data/nsmc/ratings_train.txt.gz is missing; .* curl .*ratings_train.txt"):
        words.run(argparse.Namespace(data="nsmc", quick=True, seeds=1))


def test_a_corpus_is_read_by_its_column(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/nsmc").mkdir(parents=True)
    with gzip.open("data/nsmc/ratings_train.txt.gz", "wt", encoding="utf-8") as file:
        file.write("id\tdocument\tlabel\n1\t정말 좋은 영화!\t1\n2\t\t0\n3\t별로\t0\n")
    assert corpora.sentences("nsmc", 10) == [["정말", "좋은", "영화", "!"]]
