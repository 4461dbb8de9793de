"""Perplexity from summed log-likelihoods: per token, per word, and bits per byte.

A perplexity means nothing without its unit. Per token depends on the tokeniser; per word and per byte do not, because the
same total is divided by something the tokeniser cannot change.
"""

import math

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: list of float, summed negative log-likelihoods in nats (one per batch, example or rank).
    references: list of int, the tokens each of those sums covers.
    words: total of white-space separated words of the text that was scored; 0 leaves the per-word figure out.
    bytes: total of UTF-8 bytes of the text that was scored; 0 leaves bits_per_byte out.
Returns:
    loss (nats per token), perplexity (per token), word_perplexity, bits_per_byte. Texts without spaces, such as Chinese, have
    one word a line: there bits_per_byte is the figure to compare.
"""


def _exp(value: float) -> float:
    """Exponentiate without an OverflowError: an untrained model may have a perplexity beyond a double."""
    return math.exp(value) if value < 709 else math.inf


class Perplexity(evaluate.Metric):
    """Perplexities of one corpus from its total negative log-likelihood."""

    def _info(self):
        features = {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description="Perplexity per token and per word and bits per byte, from sums and counts.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, words=0, bytes=0):
        nll, tokens = math.fsum(predictions), sum(int(count) for count in references)
        if tokens <= 0:
            raise ValueError(f"references={tokens}: a perplexity needs at least one token")
        loss = nll / tokens
        result = {"loss": loss, "perplexity": _exp(loss)}
        if words:
            result["word_perplexity"] = _exp(nll / words)
        if bytes:
            result["bits_per_byte"] = nll / math.log(2) / bytes
        return result
