"""Share of predictions that equal their reference."""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: list of str.
    references: list of str, one per prediction.
Returns:
    exact_match (0-1): equal after stripping white space at both ends; nothing else is normalised.
"""


class ExactMatch(evaluate.Metric):
    """Exact match of whole texts."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Share of predictions that equal their reference, character for character.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        pairs = list(zip(predictions, references, strict=True))
        hits = sum(prediction.strip() == reference.strip() for prediction, reference in pairs)
        return {"exact_match": hits / max(len(pairs), 1)}
