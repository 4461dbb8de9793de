"""Faults where two good features meet: the best weights and a resume, an evaluation and a signal, a start and its refusal.

The oracle is a run of the same recipe that nothing disturbed, or the weights of the step that must be the final ones.
"""

import json
import shutil
import signal
from dataclasses import asdict, replace

import pytest
from faults import SIGNALLED, checkpoints, losses, wait_for, weights

from train import files
from train.hub import card_text
from train.run import best, checkpoint
from train.run.run import Progress

EIGHT = "step-00000008"


def evaluations(run) -> list[dict]:
    """Return the evaluations that metrics.jsonl holds, and what they found."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "eval" or line.get("kind") in ("dead_head", "leak")]


def files_of(folder) -> dict:
    """Return every file below a folder with its content."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(starter, tmp_path_factory):
    """Return runs that nothing disturbed, whose final weights are the best ones, by number of processes."""
    folder = tmp_path_factory.mktemp("whole")
    return {world: starter.fit(folder / str(world), "--loop.final", "best", world=world) for world in (1, 2)}


def assert_same(run, whole) -> None:
    """Compare weights, losses and evaluations with those of an undisturbed run."""
    assert weights(run) == weights(whole)
    assert losses(run) == losses(whole)
    assert evaluations(run) == evaluations(whole)


# The main process is killed around a function of the evaluation of a step.
KILLED = """
import os, signal
from train.measure import evaluate
from train.run import finish, probes, tracking
from train.hub import card
from train import files
from train.run import best, checkpoint
def killing(module, name, step, before, when=lambda *words: True):
    original = getattr(module, name)
    def function(*words, **more):
        here = when(*words) and running[0].progress.step == step and running[0].accelerator.is_main_process
        if here and before:
            running[0].writer.close()
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*words, **more)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(module, name, function)
running, original = [], loop.train
def train(run, *words):
    running.append(run)
    return original(run, *words)
loop.train = train
"""
MOMENTS = (
    'killing(probes, "look", 8, True)',  # in the middle of the evaluation
    'killing(best, "replace", 8, False)',  # best/ is there, and no checkpoint knows of it
    'killing(tracking.Tracker, "event", 16, False, lambda tracker, kind, *words: kind == "eval")',
    'killing(best, "note", 16, False)',  # the evaluation is complete
)


@pytest.mark.parametrize("world", [1, 2])
def test_an_evaluation_that_is_killed_is_neither_lost_nor_counted_twice(starter, whole, tmp_path, world):
    run = tmp_path / "run"
    for moment in MOMENTS if world == 1 else MOMENTS[1:3]:
        jobs = starter.start(run, "--loop.final", "best", world=world, code=KILLED + moment)
        assert jobs[0].wait() == -signal.SIGKILL, jobs[0].text
        assert world == 1 or jobs[1].wait() == 1
        # The checkpoint of the step is on disk before its evaluation.
        assert checkpoints(run)[-1] == ("step-00000016" if " 16, " in moment else EIGHT)
    assert_same(starter.fit(run, "--loop.final", "best", world=world), whole[world])


# From step 8 on every figure is a bad one.
WORSE = """
from train.measure import evaluate
measured = evaluate.evaluate
def worse(*words, **more):
    scores = measured(*words, **more)
    scores["loss"] += 100.0
    return scores
evaluate.evaluate = worse
"""
AFTER_BEST = """
import os, signal
from train.run import finish
written = finish.write_model_folder
def write(run, folder, *more):
    written(run, folder, *more)
    if folder.name == "best" and run.progress.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
finish.write_model_folder = write
"""


@pytest.mark.parametrize("world", [1, 2])
def test_best_weights_of_lost_steps_never_become_final(starter, tmp_path, world):
    # Evaluated at 4 and 8, saved at 3, 6, 9: step 8 is lost, and what happens there the second time is worse.
    words = ("--loop.final", "best", "--loop.eval_every", "4", "--loop.save_every", "3", "--loop.keep_last", "9")
    words += ("--loop.max_steps", "12")
    reference = starter.fit(tmp_path / "reference", *words, "--loop.save_every", "4", world=world)
    run = tmp_path / "run"
    jobs = starter.start(run, *words, world=world, code=AFTER_BEST)
    assert jobs[0].wait() == -signal.SIGKILL
    assert world == 1 or jobs[1].wait() == 1
    assert checkpoints(run)[-1] == "step-00000006"
    jobs = starter.start(run, *words, world=3 - world, code=WORSE)
    assert [job.wait() for job in jobs] == [0] * len(jobs), jobs[0].text
    assert weights(run) == (reference / "checkpoints" / "step-00000004" / "model.safetensors").read_bytes()
    assert json.loads((run / "results.json").read_text())["train"]["best_step"] == 4
    assert not (run / best.EARLIER).exists()


def test_best_weights_stay_as_long_as_a_checkpoint_refers_to_them(tmp_path):
    def write(folder, more):
        with files.staged_folder(folder, manifest=True) as staging:
            (staging / "model.safetensors").write_text(str(progress.best))
            for name, value in more.items():
                files.write_json(staging / name, value)

    def saved(step):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        state = checkpoint.State(replace(progress, step=step), 1, {}, scheduled=True)
        (folder / checkpoint.STATE_FILE).write_text(json.dumps(asdict(state)))
        return state.progress

    def content():
        return (tmp_path / "best" / "model.safetensors").read_text()

    progress, states = Progress(), {}
    for step in range(1, 6):
        progress.step = progress.best_step = step
        progress.best = 1.0 / step
        best.replace(tmp_path, progress, write)
        if step in (1, 3):
            states[step] = saved(step)
    assert sorted(path.name for path in (tmp_path / best.EARLIER).iterdir()) == ["step-00000001", "step-00000003"]
    assert best.settle(tmp_path, states[3])
    assert content() == str(1 / 3)
    (tmp_path / "best" / "model.safetensors").write_text("damage")  # and the checkpoint too: the one before is used
    assert best.settle(tmp_path, states[1])
    assert content() == "1.0"
    assert not best.settle(tmp_path, states[3])  # damaged: it is not made up from others
    shutil.rmtree(tmp_path / "checkpoints")
    best.prune(tmp_path)
    assert not (tmp_path / best.EARLIER).exists()
    write(tmp_path / "best", {})  # of a version that kept no record
    assert best.settle(tmp_path, states[3])
    assert best.holds(tmp_path / "best", states[3])
    assert best.settle(tmp_path, Progress())  # a run that goes on from before its first evaluation has none
    assert not (tmp_path / "best").exists()


def test_a_damaged_note_is_no_note(tmp_path):
    folder = tmp_path / "checkpoints" / EIGHT
    folder.mkdir(parents=True)
    best.note(tmp_path, Progress(step=8, evaluated=8, best=1.25, best_step=8))
    saved = Progress(step=8, tokens=5)
    assert best.noted(folder, saved) == replace(saved, evaluated=8, best=1.25, best_step=8)
    text = (folder / best.NOTE).read_text()
    for damaged in (text.replace("1.25", "1.26"), text[:-9], "", "[]", '{"progress": 3}'):
        (folder / best.NOTE).write_text(damaged)
        assert best.noted(folder, saved) == saved


# A rank gets a signal in the second batch of its first evaluation; each batch leaves a mark.
SIGNALLED_HERE = """
import os, signal
from train.measure import scoring
dealt = scoring._shares
def shares(batches, accelerator, description):
    for item in dealt(batches, accelerator, description):
        yield item
        if accelerator.process_index == {rank}:
            with open({mark!r}, "a") as file:
                file.write("batch ")
            if os.path.getsize({mark!r}) == 12:
                signal.raise_signal(signal.{name})
scoring._shares = shares
"""


@pytest.mark.parametrize(("world", "name"), [(1, "SIGTERM"), (2, "SIGINT")])
def test_a_signal_ends_an_evaluation_and_costs_nothing(starter, whole, tmp_path, world, name):
    words = ("--loop.final", "best", "--eval.batch_tokens", "1")  # the longest row alone: 20 batches
    reference = starter.fit(tmp_path / "reference", *words, world=world)
    run, mark = tmp_path / "run", tmp_path / "mark"
    code = SIGNALLED_HERE.format(rank=world - 1, mark=str(mark), name=name)
    jobs = starter.start(run, *words, world=world, code=code)
    assert [job.wait() for job in jobs] == [128 + getattr(signal, name)] * world, jobs[0].text
    assert mark.read_text() == "batch batch "
    assert f"stopped at step 8, saved in {run / 'checkpoints' / EIGHT}; " in jobs[0].text
    assert checkpoints(run)[-1] == EIGHT
    assert evaluations(run) == []
    assert_same(starter.fit(run, *words, world=world), reference)


# The signal comes in the middle of the only batch of a search; each token leaves a mark.
SEARCHING = """
import os, signal
from modeling_vanilla.decoding_cache import StepDecoder
from train.measure import scoring
scoring.check_generate = lambda *words: None  # it searches as well, and is not what is to be ended
original = StepDecoder.step
def step(self, tokens):
    with open({mark!r}, "a") as file:
        file.write("token ")
    if os.path.getsize({mark!r}) == 24:
        signal.raise_signal(signal.SIGTERM)
    return original(self, tokens)
StepDecoder.step = step
"""


def test_a_signal_ends_a_search_and_the_last_evaluation(starter, tmp_path):
    words = ("--eval.metrics", "[exact_match]", "--eval.during_training", "[exact_match]")
    words += ("--eval.best_metric", "exact_match", "--loop.max_steps", "8", "--loop.log_every", "4")
    reference = starter.fit(tmp_path / "reference", *words)
    run, mark = tmp_path / "run", tmp_path / "mark"
    for line in (
        f"stopped at step 8, saved in {run / 'checkpoints' / EIGHT}; run the same command to go on",
        "stopped after the last step, 8, in the evaluation of final/; run the same command to go on",
    ):
        (job,) = starter.start(run, *words, code=SEARCHING.format(mark=str(mark)))
        assert job.wait() == 143, job.text
        assert mark.read_text() == "token " * 4
        assert line in job.text.splitlines()
        mark.unlink()
        (job,) = starter.start(run, *words, code=KILLED + 'killing(finish, "finish", 8, True)')
        assert job.wait() == -signal.SIGKILL
    assert_same(starter.fit(run, *words), reference)
    figures = [json.loads((folder / "results.json").read_text())["metrics"] for folder in (run, reference)]
    assert figures[0] == figures[1]


def test_a_start_that_is_not_accepted_leaves_the_recipe_and_the_end_may_move(starter, tmp_path):
    run = tmp_path / "run"
    (job,) = starter.start(run, code=SIGNALLED.format(rank=0, name="SIGTERM"))
    assert job.wait() == 143
    before = files_of(run)
    long = ("--loop.max_steps", "4000")
    interrupted = (  # where the tests run in the background, a shell has switched SIGINT off
        "import signal\nfrom train.model import build\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "build.make_model = lambda *words: signal.raise_signal(signal.SIGINT)"
    )
    other = "from train.data import splits\nsplits.fingerprint = lambda splits: 'f' * 64"
    for code, end, words, message in (
        (interrupted, 130, long, "interrupted"),
        (other, 2, long, "was trained with another data"),
        ("", 2, ("--loop.max_steps", "10"), "loop.max_steps: 10: must be at least 11, the step reached in"),
        ("", 2, ("--optim.lr", "1", *long), "optim.lr: this folder's run has"),
    ):
        (job,) = starter.start(run, *words, code=code)
        assert job.wait() == end, job.text
        assert message in job.text
        changed = {str(name) for name, content in files_of(run).items() if before.get(name) != content}
        assert changed <= {".lock"}
    # One that was accepted and stopped can be taken back.
    (job,) = starter.start(run, *long, code=SIGNALLED.format(rank=0, name="SIGTERM").replace("== 9", "== 13"))
    assert job.wait() == 143
    assert "max_steps: 4000" in (run / "recipe.yaml").read_text()
    (job,) = starter.start(run, "--loop.max_steps", "14")
    assert job.wait() == 2
    assert f"error: loop.max_steps: 14: must be at least 15, the step reached in {run}" in job.text
    starter.fit(run, "--loop.max_steps", "15")
    assert checkpoints(run)[-1] == "step-00000015"
    assert "max_steps: 15" in (run / "recipe.yaml").read_text()


# Rank 0, which holds the key-value store, is frozen in a phase of the job.
FROZEN = """
import os, signal
import torch.distributed.distributed_c10d as c10d
from train.model import build
from train.run import checkpoint, finish
from train.measure import evaluate
def freezing(module, name, when=lambda *words: True):
    original = getattr(module, name)
    def function(*words, **more):
        if os.environ["RANK"] == "0" and when(*words):
            open({mark!r}, "w").close()
            os.kill(os.getpid(), signal.SIGSTOP)
        return original(*words, **more)
    setattr(module, name, function)
"""
PHASES = {
    "start": 'freezing(c10d, "_new_process_group_helper")',
    "tokenizer": 'freezing(build, "make_tokenizer")',
    "training": 'freezing(loop, "train_step", lambda run, *words: run.progress.step == 6)',
    "evaluation": 'freezing(evaluate, "evaluate")',
    "saving": 'freezing(checkpoint.Snapshot, "copied", lambda snapshot: snapshot.state.progress.step == 4)',
    "end": 'freezing(finish, "finish")',
}


def test_a_frozen_holder_of_the_store_holds_nothing_else(starter, tmp_path):
    jobs = {}
    for phase, code in PHASES.items():
        code = FROZEN.format(mark=str(tmp_path / phase)) + code
        jobs[phase] = starter.start(tmp_path / f"run-{phase}", "--loop.timeout", "5", world=2, code=code)
    for phase, (first, second) in jobs.items():
        wait_for((tmp_path / phase).exists)
        assert second.wait(timeout=40) == 1
        frozen = (tmp_path / phase).stat().st_mtime
        assert second.output.stat().st_mtime - frozen < (18 if phase == "start" else 12)
        errors = [line for line in second.text.splitlines() if line.startswith("error")]
        assert len(errors) == 1
        if phase == "start":
            assert errors[0] == "error: the ranks did not all start within 10 s"
        else:
            assert errors[0].startswith("error: rank 0, or the launcher that holds the job's store, has not answered")
            assert errors[0].endswith("(timeout 5 s)")
        first.send(signal.SIGKILL)


def test_a_run_that_changed_on_its_way_says_so(starter, tmp_path):
    dry = ("--model.dropout", "0", "--loop.eval_every", "100")
    reference = starter.fit(tmp_path / "reference", *dry)
    run = tmp_path / "run"
    # Two processes with one micro-batch each do what one does with two.
    slow, fast = "1 x NVIDIA L4", "1 x NVIDIA H100"
    legs = ((2, 1, 7, slow), (1, 2, 15, fast), (1, 2, 17, fast), (2, 1, None, fast))
    for world, accumulate, stop, machine in legs:
        code = SIGNALLED.format(rank=0, name="SIGTERM").replace("== 9", f"== {stop}")
        code += f"\nfrom train.measure import provenance\nprovenance.hardware = lambda: {machine!r}"
        words = (*dry, "--loop.accumulate", str(accumulate))
        jobs = starter.start(run, *words, world=world, code=code)
        assert [job.wait() for job in jobs] == [143 if stop else 0] * world, jobs[0].text
    assert (
        "saved with 1 processes, now 2; 2 accumulate, now 1: same batches, other dropout from here on" in jobs[0].text
    )
    assert losses(run) == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in losses(reference)]
    training = json.loads((run / "results.json").read_text())["train"]
    history = training["history"]
    assert [(part["step"], part["processes"], part["accumulate"], part["hardware"]) for part in history] == [
        (0, 2, 1, slow),
        (9, 1, 2, fast),
        (19, 2, 1, fast),
    ]
    assert all({"code", "versions", "max_steps", "seconds"} <= part.keys() for part in history)
    rows = dict(card_text.receipts(json.loads((run / "results.json").read_text())))
    assert rows["hardware"] == (
        f"from step 0: {slow}, 2 process(es); from step 9: {fast}, 1 process(es); from step 19: {fast}, 2 process(es)"
    )
    first, second, third = (part["seconds"] for part in history)
    assert first == 0 < second < third < training["seconds"]
    seconds = (2 * second * 30.3, (third - second) * 67.0, 2 * (training["seconds"] - third) * 67.0)
    assert training["flops_by_time"] == pytest.approx(sum(seconds) * 1e12)
    assert len(json.loads((reference / "results.json").read_text())["train"]["history"]) == 1
