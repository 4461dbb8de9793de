"""What a tokenizer puts around a text: read from any tokenizer, and given to one that puts something else there."""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tokenizer.special import ROLES, TEMPLATES

_PROBES = ("a", "1", ".", "\u00e9", "\uac00", "\u4e00")


def processor(
    template: str, ids: Mapping[str, int], names: Mapping[str, str] | None = None
) -> processors.PostProcessor:
    """Return what puts a template around texts.

    Args:
        template: one of `TEMPLATES`.
        ids: token -> id, of every token that may stand there.
        names: our name of a token -> its name in this tokenizer, where the two differ.
    """

    def named(line: str) -> Iterator[str]:
        for token, _, kind in (part.rpartition(":") for part in line.split()):
            yield f"{(names or {}).get(token, token)}:{kind}"

    single, pair = (list(named(line)) for line in TEMPLATES[template])
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=list(ids.items()))


def options(template: str) -> dict[str, Any]:
    """Return what a Hugging Face reader has to know of a template."""
    types = ["token_type_ids"] if template == "encoder" else []
    return {
        "model_input_names": ["input_ids", *types, "attention_mask"],
        # Generation continues at the right end of a prompt, so a batch of prompts is padded on the left.
        "padding_side": "left" if template == "causal" else "right",
    }


def around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that a tokenizer puts before and after a text."""
    for probe in _PROBES:
        bare = tokenizer(probe, add_special_tokens=False)["input_ids"]
        whole = tokenizer(probe)["input_ids"]
        for begin in range(len(whole) - len(bare) + 1):
            if bare and whole[begin : begin + len(bare)] == bare:
                return whole[:begin], whole[begin + len(bare) :]
    return [], tokenizer("")["input_ids"]


def fits(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    """Tell whether a tokenizer puts around a text what a template does.

    For `seq2seq` it is enough that the end token follows the text: a start token before it, or a language after it, is learnt.
    """
    before, after = around(tokenizer)
    if template == "seq2seq":
        return tokenizer.eos_token_id in after
    if template == "encoder":
        return (before, after) == ([tokenizer.cls_token_id], [tokenizer.sep_token_id])
    return not before and not after


def with_template(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer with the same ids that puts a template around a text instead of what it put there.

    It is of the plain class: those of single models set their own template again when they are loaded.

    Args:
        tokenizer: has the roles of the template.
        template: one of `TEMPLATES`.
    """
    roles = {role: getattr(tokenizer, role) for role in ROLES if getattr(tokenizer, role) is not None}
    names = {ROLES[role]: token for role, token in roles.items()}
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.post_processor = processor(template, {token: core.token_to_id(token) for token in roles.values()}, names)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **roles,
        **options(template),
        extra_special_tokens=extra_special(tokenizer),
        model_max_length=tokenizer.model_max_length,
        truncation_side=tokenizer.truncation_side,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        split_special_tokens=tokenizer.split_special_tokens,
    )


def extra_special(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Return the special tokens that have no role, such as `<2ko>`, sorted."""
    return sorted(set(tokenizer.all_special_tokens) - {getattr(tokenizer, role) for role in ROLES})
