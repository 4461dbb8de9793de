"""Tokenizers: built here with the `tokenizers` library, saved as plain tokenizer.json that any AutoTokenizer loads."""

from tokenizer.build import build, save
from tokenizer.special import KINDS, SPECIAL_TOKENS, TEMPLATES, template_for
from tokenizer.texts import read_texts

__all__ = ["KINDS", "SPECIAL_TOKENS", "TEMPLATES", "build", "read_texts", "save", "template_for"]
