"""Hangul in every form: all 11,172 syllables, their letters (jamo), letters of old Korean, and text of unknown letters.

What composed and decomposed mean is the Unicode standard's, as Python's unicodedata has it.
"""

import unicodedata

import pytest
import torch

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from tokenizer import KINDS, build

SYLLABLES = "".join(map(chr, range(0xAC00, 0xAC00 + 11_172)))
JAMO = unicodedata.normalize("NFD", SYLLABLES)
LETTERS = sorted({*JAMO})  # 19 first, 21 middle and 27 last
OLD = [
    "나랏〮말〯ᄊᆞ미 듀ᇰ귁〮에〮 달아〮",  # 1446, with the marks of tone; no composed form for ᄊᆞ and ᇰ
    "".join(map(chr, range(0x1100, 0x1200))),  # first, middle and last letters, old ones too
    "".join(map(chr, [*range(0xA960, 0xA97D), *range(0xD7B0, 0xD7C7), *range(0xD7CB, 0xD7FC)])),  # extended A and B
    "ㄱㄴㄷㅏㅑㅿㆆ ㅋㅋㅋ",  # letters that stand alone
    "ﾡﾢￂ",  # half width
]
SHORT = ["가나다 라마바", "the cat"]


def groups(items, size: int) -> list:
    return [items[start : start + size] for start in range(0, len(items), size)]


def texts_of_all(form: str) -> list[str]:
    """Return all syllables as lines of words of three."""
    return [unicodedata.normalize(form, " ".join(line)) for line in groups(groups(SYLLABLES, 3), 20)]


def decoded(tokenizer, texts: list[str]) -> list[str]:
    return tokenizer.batch_decode(tokenizer(texts)["input_ids"], skip_special_tokens=True)


@pytest.fixture(scope="module")
def with_all():
    """Build each kind from all syllables once; the bytes are built from little text and know everything."""
    made = {
        kind: build(kind, texts_of_all("NFC"), 30_000, "seq2seq", min_frequency=1, show_progress=False)
        for kind in ("bpe", "wordpiece", "char")
    }
    return made | {"byte_bpe": build("byte_bpe", SHORT, 300, "seq2seq", show_progress=False)}


@pytest.mark.parametrize("kind", KINDS)
def test_all_syllables_come_back(with_all, kind):
    texts = texts_of_all("NFC")
    assert decoded(with_all[kind], texts) == texts
    assert len("".join(texts).replace(" ", "")) == 11_172


@pytest.mark.parametrize("kind", KINDS)
def test_both_forms_have_the_same_ids_where_a_form_is_chosen(with_all, kind):
    composed, decomposed = (with_all[kind](texts_of_all(form))["input_ids"] for form in ("NFC", "NFD"))
    assert (composed == decomposed) == (kind != "byte_bpe")
    assert with_all[kind].unk_token_id not in {token for ids in composed for token in ids}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["nfc", "nfd"])
def test_the_letters_of_few_words_write_all_syllables(kind, form):
    """67 letters are enough to read and write all of them decomposed; composed, only the bytes know what never occurred."""
    texts = ["".join(map(chr, range(0xAC00, 0xAC00 + 11_172, 28 * 21))), unicodedata.normalize("NFC", JAMO[:84])] + [
        "".join(letters) for letters in groups(LETTERS, 10)
    ]
    tokenizer = build(kind, texts, 500, "seq2seq", normalize=form, min_frequency=1, show_progress=False)
    syllables = [*SYLLABLES[::97]]
    expected = [unicodedata.normalize(form.upper(), syllable) for syllable in syllables]
    if form == "nfd" or kind == "byte_bpe":
        assert decoded(tokenizer, syllables) == expected
    else:
        unknown = sum(tokenizer.unk_token_id in ids for ids in tokenizer(syllables)["input_ids"])
        assert unknown > len(syllables) / 2


@pytest.mark.parametrize("kind", ["bpe", "byte_bpe", "char"])
@pytest.mark.parametrize("form", ["nfc", "nfd", "none"])
def test_old_letters_come_back(kind, form):
    """In the form that was chosen; the bytes in each form without having seen one of them."""
    learnt = (
        SHORT if kind == "byte_bpe" else [unicodedata.normalize(name, text) for text in OLD for name in ("NFC", "NFD")]
    )
    tokenizer = build(kind, learnt, 900, "seq2seq", normalize=form, min_frequency=1, show_progress=False)
    expected = [text if form == "none" else unicodedata.normalize(form.upper(), text) for text in OLD]
    assert decoded(tokenizer, OLD) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_of_unknown_letters_is_learnt_from_and_answered(kind):
    """Nothing of it is known: a gradient flows all the same, and what is written is text."""
    tokenizer = build(kind, ["the cat sat", "a cat"], 300, "seq2seq", min_frequency=1, show_progress=False)
    batch = tokenizer(["뷁쀍 햏ᄒᆞᆫ", "the cat"], text_target=["꽳뷁", "a cat"], padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    known = {*range(len(tokenizer))} - {tokenizer.unk_token_id}
    assert kind == "byte_bpe" or tokenizer.unk_token_id in batch["input_ids"][0]
    if kind != "byte_bpe":
        pieces = {*batch["input_ids"][0].tolist()} & known
        assert not {char for token in tokenizer.convert_ids_to_tokens([*pieces]) for char in token} & {*SYLLABLES}
    torch.manual_seed(0)
    sizes = {"d_model": 24, "d_ff": 29, "num_heads": 4, "num_layers": 1, "max_position_embeddings": 48}
    model = VanillaForConditionalGeneration(VanillaConfig(vocab_size=len(tokenizer), **sizes))
    loss = model(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(one.grad).all() for one in model.parameters() if one.grad is not None)
    assert model.get_input_embeddings().weight.grad[batch["input_ids"][0, 0]].abs().sum() > 0
    written = model.eval().generate(input_ids=batch["input_ids"][:1], max_new_tokens=5)
    assert isinstance(tokenizer.decode(written[0], skip_special_tokens=True), str)
