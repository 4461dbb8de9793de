"""How new weights are drawn, however a model comes to be: constructed, from a config, or with keys missing."""

import math
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForSeq2SeqLM

from modeling_vanilla import (
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForSequenceClassification,
    VanillaModel,
    VanillaPreTrainedModel,
)
from modeling_vanilla.embeddings import sinusoid_table

VARIANTS = ("encoder-decoder", "encoder", "decoder")
HEADS = {
    "encoder-decoder": VanillaForConditionalGeneration,
    "encoder": VanillaForMaskedLM,
    "decoder": VanillaForCausalLM,
}
# Large enough for statistics: the smallest matrix has 64 * 64 entries, whose deviation is known to about 1 %.
WIDE = {"vocab_size": 131, "d_model": 64, "d_ff": 96, "head_dim": 20, "max_position_embeddings": 70}


def construct(config, head):
    return head(config)


def from_config(config, head):
    return (AutoModelForSeq2SeqLM if head is VanillaForConditionalGeneration else AutoModel).from_config(config)


def from_nothing(config, head):
    """Load a checkpoint that lacks every key: each weight starts on the meta device and is initialised late."""
    return head.from_pretrained(None, config=config, state_dict={})


WAYS = [construct, from_config, from_nothing]


def writes(name: str, variant: str, layers: int) -> int:
    """Return how many sub-layers write into the stream that the weight `name` writes into, or 1 if it does not."""
    if not re.search(r"layers\.\d+\..*(out_proj|fc2)\.weight", name):
        return 1
    return layers * (3 if "decoder." in name and variant == "encoder-decoder" else 2)


def is_table(name: str) -> bool:
    return bool(re.search(r"embed_tokens|positions|types|lm_head", name))


def assert_normal(weight: torch.Tensor, std: float, name: str) -> None:
    assert weight.std().item() == pytest.approx(std, rel=0.07), name
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel()), name
    assert weight.abs().max() > 2.5 * std, f"{name} has no tails"


def assert_uniform(weight: torch.Tensor, bound: float, name: str) -> None:
    assert 0.97 * bound < weight.abs().max() <= bound, name
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.07), name


def assert_constants(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert torch.equal(parameter, torch.full_like(parameter, "norm.weight" in name)), name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_xavier_projections_and_normal_tables(config_of, variant, norm, way):
    config = config_of(variant, **WIDE, norm_order=norm, positions="learned", num_layers=2, tie_word_embeddings=False)
    torch.manual_seed(0)
    model = way(config, HEADS[variant])
    assert_constants(model)
    matrices = {name: weight for name, weight in model.named_parameters() if weight.dim() == 2}
    assert len(matrices) > 10
    for name, weight in matrices.items():
        if is_table(name):
            assert_normal(weight, 64**-0.5, name)
        else:
            bound = math.sqrt(6 / (weight.shape[0] + weight.shape[1]))
            assert_uniform(weight, bound * (writes(name, variant, 2) ** -0.5 if norm == "pre" else 1), name)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_initializer_range(config_of, variant, norm, way):
    config = config_of(variant, **WIDE, norm_order=norm, initializer_range=0.05, num_layers=3)
    torch.manual_seed(0)
    model = way(config, HEADS[variant])
    assert_constants(model)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            scale = writes(name, variant, 3) ** -0.5 if norm == "pre" else 1
            assert_normal(weight, 0.05 * scale, name)


def test_depths_scale_each_stack_by_itself(config_of):
    config = config_of("encoder-decoder", **WIDE, norm_order="pre", num_layers=1, num_decoder_layers=4)
    model = VanillaModel(config)
    for weight, count in (
        (model.encoder.layers[0].feed_forward.fc2.weight, 2),
        (model.decoder.layers[3].feed_forward.fc2.weight, 12),
    ):
        assert_uniform(weight, math.sqrt(6 / (64 + 96) / count), f"{count} writes")


def test_classifier_is_xavier_and_not_scaled(config_of):
    config = config_of("encoder", **WIDE, norm_order="pre", num_labels=50)
    head = VanillaForSequenceClassification(config).classifier
    assert_uniform(head.dense.weight, math.sqrt(6 / (64 + 64)), "dense")
    assert_uniform(head.out_proj.weight, math.sqrt(6 / (64 + 50)), "out_proj")


def test_scaled_embeddings_have_the_size_of_positions(config_of):
    model = VanillaModel(config_of("encoder", **WIDE))
    vectors = model.get_input_embeddings()(torch.arange(131)[None])
    assert_normal(vectors, 1.0, "embedding times sqrt(d_model)")  # sines and cosines: sqrt(1/2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_seed_decides(config_of, variant, way):
    head = HEADS[variant] if way is not from_config or variant == "encoder-decoder" else VanillaModel

    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        model = way(config_of(variant, norm_order="pre"), head)
        return dict(model.named_parameters()) | dict(model.named_buffers())

    first, second, third = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    # Tables of sines are not drawn at all; biases and norms are constants.
    assert {n for n in first if not torch.equal(first[n], third[n])} == {
        n for n, p in first.items() if p.dim() == 2 and not n.endswith("positions.table")
    }


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_late_initialisation_reaches_every_tensor(config_of, monkeypatch, variant, norm):
    """With the same seed before each module, weights made late equal those of the constructor: none was passed by."""
    init_weights = VanillaPreTrainedModel._init_weights

    def seeded(self, module):
        torch.manual_seed(0)
        init_weights(self, module)

    monkeypatch.setattr(VanillaPreTrainedModel, "_init_weights", seeded)
    config = config_of(variant, norm_order=norm)
    made, loaded = construct(config, HEADS[variant]), from_nothing(config, HEADS[variant])
    for name, tensor in [*made.named_parameters(), *made.named_buffers()]:
        other = loaded.get_buffer(name) if name.endswith("table") else loaded.get_parameter(name)
        assert torch.equal(other, tensor), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_missing_keys_are_initialised_and_the_others_kept(build, tmp_path, poisoned_memory, variant):
    model = build(variant, norm_order="pre", **WIDE)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    saved = load_file(path)
    kept = {name: weight for name, weight in saved.items() if "layers.1." not in name}
    save_file(kept, path, metadata={"format": "pt"})

    with poisoned_memory():
        loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == set(saved) - set(kept)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in kept.items())
    fresh = {name: weight for name, weight in state.items() if name not in kept and "layers.1." in name}
    for name, weight in fresh.items():
        if weight.dim() == 2:
            bound = math.sqrt(6 / sum(weight.shape) / writes(name, variant, 2))
            assert_uniform(weight, bound, name)
        else:
            assert torch.equal(weight, torch.full_like(weight, "norm.weight" in name)), name
    tables = dict(loaded.named_buffers())
    assert tables
    for table in tables.values():
        assert torch.equal(table, sinusoid_table(70, 64))


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_construction_on_the_meta_device_takes_no_memory(config_of, variant, positions):
    config = config_of(variant, positions=positions, d_model=8192, d_ff=32768, num_layers=24, vocab_size=100_000)
    with torch.device("meta"):
        models = [HEADS[variant](config), VanillaForSequenceClassification(config)]
    for model in models:
        assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
