"""What a decoder reads to predict labels: shifted, with padding on either side."""

import pytest
import torch

from modeling_vanilla import heads
from modeling_vanilla.heads import mask_of_left_padding, shift_right

I, P, S, M = -100, 0, 2, 58  # ignored, padding, start; M pads and starts, as in Marian


@pytest.mark.parametrize(
    ("labels", "start", "pad", "read", "mask"),
    [
        ([7, 8, 3], S, P, [S, 7, 8], None),
        ([7, 3, I], S, P, [S, 7, 3], None),
        ([I, 7, 3], S, P, [P, S, 7], [0, 1, 1]),
        ([I, I, 3], S, P, [P, P, S], [0, 0, 1]),
        ([7, I, 3], S, P, [S, 7, P], None),
        ([I, I, I], S, P, [S, P, P], None),
        ([7, 8, 3], M, M, [M, 7, 8], None),
        ([I, 7, 3], M, M, [M, M, 7], [0, 1, 1]),
        ([I, I, 3], M, M, [M, M, M], [0, 0, 1]),
    ],
)
def test_labels_are_moved_behind_their_padding(config_of, labels, start, pad, read, mask):
    config = config_of("encoder-decoder", vocab_size=59, decoder_start_token_id=start, pad_token_id=pad)
    ids = shift_right(torch.tensor([labels]), config)
    assert ids.tolist() == [read]
    found = mask_of_left_padding(ids, config)
    assert (found if found is None else found.tolist()) == (mask if mask is None else [mask])


@pytest.mark.parametrize("read", [[P, P, 7, 8], [7, P, P, S], [P, 7, S, 8], [S, P, P, 7], [P, P, P, P]])
def test_what_is_no_padding_before_a_start_is_left_alone(config_of, read):
    """A prefix that a caller gives, an empty row, padding in another place: nothing is guessed."""
    assert mask_of_left_padding(torch.tensor([read]), config_of("encoder-decoder")) is None


def test_rows_are_told_one_by_one(config_of):
    ids = torch.tensor([[P, S, 7], [S, 7, 8]])
    assert mask_of_left_padding(ids, config_of("encoder-decoder")).tolist() == [[0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("start", [2, 0])
@pytest.mark.parametrize("readable", [True, False])
def test_padding_on_the_left_changes_no_loss_and_no_logit(
    build, tokens, monkeypatch, start, positions, kernel, readable
):
    """Labels alone, with what a collator made of them, and without labels, as a Trainer that smooths by itself calls.

    On a GPU, and while a graph is traced, values are not read.
    """
    if not readable:
        monkeypatch.setattr(heads, "can_read", lambda tensor: False)
    options = dict(positions=positions, attn_implementation=kernel, label_smoothing=0.0)
    model = build("encoder-decoder", decoder_start_token_id=start, **options)
    source, lengths = tokens(2, 5), (2, 6)
    rows = [tokens(1, n, seed=n)[0] for n in lengths]
    alone = [model(input_ids=source[i : i + 1], labels=row[None]) for i, row in enumerate(rows)]
    loss = sum(out.loss * n for out, n in zip(alone, lengths, strict=True)) / sum(lengths)
    for side in ("left", "right"):
        labels = torch.full((2, 6), -100)
        for i, row in enumerate(rows):
            labels[i, 6 - len(row) :] = row if side == "left" else labels[i, 6 - len(row) :]
            labels[i, : len(row)] = row if side == "right" else labels[i, : len(row)]
        made = model.prepare_decoder_input_ids_from_labels(labels)
        for given in ({"labels": labels}, {"labels": labels, "decoder_input_ids": made}):
            torch.testing.assert_close(model(input_ids=source, **given).loss, loss, atol=1e-6, rtol=1e-6)
        logits = model(input_ids=source, decoder_input_ids=made).logits
        for i, out in enumerate(alone):
            kept = logits[i, -lengths[i] :] if side == "left" else logits[i, : lengths[i]]
            torch.testing.assert_close(kept, out.logits[0], atol=1e-5, rtol=1e-5)


def test_a_classifier_takes_one_vector_in_the_place_of_a_sequence(config_of):
    """vLLM pools, and then hands the classifier (B, 1, D)."""
    head = heads.ClassificationHead(config_of("encoder"), 3).eval()
    pooled = torch.randn(2, 24)
    assert torch.equal(head(pooled[:, None]), head(pooled))
    assert head(pooled[:, None]).shape == (2, 3)
