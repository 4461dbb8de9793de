"""Corpus chrF by sacrebleu: the F-score of character n-grams (Popovic 2015)."""

import datasets
import evaluate
import sacrebleu

_DESCRIPTION = "Corpus chrF2 (0-100): character 1- to 6-grams, recall counts twice; needs no word tokeniser."
_INPUTS = """
Args:
    predictions: list of str, detokenised.
    references: list of str, one per prediction, detokenised.
    word_order: word n-grams counted beside the characters; 0 is chrF, 2 is chrF++. A word ends at a space, so chrF++ means
        nothing for texts without spaces; chrF itself leaves all white space out.
Returns:
    chrf (0-100), signature.
"""


class Chrf(evaluate.Metric):
    """chrF over a whole corpus, one reference per sentence."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="Popovic 2015, chrF: character n-gram F-score for automatic MT evaluation",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references, word_order=0):
        metric = sacrebleu.CHRF(word_order=word_order)
        score = metric.corpus_score(list(predictions), [list(references)])
        return {"chrf": float(score.score), "signature": str(metric.get_signature())}
