# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The page of space/ in a real browser: models that know a few lines by heart answer, and the picture is their attention.

The page runs as on the Hub, from a folder of its own, in a process that cannot import this project.
"""

import re
import socket
import subprocess
import time

import torch
from transformers import AutoTokenizer

from modeling_vanilla import (
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMultipleChoice,
    VanillaForQuestionAnswering,
)
from modeling_vanilla.__main__ import main

DATE, KOREAN = "Friday, November 20, 2026", "2026년 11월 20일 금요일"

CONTRAST = """selector => {
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(v => v / 255).map(v => v <= 0.04 ? v / 12.9 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const node = document.querySelector(selector), style = getComputedStyle(node);
  let ground = node;
  while (/, 0\\)|transparent/.test(getComputedStyle(ground).backgroundColor) && ground.parentElement) ground = ground.parentElement;
  const one = light(node instanceof SVGElement ? style.fill : style.color);
  const two = light(getComputedStyle(ground).backgroundColor);
  return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
}"""


def cross_attention(folder, source: str, target: str) -> torch.Tensor:
    """Return (L, H, T, S) of a translation, from the model as this process has it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = VanillaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
    ids = tokenizer(target)["input_ids"]
    shifted = torch.tensor([[model.config.decoder_start_token_id, *ids[:-1]]])
    with torch.no_grad():
        output = model(**tokenizer(source, return_tensors="pt"), decoder_input_ids=shifted, output_attentions=True)
    return torch.stack([layer[0] for layer in output.cross_attentions])


def assert_shows(visitor, weights: torch.Tensor) -> None:
    """Wait for the picture of weights (T, S): each cell a share of the strongest, in steps of 1/255."""
    expected, end = (weights / weights.max()).numpy(), time.monotonic() + 60
    while visitor.shares().shape != expected.shape or abs(visitor.shares() - expected).max() > 1 / 255:
        assert time.monotonic() < end, (visitor.shares(), expected)
        visitor.page.wait_for_timeout(50)


def assert_readable(page) -> None:
    """Ask for the contrast of text that WCAG 2.1 (1.4.3) asks for."""
    for selector in ("#picture figure svg text", "#note p, #note div:not(:has(*))", "#looked p", "#output textarea"):
        assert page.evaluate(CONTRAST, selector) > 4.5, selector


def test_a_translator_answers_and_shows_where_it_looked(serve, visit, translator):
    with serve(translator) as address, visit(f"{address}/?__theme=light") as visitor:
        visitor.expect_answer(DATE, KOREAN)  # the first example, answered at the start
        assert visitor.ask(DATE) == KOREAN
        seen = [list(text.replace(" ", "␣")) + ["</s>"] for text in (KOREAN, DATE)]
        assert visitor.labels() == seen[0] + seen[1]
        weights = cross_attention(translator, DATE, KOREAN)
        assert_shows(visitor, weights[1].mean(0))
        assert_readable(visitor.page)
        visitor.choose("head", "head 3")
        assert_shows(visitor, weights[1, 2])
        visitor.choose("layer", "layer 1")
        assert_shows(visitor, weights[0, 2])

        # Every letter of Hangul comes out of a font that has it; the answer asks for the same font.
        fonts = visitor.fonts("#picture figure svg text")
        korean = sum(
            count for name, count in fonts.items() if re.search("Nanum|Noto.*(KR|CJK)|Malgun|SD Gothic", name)
        )
        assert korean == len(re.findall("[가-힣]", KOREAN)), fonts
        family = visitor.page.locator("#output textarea").evaluate("node => getComputedStyle(node).fontFamily")
        assert "Space Hangul" in family.split(",")[0]

        visitor.page.get_by_role("button", name="24-Jun-1986").click()  # an example is answered when it is chosen
        visitor.expect_answer("24-Jun-1986", "1986년 6월 24일")
        assert visitor.labels()[-12:] == [*"24-Jun-1986", "</s>"]
        visitor.page.fill("#text textarea", DATE)
        visitor.page.press("#text textarea", "Enter")
        visitor.expect_answer(DATE, KOREAN)

        # Korean where the browser asks for it, in labels, answers and refusals; the equation is on the page.
        with visitor.speaking("ko-KR") as korean_visitor:
            page = korean_visitor.page
            page.goto(address)
            page.locator("#run", has_text="번역하기").wait_for()
            assert "식 1의" in page.inner_text("#looked") and "dₖ = 8" in page.inner_text("#looked")
            page.locator("#note", has_text=re.compile(r"토큰 26개를 읽음 · 18개를 씀 · \d+\.\d\d초")).wait_for()
            page.fill("#text textarea", " ")
            page.press("#text textarea", "Enter")
            page.locator("#note", has_text="읽을 것이 없습니다").wait_for()
            assert not re.search("[가-힣]", visitor.page.inner_text("#looked"))


def test_the_page_of_look_is_framed_and_reaches_nothing(serve, visit, translator, tmp_path):
    page = tmp_path / "inside.html"
    assert main(["look", str(translator), DATE, "--to", str(page)]) == 0
    with serve(translator, "--look", str(page)) as address, visit(address) as visitor:
        visitor.expect_answer(DATE, KOREAN)
        frame = visitor.page.frame_locator("#inside iframe")
        assert frame.locator("canvas, svg").count() > 0
        assert "allow-same-origin" not in visitor.page.locator("#inside iframe").get_attribute("sandbox")


def test_what_a_translator_cannot_take(serve, visit, translator):
    with (
        serve(translator, MODEL_EXAMPLES="one\ntwo") as address,
        visit(f"{address}/?__theme=dark", width=390) as visitor,
    ):
        page = visitor.page
        assert visitor.ask(DATE) == KOREAN
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # the picture scrolls, the page does not
        assert_readable(page)
        assert page.get_by_role("button", name="two").count() == 1

        assert visitor.ask("   ", "There is nothing to read") == ""
        assert page.locator("[role=alert]").count() == 1
        assert page.evaluate(CONTRAST, "[role=alert]") > 4.5
        assert page.locator("#picture figure svg").count() == 0  # the picture of another text would mislead
        assert visitor.ask("1" * 48, "49 tokens, and this model reads 48 at most") == ""
        visitor.ask("1" * 47, "48 tokens read")

        # What is typed is text: neither a special token nor HTML.
        visitor.ask("</s>", "5 tokens read")
        assert visitor.labels()[-5:] == ["<", "/", "s", ">", "</s>"]
        visitor.ask("<img src=x onerror=a()>", "24 tokens read")
        assert page.locator("#picture img").count() == 0
        visitor.ask("ßß 1999", "2 of the tokens read are unknown")


def test_a_decoder_goes_on(serve, visit, completer):
    with serve(completer) as address, visit(f"{address}/?__theme=light") as visitor:
        page = visitor.page
        page.get_by_role("button", name="Settings").click()
        visitor.set("Temperature", "0")
        visitor.set("New tokens", "17")
        assert visitor.ask("What is l", "stopped") == "What is lost can be found."
        assert visitor.labels()[:17] == list("ost␣can␣be␣found.")

        tokenizer = AutoTokenizer.from_pretrained(completer)
        model = VanillaForCausalLM.from_pretrained(completer, attn_implementation="eager")
        with torch.no_grad():
            ids = tokenizer("What is lost can be found", return_tensors="pt")["input_ids"]
            weights = model(ids, output_attentions=True).attentions[1][0].mean(0)
        assert_shows(visitor, weights[-17:])

        visitor.set("Temperature", "2")
        drawn = [visitor.ask("What") for _ in range(2)]
        assert not {"<pad>", "<s>", "<unk>"} & {*visitor.labels()}  # at this heat each of them was drawn before
        page.get_by_label("Seed").fill("1")
        drawn.append(visitor.ask("What"))
        assert drawn[0] == drawn[1] != drawn[2]

        visitor.set("New tokens", "39")
        visitor.ask("a" * 39, "no place for more tokens")
        assert visitor.ask("a" * 40, "40 tokens, and this model reads 39 at most") == ""


def test_an_encoder_fills_in(serve, visit, filler):
    with serve(filler) as address, visit(f"{address}/?__theme=light") as visitor:
        page = visitor.page
        text = "the film was <mask> by the studio"
        assert visitor.ask(text) == "the film was released by the studio"
        guesses = page.locator("#guesses li").all_inner_texts()
        assert len(guesses) == 5 and guesses[0].startswith("released")
        shares = [float(re.search(r"([\d.]+) %", guess)[1]) for guess in guesses]
        assert shares == sorted(shares, reverse=True) and 90 < shares[0] and sum(shares) < 100.3
        tokens = ["<cls>", *text.split(), "<sep>"]
        assert visitor.labels() == tokens + tokens
        assert visitor.shares().max() == 1 and visitor.shares().shape == (9, 9)

        assert visitor.ask("the <mask> sat on the <mask>") == "the cat sat on the mat"
        assert page.locator("#guesses ol").count() == 2
        assert visitor.ask("the film was released", "Nothing is missing") == ""
        visitor.ask("the </s> <mask>", "tokens read")
        assert "</s>" not in visitor.labels() and visitor.labels().count("<mask>") == 2  # a row and a column


def test_a_classifier_names_the_label(serve, visit, classifier):
    with serve(classifier.parent) as address, visit(f"{address}/?__theme=light") as visitor:  # the folder of a run
        assert visitor.ask("a bad film") == "negative"
        guesses = visitor.page.locator("#guesses li").all_inner_texts()
        assert [guess.split()[0] for guess in guesses] == ["negative", "positive"]
        assert visitor.labels() == 2 * ["<cls>", "a", "bad", "film", "<sep>"]


def test_a_tagger_colours_the_words(serve, visit, tagger):
    with serve(tagger) as address, visit(f"{address}/?__theme=light") as visitor:
        page = visitor.page
        assert visitor.ask("Kim Minsu  leaves Seoul") == "B-PER I-PER O B-LOC"
        assert page.locator("#marks mark").all_inner_texts() == ["KimB-PER", "MinsuI-PER", "SeoulB-LOC"]
        hues = page.locator("#marks mark").evaluate_all(
            "nodes => nodes.map(node => node.style.getPropertyValue('--hue'))"
        )
        assert hues[0] == hues[1] != hues[2]
        assert page.inner_text("#marks p").replace("\n", "") == "KimB-PER MinsuI-PER  leaves SeoulB-LOC"
        rows = [row.split("\t") for row in page.locator("#guesses tr").all_inner_texts()]
        assert rows[0] == ["Word", "Label", "Probability"]
        assert [row[:2] for row in rows[1:]] == [
            *(["Kim", "B-PER"], ["Minsu", "I-PER"], ["leaves", "O"], ["Seoul", "B-LOC"])
        ]
        assert all(50 < float(row[2].removesuffix(" %")) <= 100 for row in rows[1:])
        for selector in ("#marks mark", "#marks mark small", "#guesses td", "#guesses th"):
            assert page.evaluate(CONTRAST, selector) > 4.5, selector
        assert visitor.labels() == 2 * ["<cls>", "Kim", "Minsu", "leaves", "Seoul", "<sep>"]
        visitor.ask("<b>Kim</b>")
        assert page.locator("#marks b, #guesses b").count() == 0


def test_a_reader_marks_the_answer(serve, visit, reader):
    text = "Kim lives in Seoul"
    with serve(reader) as address, visit(f"{address}/?__theme=light") as visitor:
        page = visitor.page
        visitor.expect_answer(text, "Kim")  # the first example
        assert "__i18n__" not in page.inner_text("body")  # what gradio could not translate
        page.fill("#question textarea", "where")
        assert visitor.ask(text) == "Seoul"
        assert page.locator("#marks mark").all_inner_texts() == ["Seoul"]
        assert page.inner_text("#marks p") == text
        guesses = page.locator("#guesses li").all_inner_texts()
        assert len(guesses) == 5 and guesses[0].startswith("Seoul") and page.evaluate(CONTRAST, "#marks mark") > 4.5
        tokens = ["<cls>", "where", "<sep>", *text.split(), "<sep>"]
        assert visitor.labels() == 2 * tokens

        tokenizer = AutoTokenizer.from_pretrained(reader)
        model = VanillaForQuestionAnswering.from_pretrained(reader, attn_implementation="eager")
        with torch.no_grad():
            inputs = tokenizer("where", text, return_tensors="pt", return_token_type_ids=True)
            weights = model(**inputs, output_attentions=True).attentions[1][0].mean(0)
        assert_shows(visitor, weights)

        page.fill("#question textarea", "when")
        assert visitor.ask(text, "no answer in this text") == ""
        assert page.locator("#marks mark").count() == 0
        assert page.locator("#guesses li").first.inner_text().startswith("no answer in this text")
        page.fill("#question textarea", " ")
        assert visitor.ask(text, "Nothing is asked") == ""


def test_no_page_without_a_model_that_it_can_show(command, tmp_path, build, translator):
    """Without a model, with one of another task, and where another program has the port."""
    words, surroundings = command
    build("encoder", VanillaForMultipleChoice).save_pretrained(tmp_path / "chooser")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = [
            ([], r"No model: set MODEL_ID, or give --model FOLDER_OR_HUB_ID\."),
            (["--model", str(tmp_path / "chooser")], r".*chooser: VanillaForMultipleChoice .* tags nor answers"),
            (["--model", str(translator), "--port", port], rf"No page: .*{port}.*Another port: --port N\."),
        ]
        for arguments, message in cases:
            done = subprocess.run(
                [*words, *arguments],
                env=surroundings,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 2, done.stderr
            assert re.fullmatch(message, done.stderr.splitlines()[-1]), done.stderr
            assert "Traceback" not in done.stderr
