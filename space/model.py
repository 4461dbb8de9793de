# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A published checkpoint behind six questions: translate this, go on from here, what is missing, which label, which label for
each word, where is the answer; and where it looked.

Dimension letters: L layers, H heads, T rows (tokens written), S columns (tokens read).
"""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Encoding, Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import cached_file
from words import Line

# By the end of the class's name: what the model does, the variants that do it, and the class that loads it.
KINDS = {
    "ForConditionalGeneration": ("translate", ("encoder-decoder",), AutoModelForSeq2SeqLM),
    "ForCausalLM": ("complete", ("decoder",), AutoModelForCausalLM),
    "ForMaskedLM": ("fill", ("encoder",), AutoModelForMaskedLM),
    "ForSequenceClassification": ("classify", ("encoder", "decoder"), AutoModelForSequenceClassification),
    "ForTokenClassification": ("tag", ("encoder",), AutoModelForTokenClassification),
    "ForQuestionAnswering": ("answer", ("encoder",), AutoModelForQuestionAnswering),
}
SEARCH = "pipeline_question_answering.QuestionAnsweringPipeline"
ANSWERS = 5
"""Answers that are shown, the best first."""
# Characters that a text may have for each token that the model reads: more than any word has. A text is measured before it is
# cut into tokens, which takes a minute for 5 MB, and all visitors wait in one line.
CHARACTERS = 32
# Tokens that could not be seen, or not be told from a line.
SEEN = {" ": "␣", "▁": "␣", "\n": "↵", "\t": "⇥"}


class Refused(ValueError):
    """Something that the model cannot take; the line is for the person who typed it."""

    def __init__(self, key: str, **values):
        self.line = Line(key, values)
        super().__init__(self.line.in_language("en"))


class Mark(NamedTuple):
    """Some characters of a text, what they are, how sure the model is, and a colour in degrees; None: of no colour."""

    first: int
    behind: int
    label: str
    chance: float
    hue: int | None


class Answer(NamedTuple):
    """What the model said, and the ids that went in and that `generate` gave: enough to ask again where it looked."""

    text: str
    notes: list[Line]
    read: list[int]
    output: list[int] = []
    guesses: list[list[tuple[str, float]]] = []
    marks: list[Mark] = []
    types: list[int] | None = None


class Model:
    """A checkpoint of this architecture with its tokenizer, on the CPU or the first GPU."""

    def __init__(self, source: str, revision: str | None = None):
        """Load a folder or a Hub id.

        Its own Python files are executed, weights and code of the same revision.

        Raises:
            ValueError: a model with another task than the six.
            OSError: no such model.
        """
        if (Path(source) / "final" / "config.json").is_file() and not (Path(source) / "config.json").exists():
            source = str(Path(source) / "final")  # the folder of a run
        code = {"revision": revision, "code_revision": revision, "trust_remote_code": True}
        config = AutoConfig.from_pretrained(source, **code)
        variant, architecture = getattr(config, "variant", None), (config.architectures or ["none"])[0]
        fitting = (KINDS[end] for end in KINDS if architecture.endswith(end))
        self.kind, variants, auto_class = next(fitting, ("", (), None))
        if variant not in variants:
            raise ValueError(
                f"{source}: {architecture} (variant {variant!r}) neither translates, completes, fills in, classifies, tags nor "
                "answers"
            )
        # Only the eager kernel hands out attention weights.
        model = auto_class.from_pretrained(source, config=config, attn_implementation="eager", **code).eval()
        self.net = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=True)
        self.limit = config.max_position_embeddings
        self.layers = config.num_decoder_layers if self.kind == "translate" else config.num_layers
        self.heads, self.width = config.num_heads, config.head_dim
        # What stands for no text, the end aside: never written, never guessed.
        self._silent = sorted({*self.tokenizer.all_special_ids} - {self.tokenizer.eos_token_id})
        self._encoder = _text_encoder(self.tokenizer, self.tokenizer.mask_token if self.kind == "fill" else None)
        self.samples = _samples(source, revision)
        if self.kind == "answer":
            # The search for the best span comes with the checkpoint, as its other code does.
            pipeline = get_class_from_dynamic_module(SEARCH, source, revision=revision, code_revision=revision)
            self._pipeline = pipeline(model=self.net, tokenizer=self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; see `_encoding`."""
        return self._encoding(text).ids

    def _encoding(self, text: str, question: str | None = None) -> Encoding:
        """Return the tokens of a text, or of a question and its text; what is written like a special token stays text.

        Raises:
            Refused: an empty text, or one that is longer than the model's positions reach.
        """
        characters = CHARACTERS * self.limit
        for one, fault in [(text, "empty")] + [(question, "no_question")] * (question is not None):
            if len(one) > characters:
                raise Refused("too_many_characters", characters=len(one), limit=self.limit, most=characters)
            if not one.strip():
                raise Refused(fault)
        if self.kind == "tag":  # as in training, where words are given one by one
            encoding = self._encoder.encode(text.split(), is_pretokenized=True)
        else:
            encoding = self._encoder.encode(text) if question is None else self._encoder.encode(question, text)
        # A decoder also has to have room for one token that it writes.
        most = self.limit - 1 if self.kind == "complete" else self.limit
        if len(encoding.ids) > most:
            raise Refused("too_many_tokens", count=len(encoding.ids), most=most)
        return encoding

    @torch.inference_mode()
    def translate(self, text: str, beams: int, max_new_tokens: int) -> Answer:
        """Write the target of a source, with beam search."""
        started, ids = time.monotonic(), self.encode(text.strip())
        room = min(max_new_tokens, self.limit - 1)
        options = {"num_beams": int(beams), "max_new_tokens": int(room), "do_sample": False}
        output = self.net.generate(**self._batch(ids), **options)[0].tolist()
        written = output[1:]  # the first is the start token, which was not chosen
        return Answer(self._text(written), self._notes(started, ids, written, room), ids, output)

    @torch.inference_mode()
    def complete(self, text: str, max_new_tokens: int, temperature: float, top_p: float, seed: int) -> Answer:
        """Go on from a prompt: sampled with a seed, or the likeliest token each time at temperature 0."""
        started, ids = time.monotonic(), self.encode(text)
        room = min(max_new_tokens, self.limit - len(ids))
        options = {"max_new_tokens": int(room), "num_beams": 1, "do_sample": temperature > 0}
        options["suppress_tokens"] = self._silent
        if temperature > 0:  # a slider at 1 gives an int
            options |= {"temperature": float(temperature), "top_p": float(top_p), "top_k": 0}
        torch.manual_seed(int(seed))
        output = self.net.generate(**self._batch(ids), **options)[0].tolist()
        notes = self._notes(started, ids, output[len(ids) :], room)
        return Answer(self._text(output), notes, ids, output)

    @torch.inference_mode()
    def fill(self, text: str, count: int) -> Answer:
        """Guess the masked tokens: the text with the likeliest ones, and `count` guesses for each mask."""
        started, ids = time.monotonic(), self.encode(text)
        masks = [position for position, token in enumerate(ids) if token == self.tokenizer.mask_token_id]
        if not masks:
            raise Refused("no_mask", mask=self.tokenizer.mask_token)
        chances = self.net(**self._batch(ids)).logits[0, masks].float().softmax(-1)  # (masks, V)
        chances[:, self._silent] = 0
        values, tokens = chances.topk(min(int(count), chances.shape[-1]))
        rows = zip(values.tolist(), tokens.tolist(), strict=True)
        guesses = [list(zip(self.labels(row_ids), row, strict=True)) for row, row_ids in rows]
        filled = list(ids)
        for position, best in zip(masks, tokens[:, 0].tolist(), strict=True):
            filled[position] = best
        return Answer(self._text(filled), self._notes(started, ids), ids, guesses=guesses)

    @torch.inference_mode()
    def classify(self, text: str) -> Answer:
        """Name the likeliest label, and the probabilities of the ten likeliest."""
        started, ids = time.monotonic(), self.encode(text)
        chances = self.net(**self._batch(ids)).logits[0].float().softmax(-1)  # (labels)
        values, labels = chances.topk(min(10, len(chances)))
        names = [str(self.net.config.id2label[label]) for label in labels.tolist()]
        guesses = [list(zip(names, values.tolist(), strict=True))]
        return Answer(names[0], self._notes(started, ids), ids, guesses=guesses)

    @torch.inference_mode()
    def tag(self, text: str) -> Answer:
        """Name the likeliest label of each word, read at its first token; words are what stands between spaces."""
        started, encoding = time.monotonic(), self._encoding(text)
        chances = self.net(**self._batch(encoding.ids)).logits[0].float().softmax(-1)  # (S, labels)
        values, labels = (column.tolist() for column in chances.max(-1))
        names = self.net.config.id2label
        kinds = sorted({_kind_of(name) for name in names.values()} - {"O"})
        owners, marks = encoding.word_ids, []
        for number, word in enumerate(re.finditer(r"\S+", text)):
            if number in owners:  # a word of characters that the tokenizer drops has no token
                place = owners.index(number)
                name = str(names[labels[place]])
                hue = None if name == "O" else round(360 * kinds.index(_kind_of(name)) / len(kinds))
                marks.append(Mark(*word.span(), name, values[place], hue))
        line = " ".join(mark.label for mark in marks)
        return Answer(line, self._notes(started, encoding.ids), encoding.ids, marks=marks)

    @torch.inference_mode()
    def answer(self, text: str, question: str) -> Answer:
        """Find the answer to a question in a text, or say that there is none: the pipeline's own search."""
        started, encoding = time.monotonic(), self._encoding(text, question or "")
        found = self._pipeline(question=question, context=text, top_k=ANSWERS, handle_impossible_answer=True)
        found = found if isinstance(found, list) else [found]
        best = found[0]
        marks = [Mark(best["start"], best["end"], "", best["score"], 120)] if best["answer"] else []
        notes = self._notes(started, encoding.ids) + [Line("no_answer")] * (not marks)
        guesses = [[(one["answer"], one["score"]) for one in found]]
        types = encoding.type_ids if "token_type_ids" in self.tokenizer.model_input_names else None
        return Answer(best["answer"], notes, encoding.ids, guesses=guesses, marks=marks, types=types)

    @torch.inference_mode()
    def attention(self, answer: Answer, layer: int, head: int | None):
        """Return where the model looked.

        Args:
            answer: what it said.
            layer: counted from 1.
            head: counted from 1; None = the mean of all.

        Returns:
            (row labels, column labels, weights): T and S tokens, and a numpy array (T, S) whose rows sum to 1.
        """
        read, output = answer.read, answer.output
        if self.kind == "translate":
            # Row t of the decoder saw the tokens before t and wrote token t: the row is named after what it wrote.
            target = torch.tensor([output[:-1]], device=self.net.device)
            outputs = self.net(**self._batch(read), decoder_input_ids=target, output_attentions=True)
            weights, rows, columns = outputs.cross_attentions[layer - 1], output[1:], read
        else:
            # What a decoder wrote last, it never read; an encoder wrote nothing.
            columns, rows = output[:-1] or read, output[len(read) :] or read
            inputs = self._batch(columns, answer.types)
            weights = self.net(**inputs, output_attentions=True).attentions[layer - 1][:, :, -len(rows) :]
        weights = weights[0].float()  # (H, T, S)
        chosen = weights.mean(0) if head is None else weights[head - 1]
        return self.labels(rows), self.labels(columns), chosen.cpu().numpy()

    def labels(self, ids: list[int]) -> list[str]:
        """Return a name for each token that can be seen; byte-level tokens are decoded, their names are no text."""
        names = self.tokenizer.convert_ids_to_tokens(ids)
        if type(self.tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel":
            names = [self.tokenizer.decode([number]) for number in ids]
        return [SEEN.get(name, name) for name in names]

    def _batch(self, ids: list[int], types: list[int] | None = None) -> dict[str, torch.Tensor]:
        """Return a batch of one row."""
        row = torch.tensor([ids], device=self.net.device)
        sides = {} if types is None else {"token_type_ids": torch.tensor([types], device=self.net.device)}
        return {"input_ids": row, "attention_mask": torch.ones_like(row)} | sides

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _notes(self, started: float, read: list[int], written: Sequence[int] = (), room: int = 1) -> list[Line]:
        """Say how much was read and written, and what the reader would not see otherwise."""
        lines = [Line("read", {"count": len(read)})] + [Line("written", {"count": len(written)})] * bool(written)
        lines.append(Line("seconds", {"seconds": time.monotonic() - started}))
        if unknown := read.count(self.tokenizer.unk_token_id):
            lines.append(Line("unknown", {"count": unknown}))
        if len(written) >= room and written[-1] != self.tokenizer.eos_token_id:
            full = room == self.limit - (len(read) if self.kind == "complete" else 1)
            lines.append(Line("full" if full else "stopped"))
        return lines


def _kind_of(label: str) -> str:
    """Return the label without what says where in an entity a word stands."""
    return re.sub("^[BI]-", "", label)


def _text_encoder(tokenizer, mask: str | None) -> Tokenizer:
    """Return an encoder to which nothing that is typed is a special token, the mask aside.

    It is what `split_special_tokens=True` asks for; that option would also spell out the mask.
    """
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in definition["added_tokens"]:
        token["special"] = token["special"] and token["content"] != mask
    encoder = Tokenizer.from_str(json.dumps(definition))
    encoder.encode_special_tokens = True
    encoder.no_truncation()
    encoder.no_padding()
    return encoder


def _samples(source: str, revision: str | None) -> list[list[str]]:
    """Return texts to try, each with the question about it where there is one, from the results that were published with the
    model; none if there are none.
    """
    beside = Path(source).parent / "results.json"  # where a run keeps it, whose model is in final/
    missing_is_fine = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    path = cached_file(source, "results.json", revision=revision, **missing_is_fine)
    if path is None and Path(source).is_dir() and beside.is_file():
        path = beside
    if path is None:
        return []
    with open(path, encoding="utf-8") as stream:
        samples = json.load(stream).get("samples") or []
    rows = ([sample.get("source") or sample.get("text"), sample.get("question", "")] for sample in samples)
    return [row for row in rows if all(isinstance(text, str) for text in row)][:5]
