"""Builders: texts in, a stock Hugging Face fast tokenizer out.

What a round trip `decode(encode(text))` promises, where "the text" is the text in the form that `normalize` names (the
composed one, NFC, by default; as it stands for `byte_bpe`), before lower-casing (which each kind can do):

- `bpe`: the text, but for one leading space and for characters that never occurred while building (printable
  ASCII, tab and newline always count as seen). U+2581, which stands for the space inside, comes back as a space.
- `byte_bpe`: the text, byte for byte, whatever it holds; with `add_prefix_space`, but for one leading space.
- `wordpiece`: the words and punctuation marks in order, one space between any two and within a word after each 100
  characters; control characters are dropped. For models that read, not for those that write.
- `char`: the text, for the characters seen while building; every code point, newline included, is one token. With
  `add_prefix_space`, but for one leading space.

An unknown character becomes `<unk>`: one each, but for `wordpiece`, where the whole word does.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from tokenizer.pieces import for_training
from tokenizer.scripts import LONGEST_WORD, cuts_of_runs
from tokenizer.special import FORMS, KEEP_SPACES, KINDS, MASK, ROLES, SPECIAL_TOKENS, TEMPLATES, UNK, form_for
from tokenizer.templates import options, processor
from tokenizer.wordpiece import train_wordpiece

_ASCII = [chr(code) for code in range(32, 127)]
_SPACE = "\u2581"
# Inside one word-sized piece, punctuation, symbols, digits and white space other than the space stand alone, so that
# "dog." and "dog" share a token and a number that was never seen is still spelled out. A mark keeps the space before
# it, as a word does; a run of marks may become one token ("...").
_MARKS = rf"{_SPACE}?[\p{{P}}\p{{S}}&&[^{_SPACE}]]+|{_SPACE}?\p{{N}}|[^\S{_SPACE}]"


def build(
    kind: str,
    texts: Iterable[str],
    vocab_size: int,
    template: str,
    *,
    lowercase: bool = False,
    normalize: str | None = None,
    min_frequency: int = 2,
    add_prefix_space: bool = False,
    show_progress: bool = True,
    model_max_length: int | None = None,
) -> PreTrainedTokenizerFast:
    """Build a tokenizer from texts; the same texts give the same tokenizer.json.

    Args:
        kind: `bpe` (Sennrich et al. 2016, one vocabulary for source and target as in Vaswani et al. 2017, sec. 5.1),
            `byte_bpe` (Radford et al. 2019), `wordpiece` (Schuster and Nakajima 2012, as in BERT) or `char`.
        texts: read once; texts of both languages for a shared vocabulary.
        vocab_size: most tokens, special ones included. Little text may give fewer.
        template: `seq2seq` (`A </s>`), `encoder` (`<cls> A <sep>`) or `causal` (nothing added). Under `seq2seq` and
            `causal` a special token typed in a text stays text. Under `encoder` it is read as special, because the
            fill-mask pipeline needs `<mask>`; pass `split_special_tokens=True` with text that others typed.
        lowercase: fold case before anything else but `normalize`.
        normalize: form of Unicode that every text is brought into: `nfc` (composed), `nfd` (decomposed) or `none` (as it
            stands); None = `nfc`, but for `byte_bpe`, which knows every text, `none`.
        min_frequency: merge only what occurs so often; `char` ignores it.
        add_prefix_space: begin every text with a space, for `byte_bpe` and `char`: to both a space is a character of the
            text, so that words given one by one (`is_split_into_words=True`) get the ids of their sentence only with it,
            as in GPT-2's tokenizer. `bpe` and `wordpiece` give those ids as they are.
        show_progress: draw a bar on stderr.
        model_max_length: most tokens of one text, special ones included; None for no limit.

    Raises:
        ValueError: an argument is out of range, there is no text, or `vocab_size` cannot hold the characters.
    """
    _check(kind, vocab_size, template, min_frequency, model_max_length)
    if add_prefix_space and kind not in KEEP_SPACES:
        raise ValueError(
            f"add_prefix_space=True is for {' and '.join(KEEP_SPACES)}: {kind} gives split words their ids as it is"
        )
    form = form_for(kind, normalize)
    texts = _checked(texts)
    checked = for_training(map(_spaced, texts) if add_prefix_space else texts, kind)
    # The library's own bars cover every phase but need a terminal; elsewhere ours counts the texts.
    own_bar = kind in ("char", "wordpiece") or not sys.stderr.isatty()
    bar = tqdm(checked, desc=f"{kind}: texts", unit=" texts", disable=not (show_progress and own_bar), file=sys.stderr)
    core = _BUILDERS[kind](bar, vocab_size, min_frequency, _steps(form, lowercase), show_progress and not own_bar)
    size = core.get_vocab_size()
    if size > vocab_size:
        raise ValueError(f"vocab_size={vocab_size} is too small: the special tokens and the characters need {size}")
    if add_prefix_space:
        _begin_with_a_space(core)
    return _wrap(core, template, model_max_length)


def _spaced(text: str) -> str:
    return text if text.startswith(" ") else f" {text}"


def _begin_with_a_space(core: Tokenizer) -> None:
    """Make every text begin with a space; each word counts as a text where words are given one by one.

    Metaspace with a space for its mark, since ByteLevel's own prefix would also follow every special token in a text.
    """
    space = pre_tokenizers.Metaspace(" ", prepend_scheme="first", split=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([space, core.pre_tokenizer] if core.pre_tokenizer else [space])
    core.decoder = decoders.Sequence([core.decoder, decoders.Fuse(), decoders.Strip(" ", 1, 0)])


def write(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write the files of a tokenizer into a folder, its class by the name that transformers 4 and 5 both read.

    `save_pretrained` of transformers 5 writes TokenizersBackend, which 4 does not know; the rest of the files are the same.
    """
    tokenizer.save_pretrained(folder)
    path = Path(folder) / "tokenizer_config.json"
    name = '"tokenizer_class": "{}"'.format
    settings = path.read_text(encoding="utf-8")
    path.write_text(settings.replace(name("TokenizersBackend"), name("PreTrainedTokenizerFast")), encoding="utf-8")


def save(tokenizer: PreTrainedTokenizerFast, output: str | Path) -> Path:
    """Write the tokenizer as a whole or not at all, into a folder that is new or empty.

    Raises:
        ValueError: `output` holds something, or is no folder.
        OSError: it cannot be written; nothing of it is left.
    """
    output = Path(output).resolve()
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        write(tokenizer, staged)
        staged.chmod(0o777 & ~_umask())  # mkdtemp makes folders that only their owner can read
        os.replace(staged, output)
    except Exception as error:  # the library reports a full disk with a bare Exception, Python without the path
        raise OSError(f"{output}: not written: {error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return output


def check_output(output: Path) -> None:
    """Refuse to write over anything.

    Raises:
        ValueError: `output` holds something, or is no folder.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is a file, the output must be a new or empty folder")
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"{output}: the folder is not empty, the output must be a new or empty folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check(kind: str, vocab_size: int, template: str, min_frequency: int, model_max_length: int | None) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}")
    if template not in TEMPLATES:
        raise ValueError(f"template={template!r} must be one of {', '.join(TEMPLATES)}")
    if vocab_size <= len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size={vocab_size} must be more than the {len(SPECIAL_TOKENS)} special tokens")
    if min_frequency < 1:
        raise ValueError(f"min_frequency={min_frequency} must be at least 1")
    if model_max_length is not None and model_max_length < 1:
        raise ValueError(f"model_max_length={model_max_length} must be at least 1")


def _checked(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts; a wrong one is named by its number, and none at all is an error."""
    empty = True
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):  # a ValueError like every other bad input: the caller reports those
            raise ValueError(f"text {number}: {text!r} is a {type(text).__name__}, must be a string")  # noqa: TRY004
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"text {number}: holds the lone surrogate {text[error.start]!r}, must be Unicode"
            ) from error
        empty = empty and not text.strip()
        yield text
    if empty:
        raise ValueError("no text to build from: every text is empty or blank")


def _special_tokens(strip_before_mask: bool) -> list[AddedToken]:
    """Return the special tokens by id. Where a word owns the space before it, so must a mask that stands for a word."""
    return [AddedToken(token, special=True, lstrip=strip_before_mask and token == MASK) for token in SPECIAL_TOKENS]


_Steps = list[normalizers.Normalizer]


def _steps(form: str, lowercase: bool) -> _Steps:
    """Return what is done to a text before it is cut into words."""
    steps: _Steps = [] if form == "none" else [FORMS[form]()]
    return [*steps, normalizers.Lowercase()] if lowercase else steps


def _folds_case(steps: _Steps) -> bool:
    return any(isinstance(step, normalizers.Lowercase) for step in steps)


def _bpe(texts: Iterable[str], vocab_size: int, min_frequency: int, steps: _Steps, show: bool) -> Tokenizer:
    core = Tokenizer(models.BPE(unk_token=UNK))
    core.normalizer = normalizers.Sequence(steps)
    splitters = [
        pre_tokenizers.Metaspace(_SPACE, prepend_scheme="first"),
        pre_tokenizers.Split(Regex(_MARKS), "isolated"),
    ]
    core.decoder = decoders.Metaspace(_SPACE, prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=show,
        max_token_length=LONGEST_WORD,
        special_tokens=_special_tokens(strip_before_mask=True),
        initial_alphabet=[_SPACE, "\t", "\n", *_known_ascii(steps)],
    )
    # What is learnt from is cut further than what is read: a token stays short, a text without spaces keeps its context.
    bounded = pre_tokenizers.Split(Regex(cuts_of_runs(f"{_SPACE}?", r"[\s\S]")), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([*splitters, bounded])
    core.train_from_iterator(texts, trainer)
    core.pre_tokenizer = pre_tokenizers.Sequence(splitters)
    return core


def _known_ascii(steps: _Steps) -> list[str]:
    """Return the printable ASCII characters that the model can meet; the space never arrives as itself."""
    return [char for char in _ASCII if char != " " and not (_folds_case(steps) and char.isupper())]


def _byte_bpe(texts: Iterable[str], vocab_size: int, min_frequency: int, steps: _Steps, show: bool) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence(steps)
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=show,
        max_token_length=LONGEST_WORD,
        special_tokens=_special_tokens(strip_before_mask=True),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    bounded = pre_tokenizers.Split(Regex(cuts_of_runs(" ?", r"\S", r"\s")), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([bounded, splitter])
    core.train_from_iterator(texts, trainer)
    core.pre_tokenizer = splitter
    return core


def _wordpiece(texts: Iterable[str], vocab_size: int, min_frequency: int, steps: _Steps, show: bool) -> Tokenizer:
    # Accents stay: taking them off goes through the decomposed form, which takes Hangul syllables apart.
    clean = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=_folds_case(steps)
    )
    normalizer = normalizers.Sequence([*(step for step in steps if not _folds_case([step])), clean])
    # The model makes a longer word one <unk>, whatever it consists of.
    short = pre_tokenizers.Split(Regex(rf"[\s\S]{{{LONGEST_WORD}}}"), "isolated")
    splitter = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), short])
    vocab = train_wordpiece(texts, normalizer, splitter, vocab_size, min_frequency, _known_ascii(steps), show)
    core = Tokenizer(models.WordPiece(vocab, unk_token=UNK, max_input_chars_per_word=LONGEST_WORD))
    core.normalizer = normalizer
    core.pre_tokenizer = splitter
    # cleanup=True would also turn "do not" into "don't".
    core.decoder = decoders.WordPiece(cleanup=False)
    core.add_special_tokens(_special_tokens(strip_before_mask=False))
    return core


def _char(texts: Iterable[str], vocab_size: int, min_frequency: int, steps: _Steps, show: bool) -> Tokenizer:
    normalizer = normalizers.Sequence(steps)
    seen: set[str] = set()
    for text in texts:
        seen.update(normalizer.normalize_str(text))
    # BPE without merges: each character is a token of its own, at any length of text, without a splitting pass.
    vocab = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *sorted(seen)])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token=UNK))
    core.normalizer = normalizer
    core.decoder = decoders.Fuse()
    core.add_special_tokens(_special_tokens(strip_before_mask=False))
    return core


_BUILDERS: dict[str, Callable[[Iterable[str], int, int, _Steps, bool], Tokenizer]] = {
    "bpe": _bpe,
    "byte_bpe": _byte_bpe,
    "wordpiece": _wordpiece,
    "char": _char,
}


def _wrap(core: Tokenizer, template: str, model_max_length: int | None) -> PreTrainedTokenizerFast:
    """Add the template and what a Hugging Face reader has to know."""
    core.post_processor = processor(template, {token: core.token_to_id(token) for token in SPECIAL_TOKENS})
    limit = {} if model_max_length is None else {"model_max_length": model_max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **ROLES,
        **limit,
        **options(template),
        clean_up_tokenization_spaces=False,
        split_special_tokens=template != "encoder",
    )
