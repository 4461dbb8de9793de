"""The generated sentences: one translation each, disjoint combinations, grammar by the syllable, gold by the word."""

import json
import re
import subprocess
import sys
import unicodedata

import pytest

from train.data import sentences as module
from train.data.generators import generate
from train.data.sentences import Combination, pools, sentence, sentences, split_of, with_gold
from train.errors import UserError

LOVE = Combination("나 I me", "사랑한다 사랑해 사랑했다 사랑했어 사랑할 love loves loved person", "너 you")
GO = Combination("민수 Minsu", "간다 가 갔다 갔어 갈 go goes went", place="학교 at school")


@pytest.fixture(scope="module")
def made():
    return sentences(seed=3, train=3000, validation=200, test=500)


def aligned_words(source: str, target: str, gold: list[list[int]]) -> list[tuple[str, str]]:
    """Return each word of the target with the characters of the source that stand beside it, one list for all its letters."""
    pairs = []
    for match in re.finditer(r"\S+", target):
        (places,) = {tuple(gold[place]) for place in range(*match.span())}
        pairs.append((match[0], "".join(source[place] for place in places)))
    return pairs


def test_the_verb_stands_last_and_its_tense_is_in_its_ending():
    expected = {
        (0, True): ("나는 너를 사랑해", "I love you"),
        (0, False): ("나는 너를 사랑한다", "I love you"),
        (1, True): ("나는 너를 사랑했어", "I loved you"),
        (1, False): ("나는 너를 사랑했다", "I loved you"),
        (2, True): ("나는 너를 사랑할 거야", "I will love you"),
        (2, False): ("나는 너를 사랑할 것이다", "I will love you"),
    }
    assert {key: sentence(LOVE, *key)[:2] for key in expected} == expected


def test_a_particle_becomes_a_preposition_and_a_singular_takes_its_ending():
    assert sentence(GO, 0, False)[:2] == ("민수는 학교에 간다", "Minsu goes to school")
    assert sentence(GO, 1, False, "어제 yesterday")[:2] == (
        "민수는 어제 학교에 갔다",
        "Minsu went to school yesterday",
    )
    work = Combination("선생님 the_teacher", module._ACTION[0], place="공원 in the_park")
    assert sentence(work, 0, True)[:2] == ("선생님은 공원에서 일해", "the teacher works in the park")


def test_gold_says_which_word_translates_which():
    assert aligned_words(*sentence(LOVE, 2, False)) == [
        ("I", "나"),
        ("will", "것이다"),
        ("love", "사랑할"),
        ("you", "너"),
    ]
    assert aligned_words(*sentence(GO, 1, False, "지난주 last_week")) == [
        ("Minsu", "민수"),
        ("went", "갔다"),
        ("to", "에"),
        ("school", "학교"),
        ("last", "지난주"),
        ("week", "지난주"),
    ]


def test_every_word_has_gold_and_no_space_has(made):
    for line in with_gold(60):
        row = json.loads(line)
        assert len(row["gold"]) == len(row["target"])
        assert all(bool(places) == (char != " ") for char, places in zip(row["target"], row["gold"], strict=True))
        assert all(source for _, source in aligned_words(row["source"], row["target"], row["gold"]))


def test_a_sentence_has_one_translation():
    """Each combination in each tense: no form of a verb, and no word, stands for two."""
    translations: dict[str, str] = {}
    for combination in [combination for pool in pools().values() for combination in pool[::7]]:
        for tense, spoken in ((0, True), (0, False), (1, True), (1, False), (2, True), (2, False)):
            source, target, _ = sentence(combination, tense, spoken)
            assert translations.setdefault(source, target) == target


def test_particles_follow_the_last_sound():
    """The oracle is Unicode's own decomposition: a syllable with a final consonant has three letters."""
    for source in sentences(train=2000, validation=1, test=1)["train"]["source"]:
        for noun, particle in re.findall(r"(\w+)(은|는|을|를)(?= )", source):
            assert (len(unicodedata.normalize("NFD", noun[-1])) == 3) == (particle in "은을"), source


def test_no_combination_is_in_two_splits_whatever_the_seed(made):
    of_split = {name: {*pool} for name, pool in pools().items()}
    assert of_split["train"].isdisjoint(of_split["test"] | of_split["validation"])
    assert of_split["test"].isdisjoint(of_split["validation"])
    assert all(split_of(combination) == name for name, pool in of_split.items() for combination in [*pool][:50])
    other = sentences(seed=4, train=3000, validation=1, test=1)
    assert {*other["train"]["source"]}.isdisjoint(made["test"]["source"])


def test_every_word_of_the_test_is_in_the_training_data_in_some_tense():
    rows = sentences(train=40_000, validation=1, test=1000)
    words = {name: {word for text in rows[name]["target"] for word in text.split()} for name in ("train", "test")}
    assert words["test"] <= words["train"]
    assert 150 < len(words["train"])
    assert 250 < len({word for text in rows["train"]["source"] for word in text.split()})


def test_sentences_are_a_pure_function_of_the_arguments(made):
    small = {"train": 30, "validation": 4, "test": 5}
    assert sentences(seed=1, **small) == sentences(seed=1, **small) == generate("sentences", {"seed": 1, **small})
    assert sentences(seed=1, **small) != sentences(seed=2, **small)
    untimed = sentences(train=300, validation=1, test=1, timed=0.0)["train"]["target"]
    assert not any(re.search("yesterday|every day|today|tomorrow|soon|now$|last week", text) for text in untimed)
    assert len({*made["test"]["source"]}) == 500


@pytest.mark.parametrize(("name", "value"), [("train", 0), ("timed", 1.5)])
def test_wrong_arguments_are_named(name, value):
    with pytest.raises(UserError, match=f"data.generator_args.{name}: {value}"):
        generate("sentences", {name: value})


def test_the_command_prints_pairs_with_their_gold():
    command = [sys.executable, "-m", "train.data.sentences"]
    done = subprocess.run([*command, "3"], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sorted(row) for row in rows] == [["gold", "source", "target"]] * 3
    done = subprocess.run([*command, "no"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("usage: python -m train.data.sentences PAIRS")
