"""Words to token ids, each word's label at its first token."""

from typing import TYPE_CHECKING

import numpy as np

from modeling_vanilla.losses import IGNORE
from train.data.examples import Examples, Ragged
from train.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_BATCH = 100
NO_WORD = -1
"""The word of a token that does not begin one."""


def encode(split: "Dataset", tokenizer: "PreTrainedTokenizerBase") -> Examples:
    """Turn the words of each row into ids; what looks like a special token in a word stays text.

    The other tokens of a word, and special tokens, have the label -100, which is ignored (Devlin et al. 2019, sec. 5.3). Of a
    word that the tokenizer makes no token of, such as a control character, nothing is learned; it counts as missed.

    Args:
        split: rows of `words` and `tags`.
        tokenizer: a fast one, which tells words from tokens.

    Returns:
        With the answers `labels`, and the origins `words`: at the first token of each word its number, `NO_WORD` elsewhere.

    Raises:
        UserError: a slow tokenizer.
    """
    if not tokenizer.is_fast:
        raise UserError(f"{type(tokenizer).__name__}: tagging needs a fast tokenizer (tokenizer.json)")
    ids, words, labels = [], [], []
    options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    for batch in split.select_columns(["words", "tags"]).iter(batch_size=_BATCH):
        made = tokenizer(batch["words"], is_split_into_words=True, split_special_tokens=True, **options)
        for row, tags in enumerate(batch["tags"]):
            owners = np.asarray([NO_WORD if one is None else one for one in made.word_ids(row)], dtype=np.int32)
            starts = np.where(owners != np.concatenate([[NO_WORD], owners[:-1]]), owners, NO_WORD).astype(np.int32)
            ids.append(np.asarray(made["input_ids"][row], dtype=np.int32))
            words.append(starts)
            labels.append(np.where(starts == NO_WORD, IGNORE, np.asarray(tags)[starts]).astype(np.int32))
    return Examples({"input_ids": Ragged(ids)}, {"labels": Ragged(labels)}, {"words": Ragged(words)})
