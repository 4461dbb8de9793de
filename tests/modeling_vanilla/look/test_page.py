# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The page in a real browser: what it shows is what torch computes, in both languages, and it asks nothing of anybody."""

import json
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from views import attention_map, causal, search_of_two, translator_view

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from modeling_vanilla.look import page as look_page
from modeling_vanilla.look.page import LIMIT, write_page
from modeling_vanilla.look.view import TEMPERATURES, Map, View

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ASSETS = Path(look_page.__file__).parent / "page-assets"
HOSTILE = [
    "</script><script>document.title='taken'</script>",
    '<img src="http://127.0.0.1:9/" onerror="document.title=1">',
    "\u202eabc",  # turns what follows it round
    "<!--",
    "{{script}}",
    "\ud800",  # half a character
    "👩‍👩‍👧‍👦",
    "한국어",
    " ",
    "&lt;b&gt;",
]
TURNED = {"\u202eabc": "⟨202E⟩abc", "\ud800": "⟨D800⟩", " ": "␣"}  # as they can be seen
SOURCE, TARGET, VOCABULARY, HEADS = 7, 6, 211, 4  # VOCABULARY: more tokens than a step keeps logits


def label(token: int) -> str:
    return HOSTILE[token] if token < len(HOSTILE) else f"w{token}"


@pytest.fixture(scope="module")
def view() -> View:
    """Return what a translator that knows nothing looks at, with weights that are far from equal."""
    torch.manual_seed(0)
    config = VanillaConfig(
        vocab_size=VOCABULARY,
        d_model=24,
        d_ff=20,
        num_heads=HEADS,
        num_layers=3,
        num_decoder_layers=2,
        attn_implementation="eager",
    )
    model = VanillaForConditionalGeneration(config).eval()
    for name, weights in model.named_parameters():
        if "q_proj" in name or "k_proj" in name or "embed" in name:
            weights.data *= 2
    target = torch.tensor([config.decoder_start_token_id, *range(7, 7 + TARGET)])
    view = translator_view(model, torch.arange(SOURCE), target, label)
    view.search = search_of_two()
    return view


@pytest.fixture(scope="module")
def file(view, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(view, path)
    return path


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as driver:
        words = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=words)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Return a context in which a browser shows a file; it may ask for nothing else, and nothing may go wrong."""

    @contextmanager
    def open_page(path: Path, complaints: bool = False, **settings):
        context = browser.new_context(**({"locale": "en-US", "viewport": {"width": 1280, "height": 900}} | settings))
        page, seen = context.new_page(), []
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("console", lambda line: seen.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda request: seen.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        yield page
        assert complaints or seen == []
        context.close()

    return open_page


def press(page, group: str, name: str) -> None:
    page.click(f"#{group} button[data-name={name}]")


def choose_head(page, kind: str, layer: int, head: int) -> None:
    page.click(f"#tab-{kind}")
    page.click(f"#heads button[data-layer='{layer}'][data-head='{head}']")


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("∞", "inf"))


def table(page, selector: str = "#picture table") -> list[list[str]]:
    return page.locator(f"{selector} tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.textContent))"
    )


def shown_weights(page) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights (T, S) of the table of the chosen head, NaN where a mask hides, and the sums of its rows."""
    press(page, "views", "table")
    rows = [[float("nan") if text == "–" else float(text) for text in row] for row in table(page)]
    return torch.tensor(rows)[:, :-1], torch.tensor(rows)[:, -1]


def test_exact_heads_show_what_the_model_computed(view, file, visit):
    with visit(file) as page:
        for kind, layer, head in view.exact:
            seen = next(one for one in view.maps if one.kind == kind)
            choose_head(page, kind, layer, head)
            assert page.get_attribute("#large-note", "data-exact") == "true"
            weights, sums = shown_weights(page)
            expected = seen.weights[layer, head].masked_fill(seen.hidden, float("nan"))
            assert torch.allclose(weights, expected, atol=1e-3, equal_nan=True)
            assert torch.allclose(sums, torch.ones(len(seen.rows)), atol=1e-4)


def test_rounded_heads_are_right_to_a_step_of_their_byte(view, file, visit):
    """A byte is 255 sqrt(w / top): half a step off is at most top sqrt(w / top) / 255."""
    with visit(file) as page:
        choose_head(page, "encoder", 2, 3)
        assert page.get_attribute("#large-note", "data-exact") == "false"
        weights, sums = shown_weights(page)
        expected = view.maps[0].weights[2, 3]
        assert (weights - expected).abs().max() <= expected.max() / 255 + 1e-4
        assert torch.allclose(sums, torch.ones(SOURCE), atol=1e-4)


@pytest.mark.parametrize("at", [0, 1])
def test_the_numbers_behind_a_cell_are_the_models(view, file, visit, at):
    """Click each cell of one row: product, score and weight by eq. 1, and the context that the row adds up to."""
    numbers = view.numbers[at]
    seen = next(one for one in view.maps if one.kind == numbers.kind)
    row = 3
    products = numbers.queries[row] @ numbers.keys.T
    with visit(file) as page:
        choose_head(page, numbers.kind, numbers.layer, numbers.head)
        press(page, "views", "table")
        for column in range(len(seen.columns)):
            page.click(f"#picture tbody tr:nth-child({row + 1}) td:nth-child({column + 2})")
            result = {
                name: number(page.locator(f"[data-result={name}]").inner_text().split("=")[-1])
                for name in ("product", "scaled", "weight")
            }
            assert result["product"] == pytest.approx(float(products[column]), abs=1e-3)
            assert result["scaled"] == pytest.approx(float(products[column] * numbers.scaling), abs=1e-3)
            assert result["weight"] == pytest.approx(
                float(seen.weights[numbers.layer, numbers.head, row, column]), abs=1e-3
            )
            assert page.locator("[data-result=masked]").count() == int(seen.hidden[row, column])
        page.click(".stages li:last-child summary")
        page.wait_for_selector(".stages li:last-child tbody tr")
        dimensions = torch.tensor([[number(text) for text in line] for line in table(page, ".stages li:last-child")])
        weights = seen.weights[numbers.layer, numbers.head, row]
        context = weights @ numbers.values
        assert torch.allclose(dimensions[:, 2], context, atol=1e-3)
        assert torch.allclose(dimensions[:, 1], weights[-1] * numbers.values[-1], atol=1e-3)


def test_a_bias_of_positions_is_added(tmp_path, visit):
    """As T5 does it: no division, a bias for each pair."""
    torch.manual_seed(1)
    T, S, K = 3, 5, 6
    queries, keys, values, bias = torch.randn(T, K), torch.randn(S, K), torch.randn(S, K), torch.randn(T, S)
    weights = (queries @ keys.T + bias).softmax(-1)
    rows, columns = list("abc"), list("vwxyz")
    seen = attention_map("cross", [weights[None, None]], rows, columns, rows)
    numbers = look_page.Numbers("cross", 0, 0, queries, keys, values, 1.0, bias)
    write_page(View("m", "A", "t", None, [seen], [numbers], exact=[("cross", 0, 0)]), tmp_path / "t5.html")
    with visit(tmp_path / "t5.html") as page:
        press(page, "views", "table")
        page.click("#picture tbody tr:nth-child(2) td:nth-child(5)")
        text = page.locator("[data-result=biased]").inner_text()
        assert number(text.split("=")[1]) == pytest.approx(float(queries[1] @ keys[3] + bias[1, 3]), abs=1e-3)
        text = page.locator("[data-result=weight]").inner_text()
        assert number(text.split("=")[-1]) == pytest.approx(float(weights[1, 3]), abs=1e-3)


def shares(page) -> list[float]:
    return page.locator("#likeliest li").evaluate_all("nodes => nodes.map(node => Number(node.dataset.share))")


def test_next_tokens_are_the_softmax_at_each_stored_temperature(view, file, visit):
    step = view.steps[2]
    logits, rest = torch.tensor(step.logits), dict(zip(TEMPERATURES, step.rest, strict=True))
    assert len(logits) == 200 < VOCABULARY
    with visit(file) as page:
        page.click("#steps button:nth-child(3)")
        for temperature in TEMPERATURES:
            page.fill("#temperature", str(temperature))
            scaled = torch.cat([logits / temperature, torch.tensor([rest[temperature]])])
            expected = scaled.softmax(-1)[:10]
            assert torch.allclose(torch.tensor(shares(page)[:10]), expected, atol=1e-3, rtol=1e-3)
            assert "Exact" in page.inner_text("#next-exact")
        page.fill("#temperature", "1.25")
        assert "Approximate" in page.inner_text("#next-exact")
        between = torch.tensor(shares(page)[:10])
        cuts = page.evaluate("document.querySelector('#cut').max")
        page.fill("#cut", "2")  # the third of 1, 2, 3, ...
        assert "Exact" in page.inner_text("#next-exact") and int(cuts) > 10
        assert torch.allclose(torch.tensor(shares(page)[:3]), (logits[:3] / 1.25).softmax(-1), atol=1e-3)
        assert (between >= 0).all() and between.sum() < 1


def test_between_two_temperatures_the_page_is_close(tmp_path, visit):
    """Many tokens beyond those in the file: the interpolated share is within 1 % of torch's."""
    torch.manual_seed(2)
    logits = 2 * torch.randn(5003)
    largest, others = logits.sort(descending=True)[0].split([200, 4803])
    rest = [float((others / temperature).logsumexp(-1)) for temperature in TEMPERATURES]
    steps = [look_page.Step("w0", [f"w{i}" for i in range(200)], largest.tolist(), rest)]
    seen = attention_map("decoder", [torch.ones(1, 1, 1, 1)], ["w0"], ["s"], ["s"])
    write_page(View("m", "A", "t", None, [seen], steps=steps), tmp_path / "steps.html")
    with visit(tmp_path / "steps.html") as page:
        for temperature in (0.3, 0.6, 0.9, 1.25, 1.75, 2.75, 3.5):
            page.fill("#temperature", str(temperature))
            expected = (logits / temperature).softmax(-1).sort(descending=True)[0][:10]
            assert torch.allclose(torch.tensor(shares(page)[:10], dtype=torch.float), expected, rtol=1e-2)
            assert "Approximate" in page.inner_text("#next-exact")


def test_hostile_tokens_are_text(view, file, visit):
    with visit(file) as page:
        page.click("#tab-encoder")
        chips = page.locator("#reader .chips.rows .chip").all_inner_texts()
        assert chips == [TURNED.get(one, one) for one in HOSTILE[:SOURCE]]
        page.click("#tab-cross")
        chips = page.locator("#reader .chips.rows .chip").all_inner_texts()
        assert chips[:3] == ["한국어", "␣", "&lt;b&gt;"]
        assert page.title() == "What a/translator looks at"
        assert page.locator("img, iframe, script:not([type])").count() == 1  # the page's own script
        assert page.locator("bdi.token").first.evaluate("node => getComputedStyle(node).unicodeBidi") == "isolate"


def test_the_policy_forbids_what_the_page_does_not_do(file, visit):
    text = file.read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    assert text.count("<script") == 2 and "http:" not in re.sub(r"http://www\.w3\.org/[\w/]+|http:\S+", "", policy)
    blocked = """async () => {
      const kinds = [];
      document.addEventListener("securitypolicyviolation", event => kinds.push(event.effectiveDirective));
      const script = document.createElement("script");
      try { script.textContent = "document.title = 'taken'"; document.body.append(script); } catch { kinds.push("trusted"); }
      try { document.body.innerHTML = "<b>x</b>"; } catch { kinds.push("html"); }
      document.body.append(Object.assign(document.createElement("img"), {src: "http://127.0.0.1:9/x.png"}));
      await fetch("http://127.0.0.1:9/").catch(() => 0);
      document.body.setAttribute("style", "color: red");
      await new Promise(done => setTimeout(done, 100));
      return kinds;
    }"""
    with visit(file, complaints=True) as page:
        kinds = page.evaluate(blocked)
        assert {"html", "img-src", "connect-src", "style-src-attr"} <= {*kinds}
        assert page.title() == "What a/translator looks at"


def test_keys_and_clicks_choose(view, file, visit):
    with visit(file) as page:
        title = lambda: page.inner_text("#large-title")
        choose_head(page, "encoder", 0, 0)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert title() == "Encoder · layer 1, head 1"
        page.focus("#tab-encoder")
        page.keyboard.press("ArrowRight")
        assert title().startswith("Decoder")
        page.focus("#picture .matrix")
        page.click("#reader .chips.rows .chip:first-child")
        page.focus("#picture .matrix")
        for key in ("ArrowLeft",) * SOURCE + ("ArrowDown", "ArrowRight"):
            page.keyboard.press(key)
        weight = view.maps[1].weights[0, 1, 1, 1]
        assert number(page.inner_text("#spoken").split("weight ")[1]) == pytest.approx(float(weight), abs=1e-3)
        assert page.evaluate("document.activeElement.className") == "matrix"
        page.focus("#views [data-name=arcs]")
        page.keyboard.press("Enter")
        assert page.locator("#picture path.arc").count() > 0
        assert page.evaluate("document.activeElement.dataset.name") == "arcs"  # a key leaves the focus where it was
        press(page, "scales", "one")
        top = view.maps[1].weights[:, :, 3:].max()  # of the rows that see more than three
        assert number(page.text_content("#scale-top").removeprefix("≥")) == pytest.approx(float(top), abs=5e-3)


def test_a_value_stands_beside_the_pointer(view, file, visit):
    with visit(file) as page:
        choose_head(page, "cross", 1, 2)
        box = page.locator("#picture .matrix canvas").bounding_box()
        row, column = 4, 5
        page.mouse.move(
            box["x"] + box["width"] * (column + 0.5) / SOURCE, box["y"] + box["height"] * (row + 0.5) / TARGET
        )
        assert f"weight {view.maps[2].weights[1, 2, row, column]:.3f}" in page.inner_text("#tip")
        page.mouse.click(
            box["x"] + box["width"] * (column + 0.5) / SOURCE, box["y"] + box["height"] * (row + 0.5) / TARGET
        )
        assert page.locator("#reader .rows [aria-pressed=true]").inner_text() == label(7 + row)


def test_the_search_is_a_tree(view, file, visit):
    with visit(file) as page:
        assert page.locator("#search-content .branch").count() == sum(
            node.parent is not None for node in view.search.nodes
        )
        page.click("#search-content summary")
        rows = page.locator("#search-content tbody tr").all_inner_texts()
        assert rows[0].split("\t") == ["a c </s>", "−1.1000", "won"] and len(rows) == 3


CONTRAST = """() => {
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(v => v / 255).map(v => v <= 0.04 ? v / 12.9 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const worst = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !node.checkVisibility() || node.closest("script, style, noscript, .unseen, button:disabled")) continue;
    let ground = node;
    while (/, 0\\)|transparent/.test(getComputedStyle(ground).backgroundColor) && ground.parentElement) ground = ground.parentElement;
    const style = getComputedStyle(node);
    const one = light(node instanceof SVGElement ? style.fill : style.color), two = light(getComputedStyle(ground).backgroundColor);
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) worst.push([ratio, node.outerHTML.slice(0, 120)]);
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_in_korean_and_it_can_be_read(file, visit, scheme):
    """At 390 pixels nothing widens the page; text has the contrast that WCAG 2.1 (1.4.3) asks for."""
    settings = dict(viewport={"width": 390, "height": 844}, locale="ko-KR", color_scheme=scheme)
    with visit(file, **settings) as page:
        assert page.evaluate("document.documentElement.lang") == "ko"
        assert page.title() == "a/translator 모델이 보는 곳"
        assert page.inner_text("h1") == "모델이 보는 곳"
        for name in ("matrix", "arcs", "table"):
            press(page, "views", name)
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            assert page.evaluate(CONTRAST) == []
        press(page, "languages", "en")
        assert page.inner_text("h1") == "What the model looks at"
        assert page.evaluate("document.documentElement.lang") == "en"
        assert re.findall("[가-힣]+", page.inner_text("#numbers")) == ["한국어"] * page.inner_text("#numbers").count(
            "한국어"
        )


def test_every_word_is_in_both_languages(file, visit):
    source = "".join(path.read_text("utf-8") for path in ASSETS.iterdir())
    with visit(file) as page:
        words = json.loads(page.evaluate("JSON.stringify(WORDS)"))
    slots = {
        language: {key: sorted(re.findall(r"\{\w+\}", text)) for key, text in words[language].items()}
        for language in words
    }
    assert slots["en"] == slots["ko"]
    used = {*re.findall(r'say(?:ing)?\("(\w+)"', source), *re.findall(r'data-say="(\w+)"', source)}
    assert used <= {*words["en"]}
    unused = {*words["en"]} - used
    assert all(
        f'"{key}"' in source or key.startswith("fate_") or key in ("encoder", "decoder", "cross") for key in unused
    ), unused


def many_heads(layers: int, heads: int, tokens: int, cells: int) -> View:
    """Return a view of a causal decoder's size, weights at random."""
    weights = torch.randn(layers, heads, cells, cells).masked_fill(causal(cells), -torch.inf).softmax(-1)
    names = [f"w{i}" for i in range(tokens)]
    seen = Map("decoder", names, names, names, list(range(layers)), list(range(heads)), weights, causal(cells))
    seen.weights = weights * cells / tokens  # the mean of a cell's pairs
    return View("m", "A", " ".join(names), None, [seen], exact=[("decoder", 0, head) for head in range(4)])


def test_twelve_layers_of_twelve_heads_fit(tmp_path, visit):
    write_page(many_heads(12, 12, 256, 256), tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 5e6
    with visit(tmp_path / "page.html") as page:
        assert page.locator("#heads button").count() == 144
        assert "64 × 64" in page.inner_text("#overview-note")


def test_a_long_text_is_averaged(tmp_path, visit):
    view = many_heads(2, 4, 1024, 256)
    write_page(view, tmp_path / "page.html")
    with visit(tmp_path / "page.html") as page:
        assert "256 × 256" in page.inner_text("#large-note") and "1024" in page.inner_text("#large-note")
        assert "from 1.0000 to 1.0000" in page.inner_text("#sums")
        page.focus("#picture .matrix")
        page.keyboard.press("ArrowDown")
        assert "…" in page.inner_text("#spoken")


def test_a_page_that_would_be_too_large_is_refused(tmp_path):
    view = many_heads(1, 1, 3, 3)
    view.text = "x" * LIMIT
    with pytest.raises(ValueError, match=r"would have 20\.\d MB, and 20 MB are allowed"):
        write_page(view, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
