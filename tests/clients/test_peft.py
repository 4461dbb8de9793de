# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Adapters of PEFT on every variant and head: what they touch, what they leave, merging, saving, generating."""

import copy
import inspect

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

import modeling_vanilla as vanilla
from modeling_vanilla.cache_name import CACHE
from modeling_vanilla.embeddings import TokenEmbedding

peft = pytest.importorskip("peft")
# PEFT 0.21 calls a cache as transformers 5.23 did.
KNOWS_ONLY_THE_OLD_NAME = CACHE == "cache" and '"cache"' not in inspect.getsource(peft.peft_model)

CASES = {
    "translator": ("encoder-decoder", vanilla.VanillaForConditionalGeneration, "SEQ_2_SEQ_LM"),
    "language model": ("decoder", vanilla.VanillaForCausalLM, "CAUSAL_LM"),
    "masked": ("encoder", vanilla.VanillaForMaskedLM, None),
    "classifier": ("encoder", vanilla.VanillaForSequenceClassification, "SEQ_CLS"),
    "classifier of a decoder": ("decoder", vanilla.VanillaForSequenceClassification, "SEQ_CLS"),
    "classifier of both": ("encoder-decoder", vanilla.VanillaForSequenceClassification, "SEQ_CLS"),
    "tags": ("encoder", vanilla.VanillaForTokenClassification, "TOKEN_CLS"),
    "features": ("encoder", vanilla.VanillaModel, "FEATURE_EXTRACTION"),
}
# The heads of a fine-tuning are trained whole, beside the adapters.
HEADS = {"SEQ_CLS", "TOKEN_CLS"}
cases = pytest.mark.parametrize("case", CASES)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
V = 97


class Case:
    """A base model, its batch, and the rows that it learns from."""

    def __init__(self, name: str, tiny):
        self.variant, self.head, self.task = CASES[name]
        self.make = lambda **options: tiny(self.variant, V, self.head, jitter=0.1, **({"num_labels": 3} | options))
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(7, V, (8, 6), generator=generator)
        self.batch = {"input_ids": ids[:3], "attention_mask": torch.ones(3, 6, dtype=torch.long)}
        labels = ids
        if self.task == "SEQ_CLS":
            labels = torch.arange(8) % 3
        elif self.task == "TOKEN_CLS":
            labels = ids % 3
        elif self.task == "SEQ_2_SEQ_LM":
            self.batch["decoder_input_ids"] = ids[:3, :4]
        self.rows = [{"input_ids": row, "labels": label} for row, label in zip(ids, labels, strict=True)]

    def lora(self, **options):
        given = {"task_type": self.task, "r": 3, "target_modules": "all-linear", "lora_dropout": 0.1}
        if self.task == "TOKEN_CLS":  # PEFT finds the heads of sequence classifiers by itself, and no others
            given["exclude_modules"] = ["classifier"]
        return peft.LoraConfig(**(given | options))

    @torch.no_grad()
    def outputs(self, model) -> torch.Tensor:
        return model.eval()(**self.batch)[0]

    def train(self, model, folder, steps: int = 5, **options) -> Trainer:
        """Train with the Trainer; without a head, towards a number."""
        by_hand = None
        if self.task == "FEATURE_EXTRACTION":
            by_hand = lambda out, labels, num_items_in_batch=None: out[0][..., 0].mean()
        given = dict(max_steps=steps, learning_rate=0.05, report_to="none", use_cpu=True, disable_tqdm=True)
        given |= dict(save_strategy="no", logging_steps=1, output_dir=str(folder), per_device_train_batch_size=8)
        trainer = Trainer(
            model, TrainingArguments(**(given | options)), train_dataset=self.rows, compute_loss_func=by_hand
        )
        trainer.train()
        return trainer


@pytest.fixture
def case_of(tiny):
    """Return the function that makes a case."""
    return lambda name: Case(name, tiny)


def adapted(model) -> set[str]:
    """Return the names of the modules that an adapter was put around, as the base model has them."""
    names = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    return {name.removeprefix("base_model.model.") for name in names}


@cases
def test_all_linear_is_every_projection_and_no_head(case_of, case):
    """The matrix to the vocabulary is the embedding too, and the heads are trained whole."""
    case = case_of(case)
    base = case.make()
    linear = {name for name, module in base.named_modules() if isinstance(module, nn.Linear)}
    expected = {name for name in linear if not name.startswith(("lm_head", "classifier"))}
    assert any("self_attn.q_proj" in name for name in expected)
    assert any("feed_forward.fc2" in name for name in expected)
    model = peft.get_peft_model(base, case.lora())
    assert adapted(model) == expected
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    whole = {name for name in trained if "lora_" not in name}
    assert bool(whole) == (case.task in HEADS)
    assert all("classifier.modules_to_save" in name for name in whole)


@cases
def test_adapters_start_at_nothing_and_train_alone(case_of, tmp_path, case):
    case = case_of(case)
    expected = case.outputs(case.make())
    model = peft.get_peft_model(case.make(), case.lora())
    assert torch.equal(case.outputs(model), expected)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    case.train(model, tmp_path)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert (case.outputs(model) - expected).abs().max() > 0.01
    with model.disable_adapter():
        assert torch.equal(case.outputs(model), expected)


@cases
def test_merged_or_loaded_it_computes_the_same(case_of, tmp_path, case):
    case = case_of(case)
    model = peft.get_peft_model(case.make(), case.lora())
    case.train(model, tmp_path / "run")
    expected = case.outputs(model)
    model.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    loaded = peft.PeftModel.from_pretrained(case.make(), tmp_path / "adapter")
    assert torch.equal(case.outputs(loaded), expected)
    merged = model.merge_and_unload()
    assert type(merged) is case.head
    assert merged.state_dict().keys() == case.make().state_dict().keys()
    torch.testing.assert_close(case.outputs(merged), expected, **CLOSE)
    head = getattr(merged, "lm_head", None)
    assert head is None or head.weight is merged.get_input_embeddings().weight, "what was one matrix stays one"
    merged.save_pretrained(tmp_path / "merged")
    again = case.head.from_pretrained(tmp_path / "merged")
    assert torch.equal(case.outputs(again), case.outputs(merged))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("whole", [["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head"]], ids=" ".join)
@pytest.mark.parametrize("case", ["translator", "language model", "masked"])
def test_matrices_that_are_trained_whole_survive(case_of, tmp_path, case, whole, together):
    """PEFT trains copies, and says `tie_word_embeddings=False` where they need not stay one (`ensure_weight_tying`)."""
    case = case_of(case)
    options = {"target_modules": ["q_proj"], "lora_dropout": 0.0, "ensure_weight_tying": together}
    model = peft.get_peft_model(case.make(), case.lora(modules_to_save=list(whole), **options)).eval()
    if case.task is None and together:  # PEFT 0.21 would leave out its bias
        with pytest.raises(ValueError, match="lm_head has lost its bias, as it does by ensure_weight_tying"):
            case.outputs(model)
        return
    torch.testing.assert_close(case.outputs(model), case.outputs(case.make()), **CLOSE)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # stands for training
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    expected = case.outputs(model)
    assert (expected - case.outputs(case.make())).abs().max() > 0.01
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(case.make(), tmp_path / "adapter")
    torch.testing.assert_close(case.outputs(loaded), expected, **CLOSE)
    merged = model.merge_and_unload()
    torch.testing.assert_close(case.outputs(merged), expected, **CLOSE)
    merged.save_pretrained(tmp_path / "merged")
    again, info = case.head.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"]
    torch.testing.assert_close(case.outputs(again), expected, **CLOSE)
    stacks = [stack for stack in (again.model.encoder, again.model.decoder) if stack is not None]
    if together:
        assert all(stack.embed_tokens.weight is again.lm_head.weight for stack in stacks)


@pytest.mark.parametrize("case", ["translator", "language model"])
def test_named_projections_and_generation(case_of, tmp_path, case):
    """Queries and values alone, as in the paper of LoRA; adapted and merged models write the same ids."""
    case = case_of(case)
    model = peft.get_peft_model(case.make(), case.lora(target_modules=["q_proj", "v_proj"]))
    assert {name.split(".")[-1] for name in adapted(model)} == {"q_proj", "v_proj"}
    inputs = {name: case.batch[name] for name in ("input_ids", "attention_mask")}
    settings = dict(max_new_tokens=8, num_beams=3, no_repeat_ngram_size=1)
    before = model.generate(**inputs, **settings)
    assert torch.equal(before, case.make().generate(**inputs, **settings))
    case.train(model, tmp_path, steps=10)
    after = model.eval().generate(**inputs, **settings)
    assert after.tolist() != before.tolist()
    merged = copy.deepcopy(model).merge_and_unload()
    assert merged.generate(**inputs, **settings).tolist() == after.tolist()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("case", ["translator", "language model", "masked", "classifier"])
def test_checkpointing_with_a_frozen_base(case_of, tmp_path, case, reentrant):
    """Nothing before the first adapter wants a gradient, which reentrant checkpointing would take for no gradient."""
    case = case_of(case)
    found = []
    for options in (
        {},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": reentrant}},
    ):
        torch.manual_seed(0)
        model = peft.get_peft_model(case.make(dropout=0.0), case.lora(lora_dropout=0.0))
        case.train(model, tmp_path, steps=3, **options)
        found.append({name: p for name, p in model.named_parameters() if p.requires_grad})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("scale", [True, False], ids=["scaled", "unscaled"])
def test_an_adapter_of_the_embeddings_is_scaled_like_them(case_of, tmp_path, scale):
    """What LoRA adds to the token matrix is multiplied by sqrt(d_model) as well, or merging would change the model."""
    case = case_of("language model")
    options = dict(scale_embeddings=scale, tie_word_embeddings=False)
    model = peft.get_peft_model(
        case.make(**options), case.lora(target_modules=["embed_tokens", "q_proj"], lora_dropout=0.0)
    )
    (adapter,) = [m for m in model.modules() if hasattr(m, "lora_embedding_A") and len(m.lora_embedding_A)]
    assert isinstance(adapter.base_layer, TokenEmbedding)
    case.train(model, tmp_path)
    ids = case.batch["input_ids"]
    row = adapter.base_layer.weight + adapter.get_delta_weight("default")
    torch.testing.assert_close(adapter(ids), row[ids] * (24**0.5 if scale else 1), **CLOSE)
    expected = case.outputs(model)
    torch.testing.assert_close(case.outputs(model.merge_and_unload()), expected, **CLOSE)


def test_single_tokens_can_be_trained(case_of, tmp_path):
    """New words beside frozen ones, in the one matrix that is input and output."""
    case = case_of("language model")
    base = case.make()
    before = base.get_input_embeddings().weight.detach().clone()
    model = peft.get_peft_model(base, case.lora(target_modules=["q_proj"], trainable_token_indices=[11, 12]))
    case.train(model, tmp_path)
    expected = case.outputs(model)
    merged = model.merge_and_unload()
    changed = (merged.get_input_embeddings().weight != before).any(-1).nonzero().flatten().tolist()
    assert changed == [11, 12]
    assert torch.equal(merged.lm_head.weight, merged.get_input_embeddings().weight)
    torch.testing.assert_close(case.outputs(merged), expected, **CLOSE)


def prefix_of(cache, layers: int) -> torch.Tensor:
    """Return the keys and values of a cache as the table of PEFT's prefix tuning: (virtual tokens, layers * 2 * D)."""
    rows = [t for layer in cache.layers[:layers] for t in (layer.keys, layer.values)]  # each (1, H, P, K)
    return torch.stack(rows)[:, 0].permute(2, 0, 1, 3).flatten(1)


@pytest.mark.parametrize("case", ["translator", "language model"])
def test_a_prefix_of_real_tokens_is_those_tokens(case_of, case):
    """Prefix tuning puts keys and values before the text; those of real tokens must count as if the tokens stood there.

    Of the translator one layer: for a deeper one PEFT gives the layers of the decoder the rows of every second layer
    of its table, again and again.
    """
    case = case_of(case)
    layers = 1 if case.task == "SEQ_2_SEQ_LM" else 2
    base, prefix = case.make(num_layers=layers), torch.tensor([[2, 40, 41, 42]])
    batch = {name: value[:1] for name, value in case.batch.items()}
    config = peft.PrefixTuningConfig(task_type=case.task, num_virtual_tokens=4)
    key = "decoder_input_ids" if case.task == "SEQ_2_SEQ_LM" else "input_ids"
    before = {**batch, key: prefix, "attention_mask": batch["attention_mask"] if key[0] == "d" else None}
    with torch.no_grad():
        cache = base(**before, use_cache=True)[CACHE]
        whole = {**batch, key: torch.cat([prefix, batch[key]], 1), "attention_mask": before["attention_mask"]}
        expected = base(**whole).logits[:, 4:]
        plain = base(**batch).logits
        model = peft.get_peft_model(base, config).eval()
        table = model.prompt_encoder["default"].embedding.weight
        table.copy_(prefix_of(getattr(cache, "self_attention_cache", cache), layers))
        torch.testing.assert_close(model(**batch).logits, expected, **CLOSE)
        assert (plain - expected).abs().max() > 0.1
        if key == "input_ids":
            settings = dict(max_new_tokens=6, do_sample=False)
            if KNOWS_ONLY_THE_OLD_NAME:  # its prefix comes beside the cache of generate; stock models ignore it
                with pytest.raises(ValueError, match="two names of one input"):
                    model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **settings)
                return
            found = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **settings)
            model = model.get_base_model()
            assert found[:, 6:].tolist() == model.generate(whole["input_ids"], **settings)[:, 10:].tolist()


@pytest.mark.parametrize("masked", [True, False])
def test_an_encoder_refuses_a_prefix(case_of, masked):
    """It has no cache to put keys and values into; prompt tuning, below, is for it."""
    case = case_of("classifier")
    config = peft.PrefixTuningConfig(task_type=case.task, num_virtual_tokens=4)
    model = peft.get_peft_model(case.make(), config)
    refused = f"{CACHE} must be None with variant='encoder'"
    if KNOWS_ONLY_THE_OLD_NAME:  # it looks for it among the arguments of forward
        refused = "Model does not support past key values"
    with pytest.raises(ValueError, match=refused):
        model(**(case.batch if masked else {"input_ids": case.batch["input_ids"]}))


@pytest.mark.parametrize("case", ["translator", "language model", "classifier"])
def test_a_prompt_of_real_tokens_is_those_tokens(case_of, tmp_path, case):
    """Prompt tuning puts vectors before the source; those of real tokens must count as if the tokens stood there."""
    case = case_of(case)
    base, prompt = case.make(), torch.tensor([[40, 41, 42]])
    config = peft.PromptTuningConfig(task_type=case.task, num_virtual_tokens=3, num_transformer_submodules=1)
    whole = dict(case.batch)
    whole["input_ids"] = torch.cat([prompt.expand(3, 3), whole["input_ids"]], 1)
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    expected = base(**whole).logits
    plain = base(**case.batch).logits
    assert (plain - expected[:, -plain.shape[1] :]).abs().max() > 0.02
    vectors = base.get_input_embeddings()(prompt[0]).detach()
    model = peft.get_peft_model(base, config).eval()
    with torch.no_grad():  # as they enter the stack, times sqrt(d_model) where the model has it
        model.prompt_encoder["default"].embedding.weight.copy_(vectors)
    torch.testing.assert_close(model(**case.batch).logits, expected, **CLOSE)
    case.train(model, tmp_path)
    assert not torch.equal(model.prompt_encoder["default"].embedding.weight, vectors)
