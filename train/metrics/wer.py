"""Word error rate by jiwer: the edits that turn a text into its reference, per word of the reference."""

import importlib.metadata

import datasets
import evaluate
import jiwer

_INPUTS = """
Args:
    predictions: list of str, words with spaces between them; sounds, for a phoneme error rate.
    references: list of lists of str, those of each prediction, none of them empty.
Returns:
    wer: substitutions, insertions and deletions over all texts by the words of all references (0 and up), where each text is
        compared with the reference to which its rate is lowest; signature.
"""


class Wer(evaluate.Metric):
    """Word error rate over a whole corpus, the best over the references of each text."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Edits per word of the reference, the best over several references.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(self, predictions, references):
        nearest = [
            min(right, key=lambda reference: jiwer.wer(reference, text))
            for text, right in zip(predictions, references, strict=True)
        ]
        version = importlib.metadata.version("jiwer")
        return {"wer": float(jiwer.wer(nearest, list(predictions))), "signature": f"refs:best|version:{version}"}
