"""What a card calls a task: any text written for another is one task, a card names the pipeline that readers look for."""

import pytest

from modeling_vanilla.configuration_vanilla import PIPELINES
from train.settings.reading import load_recipe
from train.tasks import TASKS, shown_as


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("multi30k-de-en", "translation"),
        ("dates-en-ko", "translation"),
        ("scitldr", "summarization"),
        ("cmudict-g2p", "text2text-generation"),
        ("korean-chatbot", "text2text-generation"),
        ("nsmc", "text-classification"),
    ],
)
def test_a_card_names_the_pipeline_of_the_recipe(name, pipeline):
    recipe = load_recipe(f"train/recipes/{name}.yaml")
    shown = shown_as(recipe.task, recipe.eval.metrics, recipe.data.language)
    assert shown.pipeline == pipeline
    assert (shown is TASKS[recipe.task]) == (pipeline == TASKS[recipe.task].pipeline)
    if TASKS[recipe.task].has_pairs:
        assert pipeline in PIPELINES
        assert ("translation" in shown.summary) == (pipeline == "translation")
