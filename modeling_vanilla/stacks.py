# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The encoder and decoder stacks, and what all Vanilla models share (Vaswani et al. 2017, fig. 1).

Dimension letters: B batch, S source length, T target length, D d_model.
"""

import math
import re
from dataclasses import fields

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention import MultiHeadAttention
from .cache_name import NAMES, as_installed, check_cache, is_paged, takes_cache
from .configuration_vanilla import VanillaConfig
from .embeddings import Embeddings, SinusoidalPositions, TokenEmbedding, default_position_ids
from .layers import DecoderLayer, EncoderLayer
from .safety import check_files, check_folder, check_generation
from .validation import can_read, check_inputs, check_places, check_unknown, may_be_packed


def neighbourhood(config: VanillaConfig, paged: bool = False):
    """Return the rule of restricted self-attention, |i - j| <= window // 2 (Vaswani et al. 2017, sec. 4), or None.

    Args:
        config: The model's numbers and kernel.
        paged: The caller is `generate_batch`, which keeps the cache and makes the mask itself.

    Raises:
        ValueError: The kernel takes no mask, or takes that of `generate_batch`, and would ignore the window.
    """
    window = config.attention_window
    if window is None:
        return None
    # transformers makes no mask for a kernel that it does not know, such as vLLM's.
    kernel = config._attn_implementation or "eager"
    if paged or "flash" in kernel or kernel not in ALL_MASK_ATTENTION_FUNCTIONS.valid_keys():
        culprit = "generate_batch" if paged else f"attn_implementation={kernel!r}"
        raise ValueError(
            f"attention_window={window} is a mask, which {culprit} would ignore; use 'eager', 'sdpa' or "
            "'flex_attention', and generate"
        )
    return lambda batch, head, query, key: (query - key).abs() <= window // 2


def forbidden_as_infinity(mask: torch.Tensor | None) -> torch.Tensor | None:
    """Write "never" as -inf in an additive 4-D mask: about rows of finfo.min alone the kernels disagree."""
    if torch.is_tensor(mask) and mask.dim() == 4 and mask.is_floating_point():
        return mask.masked_fill(mask <= torch.finfo(mask.dtype).min, -math.inf)
    return mask


class VanillaPreTrainedModel(PreTrainedModel):
    """What every Vanilla model shares: initialisation, and what Hugging Face needs to know of it."""

    config: VanillaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]
    _skip_keys_device_placement = list(NAMES)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    def __init__(self, config: VanillaConfig, *args, **kwargs):
        config.check()
        super().__init__(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """Load a model as transformers does, from the safetensors of its folder or repository and from nothing else.

        Raises:
            ValueError: See `safety`: the files ask for more than weights and numbers.
        """
        if kwargs.get("use_safetensors") is False:
            raise ValueError("use_safetensors=False must be None or True: pickled weights are not read")
        kwargs["use_safetensors"] = True
        check_folder(pretrained_model_name_or_path, kwargs.get("subfolder", ""), kwargs.get("variant"))
        loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        check_generation(getattr(model, "generation_config", None), model.config.max_position_embeddings)
        return loaded

    @staticmethod
    def _load_pretrained_model(model, state_dict, checkpoint_files, load_config, *args, **kwargs):
        # The one place that every way to the weights goes through, while the model takes no memory yet.
        check_files(model, checkpoint_files, load_config.sharded_metadata)
        return PreTrainedModel._load_pretrained_model(
            model, state_dict, checkpoint_files, load_config, *args, **kwargs
        )

    def init_parallel_plans(self) -> None:
        """Keep the rules that name a module of this model: the plans of the config are those of any stack."""
        super().init_parallel_plans()
        names = {re.sub(r"\.\d+\b", ".*", name) for name, _ in self.named_modules(remove_duplicate=False)}
        self._tp_plan = {rule: style for rule, style in self._tp_plan.items() if rule in names}
        self._fsdp_plan = {rule: style for rule, style in self._fsdp_plan.items() if rule in names}

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

    def _resize_token_embeddings(self, new_num_tokens, pad_to_multiple_of=None, mean_resizing=True) -> nn.Module:
        """Resize the token matrices; an untied encoder-decoder has a second one, which transformers does not look for."""
        source = super()._resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        if self.config.is_encoder_decoder and not self.config.tie_word_embeddings:
            decoder = self.base_model.decoder
            decoder.embed_tokens = self._get_resized_embeddings(
                decoder.embed_tokens, source.weight.shape[0], mean_resizing=mean_resizing
            )
        return source

    @staticmethod
    def create_masks_for_generate(config: VanillaConfig, **kwargs) -> torch.Tensor | None:
        """Build the causal mask of a static cache, with the window (`generate` calls this)."""
        cache = next((kwargs[name] for name in NAMES if kwargs.get(name) is not None), None)
        return create_causal_mask(
            config,
            **{name: kwargs.get(name) for name in ("inputs_embeds", "attention_mask", "position_ids")},
            **as_installed(cache),
            and_mask_function=neighbourhood(config),
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
            ValueError: See `validation.check_inputs` and `check_unknown`.
        """
        check_unknown(kwargs, of_generate=self.config.is_encoder_decoder)
        packed = may_be_packed(position_ids, attention_mask)
        check_inputs(self.config, input_ids, inputs_embeds, attention_mask, past_length=0, packed=packed)
        check_places(self.config, position_ids, token_type_ids)
        if input_ids is not None and can_read(input_ids):
            self.warn_if_padding_and_no_attention_mask(input_ids, attention_mask)
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if position_ids is None:
            position_ids = default_position_ids(attention_mask, inputs_embeds.shape[1], 0, inputs_embeds.device)
        mask = create_bidirectional_mask(
            self.config,
            inputs_embeds,
            forbidden_as_infinity(attention_mask),
            and_mask_function=neighbourhood(self.config),
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
        # transformers 5.17 has no such field, and does not need it.
        depth_key = {"num_hidden_layers_key": "num_decoder_layers"} if cross else {}
        if "num_hidden_layers_key" not in {field.name for field in fields(OutputRecorder)}:
            depth_key = {}
        self._can_record_outputs = {
            "hidden_states": OutputRecorder(DecoderLayer, **depth_key),
            "attentions": OutputRecorder(MultiHeadAttention, index=1, layer_name="self_attn"),
        }
        if cross:
            self._can_record_outputs["cross_attentions"] = OutputRecorder(
                MultiHeadAttention, index=1, layer_name="cross_attn"
            )
        super().__init__(config, [DecoderLayer(config, i, cross) for i in range(depth)])

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
            encoder_hidden_states: (B, S, D), for an encoder-decoder.
            encoder_attention_mask: (B, S), nonzero = real token; or (B, 1, T, S).
            cache: Keys and values of the tokens before.

        Raises:
            ValueError: See `validation.check_inputs` and `check_unknown`.
        """
        check_unknown(kwargs)
        check_cache(cache, self.config.is_encoder_decoder)
        paged = is_paged(cache)
        past_length = 0 if cache is None or paged else cache.get_seq_length()
        prefix = "decoder_" if self.config.is_encoder_decoder else ""
        packed = (cache is None or paged) and may_be_packed(position_ids, attention_mask)
        check_inputs(self.config, input_ids, inputs_embeds, attention_mask, past_length, prefix, packed)
        check_places(self.config, position_ids, token_type_ids, prefix)
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        mask = self._self_mask(inputs_embeds, attention_mask, cache, position_ids)
        encoder_mask = None
        if encoder_hidden_states is not None:
            encoder_mask = create_bidirectional_mask(
                self.config,
                inputs_embeds,
                forbidden_as_infinity(encoder_attention_mask),
                encoder_hidden_states=encoder_hidden_states,
            )
        if use_cache and cache is None:
            cache = self._new_cache()
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
                use_cache=use_cache,
                **as_installed(cache),  # gradient checkpointing takes it away by that name
                **kwargs,
            )
        # generate_batch keeps its cache itself, and does not look for it here.
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.finish(hidden_states), **as_installed(None if paged else cache)
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
        rule, mask = neighbourhood(self.config, paged=is_paged(cache)), forbidden_as_infinity(attention_mask)
        if is_paged(cache):  # generate_batch made it
            return mask
        own = getattr(cache, "self_attention_cache", cache)
        return create_causal_mask(
            self.config, inputs_embeds, mask, position_ids=position_ids, and_mask_function=rule, **as_installed(own)
        )

    def _new_cache(self) -> Cache:
        config = self.config.get_text_config(decoder=True)
        if self.config.is_encoder_decoder:
            return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        return DynamicCache(config=config)
