"""Short sentences in Korean, whose verb stands last, and in English, with what each English word is a translation of.

`python -m train.data.sentences 200` prints 200 pairs of the test data with their gold alignment, one JSON object a line:
what `python -m modeling_vanilla look --report --gold FILE` reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

import numpy as np

from train.data.made import Aligned, Rows, as_lines, print_gold, require

# Korean, English as a subject, and as an object where that differs. Those of the first line take a verb without -s.
_PLURAL = ("나 I me", "너 you", "우리 we us", "그들 they them")
_SINGULAR = (
    *("그 he him", "그녀 she her", "민수 Minsu", "지민 Jimin", "유나 Yuna", "서준 Seojun", "친구 the_friend"),
    *("학생 the_student", "선생님 the_teacher", "아이 the_child", "의사 the_doctor", "어머니 the_mother"),
    *("아버지 the_father", "할머니 the_grandmother", "가수 the_singer", "요리사 the_cook"),
)
_THINGS = {
    "food": "밥 rice, 빵 bread, 사과 the_apple, 김치 kimchi, 국수 noodles, 수박 the_watermelon, 고기 meat, 과자 the_cookie",
    "drink": "물 water, 커피 coffee, 우유 milk, 주스 juice",
    "text": "책 the_book, 신문 the_newspaper, 편지 the_letter, 시 the_poem, 소설 the_novel, 일기 the_diary",
    "sight": "영화 the_film, 그림 the_picture, 연극 the_play, 별 the_star, 바다 the_sea, 산 the_mountain",
    "goods": "모자 the_hat, 가방 the_bag, 우산 the_umbrella, 시계 the_clock, 의자 the_chair, 꽃 the_flower, 열쇠 the_key, "
    "자전거 the_bicycle, 공 the_ball, 치마 the_skirt",
}
# Korean, and English with "at" or "in"; behind a verb of motion with "to".
_PLACES = (
    *("학교 at school", "시장 at the_market", "병원 at the_hospital", "공원 in the_park", "도서관 at the_library"),
    *("식당 at the_restaurant", "은행 at the_bank", "역 at the_station", "회사 at the_office", "박물관 at the_museum"),
    *("가게 at the_shop", "부엌 in the_kitchen", "정원 in the_garden", "교실 in the_classroom", "서울 in Seoul"),
    "부산 in Busan",
)
# The present as it is written and as it is spoken, the past likewise, what stands before 것이다 and 거야 in the future;
# English: with I, with he, in the past; and what is loved, eaten, read.
_TRANSITIVE = (
    "사랑한다 사랑해 사랑했다 사랑했어 사랑할 love loves loved person",
    "좋아한다 좋아해 좋아했다 좋아했어 좋아할 like likes liked person,food,drink,text,sight",
    "본다 봐 봤다 봤어 볼 see sees saw person,sight,goods",
    "돕는다 도와 도왔다 도왔어 도울 help helps helped person",
    "만난다 만나 만났다 만났어 만날 meet meets met person",
    "기다린다 기다려 기다렸다 기다렸어 기다릴 wait_for waits_for waited_for person",
    "믿는다 믿어 믿었다 믿었어 믿을 trust trusts trusted person",
    "부른다 불러 불렀다 불렀어 부를 call calls called person",
    "먹는다 먹어 먹었다 먹었어 먹을 eat eats ate food",
    "만든다 만들어 만들었다 만들었어 만들 make makes made food,drink,goods",
    "산다 사 샀다 샀어 살 buy buys bought food,drink,text,goods",
    "판다 팔아 팔았다 팔았어 팔 sell sells sold food,drink,goods",
    "마신다 마셔 마셨다 마셨어 마실 drink drinks drank drink",
    "읽는다 읽어 읽었다 읽었어 읽을 read reads read text",
    "쓴다 써 썼다 썼어 쓸 write writes wrote text",
    "그린다 그려 그렸다 그렸어 그릴 draw draws drew sight,goods",
    "찾는다 찾아 찾았다 찾았어 찾을 find finds found person,text,goods",
    "가져온다 가져와 가져왔다 가져왔어 가져올 bring brings brought food,drink,text,goods",
    "잃어버린다 잃어버려 잃어버렸다 잃어버렸어 잃어버릴 lose loses lost text,goods",
)
_MOTION = (
    "간다 가 갔다 갔어 갈 go goes went",
    "온다 와 왔다 왔어 올 come comes came",
    "돌아간다 돌아가 돌아갔다 돌아갔어 돌아갈 return returns returned",
    "달려간다 달려가 달려갔다 달려갔어 달려갈 run runs ran",
    "걸어간다 걸어가 걸어갔다 걸어갔어 걸어갈 walk walks walked",
)
_ACTION = (
    "일한다 일해 일했다 일했어 일할 work works worked",
    "잔다 자 잤다 잤어 잘 sleep sleeps slept",
    "논다 놀아 놀았다 놀았어 놀 play plays played",
    "공부한다 공부해 공부했다 공부했어 공부할 study studies studied",
    "노래한다 노래해 노래했다 노래했어 노래할 sing sings sang",
    "쉰다 쉬어 쉬었다 쉬었어 쉴 rest rests rested",
    "운다 울어 울었다 울었어 울 cry cries cried",
    "웃는다 웃어 웃었다 웃었어 웃을 laugh laughs laughed",
    "춤춘다 춤춰 춤췄다 춤췄어 춤출 dance dances danced",
)
_TIMES = (
    ("지금 now", "매일 every_day", "오늘 today"),
    ("어제 yesterday", "지난주 last_week", "오늘 today"),
    ("내일 tomorrow", "곧 soon", "오늘 today"),
)
"""Of the present, the past and the future."""
_SPLITS = {"test": range(5), "validation": range(5, 10), "train": range(10, 100)}


@dataclass(frozen=True)
class Combination:
    """What a sentence is about; its tense, its time and how polite it is are drawn.

    Attributes:
        subject: a row of `_PLURAL` or `_SINGULAR`.
        verb: a row of one of the tables of verbs.
        thing: Korean and English of the object, or "".
        place: a row of `_PLACES`, or "".
    """

    subject: str
    verb: str
    thing: str = ""
    place: str = ""


@dataclass
class Sentence:
    """A Korean sentence that grows from left to right, and its English words with the span that each translates."""

    korean: str = ""
    english: dict[str, list[tuple[str, range]]] = field(default_factory=dict)

    def add(self, text: str, particle: str = "") -> tuple[range, range]:
        """Append a word with its particle and return the places of both."""
        start = len(self.korean) + bool(self.korean)
        self.korean += f"{' ' if self.korean else ''}{text}{particle}"
        middle = start + len(text)
        return range(start, middle), range(middle, middle + len(particle))

    def translate(self, slot: str, words: str, places: range) -> None:
        """Note English words, joined by _, for a slot of the English sentence."""
        self.english.setdefault(slot, []).extend((word, places) for word in words.split("_"))

    def aligned(self) -> Aligned:
        """Return both texts and the alignment of their characters; the space before an English word has none."""
        words = [pair for slot in ("subject", "verb", "thing", "place", "time") for pair in self.english.get(slot, [])]
        gold: list[list[int]] = []
        for word, places in words:
            gold += [[]] * bool(gold) + [[*places]] * len(word)
        return self.korean, " ".join(word for word, _ in words), gold


def sentences(
    seed: int = 0, train: int = 40_000, validation: int = 1000, test: int = 1000, timed: float = 0.5
) -> dict[str, Rows]:
    """Make pairs of a sentence in Korean and in English: "나는 너를 사랑해" becomes "I love you".

    The verb goes from the end to the second place, a particle becomes a place in the sentence or a preposition, and an
    ending a tense. The split of a combination of subject, verb, object and place follows from its hash alone, so none of
    one split occurs in another in any tense, whatever the seed.

    Args:
        seed: of the choice of combinations, tenses and times.
        train: pairs of the training data.
        validation: pairs of the validation data.
        test: pairs of the test data.
        timed: share of the sentences that say when.

    Returns:
        For each split the columns `source` and `target`; a pure function of the arguments.

    Raises:
        UserError: an argument is out of range.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        require(size >= 1, name, size, "must be at least 1")
    require(0 <= timed <= 1, "timed", timed, "must be in 0..1")
    made = {}
    for number, (name, size) in enumerate(sizes.items()):
        pairs = _drawn(name, size, timed, np.random.default_rng([seed, number]))
        made[name] = {"source": [pair[0] for pair in pairs], "target": [pair[1] for pair in pairs]}
    return made


def split_of(combination: Combination) -> str:
    """Return the split a combination belongs to: 5 of 100 are for the test, 5 for validation."""
    bucket = int.from_bytes(sha256(repr(combination).encode()).digest()[:8], "big") % 100
    return next(name for name, buckets in _SPLITS.items() if bucket in buckets)


@lru_cache(maxsize=1)
def pools() -> dict[str, list[Combination]]:
    """Return the combinations of each split, in order."""
    made: dict[str, list[Combination]] = {name: [] for name in _SPLITS}
    for combination in _combinations():
        made[split_of(combination)].append(combination)
    return made


def _combinations() -> Iterator[Combination]:
    """Yield everything that a sentence may be about."""
    people = (*_PLURAL, *_SINGULAR)
    for subject in people:
        for verb in _TRANSITIVE:
            kinds = verb.split()[8].split(",")
            for thing in (thing for kind in kinds if kind != "person" for thing in _THINGS[kind].split(", ")):
                for place in ("", *_PLACES):
                    yield Combination(subject, verb, thing, place)
            for other in people if "person" in kinds else ():
                if other != subject:
                    yield Combination(subject, verb, f"{other.split()[0]} {other.split()[-1]}")
        for verb in _MOTION:
            yield from (Combination(subject, verb, place=place) for place in _PLACES)
        for verb in _ACTION:
            yield from (Combination(subject, verb, place=place) for place in ("", *_PLACES))


def _drawn(split: str, size: int, timed: float, random: np.random.Generator) -> list[Aligned]:
    """Draw combinations of a split (each once, if there are enough), a tense for each, and for some a time."""
    pool = pools()[split]
    pairs = []
    for index in random.choice(len(pool), size, replace=size > len(pool)):
        tense, spoken, when = (int(random.integers(most)) for most in (3, 2, 3))
        time = _TIMES[tense][when] if random.random() < timed else ""
        pairs.append(sentence(pool[index], tense, bool(spoken), time))
    return pairs


def sentence(combination: Combination, tense: int, spoken: bool, time: str = "") -> Aligned:
    """Write a sentence in both languages.

    Args:
        combination: what it is about.
        tense: 0 present, 1 past, 2 future.
        spoken: as to a friend (사랑해), and not as in a book (사랑한다). English has one form for both.
        time: Korean and English of one of `_TIMES`, or "".
    """
    made = Sentence()
    subject, verb = combination.subject.split(), combination.verb.split()
    noun, _ = made.add(subject[0], "은" if _ends_in_consonant(subject[0]) else "는")
    made.translate("subject", subject[1], noun)
    if time:
        made.translate("time", time.split()[1], made.add(time.split()[0])[0])
    if combination.place:
        place, preposition, name = combination.place.split()
        is_motion = combination.verb in _MOTION
        noun, particle = made.add(place, "에" if is_motion else "에서")
        made.translate("place", "to" if is_motion else preposition, particle)
        made.translate("place", name, noun)
    if combination.thing:
        thing, name = combination.thing.split()
        noun, _ = made.add(thing, "을" if _ends_in_consonant(thing) else "를")
        made.translate("thing", name, noun)
    base, with_he, past = verb[5:8]
    places, _ = made.add(verb[4] if tense == 2 else verb[2 * tense + spoken])
    if tense == 2:
        made.translate("verb", "will", made.add("거야" if spoken else "것이다")[0])
    is_plural = combination.subject in _PLURAL
    made.translate("verb", past if tense == 1 else base if tense == 2 or is_plural else with_he, places)
    return made.aligned()


def _ends_in_consonant(word: str) -> bool:
    """Tell whether the last syllable has a final consonant, which decides between 은 and 는, 을 and 를."""
    return (ord(word[-1]) - 0xAC00) % 28 != 0


def with_gold(size: int) -> list[str]:
    """Return pairs of the test data as lines of JSON: `source`, `target` and `gold`, for each character of the target."""
    return as_lines(_drawn("test", size, 0.5, np.random.default_rng([0, 2])))


if __name__ == "__main__":
    print_gold("sentences", with_gold)
