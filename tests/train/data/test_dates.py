"""The generated dates: right, unambiguous, disjoint and a pure function of their arguments."""

import json
import re
import subprocess
import sys
from datetime import date

import pytest

from train.data.dates import ENGLISH_DATES, alignment, dates, english, korean, split_of
from train.data.generators import generate
from train.errors import UserError

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = {"mon": "월", "tue": "화", "wed": "수", "thu": "목", "fri": "금", "sat": "토", "sun": "일"}


def read_english(text: str) -> tuple[date, str | None]:
    """Read a date by other means than those that wrote it: words and numbers, in any order."""
    text = text.lower()
    weekday = next((day for day in WEEKDAYS if re.search(rf"\b{day}", text)), None)
    year = int(re.search(r"\b\d{4}\b", text)[0])
    if iso := re.search(r"\d{4}-(\d\d)-(\d\d)", text):
        return date(year, int(iso[1]), int(iso[2])), weekday
    month = next(number for number, name in enumerate(MONTHS, start=1) if re.search(rf"\b{name}", text))
    day = int(re.search(r"\b(\d{1,2})(st|nd|rd|th)?\b", text)[1])
    return date(year, month, day), weekday


@pytest.fixture(scope="module")
def made():
    return dates(seed=3, train=1500, validation=40, test=1000)


def test_target_is_the_same_day_with_the_weekday_exactly_where_the_source_names_it(made):
    for rows in made.values():
        for source, target in zip(rows["source"], rows["target"], strict=True):
            day, weekday = read_english(source)
            name = "월화수목금토일"[day.weekday()]
            expected = f"{day.year}년 {day.month}월 {day.day}일" + (f" {name}요일" if weekday else "")
            assert target == expected, source
            assert weekday is None or WEEKDAYS[weekday] == name, source


def test_no_source_leaves_the_order_of_day_and_month_open(made):
    for source in made["train"]["source"]:
        numbers = re.findall(r"\d+", source)
        assert len(numbers) == 2 or re.search(r"\d{4}-\d\d-\d\d", source), source


def test_every_format_and_both_cases_occur(made):
    sources = made["train"]["source"]
    assert len({re.sub(r"\d+", "0", re.sub(r"[a-z]+", "a", source.lower())) for source in sources}) >= 8
    assert any(source.isupper() and source[0].isalpha() for source in sources)
    assert any(source.islower() and source.startswith(tuple(MONTHS)) for source in sources)
    with_weekday = sum(target.endswith("요일") for target in made["train"]["target"]) / len(sources)
    assert with_weekday == pytest.approx(
        sum("E" in pattern for pattern in ENGLISH_DATES) / len(ENGLISH_DATES), abs=0.05
    )


def test_no_day_is_in_two_splits_whatever_the_seed(made):
    days = {name: {read_english(source)[0] for source in rows["source"]} for name, rows in made.items()}
    assert days["train"].isdisjoint(days["test"] | days["validation"])
    assert days["test"].isdisjoint(days["validation"])
    other = dates(seed=4, train=1500, validation=40, test=1000)
    assert {read_english(source)[0] for source in other["train"]["source"]}.isdisjoint(days["test"])


def test_test_data_are_a_thousand_different_days(made):
    assert len({read_english(source)[0] for source in made["test"]["source"]}) == 1000


def test_dates_are_a_pure_function_of_the_arguments():
    small = {"train": 30, "validation": 4, "test": 5}
    assert dates(seed=1, **small) == dates(seed=1, **small)
    assert dates(seed=1, **small) != dates(seed=2, **small)
    assert dates(seed=1, **small, recased=0.0) != dates(seed=1, **small, recased=1.0)


def test_years_stay_in_range():
    made = dates(train=200, validation=20, test=20, first_year=1999, last_year=2001)
    years = {int(target[:4]) for rows in made.values() for target in rows["target"]}
    assert years == {1999, 2000, 2001}


def test_more_rows_than_days_repeat_days_in_other_formats():
    made = dates(train=700, validation=10, test=10, first_year=2000, last_year=2000)
    assert len(made["train"]["source"]) == 700
    assert {split_of(read_english(source)[0]) for source in made["train"]["source"]} == {"train"}


@pytest.mark.parametrize(
    ("day", "suffix"), [(1, "st"), (2, "nd"), (3, "rd"), (11, "th"), (12, "th"), (13, "th"), (22, "nd"), (31, "st")]
)
def test_ordinals_follow_english_grammar(day, suffix):
    assert english(date(2026, 12, day), "MMMM d'{ordinal}', y") == f"December {day}{suffix}, 2026"


def test_the_designs_example():
    day = date(2026, 11, 20)
    assert english(day, ENGLISH_DATES[0]) == "Friday, November 20, 2026"
    assert korean(day, weekday=True) == "2026년 11월 20일 금요일"
    assert korean(day, weekday=False) == "2026년 11월 20일"


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("times", {}, ["data.generator", "'times'", "dates"]),
        ("dates", {"rows": 5}, ["data.generator_args.rows", "train"]),
        ("dates", {"train": "many"}, ["data.generator_args.train", "'many'", "int"]),
        ("dates", {"train": True}, ["data.generator_args.train", "True", "int"]),
        ("dates", {"test": 0}, ["data.generator_args.test", "0", "at least 1"]),
        ("dates", {"recased": 1.5}, ["data.generator_args.recased", "1.5"]),
        ("dates", {"first_year": 2000, "last_year": 1999}, ["data.generator_args.first_year", "1999"]),
    ],
)
def test_wrong_arguments_are_named(name, arguments, words):
    with pytest.raises(UserError) as caught:
        generate(name, arguments)
    assert all(word in str(caught.value) for word in words), caught.value


def test_alignment_names_the_characters_that_decide(made):
    """A digit is decided by the same digit; letters, read by other means than those that wrote them, name the month."""
    for source, target in zip(made["test"]["source"], made["test"]["target"], strict=True):
        day, weekday = read_english(source)
        gold = alignment(source, target)
        assert len(gold) == len(target)
        text = ["".join(source[place] for place in places) for places in gold]
        year, month, _ = re.split("년 |월 ", target)
        assert text[:4] == list(year), source
        of_month = text[6 : 6 + len(month)]
        if of_month[0].isdigit():
            assert "".join(of_month) == str(day.month), source
        else:
            assert all(MONTHS.index(name[:3].lower()) + 1 == day.month for name in of_month), source
            assert {len(name) for name in of_month} == {len(re.search(rf"{of_month[0]}\w*", source)[0])}
        begin = 8 + len(month)
        assert "".join(text[begin : begin + len(str(day.day))]) == str(day.day), source
        of_weekday = {len(target) - 3} if weekday else set()
        digits = {place for place, letter in enumerate(target) if letter.isdigit()}
        assert {place for place, name in enumerate(text) if name} == digits | of_weekday, source
        assert weekday is None or text[-3].lower().startswith(weekday)
        assert weekday is None or not re.search(rf"{text[-3]}\w", source), "the whole name"


@pytest.mark.parametrize(
    ("source", "target"),
    [("November 20", "2026년 11월 20일"), ("20 Nov 2026", "Nov 20"), ("Fri 20 Nov 2026", "2026년 11월 20일")],
)
def test_alignment_of_what_is_no_date_is_an_error(source, target):
    with pytest.raises(ValueError, match="must be the same date"):
        alignment(source, target)


def test_pairs_with_gold_are_printed():
    command = [sys.executable, "-m", "train.data.dates"]
    lines = subprocess.run([*command, "3"], capture_output=True, text=True, check=True, encoding="utf-8").stdout
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["source"] for row in rows] == dates(train=1, validation=1, test=3)["test"]["source"]
    assert all(row["gold"] == alignment(row["source"], row["target"]) for row in rows)
    assert subprocess.run([*command, "x"], check=False, capture_output=True).returncode == 1
