# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The encoder and decoder stacks (Vaswani et al. 2017, fig. 1).

Each first checks what it is given, and raises a ValueError that names the value: see `input_checks`.
Dimension letters: B batch, S source length, T target length, D d_model.
"""

import math
from dataclasses import fields

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention import MultiHeadAttention
from .base import VanillaPreTrainedModel
from .cache_name import as_installed, check_cache, is_paged, takes_cache
from .configuration_vanilla import VanillaConfig
from .embeddings import Embeddings, TokenEmbedding, default_position_ids, look_up
from .input_checks import can_read, check_inputs, check_memory, check_places, check_unknown, may_be_packed
from .layers import DecoderLayer, EncoderLayer
from .masks import check_kept, neighbourhood
from .windows import window_of


class _Stack(VanillaPreTrainedModel):
    """What both stacks share: token vectors, embeddings, layers, and the final norm of pre-norm models."""

    _prefix = ""  # of the names of inputs, in messages

    def __init__(self, config: VanillaConfig, layers: list[nn.Module]):
        super().__init__(config)
        # Private: what finds `embed_scale` at a stack (inseq 0.7) takes its table for one that does not multiply.
        self._embed_scale = math.sqrt(config.d_model) if config.scale_embeddings else 1.0
        self.embed_tokens = TokenEmbedding(config.vocab_size, config.d_model, self._embed_scale)
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.norm_order == "pre" else None
        self.gradient_checkpointing = False
        if config.norm_order == "pre":
            writers = [m for n, m in self.layers.named_modules() if n.endswith(("out_proj", "fc2"))]
            for writer in writers:
                writer.residual_writes = len(writers)
        self.post_init()

    def enter(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        cache: Cache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Check what a stack is given; return the token vectors, and what the first layer reads, both (B, T, D)."""
        paged = is_paged(cache)
        past_length = 0 if cache is None or paged else cache.get_seq_length()
        packed = (cache is None or paged) and may_be_packed(position_ids, attention_mask)
        check_inputs(self.config, input_ids, inputs_embeds, attention_mask, past_length, self._prefix, packed)
        check_places(self.config, position_ids, token_type_ids, self._prefix)
        if inputs_embeds is None:
            inputs_embeds = look_up(self.embed_tokens, input_ids, self._embed_scale)
        if position_ids is None:
            length, device = inputs_embeds.shape[1], inputs_embeds.device
            position_ids = default_position_ids(attention_mask, length, past_length, device)
        return inputs_embeds, self.embeddings(inputs_embeds, position_ids, token_type_ids)

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Apply the final norm, where there is one, to (B, T, D)."""
        return hidden_states if self.norm is None else self.norm(hidden_states)


class VanillaEncoder(_Stack):
    """The left half of figure 1: N layers of self-attention and feed-forward (Vaswani et al. 2017, sec. 3.1)."""

    _can_record_outputs = {"hidden_states": EncoderLayer, "attentions": MultiHeadAttention}

    def __init__(self, config: VanillaConfig):
        super().__init__(config, [EncoderLayer(config, i) for i in range(config.num_layers)])

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        """Encode ids (B, S), or embeddings (B, S, D), to hidden states (B, S, D).

        Args:
            attention_mask: (B, S), nonzero = real token; or (B, 1, S, S).
            position_ids: (B or 1, S). By default counted over the real tokens.
            token_type_ids: (B, S) segment types, for models that have them.
        """
        check_unknown(kwargs, of_generate=True)
        vectors, hidden_states = self.enter(input_ids, inputs_embeds, attention_mask, position_ids, token_type_ids)
        if input_ids is not None and can_read(input_ids):
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
        rule = neighbourhood(self.config)
        mask = window_of(self.config, False, vectors, attention_mask)
        if mask is None:
            mask = create_bidirectional_mask(self.config, vectors, attention_mask, and_mask_function=rule)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.finish(hidden_states))


class VanillaDecoder(_Stack):
    """The right half of figure 1 (Vaswani et al. 2017, sec. 3.1) as it is in a decoder-only model (GPT-2)."""

    reads_memory = False  # the class says what was built; the config of an assembled model is written after that
    _can_record_outputs = {
        "hidden_states": DecoderLayer,
        "attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: VanillaConfig):
        cross = config.has_cross_attention
        if cross != self.reads_memory:
            raise ValueError(
                f"variant={config.variant!r} with add_cross_attention={config.add_cross_attention} has no "
                f"{type(self).__name__}; VanillaModel builds the right one"
            )
        super().__init__(config, [DecoderLayer(config, i, cross) for i in range(config.decoder_depth)])
        self._prefix = "decoder_" if config.is_encoder_decoder else ""

    @takes_cache
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        encoder_hidden_states: torch.FloatTensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decode ids (B, T), or embeddings (B, T, D), to hidden states (B, T, D).

        Args:
            attention_mask: (B, past + T), nonzero = real token; or (B, 1, T, past + T).
            position_ids: (B or 1, T). By default counted over the real tokens. Positions that restart within a row
                mark packed sequences, which do not see each other.
            encoder_hidden_states: (B, S, D), the encoder's output, for a decoder with cross-attention.
            encoder_attention_mask: (B, S), nonzero = real token; or (B, 1, T, S).
            cache: Keys and values of the tokens before.
        """
        check_unknown(kwargs)
        check_cache(cache, self.config.is_encoder_decoder)
        if self.reads_memory and cache is not None and not isinstance(cache, EncoderDecoderCache):
            cache = EncoderDecoderCache(cache, self._one_cache())  # generate makes one half for a decoder alone
        vectors, hidden_states = self.enter(
            input_ids, inputs_embeds, attention_mask, position_ids, token_type_ids, cache
        )
        rows = hidden_states.shape[0]
        check_memory(self.config, self.reads_memory, encoder_hidden_states, encoder_attention_mask, rows)
        # Who sees whom: of the target, and of the source.
        mask = self._self_mask(vectors, attention_mask, cache, position_ids)
        encoder_mask = None
        if encoder_hidden_states is not None:
            encoder_mask = create_bidirectional_mask(
                self.config, vectors, encoder_attention_mask, encoder_hidden_states=encoder_hidden_states
            )
        if use_cache and cache is None:  # after the mask: beside a cache no row is taken for packed
            cache = self._new_cache()
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                encoder_hidden_states,
                attention_mask=mask,
                encoder_attention_mask=encoder_mask,
                use_cache=use_cache,
                **as_installed(cache),  # gradient checkpointing takes it away by that name
                **kwargs,
            )
        # generate_batch keeps its cache itself, and does not look for it here.
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.finish(hidden_states), **as_installed(None if is_paged(cache) else cache)
        )

    def _self_mask(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cache: Cache | None,
        position_ids: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """Return who sees whom among the tokens so far, from what the caller gave, in the form of the kernel.

        In the presence of a cache, even an empty one, positions that restart are not taken for packed sequences.
        """
        rule = neighbourhood(self.config, paged=is_paged(cache))
        if is_paged(cache):  # generate_batch made it
            return attention_mask
        check_kept(self.config, attention_mask, cache, inputs_embeds.shape[1])
        window = window_of(self.config, True, inputs_embeds, attention_mask, position_ids, cache)
        if window is not None:
            return window
        return create_causal_mask(
            self.config,
            inputs_embeds,
            attention_mask,
            position_ids=position_ids,
            and_mask_function=rule,
            **as_installed(getattr(cache, "self_attention_cache", cache)),
        )

    def _one_cache(self) -> Cache:
        return DynamicCache(config=self.config.get_text_config(decoder=True))

    def _new_cache(self) -> Cache:
        return EncoderDecoderCache(self._one_cache(), self._one_cache()) if self.reads_memory else self._one_cache()


# Where the depth of this decoder stands. transformers 5.17 has no such field, and does not need it.
DEPTH = {"num_hidden_layers_key": "decoder_depth"}
if "num_hidden_layers_key" not in {field.name for field in fields(OutputRecorder)}:
    DEPTH = {}


class VanillaCrossDecoder(VanillaDecoder):
    """The right half of figure 1 with its attention over the encoder (Vaswani et al. 2017, sec. 3.1 and 3.2.3).

    A class of its own, since transformers keeps one table of what can be recorded for all models of a class.
    """

    reads_memory = True
    _can_record_outputs = VanillaDecoder._can_record_outputs | {
        "hidden_states": OutputRecorder(DecoderLayer, **DEPTH),
        "cross_attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="cross_attn"),
    }
