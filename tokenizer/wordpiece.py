"""WordPiece training that gives the same vocabulary every time.

The `tokenizers` library numbers the `##` pieces in the order of a randomly seeded hash table, and its merges break
ties by those numbers: two runs over one text give two vocabularies. Here each character at the start of a word and
each one inside a word gets a private code point, so that plain BPE, which is deterministic, does the same training.
"""

from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

from tokenizer.scripts import parts
from tokenizer.special import SPECIAL_TOKENS

PREFIX = "##"

_FIRST_CODE, _LAST_CODE = 0xF0000, 0x10FFFF  # Unicode's private planes 15 and 16


class _Codes:
    """Private code points: for each character an even one at a word's start, the odd one after it inside a word."""

    def __init__(self, known: Iterable[str]) -> None:
        self._numbers: dict[str, int] = {}
        self.start = _Table(self, 0)
        self.inside = _Table(self, 1)
        for char in known:
            self.code(char, 0)

    def code(self, char: str, inside: int) -> int:
        """Return the code point of a character, a new one at first sight."""
        number = self._numbers.setdefault(char, len(self._numbers))
        code = _FIRST_CODE + 2 * number + inside
        if code > _LAST_CODE:
            raise ValueError(f"kind wordpiece: more than {number} different characters in the texts")
        return code

    def singles(self) -> list[str]:
        """Return every character in both forms, sorted: a character that was seen anywhere is known everywhere."""
        return [prefix + char for char in sorted(self._numbers) for prefix in ("", PREFIX)]

    def pieces(self, coded: Iterable[str]) -> list[str]:
        """Return the WordPiece spelling of coded tokens."""
        chars = list(self._numbers)
        offsets = [[ord(code) - _FIRST_CODE for code in token] for token in coded]
        return [PREFIX * (token[0] % 2) + "".join(chars[offset // 2] for offset in token) for token in offsets]


class _Table(dict[int, int]):
    """A table for str.translate that fills itself."""

    def __init__(self, codes: _Codes, inside: int) -> None:
        super().__init__()
        self._codes, self._inside = codes, inside

    def __missing__(self, key: int) -> int:
        self[key] = self._codes.code(chr(key), self._inside)
        return self[key]


def _coded(word: str, codes: _Codes) -> Iterator[str]:
    """Yield the parts of a word that are learnt from one by one, in private code points."""
    first, *others = parts(word)
    yield first[0].translate(codes.start) + first[1:].translate(codes.inside)
    for part in others:
        yield part.translate(codes.inside)


def train_wordpiece(
    texts: Iterable[str],
    normalizer: Normalizer,
    splitter: PreTokenizer,
    vocab_size: int,
    min_frequency: int,
    known: Iterable[str],
    show_progress: bool,
) -> dict[str, int]:
    """Learn word pieces by merging the most frequent neighbours (Schuster and Nakajima 2012; Sennrich et al. 2016).

    Args:
        texts: read once.
        normalizer: applied to each text.
        splitter: cuts a text into words.
        vocab_size: most tokens; the result is larger where the characters alone need more.
        min_frequency: merge only what occurs so often.
        known: characters that are in the vocabulary even if no text has them.
        show_progress: let the library draw its bars.

    Returns:
        The vocabulary: special tokens, every character in both forms, then merged pieces in the order of merging.
    """
    codes = _Codes(known)

    def coded() -> Iterator[str]:
        for text in texts:
            words = splitter.pre_tokenize_str(normalizer.normalize_str(text))
            yield " ".join(part for word, _ in words for part in _coded(word, codes))

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=show_progress,
    )
    core.train_from_iterator(coded(), trainer)
    learned = sorted(core.get_vocab().items(), key=lambda item: item[1])
    singles = codes.singles()
    merged = codes.pieces(token for token, _ in learned[len(SPECIAL_TOKENS) :] if len(token) > 1)
    room = max(0, vocab_size - len(SPECIAL_TOKENS) - len(singles))
    return {token: index for index, token in enumerate([*SPECIAL_TOKENS, *singles, *merged[:room]])}
