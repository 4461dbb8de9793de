"""Bad input is a ValueError that names the values, on every side of every model, and costs a traced graph nothing."""

import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import DynamicCache

from modeling_vanilla import VanillaForSequenceClassification
from modeling_vanilla.cache_name import CACHE

# The stack that is given the bad input: the name of its arguments' prefix tells which.
SIDES = [("encoder-decoder", ""), ("encoder-decoder", "decoder_"), ("encoder", ""), ("decoder", "")]
on_every_side = pytest.mark.parametrize(("variant", "prefix"), SIDES)


@pytest.fixture
def fails(build, batch_of):
    """Return a function that runs a model and checks that the message of its ValueError holds all of `words`."""

    def run(variant: str, words: list, change: dict, model_class=None, **options):
        inputs = batch_of(variant) | change
        with pytest.raises(ValueError) as caught:
            build(variant, model_class, **options)(**{k: v for k, v in inputs.items() if v is not None})
        for word in words:
            assert re.search(rf"(?<![\w-]){re.escape(str(word))}(?!\w)", str(caught.value)), str(caught.value)

    return run


@on_every_side
@pytest.mark.parametrize("length", [2, 7])
def test_mask_of_another_length(fails, variant, prefix, length):
    tokens = 3 if prefix else 5
    words = [f"{prefix}attention_mask", f"(2, {length})", f"(2, {tokens})"]
    fails(variant, words, {f"{prefix}attention_mask": torch.ones(2, length)})


@on_every_side
def test_mask_of_another_batch(fails, variant, prefix):
    fails(
        variant,
        [f"{prefix}attention_mask", (1, 3 if prefix else 5)],
        {f"{prefix}attention_mask": torch.ones(1, 3 if prefix else 5)},
    )


def test_mask_of_another_length_beside_encoder_outputs(build, tokens):
    model = build("encoder-decoder")
    memory = model.get_encoder()(tokens(2, 5))
    with pytest.raises(ValueError, match=r"\(2, 7\).*\(2, 5\)"):
        model(encoder_outputs=memory, attention_mask=torch.ones(2, 7), decoder_input_ids=tokens(2, 3))


def test_mask_that_forgets_the_cache(build, tokens):
    model = build("decoder")
    cache = model(tokens(2, 4))[CACHE]
    with pytest.raises(ValueError, match=r"\(2, 1\).*\(2, 5\).*4 cached and 1 new"):
        model(tokens(2, 1), attention_mask=torch.ones(2, 1), cache=cache)


@on_every_side
@pytest.mark.parametrize("value", [31, 1000, -1, -100])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_id_out_of_range(fails, tokens, variant, prefix, value, dtype):
    ids = tokens(2, 3).to(dtype)
    ids[1, 2] = value
    fails(variant, [f"{prefix}input_ids[1, 2]={value}", "31"], {f"{prefix}input_ids": ids})


@on_every_side
def test_too_long(fails, tokens, variant, prefix):
    fails(variant, [f"{prefix}input", 38, "max_position_embeddings=37"], {f"{prefix}input_ids": tokens(2, 38)})


def test_too_long_with_the_cache(build, tokens):
    model = build("decoder")
    cache = model(tokens(2, 36))[CACHE]
    with pytest.raises(ValueError, match=r"38 tokens.*max_position_embeddings=37"):
        model(tokens(2, 2), cache=cache)
    assert build("decoder")(tokens(2, 37)).logits.shape == (2, 37, 31)
    with pytest.raises(ValueError, match=r"38 tokens.*max_position_embeddings=37"):  # what generation would write on
        model(tokens(1, 38), position_ids=torch.arange(38)[None] % 37, cache=DynamicCache())


def test_a_packed_row_may_be_longer_than_any_sequence(build, tokens):
    """Trainers lay whole batches end to end: of such a row the positions are limited, not the length."""
    model, ids = build("decoder"), tokens(1, 60)
    positions = torch.cat([torch.arange(n) for n in (37, 20, 3)])[None]
    packed = model(ids, position_ids=positions).logits
    for part, expected in zip(packed.split([37, 20, 3], 1), ids.split([37, 20, 3], 1), strict=True):
        torch.testing.assert_close(part, model(expected).logits, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"position_ids hold 37.*max_position_embeddings=37"):
        model(ids, position_ids=positions + 1)
    with pytest.raises(ValueError, match=r"60 tokens.*max_position_embeddings=37"):  # a mask of padding: one sequence
        model(ids, position_ids=positions, attention_mask=torch.ones_like(ids))


@pytest.mark.parametrize("model_class", [None, VanillaForSequenceClassification])
def test_an_encoder_reads_no_cache(fails, model_class):
    cache = DynamicCache()
    fails("encoder", [CACHE, "'encoder'"], {CACHE: cache}, model_class)


@on_every_side
@pytest.mark.parametrize("value", [37, -1])
def test_position_out_of_range(fails, variant, prefix, value):
    positions = torch.tensor([[0, 1, value] if prefix else [0, 1, 2, 3, value]])
    fails(variant, [value, 37], {f"{prefix}position_ids": positions})


@pytest.mark.parametrize("variant", ["encoder-decoder", "encoder", "decoder"])
def test_type_out_of_range(fails, variant):
    fails(variant, ["token_type_ids", 3, 2], {"token_type_ids": torch.full((2, 5), 3)}, type_vocab_size=2)


@on_every_side
@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)])
def test_empty(fails, variant, prefix, shape):
    fails(variant, ["{}, {}".format(*shape)], {f"{prefix}input_ids": torch.zeros(shape, dtype=torch.long)})


@on_every_side
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_ids_of_another_rank(fails, variant, prefix, shape):
    fails(variant, [f"{prefix}input_ids", shape, "(batch, length)"], {f"{prefix}input_ids": torch.ones(shape).long()})


@on_every_side
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_ids_of_another_type(fails, variant, prefix, dtype):
    fails(variant, [f"{prefix}input_ids", dtype], {f"{prefix}input_ids": torch.ones(2, 5, dtype=dtype)})


@on_every_side
def test_embeddings_of_another_shape(fails, variant, prefix):
    for shape in ((2, 5), (2, 5, 23)):
        change = {f"{prefix}input_ids": None, f"{prefix}inputs_embeds": torch.ones(shape)}
        fails(variant, [f"{prefix}inputs_embeds", shape, 24], change)


@on_every_side
def test_both_or_neither_of_ids_and_embeddings(fails, variant, prefix):
    words = [f"{prefix}input_ids", f"{prefix}inputs_embeds"]
    fails(variant, [*words, "both"], {f"{prefix}inputs_embeds": torch.ones(2, 5, 24)})
    fails(variant, [*words, "neither"], {f"{prefix}input_ids": None})


@pytest.mark.parametrize("variant", ["encoder-decoder", "encoder", "decoder"])
@pytest.mark.parametrize("value", [31, -1, -101])
def test_label_out_of_range(fails, variant, value):
    labels = torch.full((2, 3 if variant == "encoder-decoder" else 5), -100)
    labels[1, 1] = value
    fails(variant, ["labels", value, -100, 31], {"labels": labels})


def test_shifted_label_out_of_range(fails):
    fails("decoder", ["labels", 31, -100], {"shift_labels": torch.full((2, 5), 31)})


@pytest.mark.parametrize("value", [3, -1])
def test_class_out_of_range(fails, value):
    change = {"labels": torch.tensor([2, value])}
    fails("encoder", ["labels", value, 3], change, VanillaForSequenceClassification, num_labels=3)


@pytest.mark.parametrize("variant", ["encoder-decoder", "encoder", "decoder"])
@pytest.mark.parametrize("labels_too", [False, True])
def test_int32_ids_give_the_same(build, batch_of, variant, labels_too):
    inputs = batch_of(variant)
    if labels_too:
        inputs["labels"] = inputs.get("decoder_input_ids", inputs["input_ids"])
    model = build(variant)
    assert torch.equal(model(**{name: ids.int() for name, ids in inputs.items()})[0], model(**inputs)[0])


@pytest.mark.parametrize("variant", ["encoder-decoder", "encoder", "decoder"])
def test_a_training_step_is_one_graph(build, batch_of, variant):
    """The checks, the loss and the choice of what enters it read no value while a graph is traced."""
    inputs = batch_of(variant)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["labels"] = inputs.get("decoder_input_ids", inputs["input_ids"]).clone()
    inputs["labels"][0, 1] = -100
    model = build(variant, dropout=0.0).train()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs).loss, model(**inputs).loss)


@pytest.mark.parametrize("variant", ["encoder-decoder", "encoder", "decoder"])
def test_checks_let_tensors_without_values_through(build, config_of, batch_of, variant):
    inputs = batch_of(variant)
    inputs["labels"] = inputs.get("decoder_input_ids", inputs["input_ids"])
    model = build(variant)
    with torch.device("meta"):
        on_meta = type(model)(config_of(variant)).eval()
    logits = on_meta(**{name: ids.to("meta") for name, ids in inputs.items()}).logits
    assert logits.shape == model(**inputs).logits.shape

    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])  # transformers reads a mask's values on "meta"
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = model(**{name: mode.from_tensor(ids) for name, ids in inputs.items()}).logits
    assert fake.shape == logits.shape


def test_a_translator_without_a_target_names_generate_first(fails):
    """Who calls a model with a source alone most likely wants a translation."""
    fails("encoder-decoder", ["got neither; to translate, call generate"], {"decoder_input_ids": None})
