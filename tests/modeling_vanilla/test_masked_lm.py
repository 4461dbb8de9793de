"""The masked language model's training mode computes logits of the labelled places only; its loss must not notice."""

import pytest
import torch

from modeling_vanilla import VanillaConfig, VanillaForMaskedLM


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VanillaForMaskedLM(VanillaConfig.tiny(variant="encoder", dropout=0.0, label_smoothing=0.0))


def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, 97, (3, 11), generator=generator)
    labels = torch.where(torch.rand(ids.shape, generator=generator) < 0.3, ids, -100)
    return ids, labels


def test_training_and_evaluation_give_the_same_loss_and_gradients(model):
    ids, labels = batch()
    results = []
    for training in (True, False):
        model.train(training).zero_grad()
        output = model(input_ids=ids, labels=labels)
        output.loss.backward()
        results.append((output, {name: p.grad.clone() for name, p in model.named_parameters()}))
    (trained, train_grads), (evaluated, eval_grads) = results
    torch.testing.assert_close(trained.loss, evaluated.loss)
    torch.testing.assert_close(train_grads, eval_grads)
    assert evaluated.logits.shape == (3, 11, 97)
    torch.testing.assert_close(trained.logits, evaluated.logits[labels != -100])


def test_a_batch_without_labels_costs_nothing_and_teaches_nothing(model):
    ids, _ = batch()
    loss = model.train()(input_ids=ids, labels=torch.full_like(ids, -100)).loss
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
