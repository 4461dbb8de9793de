"""The figures that a task can be judged by, what they are called, and what their unit is."""

PERPLEXITIES = ("perplexity", "word_perplexity", "bits_per_byte")
GENERATION = ("bleu", "bleu_lowercase", "chrf", "exact_match")
CLASSIFICATION = ("accuracy", "f1")
# Which figures mean something for which task. A masked model's loss covers the hidden tokens only, so it has no total
# likelihood of the text and hence nothing to divide by words or bytes; only it has hidden tokens to be right about.
METRICS_OF_TASK = {
    "translation": ("loss", *PERPLEXITIES, *GENERATION),
    "causal": ("loss", *PERPLEXITIES),
    "masked": ("loss", "perplexity", "masked_accuracy"),
    "classification": ("loss", *CLASSIFICATION),
}
# What the loss of a task is a mean over.
LABEL_OF_TASK = {"translation": "token", "causal": "token", "masked": "hidden token", "classification": "text"}
# name -> (identifier on the Hub, words, digits)
FIGURES = {
    "loss": ("loss", "loss (nats per {label})", 4),
    "perplexity": ("perplexity", "perplexity per {label}", 3),
    "word_perplexity": ("perplexity", "perplexity per white-space separated word", 2),
    "bits_per_byte": ("bits_per_byte", "bits per byte", 4),
    "bleu": ("sacrebleu", "BLEU (0-100)", 2),
    "bleu_lowercase": ("sacrebleu", "BLEU in lower case (0-100)", 2),
    "chrf": ("chrf", "chrF (0-100)", 2),
    "exact_match": ("exact_match", "exact match (0-1)", 4),
    "accuracy": ("accuracy", "accuracy (0-1)", 4),
    "f1": ("f1", "macro F1 (0-1)", 4),
    "masked_accuracy": ("accuracy", "accuracy of the predicted tokens (0-1)", 4),
}


def metrics_rule(task: str) -> str:
    """Say in words which figures a task has."""
    return f"must be a figure that the task {task} has: {', '.join(METRICS_OF_TASK[task])}"


def in_words(name: str, task: str | None) -> str:
    """Return what a figure is called, with its unit; the loss of an unknown task is one per label."""
    return FIGURES[name][1].format(label=LABEL_OF_TASK.get(task or "", "label"))
