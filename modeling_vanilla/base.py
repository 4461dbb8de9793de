# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What all Vanilla models share: initialisation, which matrices are one, loading and saving."""

import re
from inspect import signature

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask

from .cache_name import NAMES, as_installed
from .configuration_vanilla import VanillaConfig
from .embeddings import SinusoidalPositions
from .file_checks import check_files, check_folder, check_generation
from .masks import neighbourhood


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
            ValueError: See `file_checks`: the files ask for more than weights and numbers.
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

    def _ties(self) -> dict[str, str]:
        """Return what may be one matrix by the tables of this model and of those in it: {target: source}."""
        models = [(f"{name}.".lstrip("."), m) for name, m in self.named_modules() if isinstance(m, PreTrainedModel)]
        ties = {at + t: at + s for at, model in models for t, s in (model._tied_weights_keys or {}).items()}
        names = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        return {target: source for target, source in ties.items() if {target, source} <= names}

    def tie_weights(self, missing_keys: set[str] | None = None, recompute_mapping: bool = True) -> None:
        """Tie as the config says, and while loading also two embeddings of which the file holds one.

        They were one matrix when they were saved, though `tie_word_embeddings` was off: because of the output matrix,
        which an adapter of PEFT had trained.
        """
        super().tie_weights(missing_keys, recompute_mapping)
        for target, source in self._ties().items() if missing_keys else ():
            if target.endswith("embed_tokens.weight") and target in missing_keys and source not in missing_keys:
                self.get_submodule(target.rpartition(".")[0]).weight = self.get_parameter(source)
                missing_keys.discard(target)

    def save_pretrained(self, save_directory, is_main_process=True, state_dict=None, **kwargs):
        """Save as transformers does, and also a matrix that is shared otherwise than loading would tie it.

        transformers writes one of those that share memory, and trusts `tie_word_embeddings` to say which they were.
        """
        matrices = dict(self.named_parameters(remove_duplicate=False))
        kept = {}
        for target, source in self._ties().items():
            tied = self.config.tie_word_embeddings or target.endswith("embed_tokens.weight")
            shares = any(matrices[target] is other for name, other in matrices.items() if name != target)
            if shares and not (tied and matrices[target] is matrices[source]):
                kept[target] = matrices[target].detach().clone()
        if kept:
            state_dict = (self.state_dict() if state_dict is None else state_dict) | kept
        return super().save_pretrained(save_directory, is_main_process, state_dict, **kwargs)

    def _extract_generation_mode_kwargs(self, custom_generate, kwargs, synced_gpus, assistant_model, streamer) -> dict:
        """Give a function that names a streamer, as `decoding.search` does, the streamer: transformers keeps it back."""
        extract = super()._extract_generation_mode_kwargs  # type: ignore[misc]  # of GenerationMixin
        mode = extract(custom_generate, kwargs, synced_gpus, assistant_model, streamer)
        takes_it = callable(custom_generate) and "streamer" in signature(custom_generate).parameters
        return mode | {"streamer": streamer} if takes_it and streamer is not None else mode

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
