# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The Transformer and its heads as Hugging Face models (Vaswani et al. 2017, fig. 1).

Dimension letters: B batch, S source length, T target length, D d_model, V vocabulary, C classes.
"""

import math

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    MaskedLMOutput,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    SequenceClassifierOutput,
)
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention import MultiHeadAttention
from .configuration_vanilla import VanillaConfig
from .embeddings import Embeddings, SinusoidalPositions, TokenEmbedding, default_position_ids
from .layers import DecoderLayer, EncoderLayer
from .losses import causal_loss, classification_loss, reduce, token_loss
from .validation import check_inputs, check_labels


def neighbourhood(window: int | None):
    """Return the rule of restricted self-attention, |i - j| <= window // 2 (Vaswani et al. 2017, sec. 4)."""
    if window is None:
        return None
    return lambda batch, head, query, key: (query - key).abs() <= window // 2


def shift_right(labels: torch.Tensor, config: VanillaConfig) -> torch.Tensor:
    """Return what the decoder reads to predict `labels` (B, T): the start token, then all but the last (sec. 3.1)."""
    if config.decoder_start_token_id is None or config.pad_token_id is None:
        raise ValueError(
            f"decoder_start_token_id={config.decoder_start_token_id} and pad_token_id={config.pad_token_id} must be "
            "set in the config to make decoder_input_ids from labels"
        )
    shifted = labels.roll(1, dims=-1)
    shifted[:, 0] = config.decoder_start_token_id
    return shifted.masked_fill(shifted == -100, config.pad_token_id)


class VanillaPreTrainedModel(PreTrainedModel):
    """What every Vanilla model shares: initialisation, and what Hugging Face needs to know of it."""

    config: VanillaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: VanillaConfig, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        if config.attention_window is not None and "flash" in (config._attn_implementation or ""):
            raise ValueError(
                f"attention_window={config.attention_window} is a mask, which attn_implementation="
                f"{config._attn_implementation!r} would ignore; use 'eager', 'sdpa' or 'flex_attention'"
            )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module: N(0, initializer_range), or Xavier and N(0, 1/d_model) when that is None.

        A pre-norm residual stream grows with depth; the projections that write into it start smaller by
        1 / sqrt(number of writes) (Radford et al. 2019, sec. 2.3).
        """
        super()._init_weights(module)
        if isinstance(module, SinusoidalPositions):
            init.copy_(module.table, module.values())
        if self.config.initializer_range is None:
            if isinstance(module, nn.Embedding) or module is getattr(self, "lm_head", None):
                init.normal_(module.weight, std=self.config.d_model**-0.5)
            elif isinstance(module, nn.Linear):
                init.xavier_uniform_(module.weight)
        if (writes := getattr(module, "residual_writes", None)) is not None:
            if self.config.initializer_range is None:
                init.xavier_uniform_(module.weight, gain=writes**-0.5)
            else:
                init.normal_(module.weight, std=self.config.initializer_range * writes**-0.5)

    @staticmethod
    def create_masks_for_generate(config: VanillaConfig, **kwargs) -> torch.Tensor | None:
        """Build the causal mask of a static cache, with the window (`generate` calls this)."""
        names = ("inputs_embeds", "attention_mask", "past_key_values", "position_ids")
        return create_causal_mask(
            config,
            **{name: kwargs.get(name) for name in names},
            and_mask_function=neighbourhood(config.attention_window),
        )


class _Stack(VanillaPreTrainedModel):
    """What both stacks share: token vectors, embeddings, layers, and the final norm of pre-norm models."""

    def __init__(self, config: VanillaConfig, layers: list[nn.Module]):
        super().__init__(config)
        scale = math.sqrt(config.d_model) if config.scale_embeddings else 1.0
        self.embed_tokens = TokenEmbedding(config.vocab_size, config.d_model, scale)
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.norm_order == "pre" else None
        self.gradient_checkpointing = False
        if config.norm_order == "pre":
            writers = [m for n, m in self.layers.named_modules() if n.endswith(("out_proj", "fc2"))]
            for writer in writers:
                writer.residual_writes = len(writers)
        self.post_init()

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

        Raises:
            ValueError: See `validation.check_inputs`.
        """
        check_inputs(self.config, input_ids, inputs_embeds, attention_mask, past_length=0)
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if position_ids is None:
            position_ids = default_position_ids(attention_mask, inputs_embeds.shape[1], 0, inputs_embeds.device)
        mask = create_bidirectional_mask(
            self.config,
            inputs_embeds,
            attention_mask,
            and_mask_function=neighbourhood(self.config.attention_window),
        )
        hidden_states = self.embeddings(inputs_embeds, position_ids, token_type_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.finish(hidden_states))


class VanillaDecoder(_Stack):
    """The right half of figure 1 (Vaswani et al. 2017, sec. 3.1); in a decoder-only model without cross-attention."""

    def __init__(self, config: VanillaConfig):
        cross = config.is_encoder_decoder
        depth = config.num_decoder_layers if cross else config.num_layers
        self._can_record_outputs = {
            "hidden_states": OutputRecorder(DecoderLayer, num_hidden_layers_key="num_decoder_layers")
            if cross
            else DecoderLayer,
            "attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="self_attn"),
        }
        if cross:
            self._can_record_outputs["cross_attentions"] = OutputRecorder(
                MultiHeadAttention, index=1, layer_name="cross_attn"
            )
        super().__init__(config, [DecoderLayer(config, i, cross) for i in range(depth)])

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
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decode ids (B, T), or embeddings (B, T, D), to hidden states (B, T, D).

        Args:
            attention_mask: (B, past + T), nonzero = real token; or (B, 1, T, past + T).
            position_ids: (B or 1, T). By default counted over the real tokens. Positions that restart within a row
                mark packed sequences, which do not see each other.
            encoder_hidden_states: (B, S, D), for an encoder-decoder.
            encoder_attention_mask: (B, S), nonzero = real token.
            past_key_values: Keys and values of the tokens before.

        Raises:
            ValueError: See `validation.check_inputs`.
        """
        past_length = past_key_values.get_seq_length() if past_key_values is not None else 0
        prefix = "decoder_" if self.config.is_encoder_decoder else ""
        check_inputs(self.config, input_ids, inputs_embeds, attention_mask, past_length, prefix)
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if use_cache and past_key_values is None:
            past_key_values = self._new_cache()
        self_cache = (
            past_key_values.self_attention_cache
            if isinstance(past_key_values, EncoderDecoderCache)
            else past_key_values
        )
        mask = create_causal_mask(
            self.config,
            inputs_embeds,
            attention_mask,
            self_cache,
            position_ids=position_ids,
            and_mask_function=neighbourhood(self.config.attention_window),
        )
        encoder_mask = None
        if encoder_hidden_states is not None:
            encoder_mask = create_bidirectional_mask(
                self.config, inputs_embeds, encoder_attention_mask, encoder_hidden_states=encoder_hidden_states
            )
        if position_ids is None:
            position_ids = default_position_ids(
                attention_mask, inputs_embeds.shape[1], past_length, inputs_embeds.device
            )
        hidden_states = self.embeddings(inputs_embeds, position_ids, token_type_ids)
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                encoder_hidden_states,
                attention_mask=mask,
                encoder_attention_mask=encoder_mask,
                past_key_values=past_key_values,
                use_cache=use_cache,
                **kwargs,
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.finish(hidden_states), past_key_values=past_key_values
        )

    def _new_cache(self) -> Cache:
        config = self.config.get_text_config(decoder=True)
        if self.config.is_encoder_decoder:
            return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        return DynamicCache(config=config)


class VanillaModel(VanillaPreTrainedModel):
    """The Transformer without a head (Vaswani et al. 2017, fig. 1): `encoder`, `decoder`, or both, by the variant."""

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.encoder = VanillaEncoder(config) if config.variant != "decoder" else None
        self.decoder = VanillaDecoder(config) if config.variant != "encoder" else None
        if config.variant == "encoder-decoder":
            self._tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the (source) token embedding."""
        return (self.decoder if self.encoder is None else self.encoder).embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Set the token embedding; of both stacks where they share it."""
        for stack in (self.encoder, self.decoder):
            if stack is not None and (stack is self.encoder or self.encoder is None or self.config.tie_word_embeddings):
                stack.embed_tokens = value

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_position_ids: torch.LongTensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutput | BaseModelOutputWithPastAndCrossAttentions | Seq2SeqModelOutput:
        """Run the stacks that the variant has.

        Args:
            input_ids: (B, S) for an encoder, (B, T) for a decoder alone.
            attention_mask: (B, S), nonzero = real token. In an encoder-decoder it is that of the source.
            decoder_input_ids: (B, T), only for an encoder-decoder, where they are needed.
            encoder_outputs: What the encoder gave before, instead of the source.

        Returns:
            Hidden states (B, S, D) of the encoder, or (B, T, D) of the decoder; with cache and encoder's where present.

        Raises:
            ValueError: See `validation.check_inputs`.
        """
        source = dict(attention_mask=attention_mask, position_ids=position_ids, token_type_ids=token_type_ids)
        if self.decoder is None:
            return self.encoder(input_ids, inputs_embeds=inputs_embeds, **source, **kwargs)
        if self.encoder is None:
            return self.decoder(
                input_ids,
                inputs_embeds=inputs_embeds,
                past_key_values=past_key_values,
                use_cache=use_cache,
                **source,
                **kwargs,
            )
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, inputs_embeds=inputs_embeds, **source, **kwargs)
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs[:3])
        memory = encoder_outputs.last_hidden_state
        if attention_mask is not None and attention_mask.dim() == 2 and attention_mask.shape != memory.shape[:2]:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}, but the encoder gave {tuple(memory.shape[:2])}"
            )
        decoded = self.decoder(
            decoder_input_ids,
            attention_mask=decoder_attention_mask,
            position_ids=decoder_position_ids,
            encoder_hidden_states=memory,
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=memory,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


class _Head(VanillaPreTrainedModel):
    """A VanillaModel of one of the variants that a head can work with."""

    _variants: tuple[str, ...] = ("encoder-decoder", "encoder", "decoder")

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        if config.variant not in self._variants:
            raise ValueError(
                f"variant={config.variant!r} has no {type(self).__name__}; it needs {' or '.join(map(repr, self._variants))}"
            )
        self.model = VanillaModel(config)

    def smoothing(self) -> float:
        """Return label_smoothing in training mode, else 0: evaluation reports the true likelihood."""
        return self.config.label_smoothing if self.training else 0.0


def keep(hidden_states: torch.Tensor, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
    """Return the last `logits_to_keep` positions of (B, T, D), all for 0, or those that a 1-D tensor names."""
    if isinstance(logits_to_keep, int):
        return hidden_states if logits_to_keep == 0 else hidden_states[:, -logits_to_keep:]
    return hidden_states[:, logits_to_keep]


class VanillaForConditionalGeneration(_Head, GenerationMixin):
    """The paper's translator: encoder, decoder, and a linear map to the vocabulary (Vaswani et al. 2017, sec. 3.4)."""

    _variants = ("encoder-decoder",)
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Return decoder_input_ids (B, T) for labels (B, T); DataCollatorForSeq2Seq calls this."""
        return shift_right(labels, self.config)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_position_ids: torch.LongTensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Predict each target token from the source and the target tokens before it.

        Args:
            decoder_input_ids: (B, T). Made from `labels` when those are given alone.
            labels: (B, T), -100 = ignore, beside the logits that predict them: they are not shifted again.
            logits_to_keep: Compute logits for the last so many positions only; 0 = all.
            num_items_in_batch: What the summed loss is divided by; by default the number of labels in this call.

        Returns:
            Logits (B, T, V), and the loss in nats per label where labels are given.

        Raises:
            ValueError: See `validation.check_inputs` and `check_labels`.
        """
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = shift_right(labels, self.config)
        out = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            decoder_position_ids=decoder_position_ids,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(keep(out.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = reduce(token_loss(logits, labels, self.smoothing()), num_items_in_batch)
        return Seq2SeqLMOutput(loss=loss, logits=logits, **{k: v for k, v in out.items() if k != "last_hidden_state"})


class VanillaForCausalLM(_Head, GenerationMixin):
    """The decoder alone with a linear map to the vocabulary: a language model like GPT-2 (Radford et al. 2019)."""

    _variants = ("decoder",)
    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        shift_labels: torch.LongTensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithCrossAttentions:
        """Predict each next token.

        Args:
            labels: (B, T), -100 = ignore; usually the input_ids: the shift by one happens here.
            logits_to_keep: Compute logits for the last so many positions only; 0 = all.
            num_items_in_batch: What the summed loss is divided by; by default the number of labels in this call.
            shift_labels: (B, T), labels that were shifted before; they replace `labels`.

        Returns:
            Logits (B, T, V), and the loss in nats per label where labels are given.

        Raises:
            ValueError: See `validation.check_inputs` and `check_labels`.
        """
        for targets in (labels, shift_labels):
            if targets is not None:
                check_labels(targets, self.config.vocab_size)
        out = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(keep(out.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None or shift_labels is not None:
            loss = reduce(causal_loss(logits, labels, self.smoothing(), shift_labels), num_items_in_batch)
        return CausalLMOutputWithCrossAttentions(
            loss=loss, logits=logits, **{k: v for k, v in out.items() if k != "last_hidden_state"}
        )


class PredictionTransform(nn.Module):
    """The layer between encoder and vocabulary in BERT's masked language model (Devlin et al. 2019): (B, T, D)."""

    def __init__(self, config: VanillaConfig):
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.activation = ACT2FN[config.activation]
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return self.norm(self.activation(self.dense(hidden_states)))


class VanillaForMaskedLM(_Head):
    """The encoder alone, guessing the masked tokens (Devlin et al. 2019, sec. 3.1)."""

    _variants = ("encoder",)
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.transform = PredictionTransform(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> MaskedLMOutput:
        """Predict the token at each place.

        Args:
            labels: (B, S), -100 everywhere but where a token was masked.
            num_items_in_batch: What the summed loss is divided by; by default the number of labels in this call.

        Returns:
            Logits (B, S, V), and the loss in nats per label where labels are given.

        Raises:
            ValueError: See `validation.check_inputs` and `check_labels`.
        """
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
        out = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        logits = self.lm_head(self.transform(out.last_hidden_state))
        loss = None
        if labels is not None:
            loss = reduce(token_loss(logits, labels, self.smoothing()), num_items_in_batch)
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=out.hidden_states, attentions=out.attentions)


class ClassificationHead(nn.Module):
    """BERT's pooler and classifier (Devlin et al. 2019): one vector (B, D) to scores (B, C)."""

    def __init__(self, config: VanillaConfig):
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.out_proj = nn.Linear(config.d_model, config.num_labels)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map (B, D) to (B, C)."""
        return self.out_proj(self.dropout(torch.tanh(self.dense(pooled))))


class VanillaForSequenceClassification(_Head):
    """A classifier, or a regression, over whole sequences.

    An encoder is read at its first real token (BERT), a decoder at its last one (GPT-2), since only that has seen the
    rest. An encoder-decoder reads the text on both sides (BART).
    """

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.classifier = ClassificationHead(config)
        self.post_init()

    def _pool(
        self, hidden_states: torch.Tensor, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Pick from (B, T, D) the first real token's vector (encoder) or the last one's: (B, D)."""
        places = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        if attention_mask is not None and attention_mask.dim() == 2:
            real = attention_mask.ne(0).to(hidden_states.device)
        elif input_ids is not None and self.config.pad_token_id is not None:
            real = input_ids.ne(self.config.pad_token_id)
        else:
            real = torch.ones_like(places, dtype=torch.bool).expand(hidden_states.shape[:2])
        first = self.config.variant == "encoder"
        index = torch.where(real, -places if first else places, -places.numel()).argmax(-1)  # (B,)
        return hidden_states[torch.arange(hidden_states.shape[0], device=hidden_states.device), index]

    def _problem_type(self, labels: torch.Tensor) -> str:
        """Return the configured problem type, or the one that number of classes and type of labels speak for."""
        if self.config.problem_type is None:
            if self.config.num_labels == 1:
                self.config.problem_type = "regression"
            elif labels.dtype in (torch.long, torch.int):
                self.config.problem_type = "single_label_classification"
            else:
                self.config.problem_type = "multi_label_classification"
        return self.config.problem_type

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Score each sequence.

        Args:
            labels: (B,) class ids; (B, C) zeros and ones for several labels; numbers for a regression.
            num_items_in_batch: What the summed loss is divided by; by default the number of labels in this call.

        Returns:
            Logits (B, C), and the loss where labels are given.

        Raises:
            ValueError: See `validation.check_inputs` and `check_labels`.
        """
        if self.config.is_encoder_decoder:
            if input_ids is None:
                raise ValueError("an encoder-decoder classifies input_ids; inputs_embeds cannot be read by its decoder")
            kwargs |= dict(decoder_input_ids=shift_right(input_ids, self.config), use_cache=False)
        out = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        logits = self.classifier(self._pool(out.last_hidden_state, input_ids, attention_mask))
        loss = None
        if labels is not None:
            problem_type = self._problem_type(labels)
            if problem_type == "single_label_classification":
                check_labels(labels, self.config.num_labels)
            loss = reduce(classification_loss(logits, labels, problem_type), num_items_in_batch)
        both = self.config.is_encoder_decoder
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=out.decoder_hidden_states if both else out.hidden_states,
            attentions=out.decoder_attentions if both else out.attentions,
        )


# Saving any of these copies the code beside the weights, for readers without this package.
for _name, _model in {
    "AutoModel": VanillaModel,
    "AutoModelForSeq2SeqLM": VanillaForConditionalGeneration,
    "AutoModelForCausalLM": VanillaForCausalLM,
    "AutoModelForMaskedLM": VanillaForMaskedLM,
    "AutoModelForSequenceClassification": VanillaForSequenceClassification,
}.items():
    _model.register_for_auto_class(_name)
