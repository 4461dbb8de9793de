# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""TRL on the decoder: packing and its loss, completions, adapters, and preferences, without flash attention."""

import copy

import pytest
import torch
from torch.nn import functional as F

from modeling_vanilla import VanillaForCausalLM

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

KERNELS = ("eager", "sdpa")
PACKED = {
    "bfd": dict(packing=True, packing_strategy="bfd", max_length=36),
    "bfd_split": dict(packing=True, packing_strategy="bfd_split", max_length=36),
    "padding free": dict(padding_free=True, max_length=None),
    "padded": dict(max_length=None),
}


@pytest.fixture
def model_of(tiny, causal_tokenizer):
    """Return a factory of decoders; 37 positions, so that no packed row fits into one sequence's."""

    def make(**options) -> VanillaForCausalLM:
        return tiny("decoder", len(causal_tokenizer), dropout=0.0, jitter=0.15, max_position_embeddings=37, **options)

    return make


@pytest.fixture
def trainer_of(causal_tokenizer, tmp_path):
    """Return a factory of trainers of a model on rows.

    TRL writes the name of the end token behind each text, as text. This project's tokenizers take such a name for
    text unless they are told otherwise; the model would never learn to end.
    """
    tokenizer = copy.deepcopy(causal_tokenizer)
    tokenizer.split_special_tokens = False

    def make(model, rows, kind: str = "SFT", **options):
        given = dict(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=16,
            learning_rate=0.0,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        )
        own = {name: options.pop(name) for name in ("ref_model", "peft_config") if name in options}
        data = datasets.Dataset.from_list(rows)
        arguments = getattr(trl, f"{kind}Config")(**(given | options))
        return getattr(trl, f"{kind}Trainer")(
            model,
            args=arguments,
            train_dataset=data,
            eval_dataset=data,
            processing_class=tokenizer,
            **own,
        )

    return make


@pytest.fixture
def rows(texts):
    """Return sentences as rows of text."""
    return [{"text": text} for text in texts]


@pytest.fixture
def ids_of(causal_tokenizer):
    """Return the function that makes the ids of a text and the end token behind them."""
    return lambda text: [*causal_tokenizer(text)["input_ids"], causal_tokenizer.eos_token_id]


def log_p_of(model, ids: list[int]) -> torch.Tensor:
    """Return the log-probability of each token but the first, of one sequence alone."""
    with torch.no_grad():
        logits = copy.deepcopy(model).eval()(torch.tensor([ids])).logits[0]
    return F.log_softmax(logits[:-1].double(), -1).gather(-1, torch.tensor(ids[1:])[:, None]).flatten()


def mean_loss(model, sequences: list[list[int]]) -> float:
    return -torch.cat([log_p_of(model, ids) for ids in sequences]).mean().item()


def logged(trainer, key: str = "loss") -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("way", PACKED)
def test_packed_loss_is_that_of_separate_sequences(model_of, trainer_of, rows, ids_of, way, kernel):
    """Whatever shares a row, each token sees its own sequence alone; in training and in evaluation."""
    model = model_of(attn_implementation=kernel)
    expected = mean_loss(model, [ids_of(row["text"]) for row in rows])
    trainer = trainer_of(model, rows, **PACKED[way])
    (batch,) = trainer.get_train_dataloader()
    if way != "padded":
        assert batch["input_ids"].shape == (1, sum(len(ids_of(row["text"])) for row in rows))
        assert "attention_mask" not in batch
    trainer.train()
    assert logged(trainer) == pytest.approx([expected], rel=1e-5)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_wrapped_rows_are_read_as_they_stand(model_of, trainer_of, rows, ids_of):
    """This strategy cuts the text into equal pieces, through sentences and over their borders."""
    model = model_of()
    text = [token for row in rows for token in ids_of(row["text"])]
    pieces = [text[i : i + 32] for i in range(0, len(text), 32)]
    trainer = trainer_of(model, rows, packing=True, packing_strategy="wrapped", max_length=32)
    trainer.train()
    assert logged(trainer) == pytest.approx([mean_loss(model, pieces)], rel=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_steps_are_padded_steps(model_of, trainer_of, rows, checkpointing):
    """The same weights after three steps, whether rows were padded, laid end to end, or packed."""
    found = {}
    for way, options in PACKED.items():
        trainer = trainer_of(
            model_of(),
            rows,
            max_steps=3,
            learning_rate=0.3,
            optim="sgd",
            gradient_checkpointing=checkpointing,
            **options,
        )
        trainer.train()
        found[way] = trainer
    losses = logged(found["padded"])
    assert losses[2] < losses[0] - 0.05
    expected = dict(found.pop("padded").model.named_parameters())
    for trainer in found.values():
        assert logged(trainer) == pytest.approx(losses, rel=1e-4)
        for name, value in trainer.model.named_parameters():
            torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_training_lowers_the_loss(model_of, trainer_of, rows):
    trainer = trainer_of(model_of(), rows, max_steps=40, learning_rate=5e-3, **PACKED["bfd"])
    trainer.train()
    assert logged(trainer)[-1] < 0.6 * logged(trainer)[0]
    accuracy = logged(trainer, "mean_token_accuracy")
    assert accuracy[-1] > accuracy[0]


@pytest.mark.parametrize("way", ["bfd", "padded"])
def test_completions_alone_are_scored(model_of, trainer_of, texts, ids_of, way):
    """The prompt is read and not guessed, packed or not; the end is a part of the completion."""
    model, rows, found = model_of(), [], []
    for text in texts:
        first, rest = text.split(" ", 1)
        rows.append({"prompt": first, "completion": f" {rest}"})
        start = len(ids_of(first)) - 1
        assert ids_of(text)[:start] == ids_of(first)[:-1], "no token across the border"
        found.append(log_p_of(model, ids_of(text))[start - 1 :])
    trainer = trainer_of(model, rows, **PACKED[way])
    trainer.train()
    assert logged(trainer) == pytest.approx([-torch.cat(found).mean().item()], rel=1e-5)


def test_an_adapter_is_trained_on_packed_rows(model_of, trainer_of, rows):
    peft = pytest.importorskip("peft")
    before = {name: value.clone() for name, value in model_of().state_dict().items()}
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    trainer = trainer_of(model_of(), rows, max_steps=20, learning_rate=0.02, peft_config=config, **PACKED["bfd"])
    trainer.train()
    assert logged(trainer)[-1] < logged(trainer)[0] - 0.2
    base = trainer.model.unload()
    for name, value in base.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_preferences(model_of, trainer_of, ids_of):
    """The first loss is that of the formula, against another model; then the chosen answers win.

    Rafailov et al. 2023, eq. 7.
    """
    beta = 0.3
    rows = [
        {"prompt": "the dog", "chosen": " runs home", "rejected": " sings"},
        {"prompt": "Anna", "chosen": " reads the paper", "rejected": " is a red ball"},
        {"prompt": "snow", "chosen": " falls", "rejected": " walks on the river"},
    ]
    policy, reference = model_of(), model_of(initializer_range=0.1)

    def answer(model, row, key):
        return log_p_of(model, ids_of(row["prompt"] + row[key]))[len(ids_of(row["prompt"])) - 2 :].sum()

    margins = [
        sum(s * (answer(policy, row, k) - answer(reference, row, k)) for s, k in ((1, "chosen"), (-1, "rejected")))
        for row in rows
    ]
    expected = -F.logsigmoid(beta * torch.stack(margins)).mean().item()
    trainer = trainer_of(
        policy, rows, "DPO", ref_model=reference, beta=beta, max_steps=12, learning_rate=2e-3, max_length=30
    )
    trainer.train()
    assert logged(trainer)[0] == pytest.approx(expected, rel=1e-4)
    assert abs(expected - 0.6931) > 1e-3
    assert logged(trainer)[-1] < 0.5 * expected
    assert logged(trainer, "rewards/accuracies")[-1] == 1.0
    for name, value in model_of(initializer_range=0.1).state_dict().items():
        assert torch.equal(reference.state_dict()[name], value), "the reference stays as it was"
