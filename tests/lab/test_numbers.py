"""The numbers lab: what the issue of learners' examples states, and an oracle that is not this package's attention."""

import argparse
import math

import pytest
import torch

from lab import numbers, walk


def rounded(tensor: torch.Tensor, digits: int) -> list:
    return [round(number, digits) for number in tensor.flatten().tolist()]


def test_scores_of_the_first_row_are_what_a_hand_computes():
    query, key, _ = numbers.example()
    assert rounded(query[0] @ key.T, 2) == [0.70, 0.80, 0.90, 1.00]


@pytest.mark.parametrize(
    ("scaling", "weights", "output"),
    [
        (1.0, [0.2138, 0.2363, 0.2612, 0.2887], [1.0625, 1.1625, 1.2625, 1.3625]),
        (0.5, [0.2316, 0.2434, 0.2559, 0.2691], [1.0562, 1.1562, 1.2562, 1.3562]),
    ],
)
def test_weights_and_outputs_of_the_first_row(scaling, weights, output):
    given, context = numbers.attend(*numbers.example(), scaling)
    assert rounded(given[0], 4) == weights
    assert rounded(context[0], 4) == output


def test_all_rows_equal_the_exponentials_written_out():
    query, key, value = numbers.example()
    for scaling in (1.0, 0.5):
        weights, context = numbers.attend(query, key, value, scaling)
        for row in range(4):
            powers = [math.exp(scaling * float(query[row] @ key[column])) for column in range(4)]
            by_hand = torch.tensor([power / sum(powers) for power in powers], dtype=torch.float64)
            torch.testing.assert_close(weights[row], by_hand)
            torch.testing.assert_close(context[row], sum(share * vector for share, vector in zip(by_hand, value)))


def test_the_projections_make_those_queries_keys_and_values_and_the_layer_those_outputs():
    embeddings = torch.tensor(numbers.EMBEDDINGS, dtype=torch.float64)
    matrices = numbers.projections()
    assert torch.linalg.matrix_rank(embeddings) == 4  # so they are the only ones
    for matrix, rows in zip(matrices.values(), numbers.example(), strict=True):
        torch.testing.assert_close(embeddings @ matrix, rows)
    output, weights = numbers.layer_of(matrices)(embeddings[None])
    expected_weights, expected_output = numbers.attend(*numbers.example(), 0.5)
    torch.testing.assert_close(weights[0, 0], expected_weights)
    torch.testing.assert_close(output[0], expected_output)


def test_sigmoids_do_not_sum_to_one_and_move_with_a_constant():
    table = numbers.no_softmax_table(torch.tensor([0.7, 0.8, 0.9, 1.0], dtype=torch.float64))
    softmax, sigmoid = table.rows
    assert (softmax[2], sigmoid[2]) == ("1.00", "2.80")
    assert softmax[1] == softmax[3]
    assert sigmoid[1] != sigmoid[3]


def test_scores_far_apart():
    table = numbers.far_table(torch.tensor(numbers.FAR_SCORES, dtype=torch.float64))
    assert table.rows[1][1] == "5.774 0.000 -0.577"
    powers = [math.exp(score / math.sqrt(3)) for score in (10, 0, -1)]
    assert table.rows[1][2] == " ".join(f"{power / sum(powers):.6f}" for power in powers)


def test_numbers_of_one_head_and_of_all():
    counts = numbers.head_counts(numbers.models()["base"])
    assert list(counts.values()) == [3 * 512 * 64, 786_432, 512 * 512, 4 * 512 * 512]
    assert counts["W_q, W_k, W_v of one head"] == 98_304


def test_numbers_of_base_and_big_by_formula():
    for config in numbers.models().values():
        d, f, layers, v = config.d_model, config.d_ff, config.num_layers, config.vocab_size
        attention, feed, norm = 4 * d * d + 4 * d, 2 * d * f + d + f, 2 * d
        total = v * d + layers * (3 * attention + 2 * feed + 5 * norm)
        assert sum(numbers.weights_by_part(config).values()) == total


@pytest.fixture(scope="module")
def walked():
    return walk.walk()


def test_the_walk_names_every_tensor_once_and_its_loss_falls(walked):
    passed = walked.tables[2].rows
    names = [row[0] for row in passed]
    assert len(set(names)) == len(names)
    at = {name: place for place, name in enumerate(names)}
    for side in ("encoder.self_attn", "decoder.self_attn", "decoder.cross_attn"):
        order = [at[side + end] for end in (".v_proj", ": weights", ": context", ".out_proj", "_norm")]
        assert order == list(range(order[0], order[0] + 5))
    start, end = walked.conclusion.split("the loss was ")[1].split(" nats")[0], walked.conclusion.split("and is ")[1]
    assert float(end.split()[0]) < float(start)


def test_the_walk_says_the_loss_that_its_labels_add_up_to(walked):
    shares = [float(row[3]) for row in walked.tables[3].rows]
    loss = float(walked.tables[2].rows[-1][-1].split()[0])
    assert sum(shares) / len(shares) == pytest.approx(loss, abs=1e-3)


def test_the_walk_shows_rows_that_add_up(walked):
    width = 24
    for row in walked.tables[0].rows:
        token, position, entered = ([float(number) for number in cell.split()] for cell in row[3:])
        for a, b, c in zip(token, position, entered, strict=True):
            assert a * math.sqrt(width) + b == pytest.approx(c, abs=0.005 * (math.sqrt(width) + 2))


def test_adams_first_step_is_the_rate(walked):
    assert {row[3] for row in walked.tables[5].rows} == {"+0.00100", "-0.00100"}


def test_run_takes_either():
    outcome = numbers.run(argparse.Namespace(walk=False))
    assert "0.70, 0.80, 0.90, 1.00" in outcome.conclusion
    assert outcome.figure is not None
