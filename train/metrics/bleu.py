"""Corpus BLEU by sacrebleu, with the signature that makes the figure comparable (Post 2018)."""

import functools

import datasets
import evaluate
import sacrebleu

_DESCRIPTION = "Corpus BLEU (0-100) over detokenised text, tokenised by sacrebleu, returned with its signature."
_INPUTS = """
Args:
    predictions: list of str, detokenised.
    references: list of str, one per prediction, detokenised.
    lowercase: compare in lower case (a different figure: the signature says case:lc).
    tokenize: sacrebleu's tokeniser, "13a" unless told. Words end at a space for it, so texts in Chinese, Japanese or Thai
        need another: "zh", "ja-mecab", "char"; Korean has "ko-mecab".
Returns:
    bleu (0-100), signature, precisions (of 1- to 4-grams, 0-100), brevity_penalty.
"""


# One for each of the few forms: mecab's tagger, built anew for each evaluation, ends the process after some thousand.
@functools.cache
def _scorer(lowercase: bool, tokenize: str) -> sacrebleu.BLEU:
    # force: a model that has learnt little writes spaces before its marks, and the warning would blame the test data.
    return sacrebleu.BLEU(lowercase=lowercase, tokenize=tokenize, force=True)


class Bleu(evaluate.Metric):
    """BLEU over a whole corpus, one reference per sentence."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="Post 2018, A Call for Clarity in Reporting BLEU Scores",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references, lowercase=False, tokenize="13a"):
        metric = _scorer(bool(lowercase), tokenize)
        score = metric.corpus_score(list(predictions), [list(references)])
        return {
            "bleu": float(score.score),
            "signature": str(metric.get_signature()),
            "precisions": [float(precision) for precision in score.precisions],
            "brevity_penalty": float(score.bp),
        }
