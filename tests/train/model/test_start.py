"""`model.init_from`: the model of the folder and not one of our defaults, or one line that says why not."""

import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

import tokenizer as tokenizers
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration, VanillaForSequenceClassification, cut
from train import __main__ as command
from train.model import build
from train.settings.recipe import Recipe
from train.settings.sections import ModelSection
from train.tasks import TASKS

V = 40
STACKS = dict(vocab_size=V, d_model=24, encoder_layers=2, decoder_layers=3, max_position_embeddings=30)
STACKS |= dict(encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=29, decoder_ffn_dim=29)
BERT = dict(vocab_size=V, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=29)
OPTIONS = {
    "Bert": BERT | dict(max_position_embeddings=30, type_vocab_size=3),
    "Roberta": BERT | dict(max_position_embeddings=32, type_vocab_size=1, pad_token_id=1),
    "GPT2": dict(vocab_size=V, n_embd=24, n_layer=3, n_head=4, n_inner=29, n_positions=30),
    "Bart": STACKS | dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2),
    "Marian": STACKS | dict(pad_token_id=V - 1, decoder_start_token_id=V - 1, eos_token_id=0, scale_embedding=True),
}
TEXTS = ["good film", "a bad plot", "the odd fox jumps"]
OURS = dict(vocab_size=V, d_model=24, d_ff=29, num_heads=4, num_layers=2, num_decoder_layers=3)
OURS |= dict(max_position_embeddings=30)


def words_of(task):
    """Return a tokenizer of fewer tokens than the models have."""
    template = TASKS[task].template
    made = tokenizers.build("char", TEXTS, V, template, min_frequency=1, show_progress=False)
    assert len(made) < V
    return made


def drawn(model):
    """Draw all weights anew, wide enough that another model's logits are far away."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:  # not Marian's table of positions
                mean = 1.0 if "orm" in name or "ln_" in name else 0.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + mean)
    return model.eval()


def foreign(folder, name):
    """Write a folder of a stock model with a tokenizer beside it."""
    kind = next(kind for kind in OPTIONS if name.startswith(kind))
    model = drawn(getattr(transformers, name)(getattr(transformers, f"{kind}Config")(**OPTIONS[kind])))
    model.save_pretrained(folder)
    return model


def made(folder, task, labels=None, **section):
    """Return the model that a recipe starts with."""
    recipe = Recipe("x", task, model=ModelSection(init_from=str(folder), attn_implementation="eager", **section))
    return build.make_model(recipe, words_of(task), labels).eval()


def batch(model):
    ids = torch.tensor([[7, 9, 8, 11, 5], [6, 5, 12, 10, 9]])
    more = {"decoder_input_ids": ids.flip(1)} if model.config.is_encoder_decoder else {}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | more


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("BertForMaskedLM", "masked"),
        ("RobertaForMaskedLM", "masked"),
        ("GPT2LMHeadModel", "causal"),
        ("BartForConditionalGeneration", "translation"),
        ("BartModel", "translation"),
        ("MarianMTModel", "translation"),
        ("BertForSequenceClassification", "classification"),
    ],
)
def test_a_stock_model_starts_as_what_it_is(tmp_path, capsys, name, task):
    theirs = foreign(tmp_path / "stock", name)
    ours = made(tmp_path / "stock", task, labels=["a", "b"] if task == "classification" else None)
    with torch.no_grad():
        out = theirs(**batch(theirs))
        expected = out.logits if hasattr(out, "logits") else out[0] @ theirs.shared.weight.T
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(**batch(ours)).logits, expected, atol=1e-4, rtol=1e-4)
    assert ours.dtype == torch.float32
    assert "new" not in capsys.readouterr().out
    if task == "translation":  # its own start, and not that of a tokenizer it was not trained with
        assert ours.config.decoder_start_token_id == theirs.config.decoder_start_token_id


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM"])
def test_a_head_that_is_new_is_named(tmp_path, capsys, name):
    theirs = foreign(tmp_path / "stock", name)
    ours = made(tmp_path / "stock", "classification", labels=["bad", "fair", "good"])
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "new, drawn at random: classifier.dense, classifier.out_proj" in said
    assert ("left behind: lm_head, transform.dense, transform.norm" in said) == (name == "BertForMaskedLM")
    assert ours.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    with torch.no_grad():
        body = theirs if name == "BertModel" else theirs.bert
        torch.testing.assert_close(
            ours.model(**batch(ours))[0], body(**batch(theirs)).last_hidden_state, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("task", "part"), [("classification", "encoder"), ("masked", "encoder"), ("causal", "decoder")]
)
def test_a_translator_gives_its_encoder_or_its_decoder(tmp_path, capsys, task, part):
    """Its stacks have other depths, and its file holds the shared embedding under the encoder's name only."""
    model = drawn(VanillaForConditionalGeneration(VanillaConfig(variant="encoder-decoder", **OURS)))
    model.save_pretrained(tmp_path / "own")
    ours = made(tmp_path / "own", task, labels=["a", "b"] if task == "classification" else None)
    assert ours.config.num_layers == (2 if part == "encoder" else 3)
    expected = cut(model, part).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours.model(**batch(ours))[0], expected(**batch(expected))[0])
    said = capsys.readouterr().out
    assert "model." not in said.partition("; ")[2]
    if task == "causal":
        assert torch.equal(ours.lm_head.weight, model.lm_head.weight)


def test_another_number_of_classes_is_a_new_head(tmp_path, capsys):
    config = VanillaConfig(variant="encoder", num_labels=5, problem_type="regression", **OURS)
    model = drawn(VanillaForSequenceClassification(config))
    model.save_pretrained(tmp_path / "own")
    ours = made(tmp_path / "own", "classification", labels=["a", "b", "c"])
    assert "new, drawn at random: classifier.out_proj" in capsys.readouterr().out
    assert ours.config.problem_type is None
    assert ours.classifier.out_proj.weight.shape[0] == 3
    assert torch.equal(ours.classifier.dense.weight, model.classifier.dense.weight)
    assert made(tmp_path / "own", "classification", labels=[*"abcde"], dropout=0.5).config.dropout == 0.5
    assert "new" not in capsys.readouterr().out


@pytest.fixture
def start(tmp_path, fit):
    """Return a function that runs `fit` from a folder; `fit` itself sees that accelerate starts clean."""
    rows = "".join(f"{text}\t{'odd' if number % 2 else 'even'}\n" for number, text in enumerate(TEXTS * 3))
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + rows)
    (tmp_path / "pairs.tsv").write_text("source\ttarget\n" + "".join(f"{text}\t{text}\n" for text in TEXTS))

    def run(folder, task="classification", *words):
        rows = "pairs.tsv" if task == "translation" else "rows.tsv"
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"name: x\ntask: {task}\nrun_dir: {tmp_path / 'run'}\nmodel: {{init_from: {folder}}}\n"
            f"data: {{root: {tmp_path}, train: {rows}, validation_fraction: 0.4}}\noptim: {{lr: 1e-30}}\n"
            "loop: {max_steps: 1, tracker: none}\neval: {split: validation}\n"
        )
        return command.main(["fit", str(recipe), *words])

    return run


def test_fit_trains_the_weights_of_a_stock_folder(tmp_path, start, capsys):
    theirs = foreign(tmp_path / "bert", "BertForMaskedLM")
    words_of("classification").save_pretrained(tmp_path / "bert")
    assert start(tmp_path / "bert") == 0
    final = load_file(tmp_path / "run" / "final" / "model.safetensors")
    query = "model.encoder.layers.1.self_attn.q_proj.weight"
    torch.testing.assert_close(
        final[query], theirs.bert.encoder.layer[1].attention.self.query.weight.detach(), atol=1e-9, rtol=0
    )
    config = json.loads((tmp_path / "run" / "final" / "config.json").read_text())
    assert (config["positions"], config["activation"], config["num_layers"]) == ("learned", "gelu", 3)
    assert capsys.readouterr().out.count("new, drawn at random: classifier") == 1


def without(folder, name):
    """Take a weight out of a folder."""
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def as_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def of_kind(folder, **values):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | values))


QUERY = "encoder.layers.0.self_attn.q_proj.weight"
THEIRS = "bert.encoder.layer.0.attention.self.query.weight"
REFUSED = [
    ("own", lambda f: without(f, f"model.{QUERY}"), "classification", [], "lacks the weight model.encoder.layers.0"),
    ("own", truncate, "classification", [], "truncated or damaged"),
    ("own", as_pickle, "classification", [], "no such file"),
    ("own", lambda f: None, "classification", ["--model.d_model=36"], "leave out model.d_model"),
    (
        "own",
        lambda f: None,
        "classification",
        ["--model.num_layers=4", "--model.dropout=0"],
        "leave out model.num_layers",
    ),
    ("own", lambda f: None, "classification", ["--model.vocab_size=50"], "leave out model.vocab_size"),
    ("own", lambda f: None, "causal", [], "of variant encoder, and the task needs decoder"),
    ("own", lambda f: None, "translation", [], "of variant encoder, .*assemble"),
    ("own", lambda f: of_kind(f, architectures=["VanillaConfig"]), "masked", [], r"architectures=\['VanillaConfig'\]"),
    ("own", lambda f: (f / "config.json").write_text("[]"), "masked", [], "expected a JSON object"),
    ("BertModel", lambda f: without(f, THEIRS.removeprefix("bert.")), "masked", [], "lacks the weight"),
    ("BertForMaskedLM", truncate, "classification", [], "truncated or damaged"),
    ("BertForMaskedLM", lambda f: None, "classification", ["--model.d_model=36"], "leave out model.d_model"),
    ("BertForMaskedLM", lambda f: of_kind(f, architectures=["BertForPreTraining"]), "masked", [], "has no bridge"),
    ("BertForMaskedLM", lambda f: of_kind(f, model_type="llama"), "masked", [], "model_type='llama' has no bridge"),
    ("GPT2LMHeadModel", lambda f: None, "translation", [], "of variant decoder, .*assemble"),
    ("GPT2LMHeadModel", lambda f: None, "classification", [], "of variant decoder, and the task needs encoder"),
]


@pytest.mark.parametrize(("name", "spoil", "task", "words", "line"), REFUSED)
def test_a_start_that_cannot_be_is_one_line_and_exit_code_2(tmp_path, start, capsys, name, spoil, task, words, line):
    folder = tmp_path / "start"
    if name == "own":
        drawn(VanillaForSequenceClassification(VanillaConfig(variant="encoder", **OURS))).save_pretrained(folder)
    else:
        foreign(folder, name)
    words_of(task).save_pretrained(folder)
    spoil(folder)
    capsys.readouterr()  # the bars of writing
    assert start(folder, task, *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert re.search(rf"model.init_from: {folder}: .*{line}", said), said
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_there_is_one_line(tmp_path, start, capsys):
    assert start(tmp_path / "none") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_of_ours_is_read_as_a_stock_config(tmp_path):
    """The fault was here: our config class read theirs, found none of its fields and took its defaults."""
    foreign(tmp_path / "stock", "BertForMaskedLM")
    ours = made(tmp_path / "stock", "masked").config
    theirs = AutoConfig.from_pretrained(tmp_path / "stock")
    assert (ours.d_ff, ours.num_heads, ours.num_layers) == (29, 4, 3)
    assert ours.layer_norm_eps == theirs.layer_norm_eps
    assert (ours.norm_order, ours.scale_embeddings, ours.embedding_norm) == ("post", False, True)
