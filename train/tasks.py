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
        takes_best: several rows with the same source are several references of one text, and the best of them counts.
            Otherwise each row is compared with its own, as sacrebleu's signature says.
    """

    metric: str
    words: str
    digits: int
    tolerance: str
    lower_is_better: bool = False
    needs_generation: bool = False
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
}
PERPLEXITIES = ("perplexity", "word_perplexity", "bits_per_byte")
GENERATION = tuple(name for name, figure in FIGURES.items() if figure.needs_generation)
CLASSIFICATION = ("accuracy", "f1")


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        variant: of `VanillaConfig`.
        head: class of the model, by its name in `modeling_vanilla`.
        auto_class: of transformers, that loads such a model.
        columns: of a row of its data.
        template: what its tokenizer puts around a text, one of `tokenizer.TEMPLATES`.
        roles: the special tokens that its tokenizer must have, by Hugging Face's names.
        figures: those that mean something. A masked model's loss covers the hidden tokens only, so it has no likelihood of
            the whole text to be divided by words or bytes; only it has hidden tokens to be right about.
        label: what its loss is a mean over.
        scored_column: whose words and bytes its loss covers; None where it is not that of a text.
        pipeline: that uses such a model, as its card names it.
        summary: what the model is, for its card.
        intended_use: what it is for, for its card.
    """

    variant: str
    head: str
    auto_class: str
    columns: tuple[str, ...]
    template: str
    roles: tuple[str, ...]
    figures: tuple[str, ...]
    label: str
    scored_column: str | None
    pipeline: str
    summary: str
    intended_use: str

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
    def cuts_blocks(self) -> bool:
        """Tell whether the rows are one text after another, which is cut into blocks."""
        return self.columns == ("text",)

    @property
    def generates(self) -> bool:
        """Tell whether the model is judged by texts that it writes."""
        return bool({*self.figures} & {*GENERATION})


TASKS = {
    "translation": Task(
        variant="encoder-decoder",
        head="VanillaForConditionalGeneration",
        auto_class="AutoModelForSeq2SeqLM",
        columns=("source", "target"),
        template="seq2seq",
        roles=("pad", "bos", "eos"),
        figures=("loss", *PERPLEXITIES, *GENERATION),
        label="token",
        scored_column="target",
        pipeline="translation",
        summary="A sequence-to-sequence Transformer: it reads a text and writes its translation.",
        intended_use="Translating text like that of its training data, and studying or fine-tuning a small Transformer.",
    ),
    "causal": Task(
        variant="decoder",
        head="VanillaForCausalLM",
        auto_class="AutoModelForCausalLM",
        columns=("text",),
        template="causal",
        roles=("pad", "eos"),
        figures=("loss", *PERPLEXITIES),
        label="token",
        scored_column="text",
        pipeline="text-generation",
        summary="A causal language model: it continues a text.",
        intended_use="Continuing text like that of its training data, and studying or fine-tuning a small Transformer.",
    ),
    "masked": Task(
        variant="encoder",
        head="VanillaForMaskedLM",
        auto_class="AutoModelForMaskedLM",
        columns=("text",),
        template="encoder",
        roles=("pad", "cls", "sep", "mask"),
        figures=("loss", "perplexity", "masked_accuracy"),
        label="hidden token",
        scored_column=None,
        pipeline="fill-mask",
        summary="A masked language model: it restores hidden tokens from the text on both sides of them.",
        intended_use="A starting point for fine-tuning on text like that of its training data.",
    ),
    "classification": Task(
        variant="encoder",
        head="VanillaForSequenceClassification",
        auto_class="AutoModelForSequenceClassification",
        columns=("text", "label"),
        template="encoder",
        roles=("pad", "cls", "sep"),
        figures=("loss", *CLASSIFICATION),
        label="text",
        scored_column=None,
        pipeline="text-classification",
        summary="A text classifier.",
        intended_use="Classifying text like that of its training data.",
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
