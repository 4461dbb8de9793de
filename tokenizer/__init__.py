"""Tokenizers: built here with the `tokenizers` library, saved as plain tokenizer.json that any AutoTokenizer loads."""

from tokenizer.build import build, save, write
from tokenizer.special import FORMS, KEEP_SPACES, KINDS, SPECIAL_TOKENS, TEMPLATES, form_for
from tokenizer.templates import around, extra_special, fits, with_template
from tokenizer.texts import read_texts

__all__ = [
    "FORMS",
    "KEEP_SPACES",
    "KINDS",
    "SPECIAL_TOKENS",
    "TEMPLATES",
    "around",
    "build",
    "extra_special",
    "fits",
    "form_for",
    "read_texts",
    "save",
    "with_template",
    "write",
]
