# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The page: a text goes in, the model's answer comes out, and beside it the picture of where the model looked.

python app.py --model FOLDER_OR_HUB_ID [--revision COMMIT] [--port N]      (or MODEL_ID and MODEL_REVISION)
"""

import argparse
import gc
import html
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported: this page calls no other
gc.disable()  # what is imported stays: to look for garbage there takes two seconds of seven

import gradio as gr
from fontTools.ttLib import TTFont
from model import Answer, Model, Refused
from picture import alert, bars, heat_map, marked, table
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from words import LANGUAGES, Line, language_of

gc.freeze()
gc.enable()

MOST_BYTES = 1 << 24
MEAN = "mean"
LABELS = ("inside", "examples", "settings", "layer", "head", "guesses", "beams", "beams_info", "most", "temperature")
LABELS += ("temperature_info", "top_p", "top_p_info", "seed", "seed_info", "question")
COLUMNS = ("word", "label", "probability")
SAY = gr.I18n(**{language: {} for language in LANGUAGES})  # filled when the model is known

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


def build_page(model: Model, name: str, inside: str = "") -> gr.Blocks:
    """Lay out the page of a model; its parts follow from what the model does.

    Args:
        inside: a page that `python -m modeling_vanilla look` wrote, shown as it is: framed, and able to reach nothing.
    """
    _learn_words(model)
    kind, examples = model.kind, _examples(model)
    with gr.Blocks(title=f"{LANGUAGES['en'][kind]}: {name}", analytics_enabled=False) as page:
        gr.Markdown(f"# `{name}`")
        gr.Markdown(SAY("shape"), elem_id="shape")
        answer = gr.State()
        with gr.Row():
            with gr.Column():
                # In a field of one line Enter sends, and Shift+Enter breaks the line.
                lines = 3 if kind in ("complete", "answer") else 1
                first = examples[0] if examples else [None, None]
                text = gr.Textbox(first[0], label=SAY(f"{kind}_input"), lines=lines, max_lines=12, elem_id="text")
                asked = [gr.Textbox(first[1], label=SAY("question"), elem_id="question")] if kind == "answer" else []
                button = gr.Button(SAY(kind), variant="primary", elem_id="run")
                settings = asked + _settings(model)
                shown = None
                if examples:
                    rows = [example[: 1 + len(asked)] for example in examples]
                    # A table of two columns would show the keys of its translated heads.
                    names = [" / ".join(reversed(row)) for row in rows] if asked else None
                    shown = gr.Examples(
                        rows, [text, *asked], cache_examples=False, label=SAY("examples"), example_labels=names
                    )
            with gr.Column():
                output = gr.Textbox(
                    label=SAY(f"{kind}_output"), lines=2, max_lines=12, buttons=["copy"], elem_id="output"
                )
                marks = gr.HTML(elem_id="marks", visible=kind in ("tag", "answer"))
                guesses = gr.HTML(elem_id="guesses", visible=kind not in ("translate", "complete"))
                note = gr.HTML(elem_id="note")
                with gr.Row():
                    layers = [(f"layer {i}", i) for i in range(1, model.layers + 1)]
                    layer = gr.Dropdown(layers, value=model.layers, label=SAY("layer"), elem_id="layer", min_width=120)
                    heads = [MEAN] + [(f"head {i}", str(i)) for i in range(1, model.heads + 1)]
                    head = gr.Dropdown(heads, value=MEAN, label=SAY("head"), elem_id="head", min_width=120)
                picture = gr.HTML(elem_id="picture")
                gr.Markdown(SAY("looked"), elem_id="looked")
        if inside:
            with gr.Accordion(SAY("inside"), elem_id="inside"):
                gr.HTML(f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(inside)}"></iframe>')
        events = [button.click, text.submit] + [field.submit for field in asked]
        outputs = (output, marks, guesses, note, picture, answer)
        _connect(model, page, shown, (text, *settings, layer, head), events, outputs)
    return page


def _learn_words(model: Model) -> None:
    """Write what this model's page says into the dictionaries that the browser gets."""
    row = "first" if model.net.config.variant == "encoder" else "last"
    values = {
        "mask": model.tokenizer.mask_token,
        "width": model.width,
        "layers": model.layers,
        "heads": model.heads,
        "weights": model.net.num_parameters(),
        "limit": model.limit,
    }
    for language, words in LANGUAGES.items():
        for key in ("shape", f"{model.kind}_input", f"{model.kind}_output", *LABELS, model.kind):
            SAY.translations[language][key] = words[key].format(**values)
        looked = words[f"{model.kind}_looked"].format(place=words[row])
        SAY.translations[language]["looked"] = f"{looked} {words['equation'].format(**values)}"


def _settings(model: Model) -> list[gr.components.Component]:
    """Return what is set of `Model.translate`, `complete` or `fill`, in the order of their arguments."""
    most = model.limit - 1
    if model.kind in ("classify", "tag", "answer"):
        return []
    with gr.Accordion(SAY("settings"), open=False, elem_id="settings"):
        if model.kind == "fill":
            return [gr.Slider(1, 20, 5, step=1, label=SAY("guesses"))]
        usual = model.net.generation_config
        if model.kind == "translate":
            beams = gr.Slider(1, 8, usual.num_beams or 1, step=1, label=SAY("beams"), info=SAY("beams_info"))
            return [beams, gr.Slider(1, most, min(most, 256), step=1, label=SAY("most"))]
        return [
            gr.Slider(1, most, min(most, 100), step=1, label=SAY("most")),
            gr.Slider(0, 2, 0.8, step=0.05, label=SAY("temperature"), info=SAY("temperature_info")),
            gr.Slider(0.05, 1, 0.95, step=0.05, label=SAY("top_p"), info=SAY("top_p_info")),
            gr.Number(0, precision=0, minimum=0, maximum=2**32 - 1, label=SAY("seed"), info=SAY("seed_info")),
        ]


def _examples(model: Model) -> list[list[str]]:
    """Return what the owner of the Space wrote down, or what was published with the model: texts, and questions about them."""
    lines = os.environ.get("MODEL_EXAMPLES", "").splitlines()
    most = 1 if model.kind == "answer" else 0  # tabs that divide a line
    return [[*line.split("\t", most), ""][:2] for line in lines if line.strip()] or model.samples


def _connect(model: Model, page, examples, inputs: tuple, events: list, outputs: tuple) -> None:
    """Say what happens on a click, on Enter, on an example, at the start, and when another layer or head is chosen.

    While the model works, gradio shows the seconds on the answer; what is asked meanwhile waits its turn.
    """
    layer, head = inputs[-2:]
    picture, answer = outputs[-2:]

    def draw(answer: Answer | None, layer: int, head: str, request: gr.Request):
        if answer is None:
            return ""
        rows, columns, weights = model.attention(answer, layer, None if head == MEAN else int(head))
        language = language_of(request.headers.get("accept-language"))
        which = Line("attention_of_mean" if head == MEAN else "attention_of", {"layer": layer, "head": head})
        size = Line("picture", {"rows": len(rows), "columns": len(columns), "strongest": float(weights.max())})
        return heat_map(rows, columns, weights, f"{which.in_language(language)}: {size.in_language(language)}")

    def ask(request: gr.Request, text: str, *rest):
        *settings, layer, head = rest
        language = language_of(request.headers.get("accept-language"))
        try:
            answer = getattr(model, model.kind)(text or "", *settings)
        except Refused as refusal:
            return "", "", "", alert(refusal.line.in_language(language)), "", None
        notes = " · ".join(line.in_language(language) for line in answer.notes)
        titles = [Line("mask_number", {"number": i + 1}).in_language(language) for i in range(len(answer.guesses))]
        nothing = Line("no_answer").in_language(language)
        guesses = bars([[(guess or nothing, chance) for guess, chance in row] for row in answer.guesses], titles)
        if model.kind == "tag":
            guesses = table(text, answer.marks, [LANGUAGES[language][name] for name in COLUMNS])
        map_ = draw(answer, layer, head, request)
        return answer.text, marked(text or "", answer.marks), guesses, notes, map_, answer

    # One at a time: the model has all the cores, and sampling one seed.
    queue = {"concurrency_limit": 1, "concurrency_id": "model"}
    shown = {"trigger_mode": "always_last", "show_progress_on": outputs[0]}
    gr.on(events, ask, [*inputs], outputs, api_name=model.kind, **shown, **queue)
    if examples is not None:
        for event in (examples.load_input_event.then, page.load):
            event(ask, [*inputs], outputs, api_visibility="private", show_progress_on=outputs[0], **queue)
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
    spec = importlib.util.find_spec(FONT_PACKAGE)
    source, target = Path(spec.origin).parent / FONT_FILE if spec else None, folder / "hangul.ttf"
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
    parser.add_argument(
        "--look", type=Path, help="page of `modeling_vanilla look` to show; default look.html beside this file"
    )
    options = parser.parse_args()
    if not options.model:
        print("No model: set MODEL_ID, or give --model FOLDER_OR_HUB_ID.", file=sys.stderr)
        return 2
    try:
        model = Model(options.model, options.revision or None)
    except (OSError, ValueError) as error:
        print(f"{options.model} cannot be served: {error}", file=sys.stderr)
        return 2
    look = options.look or Path(__file__).parent / "look.html"
    if options.look and not look.is_file():
        print(f"--look {look}: no such file", file=sys.stderr)
        return 2
    page = build_page(model, options.model, look.read_text(encoding="utf-8") if look.is_file() else "")
    theme = gr.themes.Default(
        primary_hue="indigo", font=FONTS, font_mono=("Space Hangul", "ui-monospace", "monospace")
    )
    with tempfile.TemporaryDirectory() as folder:
        style = _hangul(Path(folder)) + STYLE
        # No part of the page takes a file; gradio's door for files is open all the same.
        bounds = {"max_file_size": 1, "app_kwargs": {"middleware": [Middleware(Bounded)]}}
        looks = {"theme": theme, "css": style, "i18n": SAY, "footer_links": []}
        try:
            page.launch(server_port=options.port, share=False, **looks, **bounds)
        except OSError as error:  # gradio's own words end in advice for those who call it from Python
            print(f"No page: {str(error).split('. ')[0]}. Another port: --port N.", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
