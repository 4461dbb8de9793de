# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The tests that transformers runs on each of its own models, run on these: as they are, from its source distribution.

What they ask for is in `upstream_glue.py`. What they skip (other modalities, mixtures of experts, rotary positions,
accelerators, flash attention) they skip for BERT, GPT-2 or BART on a CPU as well.
"""

import sys
import unittest
from pathlib import Path

import pytest

import modeling_vanilla as mv

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("parameterized")
import upstream_glue as glue

if not glue.FOLDER.is_dir():
    pytest.skip(
        f"the tests of transformers {glue.VERSION} were not fetched: `make test` does", allow_module_level=True
    )

from transformers_tests import test_fsdp_mixin, test_tensor_parallel_mixin
from transformers_tests.generation.test_utils import GenerationTesterMixin
from transformers_tests.test_configuration_common import ConfigTester
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor, random_attention_mask
from transformers_tests.test_training_mixin import TrainingTesterMixin

# They run on chosen models of transformers; here, on these.
test_fsdp_mixin.FSDP_DISTRIBUTED_TEST_MODEL_TYPES = None
test_tensor_parallel_mixin.TP_DISTRIBUTED_TEST_MODEL_TYPES = None

PRE_NORM = {"norm_order": "pre", "positions": "learned", "activation": "gelu_new", "scale_embeddings": False}
BERT_LIKE = {"positions": "learned", "embedding_norm": True, "type_vocab_size": 2, "initializer_range": 0.02}
TASKS = (mv.VanillaForSequenceClassification, mv.VanillaForTokenClassification, mv.VanillaForQuestionAnswering)


class Tester:
    """What the shared tests want to know of a model, and a batch for it."""

    __test__ = False
    batch_size, seq_length, num_choices = 13, 7, 4
    encoder_seq_length = decoder_seq_length = key_length = seq_length
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads = 99, 32, 2, 4
    is_training = True

    def __init__(self, language_model: type, **options):
        self.causal_lm_class = language_model  # the class that the tests of training and of splitting take
        self.options = options

    def get_config(self) -> mv.VanillaConfig:
        """Return a small config; smoothing would keep the loss of the training test above what it asks for."""
        sizes = dict(vocab_size=99, d_model=32, d_ff=37, num_heads=4, num_layers=2, max_position_embeddings=64)
        return mv.VanillaConfig(**sizes, label_smoothing=0.0, **self.options)

    def prepare_config_and_inputs_for_common(self) -> tuple[mv.VanillaConfig, dict]:
        """Return the config and random ids, none of them special, with a random mask."""
        shape = [self.batch_size, self.seq_length]
        inputs = {"input_ids": ids_tensor(shape, 92) + 7, "attention_mask": random_attention_mask(shape)}
        if self.options["variant"] == "encoder-decoder":
            inputs |= {f"decoder_{name}": value for name, value in inputs.items()}
        if self.options.get("add_cross_attention"):
            inputs["encoder_hidden_states"] = floats_tensor([*shape, 32])
        return self.get_config(), inputs


class Common(ModelTesterMixin):
    """The tests of every model."""

    __test__ = False
    all_model_classes: tuple = ()
    options: dict = {}

    def setUp(self):
        """Make what the shared tests look for."""
        tables = glue.known_by_name()
        tables.__enter__()
        self.addCleanup(tables.__exit__, None, None, None)
        self.model_tester = Tester(self.all_model_classes[1], **self.options)

    def test_config(self):
        """Run the tests of configs."""
        ConfigTester(self, config_class=mv.VanillaConfig, **self.options).run_common_tests()


class EncoderDecoderTest(Common, GenerationTesterMixin, unittest.TestCase):
    """The paper's model."""

    __test__ = True
    is_encoder_decoder = True
    all_model_classes = (mv.VanillaModel, mv.VanillaForConditionalGeneration, *TASKS)
    options = {"variant": "encoder-decoder"}


class BertLikeTest(Common, TrainingTesterMixin, unittest.TestCase):
    """The encoder alone, with BERT's options."""

    __test__ = True
    all_model_classes = (mv.VanillaModel, mv.VanillaForMaskedLM, *TASKS, mv.VanillaForMultipleChoice)
    options = {"variant": "encoder"} | BERT_LIKE


class Gpt2LikeTest(Common, TrainingTesterMixin, GenerationTesterMixin, unittest.TestCase):
    """The decoder alone, with GPT-2's options."""

    __test__ = True
    all_model_classes = (mv.VanillaModel, mv.VanillaForCausalLM, *TASKS)
    options = {"variant": "decoder"} | PRE_NORM


@pytest.mark.slow
class CrossDecoderTest(Common, GenerationTesterMixin, unittest.TestCase):
    """The decoder with attention over the output of another encoder."""

    __test__ = True
    all_model_classes = (mv.VanillaModel, mv.VanillaForCausalLM, *TASKS)
    options = {"variant": "decoder", "add_cross_attention": True}

    def setUp(self):
        """Skip what makes inputs of its own: transformers' decoders write without an encoder too, ours refuse."""
        if self._testMethodName.startswith(("test_eager_matches_sdpa_inference", "test_load_with_mismatched_shapes")):
            self.skipTest("its inputs have no encoder_hidden_states")
        super().setUp()


@pytest.mark.slow
class PreNormEncoderDecoderTest(EncoderDecoderTest):
    """The encoder-decoder with the other order of the norm."""

    options = {"variant": "encoder-decoder"} | PRE_NORM


@pytest.mark.slow
class EncoderTest(BertLikeTest):
    """The paper's encoder."""

    options = {"variant": "encoder"}


@pytest.mark.slow
class DecoderTest(Gpt2LikeTest):
    """The paper's decoder."""

    options = {"variant": "decoder"}


@pytest.mark.slow
class SplitDecoderTest(
    test_tensor_parallel_mixin.TensorParallelTesterMixin, test_fsdp_mixin.FSDPTesterMixin, unittest.TestCase
):
    """Tensor parallel and FSDP2 on two gloo processes, forward, training and saving; the shared tests know decoders only.

    Without dropout: two processes draw other masks than one.
    """

    all_model_classes = (mv.VanillaModel, mv.VanillaForCausalLM)
    model_tester = Tester(mv.VanillaForCausalLM, variant="decoder", dropout=0.0)


@pytest.mark.slow
class SplitGpt2LikeTest(SplitDecoderTest):
    """The same with GPT-2's options."""

    model_tester = Tester(mv.VanillaForCausalLM, variant="decoder", dropout=0.0, **PRE_NORM)
