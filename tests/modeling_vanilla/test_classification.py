"""The sequence classifier: which token it reads, whatever the padding, and which loss it takes."""

import pytest
import torch
from torch.nn import functional as F

from modeling_vanilla import VanillaForSequenceClassification
from modeling_vanilla.heads import shift_right

VARIANTS = ("encoder-decoder", "encoder", "decoder")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def classifier(build):
    """Return a factory of classifiers with three classes."""

    def make(variant: str, **options):
        return build(variant, VanillaForSequenceClassification, **({"num_labels": 3} | options))

    return make


def ragged(tokens, side: str, filler: int = 0) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Return rows of 5, 2, 1 and 4 tokens, and the same as one padded batch with its mask."""
    rows = [tokens(1, length, seed=length) for length in (5, 2, 1, 4)]
    ids, mask = torch.full((4, 5), filler), torch.zeros(4, 5, dtype=torch.long)
    for row, (line, real) in zip(rows, zip(ids, mask, strict=True), strict=True):
        place = slice(5 - row.shape[1], 5) if side == "left" else slice(0, row.shape[1])
        line[place], real[place] = row[0], 1
    return rows, ids, mask


@pytest.mark.parametrize("place", ["first", "last"])
def test_which_token_is_read(classifier, tokens, place):
    """By hand from the base model: an encoder's first token, a decoder's last."""
    model = classifier("encoder" if place == "first" else "decoder")
    ids = tokens(2, 5)
    states = model.model(ids).last_hidden_state[:, 0 if place == "first" else -1]
    expected = model.classifier.out_proj(torch.tanh(model.classifier.dense(states)))
    torch.testing.assert_close(model(ids).logits, expected)


def test_an_encoder_decoder_reads_the_text_on_both_sides(classifier, tokens):
    model = classifier("encoder-decoder")
    ids = tokens(2, 5)
    target = torch.cat([torch.full((2, 1), 2), ids[:, :-1]], 1)  # the start token, then the text
    states = model.model(ids, decoder_input_ids=target).last_hidden_state[:, -1]
    expected = model.classifier.out_proj(torch.tanh(model.classifier.dense(states)))
    torch.testing.assert_close(model(ids).logits, expected)


@pytest.mark.parametrize("filler", [0, 9])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(classifier, tokens, variant, side, filler):
    model = classifier(variant)
    rows, ids, mask = ragged(tokens, side, filler)
    expected = torch.cat([model(row).logits for row in rows])
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, expected, **CLOSE)


def test_without_a_mask_the_last_token_that_is_not_padding_is_read(classifier, tokens):
    model = classifier("decoder")
    rows, ids, _ = ragged(tokens, "right")
    expected = torch.cat([model(row).logits for row in rows])
    torch.testing.assert_close(model(ids).logits, expected, **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_are_classified_like_ids(classifier, tokens, variant):
    model = classifier(variant)
    _, ids, mask = ragged(tokens, "left")
    vectors = model.get_input_embeddings()(ids)
    torch.testing.assert_close(
        model(inputs_embeds=vectors, attention_mask=mask).logits, model(ids, attention_mask=mask).logits
    )


def test_embeddings_of_the_source_are_not_those_of_an_untied_decoder(classifier):
    with pytest.raises(ValueError, match="tie_word_embeddings=True; give input_ids"):
        classifier("encoder-decoder", tie_word_embeddings=False)(inputs_embeds=torch.ones(2, 5, 24))


def test_what_the_decoder_reads_can_be_given(classifier, tokens):
    """The last real token of the given text is read; by default that text is the source, one place behind."""
    model = classifier("encoder-decoder")
    _, ids, mask = ragged(tokens, "left")
    given = {"decoder_input_ids": shift_right(ids, model.config, mask), "decoder_attention_mask": mask}
    torch.testing.assert_close(
        model(ids, attention_mask=mask, **given).logits, model(ids, attention_mask=mask).logits, **CLOSE
    )
    other = tokens(4, 3, seed=9)
    assert not torch.allclose(
        model(ids, attention_mask=mask, decoder_input_ids=other).logits, model(ids, attention_mask=mask).logits
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_decoder_without_pad_token(classifier, tokens, variant):
    model = classifier(variant, pad_token_id=None) if variant != "encoder-decoder" else classifier(variant)
    logits = model(tokens(3, 5)).logits
    for row in range(3):
        torch.testing.assert_close(model(tokens(3, 5)[row : row + 1]).logits, logits[row : row + 1], **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("classes", [2, 5])
def test_single_label(classifier, tokens, variant, classes):
    model = classifier(variant, num_labels=classes)
    labels = torch.tensor([1, 0, classes - 1, -100])
    out = model(tokens(4, 5), labels=labels)
    assert out.logits.shape == (4, classes)
    assert model.config.problem_type == "single_label_classification"
    log_p = out.logits[:3].log_softmax(-1)
    torch.testing.assert_close(out.loss, -log_p[range(3), labels[:3]].mean())
    torch.testing.assert_close(model(tokens(4, 5), labels=labels, num_items_in_batch=7).loss, out.loss * 3 / 7)


def test_multi_label(classifier, tokens):
    model = classifier("encoder")
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    out = model(tokens(2, 5), labels=labels)
    assert model.config.problem_type == "multi_label_classification"
    p = out.logits.sigmoid()
    torch.testing.assert_close(out.loss, -(labels * p.log() + (1 - labels) * (1 - p).log()).mean())


@pytest.mark.filterwarnings("error")  # mse_loss warns where it broadcasts
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_regression(classifier, tokens, shape):
    model = classifier("decoder", num_labels=1)
    labels = torch.tensor([0.5, -2.0]).view(shape)
    out = model(tokens(2, 5), labels=labels)
    assert model.config.problem_type == "regression"
    torch.testing.assert_close(out.loss, ((out.logits.flatten() - labels.flatten()) ** 2).mean())


def test_a_set_problem_type_is_kept(classifier, tokens):
    model = classifier("encoder", problem_type="multi_label_classification")
    labels = torch.tensor([[1, 0, 1], [0, 1, 0]])  # integers would otherwise be class ids
    out = model(tokens(2, 5), labels=labels)
    torch.testing.assert_close(out.loss, F.binary_cross_entropy_with_logits(out.logits, labels.float()))
    model = classifier("encoder", problem_type="regression")
    out = model(tokens(2, 5), labels=labels)
    torch.testing.assert_close(out.loss, F.mse_loss(out.logits, labels.float()))


def test_the_classifier_uses_no_label_smoothing(classifier, tokens):
    model = classifier("encoder", label_smoothing=0.5, dropout=0.0)
    labels = torch.tensor([0, 2])
    expected = model(tokens(2, 5), labels=labels).loss
    torch.testing.assert_close(model.train()(tokens(2, 5), labels=labels).loss, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_number_of_classes_gets_a_new_last_layer(classifier, tmp_path, variant):
    saved = classifier(variant)
    saved.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="mismatch"):
        VanillaForSequenceClassification.from_pretrained(tmp_path, num_labels=42)
    model, info = VanillaForSequenceClassification.from_pretrained(
        tmp_path, num_labels=42, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key[0] for key in info["mismatched_keys"]} == {"classifier.out_proj.weight", "classifier.out_proj.bias"}
    assert model.classifier.out_proj.weight.shape == (42, 24)
    state = model.model.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in saved.model.state_dict().items())
