# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""VanillaConfig: every architecture number and option of the Transformer, checked once."""

import math
import multiprocessing
import os
import re
from typing import Any

import transformers
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.utils import logging

from .file_checks import LIMITS, check_fields
from .pipeline_calls import PipelineNames
from .presets import BERT_BASE, GPT2, MARIAN, TINY, TRANSFORMER_BIG

# Of this code, wherever it lies: it is copied beside the weights, and a copy must not claim the version of another.
VERSION = "0.1.2"
# The oldest and the newest transformers that this code was tested with; README.md promises the same.
TESTED = ("5.17", "5.24")

# What the Auto classes may load: by variant, and in every variant. The whole map is written into every config.json, since
# a reader without this package (trust_remote_code) finds the classes there and nowhere else.
AUTO_MAPS = {
    "encoder-decoder": {"AutoModelForSeq2SeqLM": "VanillaForConditionalGeneration"},
    "encoder": {"AutoModelForMaskedLM": "VanillaForMaskedLM"},
    "decoder": {"AutoModelForCausalLM": "VanillaForCausalLM"},
}
TASKS = ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice")

# The pipelines that transformers lacks, with the Auto class that loads their model.
PIPELINES = {
    "translation": ("pipeline_text2text.TranslationPipeline", "AutoModelForSeq2SeqLM"),
    "summarization": ("pipeline_text2text.SummarizationPipeline", "AutoModelForSeq2SeqLM"),
    "text2text-generation": ("pipeline_text2text.Text2TextGenerationPipeline", "AutoModelForSeq2SeqLM"),
    "question-answering": ("pipeline_question_answering.QuestionAnsweringPipeline", "AutoModelForQuestionAnswering"),
}

CHOICES = {
    "variant": tuple(AUTO_MAPS),
    "norm_order": ("post", "pre"),
    "positions": ("sinusoidal", "learned"),
}


@strict
class VanillaConfig(PreTrainedConfig):
    """Describe one model: the Transformer, or its encoder or decoder alone (Vaswani et al. 2017).

    The defaults are the base model of Table 3. Names are those of T5, which are the paper's own; the standard
    Hugging Face names (`hidden_size`, `num_hidden_layers` ...) read and write the same fields.

    Args:
        variant: "encoder-decoder" (the paper's translator), "encoder" (BERT-like) or "decoder" (GPT-like: masked
            self-attention and feed-forward, and no cross-attention unless `add_cross_attention` asks for it).
        vocab_size: Number of token ids, shared by source and target (sec. 3.4; 37,000 is sec. 5.1).
        d_model: Width of every sub-layer's output (sec. 3.1).
        d_ff: Inner width of the feed-forward network (sec. 3.3).
        num_heads: Parallel attention heads h (sec. 3.2.2).
        head_dim: Width d_k of the queries and keys of one head. None means d_model / num_heads.
        v_head_dim: Width d_v of the values of one head. None means head_dim. Table 3 (B) varies d_k with d_v = 64.
        num_layers: Layers N of the encoder, or of the decoder where there is no encoder.
        num_decoder_layers: Layers of the decoder beside an encoder. None means num_layers.
        dropout: Probability, on each sub-layer's output and on the sum of embeddings and positions (sec. 5.4).
        attention_dropout: Probability, on the attention weights (tensor2tensor, BERT, GPT-2).
        activation_dropout: Probability, inside the feed-forward network (tensor2tensor).
        layer_norm_eps: Added to the variance in every LayerNorm.
        initializer_range: Standard deviation of N(0, s) for all matrices, as in BERT and GPT-2. None means
            Xavier-uniform projections and N(0, 1/d_model) embeddings, as in tensor2tensor.
        max_position_embeddings: Longest sequence, in tokens, on either side. Longer input is a ValueError.
        tie_word_embeddings: Share one matrix between the embeddings and the pre-softmax projection (sec. 3.4).
        norm_order: "post" is LayerNorm(x + Sublayer(x)) (sec. 3.1); "pre" is x + Sublayer(LayerNorm(x)) and a final
            norm (GPT-2).
        positions: "sinusoidal" (sec. 3.5) or "learned" (Table 3 (E), BERT, GPT-2, BART).
        activation: Function of the feed-forward network: "relu" (eq. 2), "gelu" (BERT), "gelu_new" (GPT-2), "swish"
            (Marian), or any other name that transformers knows.
        scale_embeddings: Multiply embeddings by sqrt(d_model) (sec. 3.4).
        embedding_norm: Normalise the sum of embeddings and positions (BERT, BART).
        type_vocab_size: Number of segment types (BERT: 2); 0 means none.
        attention_window: Size r of the neighbourhood that self-attention sees, centred on the position (sec. 4,
            restricted self-attention): |i - j| <= r // 2. None means all of it.
        label_smoothing: Mass spread evenly over the vocabulary in the training loss (sec. 5.4). Evaluation mode
            always reports the true likelihood.
        lm_head_bias: Give the translator's pre-softmax projection a bias, as Marian and BART have it; only for
            "encoder-decoder".
        add_cross_attention: Give a decoder alone the attention over an encoder's output (sec. 3.2.3), which each call
            then brings as `encoder_hidden_states`, as transformers' EncoderDecoderModel, VisionEncoderDecoderModel
            and SpeechEncoderDecoderModel do; only for "decoder".

    Raises:
        ValueError: A number is out of range, or two fields contradict each other. The message names both.
    """

    model_type = "vanilla"
    # What a Trainer leaves out of its predictions, so that those of every head are its logits alone.
    keys_to_ignore_at_inference = ["cache", "past_key_values", "encoder_last_hidden_state"]
    attribute_map = {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "intermediate_size": "d_ff",
    }
    # How a layer is split over several processes, as one stack names its modules; a stack without cross-attention
    # drops those rules. Heads go to the processes whole, so num_heads must be a multiple of their number.
    base_model_tp_plan = {
        "layers.*.self_attn.q_proj": "colwise",
        "layers.*.self_attn.k_proj": "colwise",
        "layers.*.self_attn.v_proj": "colwise",
        "layers.*.self_attn.out_proj": "rowwise",
        "layers.*.cross_attn.q_proj": "colwise",
        "layers.*.cross_attn.k_proj": "colwise",
        "layers.*.cross_attn.v_proj": "colwise",
        "layers.*.cross_attn.out_proj": "rowwise",
        "layers.*.feed_forward.fc1": "colwise",
        "layers.*.feed_forward.fc2": "rowwise",
    }

    # Set where the package is imported, which registers its pipelines.
    has_registered_pipelines = False

    variant: str = "encoder-decoder"
    vocab_size: int = 37000
    d_model: int = 512
    d_ff: int = 2048
    num_heads: int = 8
    head_dim: int | None = None
    v_head_dim: int | None = None
    num_layers: int = 6
    num_decoder_layers: int | None = None
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    layer_norm_eps: float | int = 1e-5
    initializer_range: float | None = None
    max_position_embeddings: int = 512
    tie_word_embeddings: bool = True
    norm_order: str = "post"
    positions: str = "sinusoidal"
    activation: str = "relu"
    scale_embeddings: bool = True
    embedding_norm: bool = False
    type_vocab_size: int = 0
    attention_window: int | None = None
    label_smoothing: float | int = 0.1
    lm_head_bias: bool = False
    add_cross_attention: bool = False

    use_cache: bool = True
    is_decoder: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3
    decoder_start_token_id: int | None = 2

    def __post_init__(self, **kwargs):
        # The standard names would be applied after everything here was derived and checked.
        for alias, name in self.attribute_map.items():
            if alias in kwargs:
                setattr(self, name, kwargs.pop(alias))
        self.is_encoder_decoder = self.variant == "encoder-decoder"
        self.is_decoder = self.variant == "decoder"
        if self.head_dim is None and self.num_heads > 0:
            if self.d_model % self.num_heads:
                raise ValueError(
                    f"d_model={self.d_model} must be a multiple of num_heads={self.num_heads} without a head_dim"
                )
            self.head_dim = self.d_model // self.num_heads
        if self.v_head_dim is None:
            self.v_head_dim = self.head_dim
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        self.check()
        super().__post_init__(**kwargs)
        models = {"AutoModel": "VanillaModel"} | AUTO_MAPS[self.variant]
        models |= {f"AutoModelFor{task}": f"VanillaFor{task}" for task in TASKS}
        self.auto_map = {"AutoConfig": "configuration_vanilla.VanillaConfig"}
        self.auto_map |= {auto: f"modeling_vanilla.{name}" for auto, name in models.items()}

    def check(self) -> None:
        """Check every value; models do it again, since fields can be set after the config was built.

        Raises:
            ValueError: Names field, value and rule of the first field that is out of range.
        """
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {', '.join(map(repr, choices))}")
        if self.is_encoder_decoder != (self.variant == "encoder-decoder"):
            raise ValueError(
                f"is_encoder_decoder={self.is_encoder_decoder} contradicts variant={self.variant!r}: give the variant "
                "when the config is built"
            )
        for name, most in LIMITS.items():
            value = getattr(self, name)
            if value is not None and value > most:
                raise ValueError(f"{name}={value} must be at most {most}")
            if value is not None and value < 1 and name != "type_vocab_size":
                none = ", or None for full attention" if name == "attention_window" else ""
                raise ValueError(f"{name}={value} must be at least 1{none}")
        for name in ("dropout", "attention_dropout", "activation_dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:  # false for NaN too
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1)")
        if not (self.layer_norm_eps > 0 and math.isfinite(self.layer_norm_eps)):
            raise ValueError(f"layer_norm_eps={self.layer_norm_eps} must be positive and finite")
        if self.initializer_range is not None and not 0 < self.initializer_range < math.inf:
            raise ValueError(f"initializer_range={self.initializer_range} must be positive and finite, or None")
        if self.type_vocab_size < 0:
            raise ValueError(f"type_vocab_size={self.type_vocab_size} must be 0 (none) or more")
        if self.lm_head_bias and self.variant != "encoder-decoder":
            raise ValueError(f"lm_head_bias={self.lm_head_bias} needs variant='encoder-decoder', not {self.variant!r}")
        if self.add_cross_attention and self.variant != "decoder":
            raise ValueError(
                f"add_cross_attention={self.add_cross_attention} needs variant='decoder', not {self.variant!r}"
            )
        if self.activation not in ACT2FN:
            raise ValueError(f"activation={self.activation!r} must be one of {', '.join(sorted(ACT2FN))}")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"d_model={self.d_model} must be even for positions='sinusoidal' (pairs of sine, cosine)")

    @property
    def has_cross_attention(self) -> bool:
        """Whether the decoder looks at an encoder's output: that of a translator always does."""
        return self.is_encoder_decoder or self.add_cross_attention

    @property
    def decoder_depth(self) -> int:
        """Layers of the decoder, beside an encoder or alone."""
        return self.num_decoder_layers if self.is_encoder_decoder else self.num_layers

    @property
    def sliding_window(self) -> int | None:
        """How many tokens each sees, itself and those before, in a decoder alone; a cache of transformers keeps no more.

        At least 2, since their layer for 1 forgets nothing.

        Raises:
            AttributeError: An encoder, where a token sees those after it too; or the source is seen too: transformers
                sizes both halves of a cache alike, and would forget it.
        """
        self._check_sliding()
        return None if self.attention_window is None else max(2, self.attention_window // 2 + 1)

    @sliding_window.setter
    def sliding_window(self, value: int | None) -> None:
        self._check_sliding()
        if value is not None and value < 1:
            raise ValueError(f"sliding_window={value} must be at least 1: a token sees itself")
        self.attention_window = None if value is None else 2 * (value - 1)

    def _check_sliding(self) -> None:
        if self.variant != "decoder" or self.has_cross_attention:
            raise AttributeError("sliding_window is that of a decoder alone; attention_window is the window of all")

    def _pipelines(self) -> dict[str, dict]:
        """Return the pipelines that the saved class can run, as config.json names them.

        Not those of the other heads: `pipeline` without a task takes the only one that it finds here, and a head that
        was not saved is random.
        """
        saved = self.architectures or ()
        return {
            task: {"impl": implementation, "pt": [auto], "type": "text"}
            for task, (implementation, auto) in PIPELINES.items()
            if self.auto_map.get(auto, "").split(".")[-1] in saved
        }

    @property
    def custom_pipelines(self) -> dict[str, dict]:
        """What `pipeline` has to fetch from the model's folder: nothing where the package is imported.

        `pipeline` asks for trust_remote_code for whatever stands here. Built anew each time, since it also writes into
        what it is given.
        """
        return PipelineNames({} if self.has_registered_pipelines else self._pipelines())

    @custom_pipelines.setter
    def custom_pipelines(self, value: dict) -> None:
        """Ignore what a file says, and what a pipeline that is saved says of itself alone: the class decides."""

    @property
    def modeling_vanilla_version(self) -> str:
        """Version of the code that writes this config, as `transformers_version` is that of transformers."""
        return VERSION

    @modeling_vanilla_version.setter
    def modeling_vanilla_version(self, value: str) -> None:
        """Ignore what a file says: it names what wrote that file, and what is written next is written by this code."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs) -> "VanillaConfig":
        """Build a config of what a file says, and of the caller's own arguments.

        Raises:
            ValueError: See `file_checks.check_fields` for the file, and `check`.
        """
        check_fields(cls, config_dict)
        try:
            return super().from_dict(config_dict, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, the version of this code, and the pipelines that the saved class can run."""
        written = super().to_dict() | {"modeling_vanilla_version": VERSION}
        pipelines = self._pipelines()
        return written | ({"custom_pipelines": pipelines} if pipelines else {})

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the config as one stack sees it; caches are sized by the decoder's number of layers."""
        config = super().get_text_config(decoder=decoder, encoder=encoder)
        if decoder and not encoder and config is not self:
            config.num_layers = self.num_decoder_layers
        return config

    @classmethod
    def _preset(cls, overrides: dict[str, Any], **values: Any) -> "VanillaConfig":
        """Return a preset with what the caller changes.

        The special ids of a published model mean nothing in a smaller vocabulary: those that lie outside of it are None,
        unless the caller gives them.
        """
        vocab_size = overrides.get("vocab_size", values.get("vocab_size", cls.vocab_size))
        ids = {name for name in values if name.endswith("_token_id") and values[name] is not None}
        outside = {name for name in ids if isinstance(vocab_size, int) and values[name] >= vocab_size}
        return cls(**(values | dict.fromkeys(outside) | overrides))

    @classmethod
    def transformer_base(cls, **overrides: Any) -> "VanillaConfig":
        """Return the base model: 65M parameters (Vaswani et al. 2017, Table 3)."""
        return cls(**overrides)

    @classmethod
    def transformer_big(cls, **overrides: Any) -> "VanillaConfig":
        """Return the big model for English-German: 213M parameters (Vaswani et al. 2017, Table 3, sec. 6.1)."""
        return cls._preset(overrides, **TRANSFORMER_BIG)

    @classmethod
    def bert_base(cls, **overrides: Any) -> "VanillaConfig":
        """Return BERT base: 110M parameters (Devlin et al. 2019, sec. 3)."""
        return cls._preset(overrides, **BERT_BASE)

    @classmethod
    def gpt2(cls, **overrides: Any) -> "VanillaConfig":
        """Return GPT-2 small: 124M parameters (Radford et al. 2019, Table 2)."""
        return cls._preset(overrides, **GPT2)

    @classmethod
    def marian(cls, **overrides: Any) -> "VanillaConfig":
        """Return the layout of the OPUS-MT translators (Junczys-Dowmunt et al. 2018): decoding starts from padding."""
        return cls._preset(overrides, **MARIAN)

    @classmethod
    def tiny(cls, **overrides: Any) -> "VanillaConfig":
        """Return a two-layer model of about 25,000 parameters, for tests and for trying things out."""
        return cls._preset(overrides, **TINY)


def warn_of_untested() -> None:
    """Log once that transformers is newer than any that was tested: its renames may be swallowed without an error.

    By the first process of a machine alone: not by other ranks, nor by the workers of a data loader.
    """
    numbers = re.match(r"(\d+)\.(\d+)", transformers.__version__)
    is_newer = numbers and [int(numbers[1]), int(numbers[2])] > [int(number) for number in TESTED[1].split(".")]
    if is_newer and os.environ.get("LOCAL_RANK", "0") == "0" and multiprocessing.parent_process() is None:
        # A name below that of transformers, so that its settings of verbosity hold for a copy beside weights too.
        logging.get_logger("transformers.modeling_vanilla").warning_once(
            f"modeling_vanilla {VERSION} was tested with transformers {TESTED[0]} to {TESTED[1]}, this is "
            f"{transformers.__version__}: `python -m modeling_vanilla doctor MODEL` examines a model with it"
        )


warn_of_untested()
VanillaConfig.register_for_auto_class()
