"""ROUGE by rouge_score (Lin 2004): words, pairs of words and the longest common run that a text shares with a summary."""

import importlib.metadata
import re

import datasets
import evaluate
from rouge_score.rouge_scorer import RougeScorer

NAMES = ("rouge1", "rouge2", "rougeL")
_INPUTS = """
Args:
    predictions: list of str.
    references: list of lists of str, those of each prediction.
Returns:
    rouge1, rouge2, rougeL (0-100): mean over the predictions of the F1 with the reference that gives the highest; signature.
"""


class Words:
    """The words of a text: runs of letters and digits of any script, in lower case.

    Those of ASCII text are the words of rouge_score's own tokenizer without stems; it finds none in Korean.
    """

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


class Rouge(evaluate.Metric):
    """ROUGE-1, -2 and -L, the best over the references of each text."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="ROUGE-1, ROUGE-2 and ROUGE-L as F1 (0-100), the best over several references.",
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
        )

    def _compute(self, predictions, references):
        scorer = RougeScorer(NAMES, tokenizer=Words())
        scores = [scorer.score_multi(right, text) for text, right in zip(predictions, references, strict=True)]
        means = {name: 100 * sum(score[name].fmeasure for score in scores) / max(len(scores), 1) for name in NAMES}
        version = importlib.metadata.version("rouge-score")
        return means | {"signature": f"f1|refs:best|case:lc|words:letters and digits|stems:no|version:{version}"}
