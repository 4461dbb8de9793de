# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A decoder with cross-attention, alone and in transformers' EncoderDecoderModel and its kin for pictures and speech.

The oracle is the paper's translator: cut in two and assembled again by transformers, it computes the same.
"""

import json
import re

import pytest
import torch
from transformers import (
    EncoderDecoderModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    SpeechEncoderDecoderModel,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaModel,
    assemble,
    to_transformers,
)
from modeling_vanilla.decoding import search
from modeling_vanilla.doctor import load

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])  # none, left, right
TARGET_MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0]])
IDS = {"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 2}
layouts = pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
orders = pytest.mark.parametrize("norm", ["post", "pre"])


def assembled(whole: VanillaForConditionalGeneration, **options) -> EncoderDecoderModel:
    """Cut a translator in two halves, the decoder's with its cross-attention, and let transformers put them together."""
    config, state = whole.config, whole.state_dict()
    sizes = {n: getattr(config, n) for n in ("vocab_size", "d_model", "d_ff", "num_heads", "head_dim", "dropout")}
    sizes |= {n: getattr(config, n) for n in ("norm_order", "positions", "max_position_embeddings")} | options
    encoder = VanillaModel(VanillaConfig(variant="encoder", num_layers=config.num_layers, **sizes))
    sizes |= {"num_layers": config.num_decoder_layers, "tie_word_embeddings": config.tie_word_embeddings}
    decoder = VanillaForCausalLM(VanillaConfig(variant="decoder", add_cross_attention=True, **sizes))
    encoder.load_state_dict({k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.encoder.")})
    decoder.load_state_dict({k: v for k, v in state.items() if not k.startswith("model.encoder.")})
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder).eval()
    for name, value in IDS.items():
        setattr(model.config, name, value)
        setattr(model.generation_config, name, value)
    return model


@pytest.fixture
def pair(build):
    """Return a function that makes a translator with 2 and 3 layers, and the same one assembled."""

    def make(norm: str = "post", positions: str = "sinusoidal", **options):
        sizes = {"norm_order": norm, "positions": positions, "num_decoder_layers": 3, "label_smoothing": 0.0}
        whole = build("encoder-decoder", jitter=0.2, **sizes, **options)
        return whole, assembled(whole)

    return make


@pytest.fixture
def alone(build):
    """Return a decoder with cross-attention and nothing around it.

    With an `initializer_range`, since transformers draws the map from an encoder of another width by it.
    """
    return build("decoder", jitter=0.2, num_layers=3, add_cross_attention=True, initializer_range=0.1)


def source(tokens) -> dict[str, torch.Tensor]:
    """Return ids (3, 5) with their mask."""
    return {"input_ids": tokens(3, 5), "attention_mask": MASK}


@layouts
@orders
def test_it_is_the_translator(pair, tokens, norm, positions, assert_varied):
    whole, model = pair(norm, positions)
    inputs = source(tokens) | {"decoder_input_ids": tokens(3, 4, seed=1), "decoder_attention_mask": TARGET_MASK}
    expected, got = whole(**inputs).logits, model(**inputs).logits
    real = TARGET_MASK.bool()
    torch.testing.assert_close(got[real], expected[real], **CLOSE)
    assert_varied(got[real])


@layouts
@orders
def test_its_loss_is_the_translators(pair, tokens, norm, positions):
    whole, model = pair(norm, positions, tie_word_embeddings=False)
    labels = tokens(3, 4, seed=1).masked_fill(TARGET_MASK == 0, -100)
    labels[1] = tokens(1, 4, seed=2)  # transformers' wrapper takes padding on the right only
    inputs = source(tokens) | {"labels": labels}
    expected, got = whole(**inputs), model(**inputs)
    torch.testing.assert_close(got.loss, expected.loss, **CLOSE)
    got.loss.backward()
    expected.loss.backward()
    name = "model.decoder.layers.2.cross_attn.k_proj.weight"
    torch.testing.assert_close(model.decoder.get_parameter(name).grad, whole.get_parameter(name).grad, **CLOSE)


@layouts
@orders
def test_it_writes_what_the_translator_writes(pair, tokens, norm, positions, assert_same_generation):
    whole, model = pair(norm, positions)
    assert_same_generation(model, whole, source(tokens), max_new_tokens=7, **IDS)


def test_a_decoder_alone_writes_the_same(pair, tokens):
    """`generate` knows the encoder's output as one more argument: with a cache of its own kind, and with none."""
    whole, model = pair()
    memory = model.encoder(**source(tokens)).last_hidden_state
    given = {"encoder_hidden_states": memory, "encoder_attention_mask": MASK}
    for beams in (1, 3):
        settings = dict(max_new_tokens=6, num_beams=beams, do_sample=False, no_repeat_ngram_size=1, **IDS)
        expected = whole.generate(**source(tokens), **settings).tolist()
        start = torch.full((3, 1), 2)
        for more in ({}, {"use_cache": False}, {"custom_generate": search}):
            assert model.decoder.generate(start, **given, **settings, **more).tolist() == expected
        assert model.generate(**source(tokens), **settings, custom_generate=search).tolist() == expected


def test_attentions_and_states_are_the_translators(pair, tokens):
    whole, model = pair(attn_implementation="eager")
    model.set_attn_implementation("eager")
    inputs = source(tokens) | {"decoder_input_ids": tokens(3, 4, seed=1)}
    both = {"output_attentions": True, "output_hidden_states": True}
    expected, got = whole(**inputs, **both), model(**inputs, **both)
    names = [f"{half}_{what}" for half in ("encoder", "decoder") for what in ("attentions", "hidden_states")]
    for name in ("cross_attentions", *names):
        assert len(got[name]) == len(expected[name]), name
        for one, other in zip(got[name], expected[name], strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
    assert tuple(got.cross_attentions[0].shape) == (3, 4, 4, 5)  # (B, H, T, S)
    (last,) = [
        s for s in model.decoder(inputs["decoder_input_ids"], encoder_hidden_states=got[-3], use_cache=False)[:1]
    ]
    assert last.shape == (3, 4, 31)


@pytest.mark.parametrize("depth", [2, None])
def test_hidden_states_are_counted_from_the_end(build, tokens, depth):
    """Of a decoder alone `num_layers` is its depth, whatever stands in `num_decoder_layers`."""
    model = build("decoder", num_layers=3, num_decoder_layers=depth, add_cross_attention=True)
    inputs = {"input_ids": tokens(2, 3), "encoder_hidden_states": torch.randn(2, 5, 24)}
    states = model(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == 4
    if "decoder_depth" in str(model.model.decoder._can_record_outputs["hidden_states"]):  # transformers 5.24
        assert torch.equal(model(**inputs, output_hidden_states=[-2]).hidden_states[2], states[2])


def test_saved_and_loaded(pair, tokens, tmp_path, poisoned_memory):
    _, model = pair()
    model.save_pretrained(tmp_path / "whole")
    model.encoder.save_pretrained(tmp_path / "encoder")
    model.decoder.save_pretrained(tmp_path / "decoder")
    inputs = source(tokens) | {"decoder_input_ids": tokens(3, 4, seed=1)}
    expected = model(**inputs).logits
    with poisoned_memory():
        again = EncoderDecoderModel.from_pretrained(tmp_path / "whole")
        halves = EncoderDecoderModel.from_encoder_decoder_pretrained(tmp_path / "encoder", tmp_path / "decoder")
    for loaded in (again, halves):
        torch.testing.assert_close(loaded(**inputs).logits, expected, atol=0, rtol=0)
        assert loaded.decoder.config.add_cross_attention
        assert loaded.decoder.lm_head.weight is loaded.decoder.get_input_embeddings().weight
    settings = {"max_new_tokens": 4, "do_sample": False}
    assert (
        again.generate(**source(tokens), **settings).tolist() == model.generate(**source(tokens), **settings).tolist()
    )


def test_of_pretrained_halves_only_cross_attention_is_new(build, tokens, tmp_path):
    """A language model becomes the decoder of another encoder (Rothe et al. 2020)."""
    encoder, decoder = build("encoder", VanillaModel), build("decoder", num_layers=3)
    encoder.save_pretrained(tmp_path / "encoder")
    decoder.save_pretrained(tmp_path / "decoder")
    model = EncoderDecoderModel.from_encoder_decoder_pretrained(tmp_path / "encoder", tmp_path / "decoder")
    state = model.decoder.state_dict()
    for name, value in decoder.state_dict().items():
        assert torch.equal(state[name], value), name
    assert all(".cross_attn" in name for name in state.keys() - decoder.state_dict().keys())
    inputs = {"input_ids": tokens(2, 5), "decoder_input_ids": tokens(2, 3, seed=1)}
    other = model(**inputs | {"input_ids": tokens(2, 5, seed=4)}).logits
    assert (model(**inputs).logits - other).abs().max() > 1e-3, "the decoder reads the encoder"


def test_a_trainer_trains_and_writes(pair, tokens, tmp_path):
    _, model = pair()
    before = {name: value.clone() for name, value in model.named_parameters()}
    rows = [{"input_ids": tokens(1, 5, seed=i)[0].tolist(), "labels": tokens(1, 4 - i)[0].tolist()} for i in range(3)]
    arguments = Seq2SeqTrainingArguments(
        **dict(output_dir=str(tmp_path), report_to="none", use_cpu=True, disable_tqdm=True, max_steps=2),
        **dict(per_device_train_batch_size=2, learning_rate=1e-2, predict_with_generate=True),
        **dict(generation_max_length=5, gradient_checkpointing=True),
    )

    def collate(batch):
        width = max(len(row["labels"]) for row in batch)
        ids = torch.tensor([row["input_ids"] for row in batch])
        labels = [row["labels"] + [-100] * (width - len(row["labels"])) for row in batch]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor(labels)}

    trainer = Seq2SeqTrainer(model, arguments, train_dataset=rows, eval_dataset=rows, data_collator=collate)
    trainer.train()
    same = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert same == [], "every weight learns"
    predicted = trainer.predict(rows).predictions
    assert predicted.shape[0] == 3
    assert predicted.max() < 31


def test_checkpointing_changes_no_gradient(pair, tokens):
    _, model = pair()
    inputs = source(tokens) | {"labels": tokens(3, 4, seed=1)}
    gradients = []
    for reentrant in (None, False, True):
        model.train()
        for module in model.modules():
            module.dropout = (
                0.0 if isinstance(getattr(module, "dropout", None), float) else getattr(module, "dropout", 0)
            )
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if reentrant is not None:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.zero_grad()
        model(**inputs).loss.backward()
        gradients.append({name: value.grad.clone() for name, value in model.named_parameters()})
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, **CLOSE)


def vision() -> ViTModel:
    """Return a small ViT of another width than the decoder's."""
    sizes = dict(hidden_size=20, num_hidden_layers=1, num_attention_heads=2, intermediate_size=23)
    return ViTModel(ViTConfig(image_size=12, patch_size=4, **sizes), add_pooling_layer=False)


def speech() -> Wav2Vec2Model:
    """Return a small encoder of sound."""
    sizes = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=23)
    sizes |= dict(conv_dim=(8,), conv_stride=(5,), conv_kernel=(10,), num_feat_extract_layers=1)
    sizes |= dict(num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, mask_time_prob=0.0)
    return Wav2Vec2Model(Wav2Vec2Config(**sizes))


@pytest.mark.parametrize(
    ("kind", "encoder", "shape"),
    [(VisionEncoderDecoderModel, vision, (2, 3, 12, 12)), (SpeechEncoderDecoderModel, speech, (2, 60))],
)
def test_pictures_and_speech(alone, kind, encoder, shape, tokens, tmp_path):
    """transformers projects the width of the encoder; the decoder must look at what it gives, and write from it."""
    model = kind(encoder=encoder().eval(), decoder=alone).eval()
    for name, value in IDS.items():
        setattr(model.config, name, value)
    inputs = {model.main_input_name: torch.randn(shape, generator=torch.Generator().manual_seed(5))}
    out = model(**inputs, labels=tokens(2, 4))
    out.loss.backward()
    assert alone.model.decoder.layers[0].cross_attn.v_proj.weight.grad.abs().max() > 0
    other = model(**{name: value.flip(-1) for name, value in inputs.items()}, labels=tokens(2, 4)).logits
    assert (out.logits - other).abs().max() > 1e-4
    settings = dict(max_new_tokens=4, do_sample=False, num_beams=2, **IDS)
    written = model.generate(**inputs, **settings)
    model.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**inputs, labels=tokens(2, 4)).logits, out.logits)
    assert again.generate(**inputs, **settings).tolist() == written.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_hidden_states": None}, "encoder_hidden_states are missing.*add_cross_attention=True"),
        ({"encoder_hidden_states": torch.zeros(2, 5, 23)}, r"shape \(2, 5, 23\), expected .*d_model=24"),
        ({"encoder_hidden_states": torch.zeros(2, 24)}, r"shape \(2, 24\), expected"),
        ({"encoder_hidden_states": torch.zeros(4, 5, 24)}, "those of 4 sources, the tokens have 2 rows"),
        ({"encoder_attention_mask": torch.ones(2, 4)}, r"encoder_attention_mask has shape \(2, 4\).*\(2, 5\)"),
    ],
)
def test_what_is_wrong_is_named(alone, tokens, change, message):
    inputs = {"encoder_hidden_states": torch.randn(2, 5, 24)} | change
    for call in (alone, alone.model, alone.model.decoder):
        with pytest.raises(ValueError, match=message):
            call(tokens(2, 3), **inputs)


def test_a_decoder_that_was_built_without_says_so(build, tokens):
    """transformers writes add_cross_attention=True into the config of a decoder that has none."""
    model = EncoderDecoderModel(encoder=build("encoder", VanillaModel), decoder=build("decoder"))
    assert model.config.decoder.add_cross_attention
    with pytest.raises(ValueError, match="encoder_hidden_states must be None .*add_cross_attention=True"):
        model(input_ids=tokens(2, 5), decoder_input_ids=tokens(2, 3))


def test_the_doctor_says_what_it_cannot_examine(pair, tmp_path):
    _, model = pair()
    model.save_pretrained(tmp_path / "whole")
    model.decoder.save_pretrained(tmp_path / "decoder")
    with pytest.raises(ValueError, match="decoder: encoder_hidden_states are missing"):
        load(str(tmp_path / "decoder"))
    with pytest.raises(ValueError, match="whole: model_type='encoder-decoder' is no text model of one vocabulary"):
        load(str(tmp_path / "whole"))


def test_a_saved_half_is_checked_like_any_config(pair, tmp_path):
    """transformers reads the folder of an assembled model; the numbers of our halves have their limits there too."""
    _, model = pair()
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["decoder"]["d_ff"] = 2**21
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="d_ff=2097152 must be at most"):
        EncoderDecoderModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("variant", ["encoder-decoder", "encoder"])
def test_only_a_decoder_alone_has_the_option(build, batch_of, variant):
    with pytest.raises(ValueError, match=f"add_cross_attention=True needs variant='decoder', not '{variant}'"):
        VanillaConfig.tiny(variant=variant, add_cross_attention=True)
    for name in ("encoder_hidden_states", "encoder_attention_mask"):
        with pytest.raises(ValueError, match=f"{name} must be None with variant='{variant}'; only variant='decoder'"):
            build(variant, VanillaModel)(**batch_of(variant), **{name: torch.zeros(2, 5, 24)})


def test_labels_are_for_a_head(build, tokens):
    """`generate` of an assembled model hands labels to the encoder; to a head that has none they are a mistake."""
    model = build("encoder", VanillaForQuestionAnswering)
    with pytest.raises(ValueError, match="labels is not an input"):
        model(tokens(2, 5), labels=tokens(2, 5))


@pytest.mark.parametrize("head", [VanillaForSequenceClassification, VanillaForTokenClassification])
def test_other_heads_read_an_encoder_too(build, tokens, head):
    model = build("decoder", head, add_cross_attention=True)
    memory = torch.randn(2, 5, 24)
    first, second = (model(tokens(2, 3), encoder_hidden_states=one).logits for one in (memory, memory.flip(1) * 2))
    assert (first - second).abs().max() > 1e-4


def test_a_decoder_without_it_is_as_before(build):
    """Its file says that it has none, and its weights keep their names."""
    model = build("decoder")
    assert model.config.to_dict()["add_cross_attention"] is False
    assert not [name for name in model.state_dict() if "cross" in name]
    assert type(model.model.decoder).__name__ == "VanillaDecoder"


def test_converting(build, alone, tokens):
    """A translator takes over the cross-attention of a decoder that has one; GPT-2's layout has no place for it."""
    whole = assemble(build("encoder"), alone)
    assert not whole.config.add_cross_attention
    name = "model.decoder.layers.1.cross_attn.v_proj.weight"
    assert torch.equal(whole.get_parameter(name), alone.get_parameter(name))
    model = build("decoder", norm_order="pre", positions="learned", scale_embeddings=False, add_cross_attention=True)
    with pytest.raises(ValueError, match=re.escape("add_cross_attention=True, needs False")):
        to_transformers(model)
