# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Losses against section 5.4 written out in Python floats, and the one shift of the labels.

B batch, T length, V vocabulary, C classes.
"""

import math

import pytest
import torch

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForSequenceClassification,
    losses,
)
from modeling_vanilla.losses import classification_loss, linear_loss, reduce, shifted, token_loss

B, T, V, C = 2, 5, 31, 7
HEADS = {"seq2seq": VanillaForConditionalGeneration, "causal": VanillaForCausalLM, "masked": VanillaForMaskedLM}
VARIANTS = {"seq2seq": "encoder-decoder", "causal": "decoder", "masked": "encoder"}


def log_probabilities(scores: list[float]) -> list[float]:
    top = max(scores)
    total = top + math.log(sum(math.exp(s - top) for s in scores))
    return [s - total for s in scores]


def smoothed(scores: list[float], label: int, mass: float) -> float:
    """Cross-entropy against (1 - mass) on the label plus mass / V on every entry, the label among them."""
    logs = log_probabilities(scores)
    return -sum(((1 - mass) * (i == label) + mass / len(logs)) * p for i, p in enumerate(logs))


def expected(logits: torch.Tensor, labels: torch.Tensor, mass: float = 0.0) -> tuple[float, int]:
    terms = [
        smoothed(s, y, mass)
        for s, y in zip(logits.double().flatten(0, -2).tolist(), labels.flatten().tolist(), strict=True)
        if y != -100
    ]
    return sum(terms), len(terms)


def draw() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels, the second row with fewer real labels than the first."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(V, (B, T), generator=generator)
    labels[0, 1], labels[1, 2:] = -100, -100
    return 3 * torch.randn(B, T, V, generator=generator), labels


@pytest.mark.parametrize("mass", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_token_loss_is_the_formula(mass, dtype):
    logits, labels = draw()
    logits = logits.to(dtype)
    total, count = token_loss(logits, labels, mass)
    want, want_count = expected(logits, labels, mass)
    assert count.item() == want_count == 6
    assert total.dtype == torch.float32 and total.item() == pytest.approx(want, rel=1e-6)


def test_labels_move_to_the_places_that_predict_them():
    logits, labels = draw()
    total, count = token_loss(logits, shifted(labels), 0.1)
    want = expected(logits[:, :-1], labels[:, 1:], 0.1)
    assert (total.item(), count.item()) == (pytest.approx(want[0], rel=1e-6), want[1])


@pytest.mark.parametrize("mass", [0.0, 0.1])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [3, 2 * losses.ROWS + 5])
def test_the_loss_without_logits_is_the_loss_with_them(mass, bias, rows):
    """Value and gradients, in float64; more rows than fit one round, the last round not full, some labels ignored."""
    torch.manual_seed(0)
    head = torch.nn.Linear(24, V, bias=bias).double()
    states = torch.randn(rows, 24, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(V, (rows,)).masked_fill(torch.rand(rows) < 0.3, -100)
    labels[0] = 4
    weights = [states, *head.parameters()]
    total, count = token_loss(head(states), labels, mass)  # in fp32
    expected_total = torch.nn.functional.cross_entropy(head(states), labels, reduction="sum", label_smoothing=mass)
    gradients = torch.autograd.grad(3 * expected_total, weights)
    mine, mine_count = linear_loss(states, head, labels, mass)
    torch.testing.assert_close(mine, total)
    assert mine_count == count
    for gradient, own in zip(gradients, torch.autograd.grad(3 * mine, weights), strict=True):
        torch.testing.assert_close(own, gradient, atol=1e-5, rtol=1e-5)  # its logits are in fp32
    assert linear_loss(states.detach(), head.requires_grad_(False), labels)[0].requires_grad is False


@pytest.mark.parametrize("name", ["seq2seq", "causal"])
def test_a_model_that_skips_its_logits(name):
    torch.manual_seed(0)
    config = VanillaConfig(
        variant=VARIANTS[name], vocab_size=V, d_model=24, d_ff=29, num_layers=1, num_heads=4, label_smoothing=0.1
    )
    model, (_, labels) = HEADS[name](config), draw()
    inputs = {"input_ids": torch.randint(4, V, (B, T)), "labels": labels}
    for training in (True, False):
        model.train(training)
        torch.manual_seed(1)
        plain = model(**inputs, num_items_in_batch=5)
        plain.loss.backward()
        expected_slopes = {n: w.grad.clone() for n, w in model.named_parameters()}
        model.zero_grad()
        torch.manual_seed(1)
        skipped = model(**inputs, num_items_in_batch=5, skip_logits=True)
        skipped.loss.backward()
        assert skipped.logits is None
        torch.testing.assert_close(skipped.loss, plain.loss)
        for n, weight in model.named_parameters():
            torch.testing.assert_close(weight.grad, expected_slopes[n], atol=1e-6, rtol=1e-4)
        model.zero_grad()
    target = {"decoder_input_ids": labels.clamp(min=4)} if name == "seq2seq" else {}
    assert model(inputs["input_ids"], **target, skip_logits=True).logits is not None  # there is no loss to give
    model.lm_head.register_forward_hook(lambda module, args, output: output * 2)
    assert model(**inputs, skip_logits=True).logits is not None  # a hook is obeyed
    with torch.autocast("cpu", torch.bfloat16):
        hooked = model.lm_head._forward_hooks
        hooked.clear()
        loss = model(**inputs, skip_logits=True).loss
        loss.backward()
    torch.testing.assert_close(loss, model(**inputs).loss, atol=0.05, rtol=0.05)


def test_no_labels_at_all_is_no_loss_without_logits_too():
    head, states = torch.nn.Linear(24, V), torch.randn(3, 24, requires_grad=True)
    total, count = linear_loss(states, head, torch.full((3,), -100))
    total.backward()
    assert (total.item(), count.item(), states.grad.abs().sum().item()) == (0.0, 0, 0.0)


@pytest.mark.parametrize("items", [None, 9, torch.tensor(9)], ids=["mean", "int", "tensor"])
def test_reduce_divides_the_sum_once(items):
    divided = reduce((torch.tensor(6.0), torch.tensor(4)), items)
    assert divided.item() == pytest.approx(6 / (4 if items is None else 9))


def model_and_batch(head: str, randomise, **options):
    """A model with a loss, and a call with labels of unequal number in each row."""
    options = dict(vocab_size=V, label_smoothing=0.3, dropout=0.0, attn_implementation="eager") | options
    model = randomise(HEADS[head](VanillaConfig.tiny(variant=VARIANTS[head], **options)))
    ids, labels = torch.randint(1, V, (B, T)), torch.randint(1, V, (B, T))
    labels[0, 3], labels[1, 2:] = -100, -100
    return model, {"input_ids": ids, "labels": labels}


def beside(head: str, logits: torch.Tensor, labels: torch.Tensor):
    """Logits and the labels that they predict: only the causal head predicts one place ahead."""
    return (logits[:, :-1], labels[:, 1:]) if head == "causal" else (logits, labels)


@pytest.mark.parametrize("head", HEADS)
def test_heads_report_the_mean_and_smooth_in_training_only(head, randomise):
    """Without dropout the model says the same in both modes; in training it need not return every logit."""
    model, batch = model_and_batch(head, randomise)
    logits = model.eval()(**batch).logits.detach()
    assert logits.shape == (B, T, V)
    for mode, mass in (("eval", 0.0), ("train", 0.3)):
        loss = getattr(model, mode)()(**batch).loss
        total, count = expected(*beside(head, logits, batch["labels"]), mass)
        assert loss.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("as_tensor", [False, True], ids=["int", "tensor"])
def test_micro_batches_of_unequal_size_add_up(head, as_tensor, randomise):
    """Sums over one count: the loss and gradient of two calls are those of one; two means would not be."""
    model, batch = model_and_batch(head, randomise)
    model.train()
    count = beside(head, batch["input_ids"][..., None], batch["labels"])[1].ne(-100).sum()
    items = count if as_tensor else int(count)
    whole = model(**batch)
    whole.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = 0.0
    for row in range(B):
        part = model(**{k: v[row : row + 1] for k, v in batch.items()}, num_items_in_batch=items)
        part.loss.backward()
        total += part.loss.item()
    assert total == pytest.approx(whole.loss.item(), rel=1e-5)
    assert len(gradients) > 20
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-4, msg=name)
    means = [model(**{k: v[row : row + 1] for k, v in batch.items()}).loss.item() for row in range(B)]
    assert abs(sum(means) / B - whole.loss.item()) > 1e-3


@pytest.mark.parametrize("items", [None, 0, torch.tensor(0), 5], ids=str)
@pytest.mark.parametrize("head", HEADS)
def test_no_label_no_loss_and_no_gradient(head, items, randomise):
    """A batch whose labels are all -100 counts 0 labels, and that is also what the Trainer then hands over."""
    model, batch = model_and_batch(head, randomise)
    batch["labels"] = torch.full((B, T), -100)
    if head == "seq2seq":
        batch["decoder_input_ids"] = torch.ones(B, T, dtype=torch.long)
    out = model.train()(**batch, num_items_in_batch=items)
    assert out.loss.item() == 0
    out.loss.backward()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def successor_model(head: str, step: int):
    """A model made by hand: after (or, for the masked head, at) token k it is sure of token k + step.

    The stacks do nothing but hand on one-hot vectors: every projection into the residual stream is 0.
    """
    config = VanillaConfig.tiny(
        variant=VARIANTS[head],
        vocab_size=V,
        d_model=V,
        num_heads=1,
        positions="learned",
        norm_order="pre",
        scale_embeddings=False,
        tie_word_embeddings=False,
        label_smoothing=0.0,
        decoder_start_token_id=2,
    )
    model = HEADS[head](config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight", "positions.weight", ".bias")):
                parameter.zero_()
        for stack in (model.model.encoder, model.model.decoder):
            if stack is not None:
                stack.embed_tokens.weight.copy_(torch.eye(V))
        if head == "masked":
            model.transform.dense.weight.copy_(torch.eye(V))
        model.lm_head.weight.copy_(10 * torch.eye(V).roll(step, dims=0))
    return model.eval()


@pytest.mark.parametrize("head", HEADS)
def test_labels_are_shifted_exactly_once(head):
    """A perfect model scores almost 0 on the labels of its task, and badly on labels moved by one either way."""
    model = successor_model(head, step=0 if head == "masked" else 1)
    ids = torch.arange(3, 10).expand(B, -1)  # each token follows the one before it; <s> is 2
    batch = {"input_ids": ids, "labels": ids}
    losses = {0: model(**batch).loss.item()}
    if head == "seq2seq":
        batch["decoder_input_ids"] = ids - 1
    for move in (-1, 1):  # the token one place before, one place after
        losses[move] = model(**batch | {"labels": ids + move}).loss.item()
    assert losses[0] < 1e-3
    assert losses[-1] > 10 and losses[1] > 10


def test_decoder_inputs_are_the_labels_behind_the_start_token(randomise):
    model, batch = model_and_batch("seq2seq", randomise, decoder_start_token_id=2, pad_token_id=1)
    labels = torch.tensor([[9, 8, 7, 3, -100], [6, 3, -100, -100, -100]])
    made = model.prepare_decoder_input_ids_from_labels(labels)
    assert made.tolist() == [[2, 9, 8, 7, 3], [2, 6, 3, 1, 1]]
    assert labels[0, -1] == -100  # the caller's labels are untouched
    given = model(batch["input_ids"], decoder_input_ids=made, labels=labels)
    assert torch.equal(given.logits, model(batch["input_ids"], labels=labels).logits)


def test_classification_losses_are_their_formulas():
    logits = torch.randn(B, C, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([6, 0])
    total, count = classification_loss(logits, classes, "single_label_classification")
    assert (total.item(), count.item()) == (pytest.approx(expected(logits, classes)[0], rel=1e-6), B)
    several = (torch.arange(B * C).view(B, C) % 3 == 0).float()
    total, count = classification_loss(logits, several, "multi_label_classification")
    pairs = list(zip(logits.double().flatten().tolist(), several.flatten().tolist(), strict=True))
    want = sum(math.log1p(math.exp(-x)) if y else math.log1p(math.exp(x)) for x, y in pairs)
    assert (total.item(), count.item()) == (pytest.approx(want, rel=1e-6), B * C)
    numbers = several * 2 - 0.5
    total, count = classification_loss(logits, numbers, "regression")
    want = sum((x - 2 * y + 0.5) ** 2 for x, y in pairs)
    assert (total.item(), count.item()) == (pytest.approx(want, rel=1e-6), B * C)
    # (B,) numbers beside (B, 1) scores: B terms, not B * B.
    total, count = classification_loss(logits[:, :1], torch.tensor([1.0, -1.0]), "regression")
    want = (logits[0, 0].item() - 1) ** 2 + (logits[1, 0].item() + 1) ** 2
    assert (total.item(), count.item()) == (pytest.approx(want, rel=1e-5), B)


@pytest.mark.parametrize("variant", ["encoder-decoder", "encoder", "decoder"])
@pytest.mark.parametrize(
    ("num_labels", "labels", "problem_type"),
    [
        (1, torch.tensor([0.5, -2.0]), "regression"),
        (C, torch.tensor([6, 0]), "single_label_classification"),
        (C, torch.eye(C)[:B], "multi_label_classification"),
    ],
    ids=["regression", "single", "multi"],
)
def test_the_problem_type_follows_the_labels(variant, num_labels, labels, problem_type, randomise):
    config = VanillaConfig.tiny(variant=variant, vocab_size=V, num_labels=num_labels)
    model = randomise(VanillaForSequenceClassification(config))
    out = model(torch.randint(4, V, (B, T)), labels=labels)
    total, count = classification_loss(out.logits, labels, problem_type)
    assert out.logits.shape == (B, num_labels) and model.config.problem_type == problem_type
    assert out.loss.item() == pytest.approx((total / count).item(), rel=1e-6)
