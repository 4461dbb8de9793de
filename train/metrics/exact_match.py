"""Share of predictions that equal their reference, or one of several."""

import datasets
import evaluate

_INPUTS = """
Args:
    predictions: list of str.
    references: list of str, one per prediction, or list of lists of str, several for each.
Returns:
    exact_match (0-1): equal after stripping white space at both ends; nothing else is normalised.
"""


class ExactMatch(evaluate.Metric):
    """Exact match of whole texts."""

    def _info(self):
        text = datasets.Value("string")
        several, one = ({"predictions": text, "references": right} for right in (datasets.Sequence(text), text))
        return evaluate.MetricInfo(
            description="Share of predictions that equal their reference, character for character.",
            citation="",
            inputs_description=_INPUTS,
            features=[datasets.Features(several), datasets.Features(one)],
        )

    def _compute(self, predictions, references):
        answers = [[right] if isinstance(right, str) else right for right in references]
        pairs = list(zip(predictions, answers, strict=True))
        hits = sum(prediction.strip() in {one.strip() for one in right} for prediction, right in pairs)
        return {"exact_match": hits / max(len(pairs), 1)}
