"""The tasks that a recipe can name, and the figures that a model is judged by: what depends on either stands here."""

from collections.abc import Collection
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        metric: its identifier among the metrics of the Hub.
        words: what it is called, with its unit; `{label}` is what the loss of the task is a mean over.
        digits: behind the point, where it is shown.
        tolerance: how far it may lie from the published one where another machine trained, in its own unit or in percent of
            the published value. One run with another seed moves about as much.
        lower_is_better: which way is up.
        needs_generation: it compares texts that the model writes.
        needs_entities: it compares entities, which labels mark as `B-NAME` and `I-NAME`, and `O` outside.
        takes_best: several rows with the same source are several references of one text, and the best of them counts.
            Otherwise each row is compared with its own, as sacrebleu's signature says.
    """

    metric: str
    words: str
    digits: int
    tolerance: str
    lower_is_better: bool = False
    needs_generation: bool = False
    needs_entities: bool = False
    takes_best: bool = False


FIGURES = {
    "loss": Figure("loss", "loss (nats per {label})", 4, "1%", lower_is_better=True),
    "perplexity": Figure("perplexity", "perplexity per {label}", 3, "3%", lower_is_better=True),
    "word_perplexity": Figure(
        "perplexity", "perplexity per white-space separated word", 2, "5%", lower_is_better=True
    ),
    "bits_per_byte": Figure("bits_per_byte", "bits per byte", 4, "1%", lower_is_better=True),
    "bleu": Figure("sacrebleu", "BLEU (0-100)", 2, "0.5", needs_generation=True),
    "bleu_lowercase": Figure("sacrebleu", "BLEU in lower case (0-100)", 2, "0.5", needs_generation=True),
    "chrf": Figure("chrf", "chrF (0-100)", 2, "0.5", needs_generation=True),
    "exact_match": Figure("exact_match", "exact match (0-1)", 4, "0.01", needs_generation=True, takes_best=True),
    "rouge1": Figure("rouge", "ROUGE-1 F1 (0-100)", 2, "0.5", needs_generation=True, takes_best=True),
    "rouge2": Figure("rouge", "ROUGE-2 F1 (0-100)", 2, "0.5", needs_generation=True, takes_best=True),
    "rougeL": Figure("rouge", "ROUGE-L F1 (0-100)", 2, "0.5", needs_generation=True, takes_best=True),
    "wer": Figure(
        *("wer", "word error rate (edits per word of the reference)", 4, "0.01"),
        lower_is_better=True,
        needs_generation=True,
        takes_best=True,
    ),
    "per": Figure(
        *("wer", "phoneme error rate (edits per sound of the reference; spaces stand between sounds)", 4, "0.01"),
        lower_is_better=True,
        needs_generation=True,
        takes_best=True,
    ),
    "distinct": Figure(
        "distinct",
        "share of distinct texts among those written (0-1)",
        3,
        "0.05",
        needs_generation=True,
        takes_best=True,
    ),
    "accuracy": Figure("accuracy", "accuracy (0-1)", 4, "0.01"),
    "f1": Figure("f1", "macro F1 (0-1)", 4, "0.01"),
    "masked_accuracy": Figure("accuracy", "accuracy of the predicted tokens (0-1)", 4, "0.01"),
    "word_accuracy": Figure("accuracy", "accuracy per word (0-1)", 4, "0.01"),
    "answer_exact_match": Figure("exact_match", "exact match of the answer (0-1)", 4, "0.02"),
    "answer_f1": Figure("f1", "F1 of the words of the answer (0-1)", 4, "0.02"),
    "span_f1": Figure("f1", "micro F1 of exact spans (0-1)", 4, "0.02"),
    "entity_precision": Figure("seqeval", "precision of whole entities (0-1)", 4, "0.03", needs_entities=True),
    "entity_recall": Figure("seqeval", "recall of whole entities (0-1)", 4, "0.03", needs_entities=True),
    "entity_f1": Figure("seqeval", "F1 of whole entities (0-1)", 4, "0.03", needs_entities=True),
}
PERPLEXITIES = ("perplexity", "word_perplexity", "bits_per_byte")
GENERATION = tuple(name for name, figure in FIGURES.items() if figure.needs_generation)
CLASSIFICATION = ("accuracy", "f1")
ENTITIES = tuple(name for name, figure in FIGURES.items() if figure.needs_entities)
ANSWERS = ("answer_exact_match", "answer_f1", "span_f1")
LISTS = ("words", "tags", "answer", "start")
"""Columns that hold a list in each row."""
NUMBERS = ("start",)
"""Those of them that hold numbers; the others hold texts."""


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        variant: of `VanillaConfig`.
        head: class of the model, by its name in `modeling_vanilla`.
        auto_class: of transformers, that loads such a model.
        columns: of a row of its data.
        texts: those of them that the model reads or writes.
        filled: those of them that may not be empty.
        formats: of files that hold such rows, without `text` where a line is not enough.
        template: what its tokenizer puts around a text, one of `tokenizer.TEMPLATES`.
        roles: the special tokens that its tokenizer must have, by Hugging Face's names.
        figures: those that mean something. A masked model's loss covers the hidden tokens only, so it has no likelihood of
            the whole text to be divided by words or bytes; only it has hidden tokens to be right about.
        label: what its loss is a mean over.
        scored_column: whose words and bytes its loss covers; None where it is not that of a text.
        pipeline: that uses such a model, as its card names it.
        summary: what the model is, for its card.
        intended_use: what it is for, for its card.
        pipeline_call: the line of Python that asks the pipeline `pipe`, for its card. TEXT stands for a text to try, NEW_TOKENS
            for how many tokens may be written, QUESTION for a question about the text.
        model_call: likewise the lines that ask `model`, with `tokenizer`.
    """

    variant: str
    head: str
    auto_class: str
    columns: tuple[str, ...]
    texts: tuple[str, ...]
    template: str
    roles: tuple[str, ...]
    figures: tuple[str, ...]
    label: str
    scored_column: str | None
    pipeline: str
    summary: str
    intended_use: str
    model_call: str
    pipeline_call: str = "print(pipe(TEXT))"
    filled: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("text", "tsv", "csv", "json")

    @property
    def has_pairs(self) -> bool:
        """Tell whether a row is a source and a target."""
        return "target" in self.columns

    @property
    def writes_next(self) -> bool:
        """Tell whether its loss is that of each next token, so that it has the likelihood of a whole text."""
        return "bits_per_byte" in self.figures

    @property
    def has_classes(self) -> bool:
        """Tell whether a row has a class."""
        return "label" in self.columns

    @property
    def has_tags(self) -> bool:
        """Tell whether each word of a row has a class."""
        return "tags" in self.columns

    @property
    def has_spans(self) -> bool:
        """Tell whether a row is a text and a question that a span of it answers."""
        return "answer" in self.columns

    @property
    def label_column(self) -> str | None:
        """Return the column whose values are names of classes."""
        return "label" if self.has_classes else "tags" if self.has_tags else None

    @property
    def cuts_blocks(self) -> bool:
        """Tell whether the rows are one text after another, which is cut into blocks."""
        return self.columns == ("text",)

    @property
    def generates(self) -> bool:
        """Tell whether the model is judged by texts that it writes."""
        return bool({*self.figures} & {*GENERATION})


# User text is text: a typed `</s>` must not become the end of the sentence.
_ENCODE = 'inputs = tokenizer(TEXT, return_tensors="pt", split_special_tokens=True)'

TASKS = {
    "translation": Task(
        variant="encoder-decoder",
        head="VanillaForConditionalGeneration",
        auto_class="AutoModelForSeq2SeqLM",
        columns=("source", "target"),
        texts=("source", "target"),
        template="seq2seq",
        roles=("pad", "bos", "eos"),
        figures=("loss", *PERPLEXITIES, *GENERATION),
        label="token",
        scored_column="target",
        pipeline="translation",
        summary="A sequence-to-sequence Transformer: it reads a text and writes its translation.",
        intended_use="Translating text like that of its training data, and studying or fine-tuning a small Transformer.",
        model_call=f"{_ENCODE}\nprint(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))",
        filled=("source", "target"),  # an empty side teaches nothing
    ),
    "causal": Task(
        variant="decoder",
        head="VanillaForCausalLM",
        auto_class="AutoModelForCausalLM",
        columns=("text",),
        texts=("text",),
        template="causal",
        roles=("pad", "eos"),
        figures=("loss", *PERPLEXITIES),
        label="token",
        scored_column="text",
        pipeline="text-generation",
        summary="A causal language model: it continues a text.",
        intended_use="Continuing text like that of its training data, and studying or fine-tuning a small Transformer.",
        model_call=f"{_ENCODE}\nids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=True)[0]\n"
        "print(tokenizer.decode(ids, skip_special_tokens=True))",
        pipeline_call="print(pipe(TEXT, max_new_tokens=NEW_TOKENS))",
    ),
    "masked": Task(
        variant="encoder",
        head="VanillaForMaskedLM",
        auto_class="AutoModelForMaskedLM",
        columns=("text",),
        texts=("text",),
        template="encoder",
        roles=("pad", "cls", "sep", "mask"),
        figures=("loss", "perplexity", "masked_accuracy"),
        label="hidden token",
        scored_column=None,
        pipeline="fill-mask",
        summary="A masked language model: it restores hidden tokens from the text on both sides of them.",
        intended_use="A starting point for fine-tuning on text like that of its training data.",
        model_call='inputs = tokenizer(f"Some text with a {tokenizer.mask_token} in it", return_tensors="pt")\n'
        'hidden = inputs["input_ids"][0] == tokenizer.mask_token_id\n'
        "print(tokenizer.decode(model(**inputs).logits[0, hidden].argmax(-1)))",
        pipeline_call='print(pipe(f"Some text with a {pipe.tokenizer.mask_token} in it"))',
    ),
    "classification": Task(
        variant="encoder",
        head="VanillaForSequenceClassification",
        auto_class="AutoModelForSequenceClassification",
        columns=("text", "label"),
        texts=("text",),
        template="encoder",
        roles=("pad", "cls", "sep"),
        figures=("loss", *CLASSIFICATION),
        label="text",
        scored_column=None,
        pipeline="text-classification",
        summary="A text classifier.",
        intended_use="Classifying text like that of its training data.",
        model_call=f"{_ENCODE}\nprint(model.config.id2label[model(**inputs).logits.argmax(-1).item()])",
        filled=("label",),  # an empty text is a text: <cls> <sep> remains
        formats=("tsv", "csv", "json"),
    ),
    "tagging": Task(
        variant="encoder",
        head="VanillaForTokenClassification",
        auto_class="AutoModelForTokenClassification",
        columns=("words", "tags"),
        texts=("words",),
        template="encoder",
        roles=("pad", "cls", "sep"),
        figures=("loss", "word_accuracy", *ENTITIES),
        label="word",
        scored_column=None,
        pipeline="token-classification",
        summary="A tagger: it gives each word of a text a label.",
        intended_use="Labelling the words of text like that of its training data.",
        model_call="words = TEXT.split()\n"
        'inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt", split_special_tokens=True)\n'
        "names, owners = model.config.id2label, inputs.word_ids()\n"
        "best = model(**inputs).logits[0].argmax(-1).tolist()\n"
        "print([(word, names[best[owners.index(number)]]) for number, word in enumerate(words)])",
        pipeline_call='print(pipe(TEXT, aggregation_strategy="first"))',
        filled=("words", "tags"),
        formats=("conllu", "conll", "json"),
    ),
    "answering": Task(
        variant="encoder",
        head="VanillaForQuestionAnswering",
        auto_class="AutoModelForQuestionAnswering",
        columns=("context", "question", "answer", "start"),
        texts=("question", "context"),
        template="encoder",
        roles=("pad", "cls", "sep"),
        figures=("loss", *ANSWERS),
        label="position",
        scored_column=None,
        pipeline="question-answering",
        summary="It answers a question about a text with a span of the text.",
        intended_use="Answering questions like those of its training data, about text like that of its training data.",
        model_call='inputs = tokenizer(QUESTION, TEXT, return_tensors="pt", split_special_tokens=True)\n'
        "outputs = model(**inputs)\n"
        "first, last = outputs.start_logits.argmax().item(), outputs.end_logits.argmax().item()\n"
        'print(tokenizer.decode(inputs["input_ids"][0, first : last + 1]))',
        pipeline_call="print(pipe(question=QUESTION, context=TEXT))",
        filled=("context", "question"),
        formats=("json", "squad", "slots"),
    ),
}


def shown_as(task: str, figures: Collection[str], languages: Collection[str]) -> Task:
    """Return a task as a card names it: any text written for another is the task translation, but not everywhere else.

    Args:
        task: its name.
        figures: that are measured; a summary is measured by ROUGE.
        languages: that the recipe states; a text and its translation have two.
    """
    shown = TASKS[task]
    if not shown.has_pairs:
        return shown
    summary = "A sequence-to-sequence Transformer: it reads a text and writes {}."
    intended_use = "{} text like that of its training data, and studying or fine-tuning a small Transformer."
    if any(FIGURES[name].metric == "rouge" for name in figures):
        words = (summary.format("a summary of it"), intended_use.format("Summarising"))
        return replace(shown, pipeline="summarization", summary=words[0], intended_use=words[1])
    if len({*languages}) == 1:
        words = (summary.format("the text that belongs to it"), intended_use.format("Rewriting"))
        return replace(shown, pipeline="text2text-generation", summary=words[0], intended_use=words[1])
    return shown


def figures_rule(task: str) -> str:
    """Say in words which figures a task has."""
    return f"must be a figure that the task {task} has: {', '.join(TASKS[task].figures)}"


def in_words(name: str, task: str | None) -> str:
    """Return what a figure is called, with its unit; the loss of an unknown task is one per label."""
    return FIGURES[name].words.format(label=TASKS[task].label if task in TASKS else "label")
