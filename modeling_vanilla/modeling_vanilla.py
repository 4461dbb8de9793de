# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The Transformer and its heads as Hugging Face models (Vaswani et al. 2017, fig. 1).

Every forward first checks what it is given, and raises a ValueError that names the value: see `input_checks`. A loss is
a sum, divided by `num_items_in_batch`, by default the number of labels in the call.
Dimension letters: B batch, S source length, T target length, D d_model, V vocabulary.
"""

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    MaskedLMOutput,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.generic import can_return_tuple

from .base import VanillaPreTrainedModel
from .cache_name import CACHE, takes_cache
from .configuration_vanilla import VanillaConfig
from .fine_tuning import MultipleChoice, QuestionAnswering, SequenceClassification, TokenClassification
from .heads import PredictionTransform, both_outputs, keep, mask_of_left_padding, shift_right, states
from .input_checks import check_bias, check_labels, check_source_mask, check_unknown, check_variant
from .losses import IGNORE, is_plain, linear_loss, reduce, shifted, token_loss
from .pipeline_question_answering import QuestionAnsweringPipeline  # noqa: F401  so that it is copied with weights
from .pipeline_text2text import TranslationPipeline  # noqa: F401  likewise
from .stacks import VanillaCrossDecoder, VanillaDecoder, VanillaEncoder


class VanillaModel(VanillaPreTrainedModel):
    """The Transformer without a head (Vaswani et al. 2017, fig. 1): `encoder`, `decoder`, or both, by the variant."""

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.encoder = VanillaEncoder(config) if config.variant != "decoder" else None
        decoder = VanillaCrossDecoder if config.has_cross_attention else VanillaDecoder
        self.decoder = decoder(config) if config.variant != "encoder" else None
        self.post_init()

    @property
    def _tied_weights_keys(self) -> dict[str, str] | None:  # type: ignore[override]
        # Of a model that has both ends; one that was stored would be another's, if transformers read it of the class.
        ends = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}
        return ends if self.config.is_encoder_decoder else None

    def get_decoder(self) -> nn.Module:
        """Return the decoder; the model itself where it has none, as encoders of transformers do."""
        return self if self.decoder is None else self.decoder

    def get_input_embeddings(self) -> nn.Module:
        """Return the (source) token embedding."""
        return (self.decoder if self.encoder is None else self.encoder).embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Set the token embedding; of both stacks where they share it."""
        for stack in (self.encoder, self.decoder):
            is_input = stack is self.encoder or self.encoder is None
            if stack is not None and (is_input or self.config.tie_word_embeddings):
                stack.embed_tokens = value

    @takes_cache
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
        cache: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        cross_attention_mask: torch.Tensor | None = None,
        use_cache: bool | None = None,
        encoder_hidden_states: torch.FloatTensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutput | BaseModelOutputWithPastAndCrossAttentions | Seq2SeqModelOutput:
        """Run the stacks that the variant has.

        Args:
            input_ids: (B, S) for an encoder, (B, T) for a decoder alone.
            attention_mask: (B, S), nonzero = real token. In an encoder-decoder it is that of the source.
            decoder_input_ids: (B, T), only for an encoder-decoder, where they are needed.
            cross_attention_mask: (B, S) or (B, 1, T, S), what the decoder sees of the source; by default as
                attention_mask. Packed rows need it: each target sees its own source only.
            encoder_outputs: What the encoder gave before, instead of the source.
            encoder_hidden_states: (B, S, D), what another encoder gave to a decoder with `add_cross_attention`.
            encoder_attention_mask: (B, S), nonzero = real place of it; or (B, 1, T, S).

        Returns:
            Hidden states (B, S, D) of the encoder, or (B, T, D) of the decoder; the cache where there is one.
        """
        check_unknown(kwargs, of_generate=self.config.variant == "encoder")
        memory = {"encoder_hidden_states": encoder_hidden_states, "encoder_attention_mask": encoder_attention_mask}
        check_variant(self.config.variant, "decoder", **memory)
        check_variant(
            self.config.variant,
            "encoder-decoder",
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            decoder_position_ids=decoder_position_ids,
            decoder_inputs_embeds=decoder_inputs_embeds,
            encoder_outputs=encoder_outputs,
            cross_attention_mask=cross_attention_mask,
        )
        source = {"attention_mask": attention_mask, "position_ids": position_ids, "token_type_ids": token_type_ids}
        source["inputs_embeds"] = inputs_embeds
        kwargs["return_dict"] = True  # whatever the config says: the decorator of this method makes the tuple
        if self.decoder is None:
            if cache is not None:  # the prefix of an adapter, which would be lost
                raise ValueError(f"{CACHE} must be None with variant='encoder': an encoder reads no cache")
            return self.encoder(input_ids, **source, **kwargs)
        if self.encoder is None:
            return self.decoder(input_ids, cache=cache, use_cache=use_cache, **source, **memory, **kwargs)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, **source, **kwargs)
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs[:3])
        encoded = encoder_outputs.last_hidden_state
        check_source_mask(attention_mask, encoded)
        decoded = self.decoder(
            decoder_input_ids,
            attention_mask=decoder_attention_mask,
            position_ids=decoder_position_ids,
            encoder_hidden_states=encoded,
            encoder_attention_mask=attention_mask if cross_attention_mask is None else cross_attention_mask,
            cache=cache,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        return both_outputs(encoder_outputs, decoded)


class _Head(VanillaPreTrainedModel):
    """A VanillaModel of one of the variants that a head can work with."""

    _variants: tuple[str, ...] = ("encoder-decoder", "encoder", "decoder")

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        if config.variant not in self._variants:
            needed = " or ".join(map(repr, self._variants))
            raise ValueError(f"variant={config.variant!r} has no {type(self).__name__}; it needs {needed}")
        self.model = VanillaModel(config)

    def smoothing(self) -> float:
        """Return label_smoothing in training mode, else 0: evaluation reports the true likelihood."""
        return self.config.label_smoothing if self.training else 0.0

    def predict(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None,
        divisor: torch.Tensor | int | None,
        skip_logits: bool = False,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the logits (B, T, V) of states (B, T, D), and the loss where labels stand beside them.

        Args:
            skip_logits: Return None for the logits, and never hold all of them; see `losses.linear_loss`. A head that
                is more than a linear map (an adapter, a hook) gives them all the same.
        """
        if skip_logits and labels is not None and is_plain(self.lm_head):
            return None, reduce(linear_loss(hidden_states, self.lm_head, labels, self.smoothing()), divisor)
        logits = self.lm_head(hidden_states)
        return logits, None if labels is None else self.loss_of(logits, labels, divisor)

    def loss_of(self, logits: torch.Tensor, labels: torch.Tensor, divisor: torch.Tensor | int | None) -> torch.Tensor:
        """Return the loss of labels that stand beside their logits (..., V), in nats per label or by `divisor`."""
        return reduce(token_loss(logits, labels, self.smoothing()), divisor)


class VanillaForConditionalGeneration(_Head, GenerationMixin):
    """The paper's translator: encoder, decoder, and a linear map to the vocabulary (Vaswani et al. 2017, sec. 3.4)."""

    _variants = ("encoder-decoder",)
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=config.lm_head_bias)
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Return decoder_input_ids (B, T) for labels (B, T); DataCollatorForSeq2Seq calls this."""
        return shift_right(labels, self.config)

    @takes_cache
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
        cache: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        skip_logits: bool = False,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Predict each target token from the source and the target tokens before it.

        Args:
            decoder_input_ids: (B, T). Made from `labels` when those are given alone.
            labels: (B, T), -100 = ignore, beside the logits that predict them: they are not shifted again.
            logits_to_keep: Compute logits for the last so many positions only; 0 = all.
            skip_logits: Beside labels, return the loss alone: with a large vocabulary in less time and memory.

        Returns:
            Logits (B, T, V), and the loss in nats per label where labels are given.
        """
        if self.config.lm_head_bias:
            check_bias(self.lm_head)
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = shift_right(labels, self.config)
        if decoder_input_ids is not None and decoder_attention_mask is decoder_position_ids is cache is None:
            decoder_attention_mask = mask_of_left_padding(decoder_input_ids, self.config)
        out = self.model(
            *(input_ids, attention_mask, position_ids, token_type_ids),
            *(decoder_input_ids, decoder_attention_mask, decoder_position_ids, encoder_outputs),
            cache=cache,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        chosen = keep(out.last_hidden_state, logits_to_keep)
        logits, loss = self.predict(chosen, labels, num_items_in_batch, skip_logits)
        return Seq2SeqLMOutput(loss=loss, logits=logits, **states(out))


class VanillaForCausalLM(_Head, GenerationMixin):
    """The decoder alone with a linear map to the vocabulary: a language model like GPT-2 (Radford et al. 2019)."""

    _variants = ("decoder",)
    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    @takes_cache
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        skip_logits: bool = False,
        encoder_hidden_states: torch.FloatTensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithCrossAttentions:
        """Predict each next token, with `add_cross_attention` from an encoder's output as well.

        Args:
            labels: (B, T), -100 = ignore; usually the input_ids: the shift by one happens here.
            logits_to_keep: Compute logits for the last so many positions only; 0 = all.
            skip_logits: Beside labels, return the loss alone: with a large vocabulary in less time and memory.
            kwargs: `shift_labels` (B, T), labels that were shifted before, replace `labels`. What else there is goes
                down to the kernels.

        Returns:
            Logits (B, T, V), and the loss in nats per label where labels are given.
        """
        # Not named above: the Trainer would take it for a label that every batch has, and never evaluate a loss.
        shift_labels = kwargs.pop("shift_labels", None)
        for targets in (labels, shift_labels):
            if targets is not None:
                check_labels(targets, self.config.vocab_size)
        kwargs |= {"cache": cache, "inputs_embeds": inputs_embeds, "use_cache": use_cache, "return_dict": True}
        kwargs |= {"encoder_hidden_states": encoder_hidden_states, "encoder_attention_mask": encoder_attention_mask}
        out = self.model(input_ids, attention_mask, position_ids, token_type_ids, **kwargs)
        if labels is not None and shift_labels is None:
            shift_labels = shifted(labels)
        chosen = keep(out.last_hidden_state, logits_to_keep)
        logits, loss = self.predict(chosen, shift_labels, num_items_in_batch, skip_logits)
        return CausalLMOutputWithCrossAttentions(loss=loss, logits=logits, **states(out))


class VanillaForMaskedLM(_Head):
    """The encoder alone, guessing the masked tokens (Devlin et al. 2019, sec. 3.1)."""

    _variants = ("encoder",)
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

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

        Returns:
            Logits (B, S, V), and the loss in nats per label where labels are given. In training mode with labels, only
            the logits of the N labelled places, (N, V).
        """
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
        check_bias(self.lm_head)
        kwargs |= {"inputs_embeds": inputs_embeds, "return_dict": True}
        out = self.model(input_ids, attention_mask, position_ids, token_type_ids, **kwargs)
        hidden_states = out.last_hidden_state
        if self.training and labels is not None:
            # The other 85 % do not enter the loss, and mapping them to the vocabulary would be half of a step.
            labelled = labels.ne(IGNORE).to(hidden_states.device)
            hidden_states, labels = hidden_states[labelled], labels.to(hidden_states.device)[labelled]
        logits = self.lm_head(self.transform(hidden_states))
        loss = None if labels is None else self.loss_of(logits, labels, num_items_in_batch)
        return MaskedLMOutput(loss=loss, logits=logits, **states(out))


class VanillaForSequenceClassification(SequenceClassification, _Head):
    """A classifier, or a regression, over whole sequences.

    An encoder is read at its first real token, a decoder at its last one; an encoder-decoder reads the text on both
    sides (BART).
    """


class VanillaForTokenClassification(TokenClassification, _Head):
    """A classifier of each token: names, parts of speech (Devlin et al. 2019, sec. 5.3)."""


class VanillaForQuestionAnswering(QuestionAnswering, _Head):
    """The place of an answer within a text (Devlin et al. 2019, sec. 4.2)."""


class VanillaForMultipleChoice(MultipleChoice, _Head):
    """The best of several texts, each read as the sequence classifier reads it (Devlin et al. 2019, sec. 4.4)."""


# Which Auto class loads which. Saving any of them copies the code beside the weights, for readers without this package.
AUTO_CLASSES = {
    "AutoModel": VanillaModel,
    "AutoModelForSeq2SeqLM": VanillaForConditionalGeneration,
    "AutoModelForCausalLM": VanillaForCausalLM,
    "AutoModelForMaskedLM": VanillaForMaskedLM,
    "AutoModelForSequenceClassification": VanillaForSequenceClassification,
    "AutoModelForTokenClassification": VanillaForTokenClassification,
    "AutoModelForQuestionAnswering": VanillaForQuestionAnswering,
    "AutoModelForMultipleChoice": VanillaForMultipleChoice,
}
for _name, _model in AUTO_CLASSES.items():
    _model.register_for_auto_class(_name)

# A Trainer with label_smoothing_factor computes the loss itself, and shifts the labels for the classes listed here
# alone; for any other it would score each token by the logits of the place after it.
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[VanillaConfig.model_type] = VanillaForCausalLM.__name__
