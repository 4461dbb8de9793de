"""Words to ids: each word's label at its first token, whatever the tokenizer, cut as its ids are, packed as its ids are."""

import pytest
import torch

from modeling_vanilla import VanillaConfig, VanillaForTokenClassification
from modeling_vanilla.losses import IGNORE
from train.data import collate, encoding, packing, training
from train.data.splits import load_splits
from train.errors import UserError
from train.model import build

SENTENCES = (
    [("The", "D"), ("unwrappings", "N"), ("cost", "V"), ("3.50", "M"), (".", "P")],
    [("고양이가", "N"), ("</s>", "P")],
)
TEXT = "\n\n".join("\n".join(map("\t".join, sentence)) for sentence in SENTENCES)


def encoded(recipe, tmp_path, kind="bpe", text=TEXT, longest=64, **data):
    """Return the recipe, its tokenizer and its examples."""
    made = recipe("tagging", {"x.conll": text}, train="x.conll", **data)
    made.tokenizer.kind, made.tokenizer.min_frequency = kind, 1
    made.tokenizer.vocab_size = 300
    made.model.preset, made.model.max_position_embeddings = "tiny", longest
    split = load_splits(made)["train"]
    build.make_tokenizer(made, split, tmp_path / kind)
    tokenizer = build.load_tokenizer(tmp_path / kind)
    return made, tokenizer, encoding.encode(split, tokenizer, made), split


@pytest.mark.parametrize("kind", ["bpe", "byte_bpe", "wordpiece", "char"])
def test_a_word_has_its_label_once_at_its_first_token(recipe, tmp_path, kind):
    _, tokenizer, examples, split = encoded(recipe, tmp_path, kind)
    names = split.features["tags"].feature.names
    for number, sentence in enumerate(SENTENCES):
        words = [word for word, _ in sentence]
        row = examples.row(0, number)
        # The ids are those of the sentence with spaces, and those that transformers gives for a list of words.
        assert row["input_ids"].tolist() == tokenizer(" ".join(words), split_special_tokens=True)["input_ids"]
        made = tokenizer(words, is_split_into_words=True, split_special_tokens=True)
        assert row["input_ids"].tolist() == made["input_ids"]
        owners = made.word_ids()
        expected = [IGNORE] * len(owners)
        for word, (_, tag) in enumerate(sentence):
            expected[owners.index(word)] = names.index(tag)
        assert row["labels"].tolist() == expected


def test_a_word_without_a_token_has_no_label_and_the_others_keep_theirs(recipe, tmp_path):
    text = "a\tA\n\u200b\tB\nb\tC\n"  # a zero-width space: wordpiece drops control characters
    _, _, examples, _ = encoded(recipe, tmp_path, "wordpiece", text)
    assert [label for label in examples.row(0, 0)["labels"] if label != IGNORE] == [0, 2]
    assert [word for word in examples.origins["words"][0] if word >= 0] == [0, 2]


def test_labels_are_cut_as_ids_are(recipe, tmp_path):
    _, tokenizer, whole, _ = encoded(recipe, tmp_path)
    made, _, examples, _ = encoded(recipe, tmp_path, longest=5, too_long="truncate")
    row = examples.row(0, 0)
    assert row["input_ids"].tolist() == [*whole.row(0, 0)["input_ids"][:4], tokenizer.sep_token_id]
    assert row["labels"].tolist() == [*whole.row(0, 0)["labels"][:4], IGNORE]
    assert examples.origins["words"][0].tolist() == [*whole.origins["words"][0][:4], -1]
    made.data.too_long = "error"
    with pytest.raises(UserError, match=r"x.conll:1: \d+ tokens, must be at most max_position_embeddings 5"):
        encoding.encode(load_splits(made)["train"], tokenizer, made)


@torch.inference_mode()
def test_packed_sentences_learn_what_they_learn_apart(recipe, tmp_path):
    made, tokenizer, examples, split = encoded(recipe, tmp_path)
    torch.manual_seed(0)
    sizes = {"d_model": 24, "d_ff": 29, "num_heads": 4, "num_layers": 2, "max_position_embeddings": 64, "dropout": 0.0}
    model = VanillaForTokenClassification(
        VanillaConfig(variant="encoder", vocab_size=len(tokenizer), num_labels=6, **sizes)
    ).eval()
    collator = collate.Collator("tagging", tokenizer, made)
    packed = packing.Packed(examples, 64, seed=0)
    assert len(packed) == 1
    one = collator([packed.row(0, 0)], 0)
    apart = [collator([examples.row(0, number)], 0) for number in range(2)]
    assert one.targets == sum(batch.targets for batch in apart) == 7
    total = sum(float(model(**batch.inputs).loss) * batch.targets for batch in apart)
    assert float(model(**one.inputs).loss) * one.targets == pytest.approx(total, rel=1e-5)
    made.batch.packing = True
    assert isinstance(training.encode(split, tokenizer, made), packing.Packed)


def test_padding_is_ignored(recipe, tmp_path):
    made, tokenizer, examples, _ = encoded(recipe, tmp_path)
    batch = collate.Collator("tagging", tokenizer, made)([examples.row(0, 0), examples.row(0, 1)], 0)
    labels = batch.inputs["labels"]
    assert labels.shape == batch.inputs["input_ids"].shape
    assert (labels[batch.inputs["attention_mask"] == 0] == IGNORE).all()
    assert batch.targets == int(labels.ne(IGNORE).sum()) == 7


@pytest.mark.parametrize("kind", ["byte_bpe", "char"])
def test_a_tokenizer_that_loses_the_spaces_of_words_is_refused(recipe, tmp_path, kind):
    made, _, _, split = encoded(recipe, tmp_path, kind)
    text = recipe("causal", {"x.txt": "The unwrappings cost 3.50 .\n"}, train="x.txt")
    text.tokenizer, text.model = made.tokenizer, made.model
    build.make_tokenizer(text, load_splits(text)["train"], tmp_path / "spaces-lost")
    made.tokenizer.path = str(tmp_path / "spaces-lost")
    with pytest.raises(UserError, match=r"spaces-lost: .*one by one.*add_prefix_space=True"):
        build.make_tokenizer(made, split, tmp_path / "other")
    assert not (tmp_path / "other").exists()
