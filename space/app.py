# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The page: a text goes in, the model's answer comes out, and beside it the picture of where the model looked.

python app.py --model FOLDER_OR_HUB_ID [--revision COMMIT] [--port N]      (or MODEL_ID and MODEL_REVISION)
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported: this page calls nobody

import gradio as gr
from fontTools.ttLib import TTFont
from model import Model, Refused
from picture import alert, bars, heat_map
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

MOST_BYTES = 1 << 24
MEAN = "mean"
WORDS = {
    "translate": {
        "button": "Translate",
        "input": "Text",
        "output": "Translation",
        "looked": "Cross-attention: each row is a token that was written, each column a token of the text. The fuller the "
        "colour, the more the decoder looked there to write that token.",
    },
    "complete": {
        "button": "Complete",
        "input": "Beginning",
        "output": "Text",
        "looked": "Self-attention: each row is a token that was written, each column a token before it. The fuller the "
        "colour, the more the model looked there to write that token.",
    },
    "fill": {
        "button": "Fill in",
        "input": "Text with {mask} where a word is missing",
        "output": "Filled in with the likeliest",
        "looked": "Self-attention: each row is a token that looks, each column a token that is looked at. The fuller the "
        "colour, the more of it the row takes.",
    },
}

# Not every reader's system has Hangul. The package is never imported: only its font file is used (SIL Open Font License).
FONT_PACKAGE, FONT_FILE = "koreanize_matplotlib", "fonts/NanumGothic.ttf"
HANGUL = """
@font-face {{
  font-family: "Space Hangul";
  src: {system}url("gradio_api/file={path}") format("truetype");
  unicode-range: U+1100-11FF, U+3130-318F, U+A960-A97F, U+AC00-D7FF;
}}
"""
SYSTEM_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic")
FONTS = ("Space Hangul", "ui-sans-serif", "system-ui", "sans-serif")
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def build_page(model: Model, name: str) -> gr.Blocks:
    """Lay out the page of a model; its parts follow from what the model does."""
    words = WORDS[model.kind]
    with gr.Blocks(title=f"{words['button']}: {name}", analytics_enabled=False) as page:
        shape = f"{model.layers} layers of {model.heads} heads, {model.net.num_parameters():,} weights"
        gr.Markdown(f"# {words['button']}\n`{name}`: {shape}, reads up to {model.limit:,} tokens")
        answer = gr.State()
        with gr.Row():
            with gr.Column():
                label = words["input"].format(mask=model.tokenizer.mask_token)
                text = gr.Textbox(label=label, lines=3, max_lines=12, elem_id="text")
                button = gr.Button(words["button"], variant="primary", elem_id="run")
                settings = _settings(model)
                if examples := _examples(model):
                    gr.Examples([[example] for example in examples], [text], cache_examples=False, label="Examples")
            with gr.Column():
                output = gr.Textbox(label=words["output"], lines=2, max_lines=12, buttons=["copy"], elem_id="output")
                guesses = gr.HTML(elem_id="guesses", visible=model.kind == "fill")
                note = gr.HTML(elem_id="note")
                with gr.Row():
                    layers = [(f"layer {i}", i) for i in range(1, model.layers + 1)]
                    layer = gr.Dropdown(layers, value=model.layers, label="Layer", elem_id="layer", min_width=120)
                    heads = [MEAN] + [(f"head {i}", str(i)) for i in range(1, model.heads + 1)]
                    head = gr.Dropdown(heads, value=MEAN, label="Head", elem_id="head", min_width=120)
                picture = gr.HTML(elem_id="picture")
                gr.Markdown(words["looked"], elem_id="looked")
        _connect(model, (text, *settings, layer, head), button, (output, guesses, note, picture, answer))
    return page


def _settings(model: Model) -> list[gr.components.Component]:
    """Return the inputs of `Model.translate`, `complete` or `fill`, in the order of their arguments."""
    most = model.limit - 1
    with gr.Accordion("Settings", open=False):
        if model.kind == "fill":
            return [gr.Slider(1, 20, 5, step=1, label="Guesses for each mask")]
        usual = model.net.generation_config
        if model.kind == "translate":
            beams = gr.Slider(1, 8, usual.num_beams or 1, step=1, label="Beams", info="1 is greedy search")
            return [beams, gr.Slider(1, most, min(most, 256), step=1, label="New tokens, at most")]
        return [
            gr.Slider(1, most, min(most, 100), step=1, label="New tokens, at most"),
            gr.Slider(0, 2, 0.8, step=0.05, label="Temperature", info="0: the likeliest token each time"),
            gr.Slider(0.05, 1, 0.95, step=0.05, label="Top-p", info="share of the probability to draw from"),
            gr.Number(0, precision=0, minimum=0, maximum=2**32 - 1, label="Seed", info="same seed, same text"),
        ]


def _examples(model: Model) -> list[str]:
    """Return what the owner of the Space wrote down, or what was published with the model."""
    own = os.environ.get("MODEL_EXAMPLES", "").splitlines()
    return [line for line in own if line.strip()] or model.samples


def _connect(model: Model, inputs: tuple, button, outputs: tuple) -> None:
    """Say what happens on a click, on Enter, and when another layer or head is chosen.

    While the model works, gradio shows the seconds on the answer; what is asked meanwhile waits its turn.
    """
    layer, head = inputs[-2:]
    picture, answer = outputs[-2:]

    def draw(answer, layer, head):
        if answer is None:
            return ""
        rows, columns, weights = model.attention(answer, layer, None if head == MEAN else int(head))
        which = "mean of the heads" if head == MEAN else f"head {head}"
        return heat_map(rows, columns, weights, f"Attention of layer {layer}, {which}")

    def ask(text, *rest):
        *settings, layer, head = rest
        try:
            answer = getattr(model, model.kind)(text or "", *settings)
        except Refused as refusal:
            return "", "", alert(str(refusal)), "", None
        return answer.text, bars(answer.guesses), answer.note, draw(answer, layer, head), answer

    # One at a time: the model has all the cores, and sampling one seed.
    queue = {"concurrency_limit": 1, "concurrency_id": "model"}
    shown = {"api_name": model.kind, "trigger_mode": "always_last", "show_progress_on": outputs[0]}
    gr.on([button.click, inputs[0].submit], ask, inputs, outputs, **shown, **queue)
    for choice in (layer, head):
        choice.input(draw, [answer, layer, head], picture, api_visibility="private", **queue)


class Bounded:
    """Refuse a request of more bytes than any text that is answered has: it would be read and parsed as a whole first."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """Answer 413 where the length is announced, and end a body that goes on past it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if int(dict(scope["headers"]).get(b"content-length", 0)) > MOST_BYTES:
            return await PlainTextResponse("too long", 413)(scope, receive, send)
        read = 0

        async def bounded():
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            return message if read <= MOST_BYTES else {"type": "http.disconnect"}

        return await self.app(scope, bounded, send)


def _hangul(folder: Path) -> str:
    """Return the style that brings Hangul to systems without it; nothing where the package is not installed.

    The font's tables of hints for its makers go: browsers refuse a font with an empty table.
    """
    found = importlib.util.find_spec(FONT_PACKAGE)
    source, target = Path(found.origin).parent / FONT_FILE if found else None, folder / "hangul.ttf"
    if source is None or not source.is_file():
        return ""
    with TTFont(source, lazy=True) as font:
        for name in {"TSI0", "TSI1", "TSI2", "TSI3", "TSI5"} & set(font.keys()):
            del font[name]
        font.save(target)
    gr.set_static_paths([target])
    system = "".join(f'local("{name}"), ' for name in SYSTEM_FONTS)
    return HANGUL.format(system=system, path=target.as_posix())


def main() -> int:
    """Serve the page until it is stopped; return 2 if there is no model to serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=os.environ.get("MODEL_ID"), help="folder or Hub id, default MODEL_ID")
    parser.add_argument("--revision", default=os.environ.get("MODEL_REVISION"), help="default MODEL_REVISION")
    parser.add_argument("--port", type=int, help="default: GRADIO_SERVER_PORT, or the first free one from 7860")
    wanted = parser.parse_args()
    if not wanted.model:
        print("No model: set MODEL_ID, or give --model FOLDER_OR_HUB_ID.", file=sys.stderr)
        return 2
    try:
        model = Model(wanted.model, wanted.revision or None)
    except (OSError, ValueError) as error:
        print(f"{wanted.model} cannot be served: {error}", file=sys.stderr)
        return 2
    page = build_page(model, wanted.model)
    theme = gr.themes.Default(
        primary_hue="indigo", font=FONTS, font_mono=("Space Hangul", "ui-monospace", "monospace")
    )
    with tempfile.TemporaryDirectory() as folder:
        style = _hangul(Path(folder)) + STYLE
        # No part of the page takes a file; gradio's door for files is open all the same.
        bounds = {"max_file_size": 1, "app_kwargs": {"middleware": [Middleware(Bounded)]}}
        page.launch(server_port=wanted.port, theme=theme, css=style, share=False, footer_links=[], **bounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
