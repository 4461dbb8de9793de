"""Long texts in pieces give the tokens, and the tokenizer, of the whole; what is read at once has a bound."""

import gzip
import random
import unicodedata

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tokenizer import KINDS, build, pieces, read_texts

ALPHABET = "abcdefghij"
ODD = [
    "café",
    "e\u0301",
    "don't",
    "it's",
    "\u2581",
    "a\u2581 b",
    "...",
    "!?",
    "1234",
    "한국어",
    "日本語。",
    "\t",
    "\x1c",
    "İ",
    "ß",
    "🎉",
]


def prose(count: int, seed: int = 0, ends: str = " \n") -> str:
    """Return words, odd ones among them, with one or several blanks or line ends between."""
    draw = random.Random(seed)
    known = ["".join(draw.choices(ALPHABET, k=draw.randint(1, 8))) for _ in range(200)]
    parts = []
    for _ in range(count):
        parts.append(draw.choice(ODD) if draw.random() < 0.1 else draw.choice(known))
        parts.append(draw.choice(ends) * (1 if draw.random() < 0.9 else draw.randint(0, 4)))
    return "".join(parts)


def foreign(normalizer, pre_tokenizer, model=None) -> Tokenizer:
    """Return a tokenizer of another make, trained on prose."""
    core = Tokenizer(model or models.BPE(unk_token="<unk>"))
    core.normalizer, core.pre_tokenizer = normalizer, pre_tokenizer
    trainer = trainers.UnigramTrainer if isinstance(model, models.Unigram) else trainers.BpeTrainer
    options = {"unk_token": "<unk>"} if isinstance(model, models.Unigram) else {}
    core.train_from_iterator(
        [prose(3000)], trainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False, **options)
    )
    return core


MADE = {
    kind: (lambda kind=kind: build(kind, [prose(3000)], 400, "causal", show_progress=False)._tokenizer)
    for kind in KINDS
}
MADE |= {
    **{
        f"{kind} {form}": (
            lambda kind=kind, form=form: (
                build(kind, [prose(3000)], 400, "causal", normalize=form, show_progress=False)._tokenizer
            )
        )
        for kind, form in (("bpe", "nfd"), ("byte_bpe", "nfc"), ("char", "none"))
    },
    "lower": lambda: build("bpe", [prose(3000)], 400, "causal", lowercase=True, show_progress=False)._tokenizer,
    "always prepends": lambda: foreign(normalizers.Sequence([]), pre_tokenizers.Metaspace(prepend_scheme="always")),
    "prepends, no words": lambda: foreign(
        normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None
    ),
    "strips": lambda: foreign(normalizers.Strip(), pre_tokenizers.Whitespace()),
    "unigram": lambda: foreign(normalizers.NFKC(), pre_tokenizers.Metaspace(), models.Unigram()),
}


def encoder(core: Tokenizer):
    """Return what `pieces.encode` wants of a tokenizer."""

    def tokens_of(text: str) -> pieces.Tokens:
        made = core.encode(text, add_special_tokens=False)
        return np.array(made.ids, np.int32), np.array(made.offsets, np.int64).reshape(-1, 2)

    return tokens_of


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("ends", [" ", "\n", " \n"], ids=["spaces", "lines", "both"])
def test_pieces_have_the_ids_of_the_whole(name, ends):
    core = MADE[name]()
    for seed in range(3):
        text = prose(4000, seed + 5, ends)
        whole = core.encode(text, add_special_tokens=False).ids
        parts = list(pieces.encode(text, encoder(core), size=900, guard=128))
        assert len(parts) > 10
        assert np.concatenate(parts).tolist() == whole


def test_a_text_may_end_anywhere():
    core, text = MADE["bpe"](), prose(300)
    for length in range(600, 700):
        parts = pieces.encode(text[:length], encoder(core), size=200, guard=64)
        assert np.concatenate(list(parts)).tolist() == core.encode(text[:length], add_special_tokens=False).ids


def test_a_cut_counts_only_where_the_tokens_around_it_come_out_the_same():
    def alternating(
        text: str,
    ) -> pieces.Tokens:  # a token for each character, whose id depends on where the text begins
        places = np.arange(len(text))
        return places % 2, np.stack([places, places + 1], axis=1)

    parts = list(pieces.encode("a" * 5000, alternating, size=900, guard=127))
    assert len(parts) > 5
    assert np.concatenate(parts).tolist() == [place % 2 for place in range(5000)]


def test_a_text_without_a_place_is_refused():
    core = MADE["wordpiece"]()
    with pytest.raises(pieces.NoPlaceError, match="characters 1 to 900 have no place"):
        list(pieces.encode("abc" * 1000, encoder(core), size=900, guard=128))  # one unknown word


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_build_the_tokenizer_of_the_whole(kind):
    text = prose(20_000, 3, " " if kind == "bpe" else " \n")
    whole = build(kind, [text, "more"], 500, "causal", show_progress=False)
    cut = list(pieces.for_training([text, "more"], kind, size=1000))
    assert len(cut) > 50
    assert "".join(cut) == text + "more"
    again = build(kind, cut, 500, "causal", show_progress=False)
    assert again.backend_tokenizer.to_str() == whole.backend_tokenizer.to_str()


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_spaces_is_cut_between_letters(kind):
    assert list(pieces.for_training(["ab" * 3000], kind, size=1000, longest=6000)) == ["ab" * 3000]
    text = unicodedata.normalize("NFD", "각é") * 1000  # five characters that make two letters
    cut = list(pieces.for_training([text], kind, size=1000, longest=1001))
    assert "".join(cut) == text
    assert [len(part) for part in cut[:-1]] == [1000] * 4
    assert "".join(unicodedata.normalize("NFC", part) for part in cut) == "각é" * 1000


def test_a_line_has_a_longest_length(tmp_path, monkeypatch):
    monkeypatch.setattr("tokenizer.pieces.LONGEST_LINE", 100)
    path = tmp_path / "x.txt"
    path.write_text("a" * 99 + "\n" + "b" * 100 + "\n")
    with pytest.raises(ValueError, match=rf"^{path}:2: a line of more than \d+ bytes"):
        list(read_texts([path]))


def test_a_packed_file_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tokenizer.pieces.FREE_BYTES", 10_000)
    for name, content in (("one", b"a" * 10**6), ("many", b"a\n" * 10**6)):
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(content))
        with pytest.raises(
            ValueError, match=rf"^{path}: {path.stat().st_size} bytes unpack to more than \d+, over 200 times"
        ):
            list(read_texts([path]))
    path.write_bytes(gzip.compress("".join(map(str, range(10_000))).encode()))
    assert len(list(read_texts([path]))) == 1
