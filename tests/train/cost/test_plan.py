"""The plan against torch's own counter, tensors that autograd really keeps, the paper's figures and a real run."""

import json
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

import modeling_vanilla as mv
from train.__main__ import main
from train.cost import formulas, gpus, here
from train.model import build
from train.settings import reading

RECIPES = Path(__file__).resolve().parents[3] / "train" / "recipes"
VARIANTS = {"translation": "encoder-decoder", "causal": "decoder", "masked": "encoder", "classification": "encoder"}
ROWS, SOURCE, TARGET = 8, 32, 24
SIZES = {"vocab_size": 200, "d_model": 64, "d_ff": 256, "num_heads": 4, "num_layers": 3, "max_position_embeddings": 64}


def case(task: str, implementation: str = "sdpa", **numbers):
    """Return a small model in training mode, a batch for it, and the load that the plan would count."""
    model = build.head_of(task)(mv.VanillaConfig(**(SIZES | {"variant": VARIANTS[task]} | numbers))).train()
    model.set_attn_implementation(implementation)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(7, 200, (ROWS, SOURCE), generator=generator)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch["attention_mask"][0, SOURCE // 2 :] = 0  # padding, so that kernels get a mask
    lengths = (SOURCE,)
    if task == "translation":
        lengths = (SOURCE, TARGET)
        batch["labels"] = torch.randint(7, 200, (ROWS, TARGET), generator=generator)
    elif task == "classification":
        batch["labels"] = torch.zeros(ROWS, dtype=torch.long)
    else:
        batch["labels"] = ids.clone()
        lengths = (SOURCE - (task == "causal"),)
    return model, batch, formulas.load_of(task, ROWS, lengths, mask_probability=1.0)


@pytest.mark.parametrize(
    ("task", "numbers"),
    [
        ("translation", {}),
        ("translation", {"num_decoder_layers": 1, "head_dim": 8, "v_head_dim": 12, "tie_word_embeddings": False}),
        ("causal", {"norm_order": "pre", "activation": "gelu_new"}),
        ("masked", {"embedding_norm": True}),
        ("classification", {"num_labels": 5}),
    ],
)
def test_operations_are_those_that_torch_counts(task, numbers):
    model, batch, load = case(task, "eager", **numbers)
    with FlopCounterMode(display=False) as counter:
        loss = model(**batch).loss
    forward = formulas.forward_flops(model.config, task, load)
    assert counter.get_total_flops() == sum(forward.values())
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    assert counter.get_total_flops() + backward.get_total_flops() == formulas.training_flops(forward)


def test_recomputed_layers_are_counted():
    model, batch, load = case("translation", "eager")
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    forward = formulas.forward_flops(model.config, "translation", load)
    assert counter.get_total_flops() == formulas.training_flops(forward, checkpointing=True)


def kept(model, batch, bf16: bool) -> int:
    """Return the bytes of all tensors that autograd keeps for the backward pass, parameters aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    sizes, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # an address that is free again would be counted once for two tensors
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = model(**batch).loss
    del loss
    return sum(sizes.values())


@pytest.mark.parametrize(
    ("task", "implementation", "bf16", "numbers"),
    [
        ("translation", "sdpa", False, {}),
        ("translation", "eager", False, {}),
        ("translation", "sdpa", True, {}),
        ("causal", "sdpa", False, {"norm_order": "pre", "activation": "gelu_new"}),
        ("causal", "sdpa", True, {"norm_order": "pre", "activation": "gelu_new"}),
        ("causal", "eager", False, {"attention_dropout": 0.1, "activation_dropout": 0.1}),
        ("masked", "sdpa", False, {"embedding_norm": True, "activation": "gelu", "dropout": 0.0}),
        ("classification", "sdpa", False, {}),
    ],
)
def test_memory_is_what_autograd_keeps(task, implementation, bf16, numbers):
    model, batch, load = case(task, implementation, **numbers)
    keeping = formulas.Keeping(bf16, eager=implementation == "eager", mask=0)
    expected = formulas.activation_bytes(model.config, load, keeping)
    expected += formulas.head_bytes(model.config, task, load, keeping)[0]
    if bf16:
        expected += 2 * sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 2)
    assert expected == pytest.approx(kept(model, batch, bf16), rel=0.02)


def test_memory_with_checkpointing_is_the_inputs_of_the_layers():
    model, batch, load = case("translation")
    plain = kept(model, batch, bf16=False)
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    keeping = formulas.Keeping(checkpointing=True, mask=0)
    expected = formulas.activation_bytes(model.config, load, keeping)
    # One layer is recomputed in the backward pass, after what the hooks see.
    expected -= max(formulas._layer_bytes(model.config, load, side, keeping) for side in (0, 1))
    expected += formulas.head_bytes(model.config, "translation", load, keeping)[0]
    found = kept(model, batch, bf16=False)
    assert expected == pytest.approx(found, rel=0.05)
    assert found < plain / 5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_is_the_peak_of_a_step(checkpointing):
    tracking = pytest.importorskip("torch.distributed._tools.mem_tracker")
    model, batch, load = case("translation", vocab_size=4000)  # the peak is where the scores have their gradient
    if checkpointing:
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step():
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # the moments come to be
    tracker = tracking.MemTracker()
    tracker.track_external(model, optimizer)
    with tracker:
        step()
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    keeping = formulas.Keeping(checkpointing=checkpointing, mask=0)
    parts = formulas.state_bytes(sum(parameter.numel() for parameter in model.parameters()), 0, bf16=False)
    del parts["gradients"]  # at that moment there are none yet; later there are, but no scores
    expected = sum(parts.values()) + sum(formulas.head_bytes(model.config, "translation", load, keeping))
    expected += formulas.activation_bytes(model.config, load, keeping)
    if checkpointing:  # no layer is being recomputed then
        expected -= max(formulas._layer_bytes(model.config, load, side, keeping) for side in (0, 1))
    assert expected == pytest.approx(peak["Total"], rel=0.02)


def plan_of(capsys, name, *words) -> dict:
    """Return the plan of a recipe as the command line prints it."""
    assert main(["plan", str(name), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


# name, parameters in millions (Table 3), days on 8 P100 and their FLOPs (sec. 5.2, Table 2), seconds a step (sec. 5.2)
PAPER = [("base", 65, 0.5, 3.3e18, 0.4), ("big", 213, 3.5, 2.3e19, 1.0)]


@pytest.mark.parametrize(("size", "millions", "days", "capacity", "seconds"), PAPER)
def test_the_paper(capsys, size, millions, days, capacity, seconds):
    """The paper's FLOPs are time x GPUs x sustained rate: what the machines could have done, of which a part was done."""
    found = plan_of(capsys, RECIPES / f"wmt14-en-de-{size}.yaml", "--gpu", "P100", "--processes", "8")
    # The vocabulary is "about 37,000" (sec. 5.1); tests/modeling_vanilla/test_counts.py says which one each row asks for.
    assert found["parameters"]["total"] == pytest.approx(millions * 1e6, rel=0.04)
    (machine,) = found["gpus"]
    assert days * 24 * 3600 * 8 * machine["peak"] == pytest.approx(capacity, rel=0.01)
    utilisation = found["flops"]["training_per_run"] / capacity
    # Wider layers fill a GPU better.
    assert utilisation == pytest.approx({"base": 0.29, "big": 0.42}[size], abs=0.01)
    # Hence, at that utilisation, the plan's time is the paper's.
    again = plan_of(
        capsys,
        RECIPES / f"wmt14-en-de-{size}.yaml",
        *("--gpu", "P100", "--processes", "8", "--mfu", str(utilisation), "--price", "2"),
    )
    (machine,) = again["gpus"]
    assert machine["hours"] == pytest.approx(24 * days, rel=0.01)
    assert machine["seconds_per_step"] == pytest.approx(seconds, rel=0.1)
    assert machine["cost"] == pytest.approx(24 * days * 8 * 2, rel=0.01)
    # 6N and the attention at sentences of 32 tokens.
    flops = found["flops"]
    assert 1.0 < flops["training_per_token"] / flops["six_n_per_token"] < 1.03


def test_nothing_is_allocated():
    given = reading.load_recipe(RECIPES / "wmt14-en-de-big.yaml")
    assert {parameter.device.type for parameter in build.outline(given, 37_000).parameters()} == {"meta"}


def test_steps_and_tokens_are_those_of_a_run(write_recipe, fit, capsys):
    path = write_recipe(rows=61, loop={"max_steps": 1})
    found = plan_of(capsys, path)
    assert not (path.parent / "tiny").exists()
    batches = round(1 / found["epochs"])
    run = fit(path, "--loop.max_steps", str(batches))
    first = f"{found['rows']:,} training rows in {batches} batches an epoch"
    said = capsys.readouterr().out
    assert first in said and "the loss of a step has label smoothing 0.1 in it" in said
    last = json.loads((run / "finished.json").read_text())
    assert last["step"] == batches
    tokens = json.loads((run / "results.json").read_text())["train"]["tokens"]
    assert tokens == pytest.approx(found["tokens"]["real_per_step"] * batches)
    config = mv.VanillaConfig.from_pretrained(run / "final")
    assert found["vocabulary"] == config.vocab_size
    model = mv.VanillaForConditionalGeneration.from_pretrained(run / "final")
    assert found["parameters"]["total"] == sum(parameter.numel() for parameter in model.parameters())


def test_what_fit_refuses_of_the_rows_is_no_plan(write_recipe, capsys):
    path = write_recipe(batch={"packing": True}, model={"attention_window": 4})
    said = []
    for command in ("plan", "fit"):
        assert main([command, str(path)]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1] and "model.attention_window: 4: batch.packing cannot go with it" in said[0]


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_every_recipe_has_a_plan(name, capsys):
    found = plan_of(capsys, RECIPES / name, "--length", "16")
    assert found["flops"]["training_per_run"] > 0
    steps = yaml.safe_load((RECIPES / name).read_text(encoding="utf-8"))["optim"]["warmup_steps"]
    assert found["peak"]["step"] == steps
    assert main(["plan", str(RECIPES / name), "--length", "16", "--gpu", "t4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (peak,) = (line for line in lines if line.startswith("peak "))
    assert peak == f"peak         of the learning rate, {found['peak']['learning_rate']:.3g}, at step {steps:,}"
    assert [line.split()[0] for line in lines if "/h" in line or line.startswith("  T4")] == ["GPU", "T4"]


def test_this_cpu_is_measured_and_said_so(capsys, monkeypatch):
    monkeypatch.setattr(here, "measured", lambda bf16: 1e11 if bf16 else 5e10)
    monkeypatch.setattr(here, "kernels", lambda config, load, bf16: {"sdpa": 0.02, "eager": 0.005})
    words = ["plan", str(RECIPES / "wmt14-en-de-base.yaml"), "--gpu", "CPU", "t4"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    (cpu,) = (line for line in lines if line.startswith("  this CPU"))
    assert cpu.split()[2:4] == ["0.100", "bf16"]
    assert any("a matrix product" in line and "measured for half a second" in line for line in lines)
    assert any("in bf16 is 2 times as fast as in fp32, so loop.precision: bf16 here" in line for line in lines)
    assert any("sdpa 20 ms, eager 5 ms; so model.attn_implementation: eager here" in line for line in lines)
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    executed = found["flops"]["executed_per_run"]
    assert found["cpu"]["hours"] == pytest.approx(executed / (1e11 * 0.35) / 3600)
    assert [gpu["name"] for gpu in found["gpus"]] == ["T4"]


def test_a_cpu_that_only_imitates_bf16_is_told_to_stay_with_fp32(capsys, monkeypatch):
    monkeypatch.setattr(here, "measured", lambda bf16: 3e10 if bf16 else 1e11)
    assert main(["plan", str(RECIPES / "wmt14-en-de-base.yaml"), "--gpu", "cpu"]) == 0
    assert "in bf16 is 0.3 times as fast as in fp32, so loop.precision: fp32 here" in capsys.readouterr().out


def test_the_measured_rate_is_that_of_a_product():
    began = time.perf_counter()
    rate = here.measured(False, seconds=0.05)
    assert time.perf_counter() - began < 2
    assert 1e8 < rate < 1e15


def test_both_kernels_are_measured_on_rows_of_the_step(monkeypatch):
    shapes = []

    def watched(module, query, key, value, mask, scaling, dropout):
        shapes.append(tuple(query.shape))
        return (query * scaling, None)

    monkeypatch.setattr(here, "KERNELS", {"sdpa": watched, "eager": watched})
    load = formulas.load_of("translation", 3, (5, 7))
    times = here.kernels(mv.VanillaConfig.tiny(), load, bf16=True, seconds=0.0)
    assert set(times) == {"sdpa", "eager"} and all(0 < taken < 10 for taken in times.values())
    assert set(shapes) == {(3, 4, 5, 6)}


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({"data": {"target_column": 2}}, [], "train.tsv:1"),
        ({"eval": {"split": "test"}}, [], "eval.split: needs split 'test'"),
        (
            {"loop": {"early_stopping": 2}, "data": {"validation": None}},
            ["--eval.split", "train"],
            "loop.early_stopping: needs",
        ),
        ({"model": {"num_heads": 5}}, [], "num_heads=5"),
        ({"batch": {"max_tokens": 4}}, [], "batch.max_tokens"),
    ],
)
def test_the_plan_fails_where_the_run_would(write_recipe, fit, capsys, change, words, message):
    recipe = str(write_recipe(**change))
    errors = []
    for command in ("plan", "fit"):
        assert main([command, recipe, *words]) == 2
        errors.append(capsys.readouterr().err.splitlines()[-1].split("\r")[-1])
    assert message in errors[0]
    assert errors[0] == errors[1]


def test_less_memory_with_more_processes_accumulation_and_checkpointing(capsys):
    def activations(*words):
        found = plan_of(capsys, RECIPES / "wmt14-en-de-base.yaml", *words)
        return found["memory_per_process"][found["memory_used"]]["activations"]

    whole = activations()
    assert activations("--processes", "4") == pytest.approx(whole / 4)
    assert activations("--processes", "4", "--loop.accumulate", "2") == pytest.approx(whole / 8)
    assert activations("--loop.gradient_checkpointing", "true") < whole / 4


def test_a_sharded_run_divides_what_stays_between_steps(capsys):
    sizes = []
    for flag in ("false", "true"):
        found = plan_of(capsys, RECIPES / "wmt14-en-de-base.yaml", "--processes", "4", "--loop.shard", flag)
        sizes.append([found["memory_per_process"]["fp32"][part] for part in ("weights", "gradients", "Adam moments")])
    assert sizes[1] == pytest.approx([size / 4 for size in sizes[0]])
    assert sum(sizes[0]) == 16 * found["parameters"]["total"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu", "V100"], f"--gpu: V100: no such GPU; one of {', '.join(gpus.GPUS)}"),
        (["--mfu", "1.5"], "--mfu: 1.5: must be above 0 and at most 1"),
        (["--mfu", "much"], "argument --mfu: invalid float value: 'much'"),
        (["--price", "-1"], "--price: -1.0: must be at least 0"),
        (["--processes", "0"], "--processes: 0: must be at least 1"),
        (["--length", "0"], "--length: 0: must be at least 1"),
        (["--loop.max_stps", "5"], "did you mean loop.max_steps?"),
    ],
)
def test_a_mistake_is_one_line(words, said, capsys):
    assert main(["plan", str(RECIPES / "wmt14-en-de-base.yaml"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
