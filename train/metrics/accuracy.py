"""Share of predicted classes that equal the true class."""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: list of int, predicted classes.
    references: list of int, true classes.
Returns:
    accuracy (0-1).
"""


class Accuracy(evaluate.Metric):
    """Accuracy over class ids."""

    def _info(self):
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Share of predicted classes that equal the true class.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions, references):
        pairs = list(zip(predictions, references, strict=True))
        hits = sum(int(prediction) == int(reference) for prediction, reference in pairs)
        return {"accuracy": hits / max(len(pairs), 1)}
