# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Between Vanilla and BERT, RoBERTa, GPT-2, BART and Marian, and between the variants. Not copied beside saved weights."""

from .architectures import from_transformers, load, to_transformers
from .ctranslate2 import for_ctranslate2
from .variants import assemble, cut

__all__ = ["assemble", "cut", "for_ctranslate2", "from_transformers", "load", "to_transformers"]
