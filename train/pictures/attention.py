"""Where a translation looks: the cross-attention of the last layer, head by head (Vaswani et al. 2017, figures 3-5)."""

import logging
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from modeling_vanilla import VanillaConfig
from modeling_vanilla.look import Choice, figure, fonts, look
from train.errors import UserError
from train.model import loading
from train.pictures import png

logger = logging.getLogger(__name__)


def of_model(folder: str | Path, text: str, output: str | Path) -> Path:
    """Translate a text with the model of a run or model folder and draw where it looked.

    Raises:
        UserError: no model there, or one without cross-attention, or a text of no tokens, or of more than it reads.
    """
    png.require(output)
    run_dir, model_folder = loading.locate(Path(folder))
    variant = VanillaConfig.from_pretrained(model_folder).variant
    if variant != "encoder-decoder":
        rule = "only an encoder-decoder looks at a source; python -m modeling_vanilla look shows where this one looks"
        raise UserError(f"{model_folder}: variant {variant!r}; {rule}")
    model, tokenizer = loading.load(model_folder, "translation", run_dir)
    try:
        return draw(model, tokenizer, text, Path(output))
    except ValueError as error:
        raise UserError(str(error)) from None


def draw(model: Any, tokenizer: PreTrainedTokenizerFast, text: str, output: Path) -> Path:
    """Translate a text with an encoder-decoder and draw where its last layer looked."""
    last = model.config.num_decoder_layers - 1
    view = look(model, tokenizer, text, choice=Choice([last], kinds=["cross"], exact=(), numbers=(), plain=True))
    written = view.maps[0].rows
    if written[-1] != tokenizer.eos_token:
        reason = "the model has not learnt to end it, or the text is unlike those that it was trained on"
        logger.warning("the translation was stopped after %d tokens without an end: %s", len(written), reason)
    with fonts.chosen():
        return png.save(figure.drawn(view), output)
