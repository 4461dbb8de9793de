"""Captions, end to end: a ViT and this package's decoder learn to say what is on a picture, in English and in Korean.

python -m train.captions [--run_dir DIR] [--pictures N] [--steps N]

Both start from random weights, in transformers' VisionEncoderDecoderModel. The pictures are those of `data.shapes`; the
test has triples of colour, shape and relation that training never shows.
Dimension letters: B rows, T target length, S places of the picture (one for the class token, then G x G patches).
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import Dataset
from transformers import (
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)

from modeling_vanilla import VanillaConfig, VanillaForCausalLM
from modeling_vanilla.look import capture, fonts
from modeling_vanilla.losses import IGNORE
from tokenizer import build
from train import files
from train.data.shapes import LANGUAGES, PIXELS, Scene, mask, picture, scenes
from train.errors import print_anything
from train.pictures import png

RUN_DIR = Path("runs/captions")
PATCH, WIDTH, LONGEST = 4, 64, 24
"""Pixels of a side of a patch, d_model, and tokens of the longest caption with some room."""
GRID = PIXELS // PATCH
ROWS, TESTED = 32, 500


def pixels(images: list[Image.Image]) -> torch.Tensor:
    """Turn pictures into what the model reads: (B, 3, P, P), from -1 to 1."""
    values = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
    return values.permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, P, P, 3) -> (B, 3, P, P)


def start_of(tokenizer: PreTrainedTokenizerFast, language: str) -> int:
    """Return the token that a caption starts with: it names the language."""
    return tokenizer.get_vocab()[f"<{language}>"]


def tokenizer_of(captions: list[str]) -> PreTrainedTokenizerFast:
    """Build a tokenizer for which each word of the captions is a token, with a start for each language."""
    tokenizer = build("bpe", captions, 400, "seq2seq", show_progress=False, model_max_length=LONGEST)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<{language}>" for language in LANGUAGES]})
    return tokenizer


def model_of(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> VisionEncoderDecoderModel:
    """Put a ViT and a decoder with cross-attention together, both of random weights and of one width."""
    torch.manual_seed(seed)
    # ViT's own 0.02 is that of 768 numbers; here it is as far from 1 / sqrt(d_model).
    sizes: dict[str, Any] = dict(num_attention_heads=4, intermediate_size=2 * WIDTH, initializer_range=0.07)
    vision = ViTConfig(image_size=PIXELS, patch_size=PATCH, hidden_size=WIDTH, num_hidden_layers=4, **sizes)
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id")}
    ids["decoder_start_token_id"] = start_of(tokenizer, LANGUAGES[0])
    sizes = dict(d_model=WIDTH, d_ff=2 * WIDTH, num_heads=4, num_layers=2, max_position_embeddings=LONGEST)
    text = VanillaConfig(variant="decoder", add_cross_attention=True, vocab_size=len(tokenizer), **sizes, **ids)
    model = VisionEncoderDecoderModel(
        encoder=ViTModel(vision, add_pooling_layer=False), decoder=VanillaForCausalLM(text)
    )
    for config in (model.config, model.generation_config):
        for name, value in ids.items():
            setattr(config, name, value)
    model.generation_config.max_new_tokens = LONGEST - 1
    return model


class Captions(Dataset):
    """Pictures with their captions, each picture once for each language."""

    def __init__(self, made: list[Scene], tokenizer: PreTrainedTokenizerFast, seed: int):
        self.images = [picture(scene, seed * len(made) + number) for number, scene in enumerate(made)]
        self.starts = [start_of(tokenizer, language) for language in LANGUAGES]
        self.ids = [tokenizer([scene.caption(language) for scene in made])["input_ids"] for language in LANGUAGES]

    def __len__(self) -> int:
        return len(self.images) * len(LANGUAGES)

    def __getitem__(self, index: int) -> tuple[Image.Image, int, list[int]]:
        """Return a picture, the start of its caption and the tokens of it, the end among them."""
        number, language = divmod(index, len(LANGUAGES))
        return self.images[number], self.starts[language], self.ids[language][number]


def collate(rows: list[tuple[Image.Image, int, list[int]]]) -> dict[str, torch.Tensor]:
    """Make a batch: pixels, what the decoder reads, and what it is to write, padded on the right."""
    images, starts, captions = zip(*rows, strict=True)
    read = [torch.tensor([start, *ids[:-1]]) for start, ids in zip(starts, captions, strict=True)]
    write = [torch.tensor(ids) for ids in captions]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "pixel_values": pixels(list(images)),
        "decoder_input_ids": pad(read, batch_first=True),  # what is padded is read after the end, and by nothing
        "labels": pad(write, batch_first=True, padding_value=IGNORE),
    }


def train(model: VisionEncoderDecoderModel, rows: Captions, steps: int, run_dir: Path) -> None:
    """Train with transformers' Trainer on one thread."""
    options: dict[str, Any] = dict(
        **dict(output_dir=str(run_dir), max_steps=steps, per_device_train_batch_size=ROWS, use_cpu=True, seed=0),
        **dict(
            learning_rate=1.5e-3, warmup_steps=min(200, steps // 10), lr_scheduler_type="cosine", weight_decay=0.01
        ),
        **dict(adam_beta2=0.98, remove_unused_columns=False, report_to="none", save_strategy="no", logging_steps=100),
        **dict(disable_tqdm=True),
    )
    Trainer(model, TrainingArguments(**options), train_dataset=rows, data_collator=collate).train()


@torch.no_grad()
def written(model: Any, tokenizer: PreTrainedTokenizerFast, images: list[Image.Image], language: str) -> list[str]:
    """Return what the model says about each picture, by greedy search."""
    model.eval()
    start = start_of(tokenizer, language)
    texts: list[str] = []
    for at in range(0, len(images), 100):
        ids = model.generate(pixels(images[at : at + 100]), decoder_start_token_id=start, do_sample=False)
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return texts


@torch.no_grad()
def looked(model: Any, tokenizer: PreTrainedTokenizerFast, image: Image.Image, text: str, language: str) -> np.ndarray:
    """Return where the decoder looks while it writes each word of a caption: (layers, T, S), the mean of its heads."""
    model.eval()
    ids = tokenizer(text)["input_ids"]
    read = torch.tensor([[start_of(tokenizer, language), *ids[:-1]]])
    with capture(model, kind="cross") as seen:
        model(pixels([image]), decoder_input_ids=read)
    # The last row writes the end, which is no word.
    return torch.stack([layer.calls[0][0].mean(0)[:-1] for layer in seen.values()]).numpy()  # (1, H, T, S) -> (T, S)


def patches_of(scene: Scene) -> np.ndarray:
    """Return which patches each of the two shapes covers by a tenth or more: booleans (2, G * G)."""
    covered = np.stack([mask(shape) for shape in (scene.first, scene.second)])
    shares = covered.reshape(2, GRID, PATCH, GRID, PATCH).mean((2, 4))  # (2, P, P) -> (2, G, G)
    return shares.reshape(2, -1) >= 0.1


def on_the_shape(model: Any, tokenizer: PreTrainedTokenizerFast, made: list[Scene], images: list) -> dict[str, float]:
    """Return the share of cross-attention that lies on the shape that a word describes, and what chance would give.

    Over the words of size, colour and kind of the right captions in both languages, by layer.
    """
    shares, chance = [], []
    for scene, image in zip(made, images, strict=True):
        covered = patches_of(scene)
        for language in LANGUAGES:
            weights = looked(model, tokenizer, image, scene.caption(language), language)[:, :, 1:]  # no class token
            for place, shape in enumerate(scene.named(language)):
                if shape is not None and scene.caption(language).split()[place] != "a":
                    shares.append(weights[:, place, covered[shape]].sum(-1))
                    chance.append(covered[shape].sum() / (GRID * GRID + 1))
    layers = {f"layer {number}": float(share) for number, share in enumerate(np.mean(shares, 0))}
    return layers | {"chance": float(np.mean(chance))}


def measured(model: Any, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return the share of right captions, on new pictures of known triples and of held-out ones, and where it looked."""
    figures: dict[str, Any] = {}
    for name, held_out in (("known triples", False), ("held-out triples", True)):
        made = scenes(TESTED, held_out, seed=1)
        images = [picture(scene, 1_000_000 + number) for number, scene in enumerate(made)]
        right = {}
        for language in LANGUAGES:
            texts = written(model, tokenizer, images, language)
            pairs = zip(texts, (scene.caption(language) for scene in made), strict=True)
            right[language] = float(np.mean([text == caption for text, caption in pairs]))
        figures[f"exact match, {name}"] = right
    figures["cross-attention on the named shape, held-out triples"] = on_the_shape(model, tokenizer, made, images)
    return figures


def drawn(model: Any, tokenizer: PreTrainedTokenizerFast, image: Image.Image, texts: dict[str, str]) -> Figure:
    """Draw what the last layer looks at for each word, laid over the picture, a row for each language."""
    weights = {
        language: looked(model, tokenizer, image, text, language)[-1, :, 1:] for language, text in texts.items()
    }
    columns = max(len(text.split()) for text in texts.values()) + 1
    figure = Figure(figsize=(1.15 * columns, 3.1), layout="constrained")
    cells = figure.subplots(len(texts), columns)
    for cell in cells.flat:
        cell.axis("off")
    for row, (language, text) in zip(cells, texts.items(), strict=True):
        row[0].imshow(image)
        row[0].set_title(language, fontsize=9)
        for cell, word, map_ in zip(row[1:], text.split(), weights[language], strict=False):
            heat = map_.reshape(GRID, GRID)
            light = np.kron(heat / heat.max(), np.ones((PATCH, PATCH)))[..., None]  # (P, P, 1)
            cell.imshow(np.asarray(image) / 255 * (0.15 + 0.85 * light))
            cell.set_title(word, fontsize=9)
    return figure


def example(model: Any, tokenizer: PreTrainedTokenizerFast, output: Path, seed: int = 2) -> Path:
    """Draw a picture of a held-out triple, what the model says about it, and where it looks for each word."""
    image = picture(scenes(1, held_out=True, seed=seed)[0], seed)
    texts = {language: written(model, tokenizer, [image], language)[0] for language in LANGUAGES}
    with fonts.chosen():
        return png.save(drawn(model, tokenizer, image, texts), output)


def main(words: list[str]) -> int:
    """Train, measure on held-out triples, and draw; write it all to the folder of the run."""
    print_anything()
    parser = argparse.ArgumentParser(prog="python -m train.captions", description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", type=Path, default=RUN_DIR, help=f"folder of the run ({RUN_DIR})")
    parser.add_argument("--pictures", type=int, default=40_000, help="to train on")
    parser.add_argument("--steps", type=int, default=15_000, help=f"of {ROWS} captions each")
    options = parser.parse_args(words)
    for name in ("pictures", "steps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: {getattr(options, name)} must be at least 1")
    torch.set_num_threads(1)
    started = time.process_time()
    made = scenes(options.pictures, held_out=False, seed=0)
    tokenizer = tokenizer_of([scene.caption(language) for scene in made for language in LANGUAGES])
    model = model_of(tokenizer)
    train(model, Captions(made, tokenizer, 0), options.steps, options.run_dir)
    minutes = (time.process_time() - started) / 60
    model.save_pretrained(options.run_dir)
    tokenizer.save_pretrained(options.run_dir)
    figures = measured(model, tokenizer) | {"CPU minutes": minutes}
    files.write_json(options.run_dir / files.RESULTS, figures)
    print(json.dumps(figures, indent=1))
    print(f"wrote {example(model, tokenizer, options.run_dir / 'captions.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
