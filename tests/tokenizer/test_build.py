"""Round trips, special tokens and determinism of every kind of tokenizer."""

import json
import os
import random
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, pipeline

from tokenizer import KINDS, SPECIAL_TOKENS, TEMPLATES, build, save
from tokenizer.scripts import LONGEST_WORD

ROOT = Path(__file__).parents[2]

TEXTS = [
    'The dog runs. ("Dogs" run...) 2026',
    "Ein Hund läuft; der Hund schläft </s> <mask>",
    "안녕하세요 세계, 2026년 11월 20일 금요일",
    "emoji 👩‍👩‍👧 😀 and cafe\u0301 and café",
    "tab\there  two   three\nnew line\n",
] * 3

# Only characters of TEXTS, in other words and other places.
PROBES = [
    "The Hund runs 2062.",
    "세계 안녕, 20월",
    "👩‍👩‍👧😀 😀",
    "cafe\u0301 e",
    "a  b   c",
    "trailing  ",
    "new\tline\n\nthere\t",
    "</s>",
    "dog</s>. <mask> <s>",
    "",
]


def make(kind: str, template: str = "seq2seq", **options) -> PreTrainedTokenizerFast:
    options = {"vocab_size": 420, "show_progress": False, **options}
    return build(kind, TEXTS, template=template, **options)


def round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    return tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.mark.parametrize("template", TEMPLATES)
def test_special_ids_are_the_same_and_distinct_in_every_kind(kind, template):
    tokenizer = make(kind, template)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4, 5, 6]
    roles = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")
    assert [getattr(tokenizer, f"{role}_token_id") for role in roles] == [0, 1, 2, 3, 4, 5, 6]
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


@pytest.mark.parametrize("lossless", ["bpe", "byte_bpe", "char"])
@pytest.mark.parametrize("template", ["seq2seq", "causal"])
def test_round_trip_gives_back_the_text(lossless, template):
    tokenizer = make(lossless, template)
    for text in PROBES:
        assert round_trip(tokenizer, text) == (text if lossless == "byte_bpe" else unicodedata.normalize("NFC", text))


def test_a_text_has_the_same_ids_in_every_form_but_where_none_is_chosen(kind):
    texts = ["날씨가 좋다, café", "Ångström"] * 3  # composed; the reader's data may come decomposed, as on macOS
    for form in (None, "nfc", "nfd", "none"):
        tokenizer = build(kind, texts, 400, "causal", normalize=form, show_progress=False)
        composed, decomposed = (
            tokenizer(unicodedata.normalize(name, "좋다 é"))["input_ids"] for name in ("NFC", "NFD")
        )
        is_one = form in ("nfc", "nfd") or (form is None and kind != "byte_bpe")
        assert (composed == decomposed) == is_one
        assert 1 not in composed
        assert round_trip(tokenizer, "좋다 é") == unicodedata.normalize("NFD" if form == "nfd" else "NFC", "좋다 é")


def test_none_keeps_a_text_as_it_stands():
    text = "cafe\u0301 \u0301e café"
    for name in ("bpe", "byte_bpe", "char"):
        assert round_trip(make(name, normalize="none"), text) == text


@pytest.mark.parametrize("lossless", ["byte_bpe", "char"])
def test_leading_space_survives(lossless):
    for text in (" dog", "   dog", " "):
        assert round_trip(make(lossless), text) == text


def test_bpe_loses_one_leading_space_and_no_more():
    assert round_trip(make("bpe"), "   dog") == "  dog"


def test_byte_bpe_keeps_characters_it_never_saw():
    text = "Ω漢字\r\n\u2028\ufeff𝔘 \u2581\x00"
    assert round_trip(make("byte_bpe"), text) == text


def test_wordpiece_keeps_words_in_composed_form():
    tokenizer = make("wordpiece")
    assert round_trip(tokenizer, "  The cafe\u0301\t안녕하세요\n 세계 ") == "The café 안녕하세요 세계"
    decomposed = unicodedata.normalize("NFD", "안녕하세요")
    assert tokenizer(decomposed)["input_ids"] == tokenizer("안녕하세요")["input_ids"]
    assert round_trip(tokenizer, "do not run.") == "do not run ."


@pytest.mark.parametrize("kind_and_word", [("bpe", "▁Hund"), ("byte_bpe", "ĠHund"), ("wordpiece", "Hund")])
def test_a_word_keeps_its_token_before_punctuation(kind_and_word):
    name, word = kind_and_word
    tokenizer = make(name)
    for text in ("der Hund schläft", "der Hund.", "der Hund, der", "der Hund..."):
        assert word in tokenizer.tokenize(text)


def test_bpe_spells_numbers_digit_by_digit():
    assert make("bpe").tokenize("x 2026") == ["▁", "x", "▁2", "0", "2", "6"]


def test_char_makes_every_code_point_a_token():
    tokenizer = make("char", "causal", normalize="none")
    text = "cafe\u0301\n👩‍👩‍👧\t "
    assert tokenizer.tokenize(text) == list(text)
    assert len(tokenizer) == len(SPECIAL_TOKENS) + len(set("".join(TEXTS)))


@pytest.mark.parametrize(("name", "unknown"), [("bpe", 2), ("char", 2), ("wordpiece", 1)])
def test_unknown_characters_become_unk(name, unknown):
    assert make(name, "causal")("ΩΨ")["input_ids"].count(1) == unknown


@pytest.mark.parametrize("template", ["seq2seq", "causal"])
def test_typed_special_tokens_stay_text(kind, template):
    ids = make(kind, template)("a </s>b<mask><pad> <s>", add_special_tokens=False)["input_ids"]
    assert not set(ids) & {0, 2, 3, 4, 5, 6}


def test_encoder_reads_the_mask_and_can_be_told_not_to(kind):
    tokenizer = make(kind, "encoder")
    assert tokenizer("The <mask> runs")["input_ids"].count(6) == 1
    assert 6 not in tokenizer("The <mask> runs", split_special_tokens=True)["input_ids"]


CHINESE = ["我明天要去北京看望我的老朋友", "今天天气很好我们去公园散步吧"]
THAI = "ฉันชอบกินข้าวผัดกับไข่ดาวทุกวันตอนเช้า"


@pytest.mark.parametrize(
    ("name", "sentence", "most"), [("bpe", CHINESE[0], 8), ("bpe", THAI, 16), ("byte_bpe", CHINESE[0], 8)]
)
def test_a_sentence_without_spaces_is_more_than_one_token(name, sentence, most):
    tokenizer = build(name, [sentence, f"ab {sentence}"] * 5, 8000, "causal", show_progress=False)
    tokens = [tokenizer.decode([number]) for number in tokenizer(sentence)["input_ids"]]
    assert "".join(tokens) == sentence
    assert len(tokens) > 1
    assert max(map(len, tokens)) <= most


def test_what_is_written_with_spaces_is_learnt_as_a_whole():
    word = "Donaudampfschifffahrtsgesellschaftskapitän"
    for name in ("bpe", "byte_bpe", "wordpiece"):
        assert len(build(name, [f"a {word}"] * 5, 8000, "causal", show_progress=False).tokenize(f"a {word}")) == 2


def test_a_word_piece_inside_a_long_word_is_one_of_the_inside():
    tokenizer = build("wordpiece", [THAI] * 5, 8000, "causal", show_progress=False)
    assert [token.removeprefix("##") for token in tokenizer.tokenize(THAI)] == [THAI[:16], THAI[16:32], THAI[32:]]
    assert round_trip(tokenizer, THAI) == THAI


def test_a_word_longer_than_wordpiece_reads_is_not_unknown():
    tokenizer = build("wordpiece", [THAI] * 5, 8000, "causal", show_progress=False)
    text = THAI * 4  # 152 characters
    assert 1 not in tokenizer(text)["input_ids"]
    assert round_trip(tokenizer, text) == f"{text[:100]} {text[100:]}"


@pytest.mark.parametrize("name", ["bpe", "byte_bpe", "wordpiece"])
def test_no_token_and_no_run_is_without_bound(name):
    draw = random.Random(0)
    tokenizer = build(name, ["acgt" * 1000] * 3, 8000, "causal", show_progress=False)
    assert max(map(len, tokenizer.get_vocab())) <= LONGEST_WORD
    run = "".join(draw.choices("acgt", k=60_000))  # as a whole this takes minutes
    started = time.process_time()
    build(name, [run], 2000, "causal", show_progress=False)
    assert time.process_time() - started < 10


def test_words_that_were_split_get_the_ids_of_their_sentence(kind):
    words, spaced = "The dog runs two".split(), ["The", " dog", " runs", " two"]
    tokenizer = make(kind, "encoder")
    assert tokenizer(spaced, is_split_into_words=True)["input_ids"] == tokenizer(" ".join(words))["input_ids"]
    if kind in ("byte_bpe", "char"):
        # The library encodes each word alone, and a space is a character: there is none unless each word begins with it.
        assert tokenizer(words, is_split_into_words=True)["input_ids"] != tokenizer(" ".join(words))["input_ids"]
        tokenizer = make(kind, "encoder", add_prefix_space=True)
    split = tokenizer(words, is_split_into_words=True)
    assert split["input_ids"] == tokenizer(" ".join(words))["input_ids"]
    assert sorted({word for word in split.word_ids() if word is not None}) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["byte_bpe", "char"])
def test_a_space_in_front_of_every_text(name, tmp_path):
    tokenizer = make(name, "encoder", add_prefix_space=True)
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / "t"))):
        for text in ("The dog", " The dog", "\n The  dog", "The dog<mask>runs", "."):
            ids = loaded(text, add_special_tokens=False)["input_ids"]
            assert loaded.decode(ids) == text.removeprefix(" ")
            assert loaded.convert_ids_to_tokens(ids)[0][0] in (" ", "\u0120")
        assert loaded.convert_ids_to_tokens(loaded("a<mask>e")["input_ids"])[-2] == "e"  # the text's start alone
        assert loaded("")["input_ids"] == [4, 5]


@pytest.mark.parametrize("name", ["bpe", "wordpiece"])
def test_a_kind_that_needs_no_space_in_front_says_so(name):
    with pytest.raises(ValueError, match=rf"add_prefix_space=True is for byte_bpe and char: {name} "):
        make(name, add_prefix_space=True)


@pytest.mark.parametrize("name", ["bpe", "byte_bpe", "wordpiece"])
def test_mask_takes_the_place_of_exactly_one_word(name):
    tokenizer = make(name, "encoder", vocab_size=800, min_frequency=1)
    dog = tokenizer("The dog runs")["input_ids"]
    masked = tokenizer("The <mask> runs")["input_ids"]
    position = dog.index(tokenizer("The dog")["input_ids"][-2])
    assert masked == [6 if i == position else token for i, token in enumerate(dog)]


@pytest.mark.parametrize("name", ["bpe", "byte_bpe", "wordpiece"])
def test_fill_mask_pipeline(name):
    tokenizer = make(name, "encoder", vocab_size=800, min_frequency=1)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    fill = pipeline("fill-mask", model=BertForMaskedLM(config).eval(), tokenizer=tokenizer)
    dog = tokenizer("The dog")["input_ids"][-2]
    word = tokenizer.convert_ids_to_tokens(dog)
    found = fill("The <mask> runs", targets=[word])[0]
    assert (found["token"], found["token_str"].strip(), found["sequence"]) == (dog, "dog", "The dog runs")


def test_templates(kind):
    plain = {text: make(kind, "causal")(text)["input_ids"] for text in ("The dog", "runs")}
    a, b = plain["The dog"], plain["runs"]
    seq2seq, encoder = make(kind, "seq2seq"), make(kind, "encoder")
    assert seq2seq("The dog")["input_ids"] == [*a, 3]
    assert seq2seq(text_target="The dog")["input_ids"] == [*a, 3]
    assert encoder("The dog")["input_ids"] == [4, *a, 5]
    pair = encoder("The dog", "runs")
    assert pair["input_ids"] == [4, *a, 5, *b, 5]
    assert pair["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert set(seq2seq("The dog")) == {"input_ids", "attention_mask"}


def test_padding_side_follows_the_template():
    assert {name: make("char", name).padding_side for name in TEMPLATES} == {
        "seq2seq": "right",
        "encoder": "right",
        "causal": "left",
    }
    batch = make("char", "causal")(["dog", "d"], padding=True)
    assert batch["attention_mask"] == [[1, 1, 1], [0, 0, 1]]
    assert batch["input_ids"][1][:2] == [0, 0]


def test_lowercase(kind):
    tokenizer = make(kind, "causal", lowercase=True)
    assert tokenizer("The HUND LÄUFT")["input_ids"] == tokenizer("the hund läuft")["input_ids"]
    assert round_trip(tokenizer, "Der HUND") == "der hund"


def test_wordpiece_knows_a_character_in_both_forms():
    tokenizer = build("wordpiece", ["ab"], 300, "causal", show_progress=False)
    assert 1 not in tokenizer("b ba bb")["input_ids"]


def test_min_frequency(kind):
    texts = ["alpha"] * 2 + ["omega"]
    tokenizer = build(kind, texts, 400, "causal", show_progress=False)
    lengths = [len(tokenizer(word)["input_ids"]) for word in ("alpha", "omega")]
    assert lengths == ([5, 5] if kind == "char" else [1, lengths[1]])
    assert lengths[1] > 1


def test_vocab_size_is_never_exceeded():
    for name, least in (("bpe", 200), ("byte_bpe", 270), ("wordpiece", 280)):
        full = len(make(name, vocab_size=5000, min_frequency=1))
        assert full > least + 1
        assert len(make(name, vocab_size=least, min_frequency=1)) == least


LOAD = """
import importlib.util, json, sys
assert all(importlib.util.find_spec(name) is None for name in ("tokenizer", "train", "modeling_vanilla"))
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
text = json.loads(sys.argv[2])
print()  # transformers may have asked, without a line end, whether it should run the model's code
batch = tokenizer(text)
print(json.dumps([dict(batch), tokenizer.decode(batch["input_ids"]), tokenizer.padding_side, tokenizer.model_max_length,
                  tokenizer.mask_token_id, tokenizer.clean_up_tokenization_spaces, len(tokenizer)]))
"""


@pytest.mark.parametrize("template", ["seq2seq", "encoder"])
def test_a_process_without_this_project_loads_it(tmp_path, template):
    tokenizer = make("bpe", template, model_max_length=77)
    folder = save(tokenizer, tmp_path / "out")
    # The folder of a published model: a config of a class that this process does not know must not get in the way.
    config = {"model_type": "vanilla", "auto_map": {"AutoConfig": "configuration_vanilla.VanillaConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    text = "Der Hund.  세계 </s> <mask>"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(folder), json.dumps(text)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    batch = tokenizer(text)
    decoded = tokenizer.decode(batch["input_ids"])
    expected = [dict(batch), decoded, "right", 77, 6, False, len(tokenizer)]
    assert json.loads(done.stdout.decode().splitlines()[-1]) == expected


def test_save_and_load_keep_everything(tmp_path, kind):
    for template in TEMPLATES:
        tokenizer = make(kind, template)
        loaded = AutoTokenizer.from_pretrained(save(tokenizer, tmp_path / kind / template))
        for text in [*PROBES, " dog", "a<mask>"]:
            assert loaded(text).data == tokenizer(text).data
        assert loaded.model_input_names == tokenizer.model_input_names
        again = tmp_path / f"{kind}-{template}-again"
        loaded.save_pretrained(again)
        first = json.loads((tmp_path / kind / template / "tokenizer.json").read_text())
        assert json.loads((again / "tokenizer.json").read_text()) == first


BUILD = """
import json, sys
from tokenizer import build
for kind in ("bpe", "byte_bpe", "wordpiece", "char"):
    tokenizer = build(kind, json.loads(sys.argv[1]), 330, "seq2seq", min_frequency=1, show_progress=False)
    print(tokenizer.backend_tokenizer.to_str())
"""


def test_the_same_texts_give_the_same_tokenizer():
    # Separate processes: hash tables are seeded once per process.
    words = [
        chr(97 + i) + chr(97 + j) + "".join(sorted({"a", chr(97 + i * j % 26)})) for i in range(20) for j in range(20)
    ]
    texts = [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
    command = [sys.executable, "-c", BUILD, json.dumps(texts)]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout for _ in range(2))
    assert first.count(b"\n") == 4
    assert first == second


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "sentencepiece"}, ["kind", "sentencepiece", "byte_bpe"]),
        ({"template": "bert"}, ["template", "bert", "encoder"]),
        ({"vocab_size": 7}, ["vocab_size", "7"]),
        ({"vocab_size": 20}, ["vocab_size", "20", "need"]),
        ({"kind": "byte_bpe", "vocab_size": 262}, ["vocab_size", "262", "263"]),
        ({"kind": "char", "vocab_size": 9, "texts": ["abc"]}, ["vocab_size", "9", "10"]),
        ({"kind": "wordpiece", "vocab_size": 100}, ["vocab_size", "100"]),
        ({"normalize": "nfkc"}, ["normalize", "nfkc", "nfc, nfd, none"]),
        ({"min_frequency": 0}, ["min_frequency", "0"]),
        ({"model_max_length": 0}, ["model_max_length", "0"]),
        ({"texts": []}, ["no text"]),
        ({"texts": ["", " \n"]}, ["no text"]),
        ({"texts": ["a", None]}, ["text 2", "None"]),
        ({"texts": ["a", "b\ud800"]}, ["text 2", "surrogate"]),
    ],
)
def test_wrong_arguments_are_named(options, words):
    defaults = {"kind": "bpe", "texts": TEXTS, "vocab_size": 400, "template": "seq2seq", "show_progress": False}
    with pytest.raises(ValueError) as caught:
        build(**{**defaults, **options})
    assert [word for word in words if word not in str(caught.value)] == []


def test_save_writes_over_nothing(tmp_path):
    tokenizer = make("char")
    kept = tmp_path / "full" / "precious"
    kept.parent.mkdir()
    kept.write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(ValueError, match=name):
            save(tokenizer, tmp_path / name)
    assert kept.read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_the_class_is_named_as_transformers_4_and_5_know_it(tmp_path):
    saved = save(build("char", ["ab"], 20, "causal", show_progress=False), tmp_path / "tokenizer")
    plain = build("char", ["ab"], 20, "causal", show_progress=False)
    plain.save_pretrained(tmp_path / "plain")
    written, theirs = (
        json.loads((f / "tokenizer_config.json").read_text("utf-8")) for f in (saved, tmp_path / "plain")
    )
    assert written == theirs | {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert AutoTokenizer.from_pretrained(saved)("ab")["input_ids"] == plain("ab")["input_ids"]
