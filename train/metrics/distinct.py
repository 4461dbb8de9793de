"""Share of the predictions that differ from all before them: a model that has learnt one safe answer gives it everywhere."""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: list of str.
    references: list of lists of str, unused.
Returns:
    distinct (0-1): different texts by all texts.
"""


class Distinct(evaluate.Metric):
    """Distinct answers."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Share of distinct texts among the predictions.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(self, predictions, references):
        return {"distinct": len({text.strip() for text in predictions}) / max(len(predictions), 1)}
