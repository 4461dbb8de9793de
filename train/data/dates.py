"""Pairs of a date in English and in Korean.

`python -m train.data.dates 200` prints 200 pairs of the test days with their gold alignment, one JSON object a line:
what `python -m modeling_vanilla look --report --gold FILE` reads.
"""

import re
from datetime import date
from functools import lru_cache
from hashlib import sha256

import numpy as np
from babel import Locale
from babel.dates import format_date

from train.data.made import Rows, as_lines, print_gold, require

# How English writes a date, as LDML patterns: full, long and medium of America and Britain, ISO 8601, day-month-year with
# an abbreviated month, and ordinals. No pattern leaves open which number is the day (as 03/04/2020 would).
ENGLISH_DATES = (
    "EEEE, MMMM d, y",
    "EEEE, d MMMM y",
    "EEE, MMM d, y",
    "EEE d MMM y",
    "EEEE, y-MM-dd",
    "EEEE 'the' d'{ordinal}' 'of' MMMM y",
    "MMMM d, y",
    "d MMMM y",
    "MMM d, y",
    "d MMM y",
    "dd-MMM-y",
    "y-MM-dd",
    "MMMM d'{ordinal}', y",
    "'the' d'{ordinal}' 'of' MMMM, y",
)
_SUFFIX = {"one": "st", "two": "nd", "few": "rd", "other": "th"}
_SPLITS = {"test": range(5), "validation": range(5, 10), "train": range(10, 100)}


def dates(
    seed: int = 0,
    train: int = 40_000,
    validation: int = 1000,
    test: int = 1000,
    first_year: int = 1900,
    last_year: int = 2099,
    recased: float = 0.1,
) -> dict[str, Rows]:
    """Make pairs of a date in English and the same date in Korean.

    "Friday, November 20, 2026" becomes "2026년 11월 20일 금요일": the order turns around, and the weekday is named exactly
    where the source names it. Both texts are written by babel from the Unicode CLDR. The split of a day follows from its
    hash alone, so no day of one split occurs in another, whatever the seed.

    Args:
        seed: of the choice of days and formats.
        train: pairs of the training data.
        validation: pairs of the validation data.
        test: pairs of the test data.
        first_year: earliest year.
        last_year: latest year.
        recased: share of the sources written all in lower case, or all in upper case.

    Returns:
        For each split the columns `source` and `target`; a pure function of the arguments.

    Raises:
        UserError: an argument is out of range.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        require(size >= 1, name, size, "must be at least 1")
    rule = f"must be in 1000..last_year ({last_year})"
    require(1000 <= first_year <= last_year <= 9999, "first_year", first_year, rule)
    require(0 <= recased <= 1, "recased", recased, "must be in 0..1")
    pools = _pools(first_year, last_year)
    return {
        name: _pairs(pools[name], size, recased, np.random.default_rng([seed, number]))
        for number, (name, size) in enumerate(sizes.items())
    }


@lru_cache(maxsize=2)
def _pools(first_year: int, last_year: int) -> dict[str, list[date]]:
    """Return the days of each split, in order."""
    pools: dict[str, list[date]] = {name: [] for name in _SPLITS}
    for ordinal in range(date(first_year, 1, 1).toordinal(), date(last_year, 12, 31).toordinal() + 1):
        day = date.fromordinal(ordinal)
        pools[split_of(day)].append(day)
    return pools


def split_of(day: date) -> str:
    """Return the split a day belongs to: 5 of 100 days are for the test, 5 for validation."""
    bucket = int.from_bytes(sha256(day.isoformat().encode()).digest()[:8], "big") % 100
    return next(name for name, buckets in _SPLITS.items() if bucket in buckets)


def english(day: date, pattern: str) -> str:
    """Write a date in English by an LDML pattern; `{ordinal}` stands for st, nd, rd or th."""
    locale = Locale("en")
    return format_date(day, pattern.format(ordinal=_SUFFIX[locale.ordinal_form(day.day)]), locale=locale)


def korean(day: date, weekday: bool) -> str:
    """Write a date in Korean, with or without its weekday."""
    return format_date(day, "full" if weekday else "long", locale=Locale("ko"))


def alignment(source: str, target: str) -> list[list[int]]:
    """Return which characters of a date in English decide each character of the same date in Korean.

    A digit of the year, of the day, and of a month written as a number is decided by its own digit; a digit of a month
    written as a name by every letter of that name, and so is the weekday. What every target has (년, 월, 일, 요일, the
    spaces) is decided by none.

    Args:
        source: As `english` wrote it, in any case.
        target: As `korean` wrote it.

    Returns:
        For each character of `target` the places of the characters of `source`, in order.

    Raises:
        ValueError: One of the two is no such date.
    """
    parts = re.fullmatch(r"(\d{4})년 (\d{1,2})월 (\d{1,2})일(?: (.)요일)?", target)
    fields = _fields(source.lower())
    if parts is None or fields is None or (parts[4] is not None) != ("weekday" in fields):
        raise ValueError(f"{source!r}, {target!r}: must be the same date in English and in Korean")
    decided_by: list[list[int]] = [[] for _ in target]
    for number, field in enumerate(("year", "month", "day", "weekday"), start=1):
        for place in range(*parts.span(number)) if parts[number] else ():
            letters = fields[field]
            digit = len(letters) - (parts.end(number) - place)  # counted from the end: a source writes 03 for 3
            decided_by[place] = [letters[digit]] if source[letters[0]].isdigit() else letters
    return decided_by


def _fields(source: str) -> dict[str, list[int]] | None:
    """Return the places of year, month, day and (where it is named) weekday in a date in lower case; None: it is none."""
    names = Locale("en")
    words = {name: "|".join(_longest_first(getattr(names, name)["format"])) for name in ("months", "days")}
    numeric = re.search(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)", source)
    month = numeric or re.search(rf"\b(?P<month>{words['months']})\b", source)
    day = numeric or re.search(r"\b(?P<day>\d{1,2})(?:st|nd|rd|th)?\b", source)
    year = numeric or re.search(r"\b(?P<year>\d{4})\b", source)
    if year is None or month is None or day is None:
        return None
    spans = {"year": year.span("year"), "month": month.span("month"), "day": day.span("day")}
    if weekday := re.search(rf"\b(?:{words['days']})\b", source):
        spans["weekday"] = weekday.span()
    return {field: list(range(*span)) for field, span in spans.items()}


def _longest_first(names: dict[str, dict[int, str]]) -> list[str]:
    """Return the wide and abbreviated names of months or weekdays, in lower case: "sept" before "sep"."""
    return sorted({name.lower() for width in ("wide", "abbreviated") for name in names[width].values()}, key=len)[::-1]


def _pairs(days: list[date], size: int, recased: float, random: np.random.Generator) -> Rows:
    """Draw days (each once, if there are enough), a format for each, and now and then a change of case."""
    require(len(days) > 0, "first_year", "too few years", "must leave days for every split")
    chosen = random.choice(len(days), size, replace=size > len(days))
    formats = random.integers(len(ENGLISH_DATES), size=size)
    cases = random.random(size)
    rows: Rows = {"source": [], "target": []}
    for number, pattern, case in zip(chosen, (ENGLISH_DATES[index] for index in formats), cases, strict=True):
        source = english(days[number], pattern)
        if case < recased:
            source = source.lower() if case < recased / 2 else source.upper()
        rows["source"].append(source)
        rows["target"].append(korean(days[number], weekday="E" in pattern))
    return rows


def with_gold(size: int) -> list[str]:
    """Return pairs of the test days as lines of JSON: `source`, `target` and `gold`, their `alignment`."""
    rows = dates(train=1, validation=1, test=size)["test"]
    pairs = zip(rows["source"], rows["target"], strict=True)
    return as_lines((source, target, alignment(source, target)) for source, target in pairs)


if __name__ == "__main__":
    print_gold("dates", with_gold)
