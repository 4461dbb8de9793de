"""The watchdog: each fault is named, and a healthy run hears nothing."""

import json
import math
import statistics

import pytest
import torch

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    layers,
    stacks,
)
from train.pictures import curves
from train.processes import signals
from train.run import checkpoint, loop, probes
from train.run import watchdog as watch
from train.settings.recipe import Recipe
from train.settings.sections import LoopSection, ModelSection, OptimSection

LN_100 = math.log(100)


def dog(state=None, smoothing=0.0, uniform=LN_100, **loop_values):
    """Return a watchdog of a run of 1,000 steps with a warm-up of 10."""
    recipe = Recipe("one", "causal", loop=LoopSection(**{"max_steps": 1000} | loop_values))
    recipe.optim = OptimSection(lr=0.1, warmup_steps=10, clip_norm=1.0)
    return watch.Watchdog(recipe, uniform, smoothing, {} if state is None else state)


def healthy(steps, seed=0):
    """Return (step, loss, gradient norm) of a run that goes well: a falling loss with noise, norms with a long tail."""
    noise = torch.Generator().manual_seed(seed)
    draws = torch.randn(steps, 2, generator=noise).tolist()
    return [(i + 1, 4.5 * (i + 1) ** -0.2 + 0.1 * a, 0.3 * math.exp(0.5 * b)) for i, (a, b) in enumerate(draws)]


def kinds(watchdog, series):
    """Return what a watchdog says: (step, kind)."""
    return [(step, finding.kind) for step, *values in series for finding in watchdog.step(step, *values)]


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_series_triggers_nothing(seed):
    assert kinds(dog(), healthy(1000, seed)) == []


def test_the_first_loss_is_held_against_a_uniform_guess():
    for loss, expected in ((4.6, []), (9.5, ["first_loss"]), (2.2, ["first_loss"])):
        assert [kind for _, kind in kinds(dog(), [(1, loss, 0.5)])] == expected
    loaded = dog()
    loaded.recipe.model = ModelSection(init_from="somewhere")
    assert kinds(loaded, [(1, 2.2, 0.5)]) == []


def test_a_loss_that_is_too_good_too_soon_is_a_leak():
    series = [(step, 4.6 * 0.9**step + 0.01, 0.5) for step in range(1, 101)]
    first = next(step for step, loss, _ in series if loss < 0.02 * math.log(100))
    assert [found for found in kinds(dog(), series) if found[1] == "leak"] == [(first, "leak")]
    # Label smoothing lifts the floor: the same distance above it is the same leak.
    floor = watch.smoothed_entropy(0.1, math.log(100))
    lifted = [(step, loss + floor, norm) for step, loss, norm in series]
    assert (first, "leak") in kinds(dog(smoothing=0.1), lifted)
    # Learned later, or from rows seen before, it is no leak.
    assert "leak" not in {kind for _, kind in kinds(dog(), [(step + 100, *values) for step, *values in series])}
    assert "leak" not in {kind for _, kind in kinds(dog(), [(*values, False) for values in series])}


def test_the_floor_of_smoothing_is_the_entropy_that_torch_gives():
    target = torch.full((50,), 0.1 / 50)
    target[3] += 0.9
    expected = torch.distributions.Categorical(probs=target).entropy()
    assert watch.smoothed_entropy(0.1, math.log(50)) == pytest.approx(float(expected), rel=1e-6)
    assert watch.smoothed_entropy(0.0, math.log(50)) == 0.0


def test_spikes_of_loss_and_norm_are_told_once():
    series = healthy(400)
    series[299] = (300, series[299][1] + 3.0, series[299][2])
    series[300] = (301, series[300][1] + 3.0, series[300][2])
    series[349] = (350, series[349][1], 60.0)
    series[319] = (320, series[319][1] + 3.0, series[319][2])  # one batch alone is no spike
    assert kinds(dog(), series) == [(301, "loss_spike"), (350, "norm_spike")]
    # A second one after the silence is told again: the first did not blind the statistics.
    more = healthy(400)
    for step, height in ((199, 30.0), (200, 30.0), (319, 2.0), (320, 2.0)):
        more[step - 1] = (step, more[step - 1][1] + height, 0.3)
    assert kinds(dog(), more) == [(200, "loss_spike"), (320, "loss_spike")]


def test_a_step_of_few_labels_has_a_larger_norm_and_is_no_spike():
    # What Multi30k's longest two sentences do in every epoch: 112 labels where 1,800 are usual, and five times the norm.
    usual = [(step, loss, 0.8 + 0.1 * math.sin(step), False, 1800) for step, loss, _ in healthy(400)]
    few = usual.copy()
    for step in (100, 350):
        few[step - 1] = (step, usual[step - 1][1], 0.8 * 5, False, 112)
    assert kinds(dog(), few) == []
    few[349] = (350, usual[349][1], 0.8 * 20, False, 112)  # five times the root of 1,800 / 112
    few[199] = (200, usual[199][1], 0.8 * 5, False, 1800)
    assert kinds(dog(), few) == [(200, "norm_spike"), (350, "norm_spike")]


def test_steps_without_labels_are_told_and_leave_the_statistics_alone():
    series = [(step, 3.0, 0.3, False, 100) for step in range(1, 100)]
    series += [(step, 0.0, 0.0, False, 0) for step in range(100, 120)]
    series += [(step, 3.0, 0.3, False, 100) for step in range(120, 140)]
    assert kinds(dog(), series) == [(100, "no_labels")]


def test_a_plateau_is_told_once_and_again_after_an_improvement():
    flat = [(step, 3.0 + (4.0 / step), 0.3) for step in range(1, 301)]
    flat += [(step, 3.02, 0.3) for step in range(301, 700)]
    flat += [(step, 2.0, 0.3) for step in range(700, 1400)]
    found = kinds(dog(), flat)
    assert [kind for _, kind in found] == ["plateau", "plateau"]
    assert 450 <= found[0][0] < 650
    assert found[1][0] > 900
    converged = [(step, max(4.5 - 0.02 * step, 0.01), 0.3) for step in range(1, 1500)]
    assert kinds(dog(), converged) == []
    assert kinds(dog(max_steps=20_000), flat) == []  # a tenth of the run is 2,000 steps


def test_clipping_all_the_time_is_told_once():
    series = [(step, loss, 5.0 + 0.01 * (step % 7)) for step, loss, _ in healthy(500)]
    assert kinds(dog(), series) == [(210, "clipping")]
    series[150] = (151, series[150][1], 0.5)
    assert kinds(dog(), series) == [(351, "clipping")]
    free = dog()
    free.recipe.optim = OptimSection(lr=0.1, warmup_steps=10)
    assert kinds(free, series) == []


def test_running_mean_and_deviation_against_the_definition():
    values = [math.sin(i) + 0.1 * i for i in range(40)]
    running = watch.Running({})
    for value in values:
        running.add(value)
    assert running.state["mean"] == pytest.approx(statistics.fmean(values))
    assert running.state["variance"] == pytest.approx(statistics.pvariance(values))


def test_the_state_survives_json_at_any_step():
    series = healthy(600)
    series[398], series[399] = (399, 9.0, 0.3), (400, 9.0, 70.0)
    whole = dog()
    expected = kinds(whole, series)
    assert len(expected) == 2
    for cut in (1, 30, 380, 401, 450):
        first = dog()
        found = kinds(first, series[:cut])
        again = dog(json.loads(json.dumps(first.state)))
        assert found + kinds(again, series[cut:]) == expected
        assert again.state == whole.state


def warnings_of(run):
    """Return the (step, kind) of a run's warnings."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["kind"]) for line in lines if line["event"] == "warning"]


DATES = {
    "task": "translation",
    "model": {"preset": None, "d_model": 64, "d_ff": 128, "num_heads": 4, "num_layers": 1, "dropout": 0.0}
    | {"max_position_embeddings": 64, "attn_implementation": "eager"},
    "tokenizer": {"kind": "char", "vocab_size": 200},
    "data": {"root": ".", "train": None, "validation": None, "source_column": None, "target_column": None}
    | {"generator": "dates", "generator_args": {"train": 4000, "validation": 20, "test": 5}},
    "batch": {"max_tokens": 512},
    "optim": {"lr": 4.0e-3, "schedule": "cosine", "warmup_steps": 30, "clip_norm": 1.0},
    "loop": {"max_steps": 120, "eval_every": 40, "save_every": 1000, "log_every": 20},
}


def test_a_healthy_run_of_the_dates_recipe_triggers_nothing(write_recipe, fit, capsys):
    run = fit(write_recipe(**DATES))
    assert warnings_of(run) == []
    assert "warning" not in capsys.readouterr().out
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.6 * losses[0]


def test_a_learning_rate_too_high_is_seen_as_a_spike(write_recipe, fit, monkeypatch):
    # Healthy for 90 steps, then a rate that throws the weights away.
    original = loop.optim.learning_rate
    monkeypatch.setattr(loop.optim, "learning_rate", lambda step, *rest: 1.0 if step == 90 else original(step, *rest))
    found = warnings_of(fit(write_recipe(**DATES)))
    assert "loss_spike" in {kind for step, kind in found if step >= 91}
    assert all(step >= 91 for step, _ in found)


def test_a_broken_causal_mask_is_seen_by_the_probe(write_recipe, fit, monkeypatch, capsys):
    monkeypatch.setattr(stacks, "create_causal_mask", lambda *arguments, **more: None)
    monkeypatch.setattr(
        layers.DecoderLayer,
        "__init__",
        _not_causal(layers.DecoderLayer.__init__),
    )
    leaky = DATES | {"model": DATES["model"] | {"label_smoothing": 0.0}, "loop": DATES["loop"] | {"max_steps": 40}}
    run = fit(write_recipe(**leaky))
    assert (40, "leak") in warnings_of(run)
    assert "the causal mask is broken" in capsys.readouterr().out


def test_words_that_are_not_hidden_are_seen_by_the_loss(write_recipe, fit, monkeypatch):
    # A masked model whose collator forgets to hide: it only has to copy.
    monkeypatch.setattr(loop.collate.Collator, "_corrupt", lambda self, ids, row, epoch: (ids, ids))
    columns = {"source_column": None, "target_column": None, "text_column": 0, "validation": None}
    recipe = write_recipe(
        rows=3000,
        task="masked",
        data=columns,
        model={"preset": None, "d_model": 64, "d_ff": 64, "num_heads": 2, "num_layers": 1, "label_smoothing": 0.0},
        batch={"max_tokens": 256, "block_size": 20},
        loop={"max_steps": 60},
        eval={"metrics": []},
    )
    found = warnings_of(fit(recipe))
    assert {kind for _, kind in found} == {"leak"}
    assert len(found) == 1


def _not_causal(original):
    """Return a layer's `__init__` that forgets the direction of time."""

    def build(self, *arguments, **more):
        original(self, *arguments, **more)
        self.self_attn.is_causal = False

    return build


def inputs_of(model, rows=3, length=9):
    torch.manual_seed(1)
    ids = torch.randint(5, model.config.vocab_size, (rows, length))
    if model.config.variant == "encoder-decoder":
        return {"input_ids": ids, "decoder_input_ids": ids.flip(0)[:, :6]}
    return {"input_ids": ids}


@pytest.mark.parametrize("kind", [VanillaForConditionalGeneration, VanillaForCausalLM])
def test_dead_heads_are_named_and_the_others_are_not(kind):
    torch.manual_seed(0)
    variant = "decoder" if kind is VanillaForCausalLM else "encoder-decoder"
    model = kind(VanillaConfig.tiny(variant=variant)).eval()
    with torch.no_grad(), probes.heads_of(model) as heads:
        model(**inputs_of(model))
    assert heads
    assert [head for head in heads if head.fault] == []
    size = model.config.v_head_dim
    first, last = model.model.decoder.layers[0].self_attn, model.model.decoder.layers[-1]
    last = getattr(last, "cross_attn", last.self_attn)
    with torch.no_grad():
        first.out_proj.weight[:, :size] = 0.0  # head 1 writes nothing
        last.v_proj.weight[size : 2 * size] = 0.0  # head 2 has no values
        last.v_proj.bias[size : 2 * size] = 0.0
        last.k_proj.weight[: model.config.head_dim] = 0.0  # head 1 cannot tell keys apart
        with probes.heads_of(model) as heads:
            model(**inputs_of(model))
    faults = [head.fault for head in heads if head.fault]
    assert len(faults) == 3
    assert faults[0].startswith("decoder.layers.0.self_attn head 1 adds 0.0e+00")
    assert faults[1].endswith("head 1 takes a plain mean of all places")
    assert "head 2 adds 0.0e+00" in faults[2]


def test_the_spread_of_scores_is_that_of_the_eager_scores():
    torch.manual_seed(0)
    model = VanillaForCausalLM(VanillaConfig.tiny(variant="decoder")).eval()
    attention, states = model.model.decoder.layers[0].self_attn, torch.randn(2, 7, model.config.d_model)
    with torch.no_grad():
        query, key = (
            part(states).unflatten(-1, (-1, attention.head_dim)) for part in (attention.q_proj, attention.k_proj)
        )
        spreads = probes._spreads(attention, {"query": query.flatten(2), "key": key.flatten(2)})
        scores = torch.einsum("bthk,bshk->bhts", query, key) * attention.scaling
    expected = scores.var(-1, correction=0).mean((0, 2)).sqrt()
    torch.testing.assert_close(spreads, expected)


def test_a_dead_head_is_reported_at_evaluation_and_looking_changes_nothing(write_recipe, fit, monkeypatch):
    recipe = write_recipe("whole", loop={"eval_every": 2})
    run = fit(recipe)
    assert warnings_of(run) == []
    monkeypatch.setattr(probes, "look", lambda run: [])
    blind = fit(write_recipe("blind", loop={"eval_every": 2}))
    first, second = ((path / "final" / "model.safetensors").read_bytes() for path in (run, blind))
    assert first == second
    monkeypatch.undo()
    original = loop.train_step

    def train_step(run, delivery, request):
        report = original(run, delivery, request)
        with torch.no_grad():
            run.bare.model.encoder.layers[0].self_attn.out_proj.weight.zero_()
        return report

    monkeypatch.setattr(loop, "train_step", train_step)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    found = warnings_of(fit(write_recipe("dead", loop={"eval_every": 3})))
    assert {kind for _, kind in found} == {"dead_head"}
    assert {step for step, _ in found} == {3, 6}


def test_a_resumed_run_is_watched_from_where_it_stopped(write_recipe, fit, monkeypatch):
    original = loop.train_step
    options = ("--loop.max_steps", "8", "--loop.save_every", "4")
    whole, again = fit(write_recipe("whole"), *options), write_recipe("again")

    def train_step(run, delivery, request):
        if run.progress.step == 5:
            raise signals.Stopped(15, "killed")
        return original(run, delivery, request)

    monkeypatch.setattr(loop, "train_step", train_step)
    with pytest.raises(signals.Stopped):
        fit(again, *options)
    monkeypatch.setattr(loop, "train_step", original)
    run = fit(again, *options)
    states = [checkpoint.read_state(checkpoint.newest(path)).progress.watch for path in (whole, run)]
    assert states[0] == states[1]
    assert states[0]["loss"]["count"] == 8
    assert "watch" not in json.loads((run / "results.json").read_text())["train"]


def test_curves_are_drawn_at_the_end_and_at_a_stop_and_never_fail_a_run(write_recipe, fit, monkeypatch, capsys):
    recipe = write_recipe("one", loop={"max_steps": 3})
    original = loop.train_step

    def train_step(run, delivery, request):
        return original(run, delivery, 15 if run.progress.step == 1 else request)

    monkeypatch.setattr(loop, "train_step", train_step)
    with pytest.raises(signals.Stopped):
        fit(recipe)
    picture = recipe.parent / "one" / "curves.png"
    before = picture.read_bytes()
    assert before.startswith(b"\x89PNG")
    monkeypatch.setattr(loop, "train_step", original)
    fit(recipe)
    assert picture.read_bytes() != before

    def broken(run_dir):
        raise RuntimeError("no font")

    monkeypatch.setattr(curves, "of_run", broken)
    run = fit(write_recipe("two"))
    assert "curves.png: not drawn: no font" in capsys.readouterr().err
    assert (run / "finished.json").is_file()
