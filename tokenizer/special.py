"""Special tokens and templates: the one place that knows their strings, their ids and where they go.

Every kind of tokenizer gives the same ids to the same roles, and no two roles share an id. So a checkpoint keeps its
meaning when the kind changes, and the padding mask can never hide an end of sentence.
"""

from types import MappingProxyType

from tokenizers import normalizers

PAD, UNK, BOS, EOS, CLS, SEP, MASK = "<pad>", "<unk>", "<s>", "</s>", "<cls>", "<sep>", "<mask>"

SPECIAL_TOKENS = (PAD, UNK, BOS, EOS, CLS, SEP, MASK)
"""In the order of their ids: the position in this tuple is the id."""

PAD_ID, UNK_ID, BOS_ID, EOS_ID, CLS_ID, SEP_ID, MASK_ID = range(len(SPECIAL_TOKENS))

ROLES = MappingProxyType(
    {
        "pad_token": PAD,
        "unk_token": UNK,
        "bos_token": BOS,
        "eos_token": EOS,
        "cls_token": CLS,
        "sep_token": SEP,
        "mask_token": MASK,
    }
)
"""Hugging Face's name of each role."""

KINDS = ("bpe", "byte_bpe", "wordpiece", "char")
KEEP_SPACES = ("byte_bpe", "char")
"""Kinds to which a space is a character like any other."""

FORMS = MappingProxyType({"nfc": normalizers.NFC, "nfd": normalizers.NFD, "none": None})
"""Forms of Unicode that a text may be brought into; `none` leaves it as it stands."""

TEMPLATES = MappingProxyType(
    {
        "seq2seq": (f"$A:0 {EOS}:0", f"$A:0 {EOS}:0 $B:0 {EOS}:0"),
        "encoder": (f"{CLS}:0 $A:0 {SEP}:0", f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1"),
        "causal": ("$A:0", "$A:0 $B:0"),
    }
)
"""What is added around one text, and around a pair of texts; the digit is the token type id."""


def form_for(kind: str, normalize: str | None) -> str:
    """Return the form of Unicode that a kind of tokenizer brings a text into.

    Args:
        kind: of the tokenizer.
        normalize: one of `FORMS`; None = the composed one, for a kind that does not know every text.

    Raises:
        ValueError: there is no such form.
    """
    if normalize is None:
        return "none" if kind == "byte_bpe" else "nfc"
    if normalize not in FORMS:
        raise ValueError(f"normalize={normalize!r} must be one of {', '.join(FORMS)}")
    return normalize
