# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The Transformer and its heads as Hugging Face models (Vaswani et al. 2017, fig. 1).

Dimension letters: B batch, S source length, T target length, D d_model, V vocabulary, C classes.
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
    SequenceClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .configuration_vanilla import VanillaConfig
from .heads import ClassificationHead, PredictionTransform, keep, pool, shift_right
from .losses import causal_loss, classification_loss, reduce, token_loss
from .stacks import VanillaDecoder, VanillaEncoder, VanillaPreTrainedModel
from .validation import check_labels


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
            if stack is not None and (
                stack is self.encoder or self.encoder is None or self.config.tie_word_embeddings
            ):
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
            Hidden states (B, S, D) of the encoder, or (B, T, D) of the decoder; the cache where there is one.

        Raises:
            ValueError: See `validation.check_inputs`.
        """
        source = {"attention_mask": attention_mask, "position_ids": position_ids, "token_type_ids": token_type_ids}
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
                f"attention_mask has shape {tuple(attention_mask.shape)}, the encoder gave {tuple(memory.shape[:2])}"
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
            needed = " or ".join(map(repr, self._variants))
            raise ValueError(f"variant={config.variant!r} has no {type(self).__name__}; it needs {needed}")
        self.model = VanillaModel(config)

    def smoothing(self) -> float:
        """Return label_smoothing in training mode, else 0: evaluation reports the true likelihood."""
        return self.config.label_smoothing if self.training else 0.0


class VanillaForConditionalGeneration(_Head, GenerationMixin):
    """The paper's translator: encoder, decoder, and a linear map to the vocabulary (Vaswani et al. 2017, sec. 3.4)."""

    _variants = ("encoder-decoder",)
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=config.lm_head_bias)
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


class VanillaForSequenceClassification(_Head):
    """A classifier, or a regression, over whole sequences.

    An encoder is read at its first real token, a decoder at its last one; an encoder-decoder reads the text on both
    sides (BART).
    """

    def __init__(self, config: VanillaConfig):
        super().__init__(config)
        self.classifier = ClassificationHead(config)
        self.post_init()

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
                raise ValueError(
                    "an encoder-decoder classifies input_ids; inputs_embeds cannot be read by its decoder"
                )
            kwargs |= {"decoder_input_ids": shift_right(input_ids, self.config), "use_cache": False}
        out = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        logits = self.classifier(pool(out.last_hidden_state, input_ids, attention_mask, self.config))
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
