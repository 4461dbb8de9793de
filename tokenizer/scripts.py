"""Scripts that put no space between words, and what bounds a word of which nothing else says where it ends.

A tokenizer that takes the space for the end of a word sees a whole sentence of Chinese, Japanese or Thai as one word. Where
that sentence occurs twice it becomes one token, and learning from a long one takes more than quadratic time.
"""

import re

# Han with its extensions, kana with the marks among them, bopomofo: a word has one to four characters, a name in kana eight.
_SHORT = "\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
_SHORT += "\U00020000-\U0003ffff"
# Thai, Lao, Tibetan, Burmese, Khmer: vowels and tones are characters of their own.
_LONG = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"

LONGEST_WORD = 100
"""Characters of a word of WordPiece, as in BERT, and of a token of the other kinds, whatever the script."""
LONGEST_RUN = 1000
"""Characters without a space that are learnt from together; the time to learn from a run grows faster than its length."""
_BOUNDS = ((_SHORT, 8), (_LONG, 16))
"""Characters that a token may have where no space ends a word; SentencePiece bounds every token at 16."""
_UNSPACED = re.compile(f"[{_SHORT}{_LONG}]")


def cuts_of_runs(before: str, *anything: str) -> str:
    """Return a pattern that matches, in a word that is too long, the parts that are learnt from one by one.

    A run that keeps within its bound has no match, so that whatever is written with spaces is learnt as a whole.

    Args:
        before: pattern of what may stand before a word and belongs to it.
        anything: patterns of a character; a run of characters of one of them is a word, in any script.
    """
    bounds = [(before, f"[{letters}]", most) for letters, most in _BOUNDS] + [
        ("", one, LONGEST_RUN) for one in anything
    ]
    return "|".join(f"{begin}{letter}{{{most}}}(?={letter})" for begin, letter, most in bounds)


_INSIDE = re.compile(cuts_of_runs("", "."), re.DOTALL)


def parts(word: str) -> list[str]:
    """Return the parts of a word that are learnt from one by one; most words are one part."""
    if len(word) <= LONGEST_RUN and not _UNSPACED.search(word):
        return [word]
    return [part for part in re.split(f"({_INSIDE.pattern})", word, flags=re.DOTALL) if part]
