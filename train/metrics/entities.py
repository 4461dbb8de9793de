"""Precision, recall and F1 of whole entities, by seqeval (Nakayama 2018), which does as CoNLL's own script does."""

import warnings

import datasets
import evaluate
import seqeval.metrics

_DESCRIPTION = "Micro precision, recall and F1 of entities: right where the type, the first and the last word are."
_INPUTS = """
Args:
    predictions: list of lists of str, the labels of each text: O, B-NAME or I-NAME.
    references: likewise, the true ones.
Returns:
    entity_precision, entity_recall, entity_f1 (0-1). An I-NAME that follows no NAME begins an entity, as for conlleval.
"""


class Entities(evaluate.Metric):
    """Figures of entities in BIO labels."""

    def _info(self):
        labels = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="Nakayama 2018, seqeval; Tjong Kim Sang and De Meulder 2003, sec. 4",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": labels, "references": labels}),
        )

    def _compute(self, predictions, references):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where no entity is predicted: the figures are 0, as they should be
            figures = {
                "entity_precision": seqeval.metrics.precision_score,
                "entity_recall": seqeval.metrics.recall_score,
                "entity_f1": seqeval.metrics.f1_score,
            }
            return {name: float(figure(list(references), list(predictions))) for name, figure in figures.items()}
