# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Models with a fault for the tests of the doctor, and what the doctor finds in them."""

from modeling_vanilla.doctor import Subject, examine

HEADS = {"encoder-decoder": "seq2seq", "encoder": "masked", "decoder": "causal"}
VARIANTS = tuple(HEADS)


def finding(subject: Subject, name: str):
    (found,) = examine(subject, [name])
    return found


def caught(subject: Subject, name: str):
    """Return the finding of a check that must fail by what it measured, not by an error."""
    found = finding(subject, name)
    assert found.outcome == "FAIL", found
    assert found.measured is not None, found
    return found


def before(model, change) -> None:
    """Let `change` have its way with the keywords of every call."""

    def hook(module, args, keywords):
        return args, change(dict(keywords))

    model.register_forward_pre_hook(hook, with_kwargs=True)


def after(model, change) -> None:
    """Let `change` alter the output of every call, knowing its keywords."""

    def hook(module, args, keywords, out):
        change(out, keywords)

    model.register_forward_hook(hook, with_kwargs=True)
