"""A tokenizer that somebody else wrote: what its patterns and templates can cost, and where it ends."""

import json
import time

import pytest
import torch
from jinja2.exceptions import SecurityError
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from modeling_vanilla import doctor
from tokenizer import build
from train.errors import UserError
from train.model import loading as models_to_measure
from train.model.build import load_tokenizer


def folder_with(hostile, change=None, **config):
    """Return a folder with a tokenizer, whose tokenizer.json `change` has changed."""
    folder = hostile()
    build("char", ["a b c"], 30, "seq2seq", min_frequency=1, show_progress=False).save_pretrained(folder)
    for name, edit in (("tokenizer.json", change or (lambda d: d)), ("tokenizer_config.json", lambda d: d | config)):
        path = folder / name
        path.write_text(json.dumps(edit(json.loads(path.read_text("utf-8")))), encoding="utf-8")
    return folder


@pytest.mark.parametrize("setting", ["vocab", "vocab_file"])
def test_a_file_of_this_machine_does_not_become_a_vocabulary(hostile, tmp_path, setting):
    """A run saves its tokenizer, and publishing sends it: the lines of the file would be on the Hub."""
    secret = tmp_path / "secret.txt"
    secret.write_text("my key\n[PAD]\n[UNK]\n")
    folder = folder_with(hostile, tokenizer_class="BertTokenizer", **{setting: str(secret)})
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=f"{setting}=.*must not name a file"):
        load_tokenizer(folder)
    with pytest.raises(UserError, match=f"{setting}=.*must not name a file"):
        models_to_measure.load(folder, "translation")
    assert "must not name a file" in doctor.load(str(folder)).tokenizer_error


@pytest.mark.parametrize("place", ["normalizer", "pre_tokenizer"])
@pytest.mark.parametrize("pattern", ["(a|a)*$", "(a+)+$", "(x+x+)+y", "(?:a*)*b"])
def test_a_pattern_that_tries_everything_gives_up(place, pattern):
    """Oniguruma stops after ten million steps at one place; the error is a panic, which no `except Exception` sees."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    if place == "normalizer":
        tokenizer.normalizer = normalizers.Replace(Regex(pattern), "x")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    started = time.monotonic()
    try:
        tokenizer.encode("a" * 40 + "!")
    except BaseException as error:  # noqa: BLE001 - a panic of tokenizers is no Exception
        assert type(error).__name__ == "PanicException"
        assert "retry-limit-in-match" in str(error)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("pattern", ["a{1000000}", "(" * 5000 + "a" + ")" * 5000, "[", "(?<n", "\\"])
def test_a_pattern_that_cannot_be_is_refused_at_loading(hostile, pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    with pytest.raises(Exception, match="Oniguruma|[Rr]egex"):
        AutoTokenizer.from_pretrained(folder_with(hostile, lambda d: d | {"pre_tokenizer": split}))


def test_an_id_beyond_the_embedding_is_named_by_the_model(hostile):
    def far(content):
        content["model"]["vocab"]["a"] = 2**31
        return content

    folder = folder_with(hostile, far)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    inputs = AutoTokenizer.from_pretrained(folder)("a", return_tensors="pt")
    assert inputs["input_ids"].max() == 2**31
    with pytest.raises(ValueError, match=r"input_ids\[0, \d+\]=2147483648 is not in \[0, 97\)"):
        model(**inputs, decoder_input_ids=torch.ones(1, 1, dtype=torch.long))


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"


def test_no_pipeline_of_this_package_renders_a_chat_template(hostile):
    """Nor does loading, or saving: the text below would be ten thousand million letters."""
    folder = folder_with(hostile, chat_template=ENDLESS)
    (folder / "chat_template.jinja").write_text(ENDLESS, encoding="utf-8")
    translate = pipeline("translation", model=str(folder), device="cpu")
    assert translate.tokenizer.chat_template == ENDLESS
    started = time.monotonic()
    translate("a b c", max_new_tokens=2)
    translate.save_pretrained(folder / "again")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_chat_template_that_is_rendered_stays_in_its_sandbox(hostile, template):
    """transformers' own; a loop it does not stop (docs/security.md)."""
    tokenizer = AutoTokenizer.from_pretrained(folder_with(hostile, chat_template=template))
    with pytest.raises(SecurityError):
        tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
