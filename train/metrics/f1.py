"""Macro F1: the F1 of each class, averaged with equal weight."""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: list of int, predicted classes.
    references: list of int, true classes.
Returns:
    f1 (0-1): mean over every class that occurs among the references or the predictions of 2 TP / (2 TP + FP + FN).
"""


class F1(evaluate.Metric):
    """Macro F1 over class ids."""

    def _info(self):
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="F1 per class, averaged with equal weight over the classes that occur.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions, references):
        pairs = list(zip(predictions, references, strict=True))
        classes = sorted({int(label) for pair in pairs for label in pair})
        scores = []
        for label in classes:
            hits = sum(prediction == label == reference for prediction, reference in pairs)
            misses = sum((prediction == label) != (reference == label) for prediction, reference in pairs)
            scores.append(2 * hits / (2 * hits + misses))  # a class that occurs has hits or misses
        return {"f1": sum(scores) / max(len(scores), 1)}
