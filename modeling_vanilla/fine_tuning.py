# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The heads of fine-tuning: what is asked about a text that is given, rather than produced.

Mix-ins without a model of their own. `modeling_vanilla.py` joins each with one, so that all model classes are defined
in the file that is copied beside saved weights.
Every forward first checks what it is given, and raises a ValueError that names the value: see `input_checks`. A loss is
a sum, divided by `num_items_in_batch`, by default the number of labels in the call.
Dimension letters: B batch, T length, D d_model, C classes or choices.
"""

import torch
from torch import nn
from transformers.modeling_outputs import (
    BaseModelOutput,
    ModelOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    Seq2SeqModelOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    Seq2SeqSequenceClassifierOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .dropout import Dropout
from .heads import ClassificationHead, pool, shift_right, start_places, states
from .input_checks import check_labels, check_unknown
from .losses import classification_loss, reduce, span_loss, token_loss


class TextReader:
    """What these heads share: one vector for each token of a text, in every variant."""

    def read(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        **inputs,
    ) -> tuple[BaseModelOutput | Seq2SeqModelOutput, torch.Tensor | None, torch.Tensor | None]:
        """Run the stacks over a text (B, T); an encoder-decoder reads it on both sides, as BART does.

        Returns:
            The base model's output, whose last_hidden_state (B, T, D) is to be read; and the ids (B, T) and the mask
            (B, T) of those places, as far as they are known.

        Raises:
            ValueError: See `input_checks.check_inputs`; embeddings alone where the decoder has embeddings of its own.
        """
        check_unknown({name: value for name, value in inputs.items() if name == "labels"})  # an encoder lets them pass
        inputs |= {"position_ids": position_ids, "token_type_ids": token_type_ids, "return_dict": True}
        if self.config.variant == "encoder":
            out = self.model(input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **inputs)
            return out, input_ids, attention_mask
        inputs |= {"attention_mask": attention_mask, "inputs_embeds": inputs_embeds, "use_cache": False}
        if self.config.variant == "decoder":
            return self.model(input_ids, **inputs), input_ids, attention_mask
        ids = decoder_input_ids
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            ids = input_ids  # what the decoder reads is one place behind, padding included
            flat = attention_mask is not None and attention_mask.dim() == 2
            decoder_attention_mask = attention_mask if flat else None
            if input_ids is not None:
                decoder_input_ids = shift_right(input_ids, self.config, decoder_attention_mask)
            elif inputs_embeds is not None:
                decoder_inputs_embeds = self._shift_embeds(inputs_embeds, decoder_attention_mask)
        out = self.model(
            input_ids,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            decoder_inputs_embeds=decoder_inputs_embeds,
            **inputs,
        )
        return out, ids, decoder_attention_mask

    def _shift_embeds(self, embeds: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Do with embeddings (B, T, D) what `shift_right` does with ids."""
        start = self.config.decoder_start_token_id
        if start is None or not self.config.tie_word_embeddings:
            raise ValueError(
                f"{type(self).__name__} makes the decoder's input from inputs_embeds only with a decoder_start_token_id "
                "and tie_word_embeddings=True; give input_ids, or decoder_inputs_embeds as well"
            )
        vector = self.get_input_embeddings()(torch.tensor(start, device=embeds.device))  # (D,)
        return torch.where(start_places(embeds, mask)[..., None], vector.to(embeds.dtype), embeds.roll(1, dims=1))

    def answer(self, out: BaseModelOutput | Seq2SeqModelOutput, kinds: tuple, **fields) -> ModelOutput:
        """Put what a head found beside the states of the stacks: `kinds` are the outputs for one stack and for two."""
        if self.config.is_encoder_decoder:
            return kinds[1](**fields, **states(out))
        return kinds[0](**fields, hidden_states=out.hidden_states, attentions=out.attentions)


class SequenceClassification(TextReader):
    """One answer for each text: a class, several classes, or numbers."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = ClassificationHead(config, config.num_labels)
        self.post_init()

    def _problem_type(self, labels: torch.Tensor) -> str:
        """Return the configured problem type, or the one that number of classes and type of labels imply."""
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
    ) -> SequenceClassifierOutput | Seq2SeqSequenceClassifierOutput:
        """Score each sequence.

        Args:
            labels: (B,) class ids; (B, C) zeros and ones for several labels; numbers for a regression.

        Returns:
            Logits (B, C), and the loss where labels are given.
        """
        out, ids, mask = self.read(input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, **kwargs)
        logits = self.classifier(pool(out.last_hidden_state, ids, mask, self.config))
        loss = None
        if labels is not None:
            problem_type = self._problem_type(labels)
            if problem_type == "single_label_classification":
                check_labels(labels, self.config.num_labels)
            loss = reduce(classification_loss(logits, labels, problem_type), num_items_in_batch)
        kinds = SequenceClassifierOutput, Seq2SeqSequenceClassifierOutput
        return self.answer(out, kinds, loss=loss, logits=logits)


class TokenClassification(TextReader):
    """One class for each token (Devlin et al. 2019, sec. 5.3)."""

    def __init__(self, config):
        super().__init__(config)
        self.dropout = Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
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
    ) -> TokenClassifierOutput | Seq2SeqSequenceClassifierOutput:
        """Score each token.

        Args:
            labels: (B, T) class ids, -100 = ignore.

        Returns:
            Logits (B, T, C), and the loss in nats per label where labels are given.
        """
        out, _, _ = self.read(input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(out.last_hidden_state))
        loss = None
        if labels is not None:
            check_labels(labels, self.config.num_labels)
            loss = reduce(token_loss(logits, labels), num_items_in_batch)
        # transformers has no output of its own for the tokens of two stacks; this one has the fields.
        return self.answer(out, (TokenClassifierOutput, Seq2SeqSequenceClassifierOutput), loss=loss, logits=logits)


class QuestionAnswering(TextReader):
    """Where in the text the answer starts and ends (Devlin et al. 2019, sec. 4.2)."""

    def __init__(self, config):
        super().__init__(config)
        # Start and end, whatever num_labels a config says that was used for another head.
        self.qa_outputs = nn.Linear(config.d_model, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        start_positions: torch.LongTensor | None = None,
        end_positions: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs,
    ) -> QuestionAnsweringModelOutput | Seq2SeqQuestionAnsweringModelOutput:
        """Score each token as the first and as the last of the answer.

        Args:
            start_positions: (B,), the place of the first token. One past the end of the text is ignored.
            end_positions: (B,), the place of the last token, likewise.
            num_items_in_batch: What the summed loss is divided by; by default the number of starts and ends within
                the texts of this call.

        Returns:
            Start and end logits (B, T), and the loss in nats per position where positions are given.

        Raises:
            ValueError: See `input_checks.check_inputs`; one kind of positions without the other.
        """
        if (start_positions is None) != (end_positions is None):
            raise ValueError("give both of start_positions and end_positions, or neither")
        out, _, _ = self.read(input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, **kwargs)
        start, end = self.qa_outputs(out.last_hidden_state).unbind(-1)  # (B, T, 2) -> (B, T) twice
        loss = None
        if start_positions is not None:
            loss = reduce(span_loss(start, end, start_positions, end_positions), num_items_in_batch)
        kinds = QuestionAnsweringModelOutput, Seq2SeqQuestionAnsweringModelOutput
        return self.answer(out, kinds, loss=loss, start_logits=start.contiguous(), end_logits=end.contiguous())


class MultipleChoice(TextReader):
    """Which of several texts is the right one (Radford et al. 2018, sec. 3.3; Devlin et al. 2019, sec. 4.4)."""

    def __init__(self, config):
        super().__init__(config)
        self.choice = ClassificationHead(config, 1)
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
    ) -> MultipleChoiceModelOutput | Seq2SeqSequenceClassifierOutput:
        """Score each choice.

        Args:
            input_ids: (B, C, T), all choices of a question; the other inputs likewise.
            labels: (B,), the number of the right choice.

        Returns:
            Logits (B, C), and the loss in nats per question where labels are choices. Hidden states and attentions, where
            asked for, have one row per choice: (B * C, ...).

        Raises:
            ValueError: The ids are not (B, C, T); see also `input_checks.check_inputs` and `check_labels`.
        """
        choices = inputs_embeds if input_ids is None else input_ids
        if choices is not None and choices.dim() != (4 if input_ids is None else 3):
            raise ValueError(
                f"{'inputs_embeds' if input_ids is None else 'input_ids'} has shape {tuple(choices.shape)}, expected "
                f"(batch, choices, length{', d_model' if input_ids is None else ''})"
            )
        input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds = (
            None if tensor is None else tensor.flatten(0, 1)  # (B, C, T) -> (B * C, T)
            for tensor in (input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds)
        )
        out, ids, mask = self.read(input_ids, attention_mask, position_ids, token_type_ids, inputs_embeds, **kwargs)
        scores = self.choice(pool(out.last_hidden_state, ids, mask, self.config))
        logits = scores.view(choices.shape[:2])  # (B * C, 1) -> (B, C)
        loss = None
        if labels is not None:
            check_labels(labels, logits.shape[1])
            loss = reduce(token_loss(logits, labels), num_items_in_batch)
        return self.answer(out, (MultipleChoiceModelOutput, Seq2SeqSequenceClassifierOutput), loss=loss, logits=logits)
