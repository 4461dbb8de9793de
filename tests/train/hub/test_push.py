"""Checkpoints go to the Hub beside the training; whatever becomes of them, the run ends as without."""

import json
import signal
import time
from types import SimpleNamespace

import pytest
from faults import wait_for
from huggingface_hub import HfApi
from safetensors.torch import load_file
from transformers import AutoTokenizer

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from train.errors import UserError
from train.hub import push
from train.hub.check import code as hub_check_code
from train.run import finish
from train.settings.reading import load_recipe

NAME = "alice/dates"
# What leads the forked process, which has read where its Hub is, to the stand-in.
LEAD = """
import huggingface_hub
from huggingface_hub import constants
os.environ.update({environment!r})
os.environ.pop("HF_TOKEN", None) if {token!r} is None else os.environ.update(HF_TOKEN={token!r})
constants.ENDPOINT = huggingface_hub.hf_api.api.endpoint = {url!r}
constants.HUGGINGFACE_CO_URL_TEMPLATE = {url!r} + "/{{repo_id}}/resolve/{{revision}}/{{filename}}"
constants.HF_TOKEN_PATH, constants.HF_HUB_DISABLE_XET, constants.HF_HUB_OFFLINE = {home!r}, True, False
"""


def pushing(hub, folder, token: str | None = "hf_alice") -> dict:
    """Return what starts a training with this Hub."""
    environment = {"NO_PROXY": "127.0.0.1,localhost"}
    return {"code": LEAD.format(environment=environment, token=token, url=hub.url, home=str(folder / "no-token"))}


@pytest.fixture(scope="module")
def without(starter, tmp_path_factory):
    """Return a run that never heard of the Hub."""
    return starter.fit(tmp_path_factory.mktemp("without") / "run")


@pytest.fixture
def small(write_recipe, tmp_path):
    """Return what a pusher knows of a run, with a checkpoint of step 2 that holds no model; a secret lies beside it."""
    recipe = load_recipe([str(write_recipe(loop={"push_to": NAME}))])
    for name in ("checkpoints/step-00000002/model.safetensors", "checkpoints/step-00000002/config.json"):
        (recipe.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (recipe.folder / name).write_text("{}")
    (recipe.folder / "tokenizer").mkdir()
    (recipe.folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (tmp_path / "secret").write_text("a key")
    return SimpleNamespace(
        recipe=recipe, folder=recipe.folder, bare=SimpleNamespace(config=VanillaConfig(vocab_size=9))
    )


def same_end(run, other) -> None:
    """Check that two runs have the same weights and figures, to the bit."""
    ends = [load_file(folder / "final" / "model.safetensors") for folder in (run, other)]
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0] | ends[1])
    figures = [json.loads((folder / "results.json").read_text())["metrics"] for folder in (run, other)]
    assert figures[0] == figures[1]


def test_checkpoints_are_pushed_beside_the_training(starter, without, hub_here, tmp_path):
    run = tmp_path / "run"
    (job,) = starter.start(run, "--loop.push_to", NAME, "--loop.push_every", "8", **pushing(hub_here, tmp_path))
    assert job.wait() == 0, job.text
    same_end(run, without)
    assert f"pushed step 24 to {NAME}@checkpoints" in job.text
    assert "warning" not in job.text
    assert HfApi().model_info(NAME).private
    titles = [commit.title for commit in hub_here.repo(NAME).history("checkpoints")]
    assert titles[0] == "Checkpoint of step 24"
    assert set(titles[:-1]) <= {f"Checkpoint of step {step}" for step in (8, 16, 24)}
    assert list(hub_here.files(NAME)) == [".gitattributes"]
    files = hub_here.files(NAME, "checkpoints")
    weights = run / "checkpoints" / "step-00000024" / "model.safetensors"
    assert files["model.safetensors"] == weights.read_bytes()
    assert not [name for name in files if name.startswith(("optimizer", "state", "rng"))]
    assert str(tmp_path).encode() not in b"".join(files.values())
    assert b"push_to: null" in files["recipe.yaml"]
    assert not list(run.glob(".staging*"))
    assert weights.stat().st_nlink == 1


def test_what_is_pushed_is_a_model_that_loads(starter, hub_here, tmp_path):
    run = tmp_path / "run"
    words = ("--loop.push_to", NAME, "--loop.push_revision", "other", "--loop.max_steps", "4")
    (job,) = starter.start(run, *words, **pushing(hub_here, tmp_path))
    assert job.wait() == 0, job.text
    folder = HfApi().snapshot_download(NAME, revision="other", local_dir=tmp_path / "copy")
    assert list(hub_check_code.auto_map_problems(tmp_path / "copy")) == []
    assert list(hub_check_code.import_problems(tmp_path / "copy")) == []
    written = []
    for place in (folder, run / "final"):
        inputs = AutoTokenizer.from_pretrained(place)("May 1, 2020", return_tensors="pt")
        model = VanillaForConditionalGeneration.from_pretrained(place)
        written.append((model.generation_config.max_new_tokens, model.generate(**inputs).tolist()))
    assert written[0] == written[1]


def test_a_hub_that_is_down_costs_warnings_and_nothing_else(starter, without, hub_here, tmp_path):
    hub_here.fail("", cut="request", times=10**6)
    run = tmp_path / "run"
    (job,) = starter.start(run, "--loop.push_to", NAME, **pushing(hub_here, tmp_path))
    assert job.wait() == 0, job.text
    same_end(run, without)
    warnings = [line for line in job.text.splitlines() if line.startswith("warning: ")]
    assert warnings[0].startswith("warning: loop.push_to: ")
    assert warnings[-1].startswith(f"warning: step 24 not pushed to {NAME}@checkpoints: ")
    assert len(warnings) == len([line for line in job.text.splitlines() if NAME in line]) + 1
    assert hub_here.store.repos == {}
    assert "Traceback" not in job.text


def test_a_hub_that_comes_back_gets_the_next_checkpoint(starter, hub_here, tmp_path):
    hub_here.fail("^POST .*/commit/", 503)
    run = tmp_path / "run"
    words = ("--loop.push_to", NAME, "--loop.push_every", "8")
    (job,) = starter.start(run, *words, **pushing(hub_here, tmp_path))
    assert job.wait() == 0, job.text
    (failed,) = [line for line in job.text.splitlines() if "not pushed" in line]
    assert "HTTP 503" in failed
    assert f"pushed step 24 to {NAME}@checkpoints" in job.text


def test_a_slow_hub_gets_the_newest_and_not_all(starter, without, hub_here, tmp_path):
    hub_here.fail("^POST .*/commit/", 0, delay=3.0)
    run = tmp_path / "run"
    (job,) = starter.start(run, "--loop.push_to", NAME, **pushing(hub_here, tmp_path))
    assert job.wait() == 0, job.text
    titles = [commit.title for commit in hub_here.repo(NAME).history("checkpoints")][:-1]
    assert titles[0] == "Checkpoint of step 24"
    assert len(titles) < 12  # of the 12 checkpoints
    assert "warning" not in job.text
    assert not list(run.glob(".staging*"))
    same_end(run, without)


def test_a_signal_ends_the_wait_for_a_hub_that_never_answers(starter, hub_here, tmp_path):
    """On both processes of a job whose weights are on their way; the run itself is whole."""
    fault = hub_here.fail("^PUT /", 0, delay=60.0, times=10**6)
    run = tmp_path / "run"
    words = ("--loop.push_to", NAME, "--loop.max_steps", "4", "--loop.save_every", "4")
    jobs = starter.start(run, *words, world=2, **pushing(hub_here, tmp_path))
    wait_for(lambda: "finished:" in jobs[0].text and fault.seen)
    assert [job.poll() for job in jobs] == [None, None]
    for job in jobs:
        job.send(signal.SIGTERM)
    assert [job.wait(timeout=15) for job in jobs] == [0, 0], jobs[0].text + jobs[1].text
    assert "the last push is not through after a signal; the run ends without" in jobs[0].text
    assert (run / "final" / "model.safetensors").is_file() and (run / "results.json").is_file()


@pytest.mark.parametrize(("timeout", "patience", "seconds"), [(0.6, 9.0, 0.3), (100.0, 0.3, 0.3)])
def test_the_wait_for_the_last_push_ends(small, monkeypatch, capsys, timeout, patience, seconds):
    """The other processes wait for this one no longer than `loop.timeout`."""
    monkeypatch.setattr(push, "PATIENCE", patience)
    small.recipe.loop.timeout = timeout
    pusher = push.Pusher(small)
    started = time.monotonic()
    pusher.close()
    assert time.monotonic() - started < 0.1, "nothing to wait for"
    pusher.busy = True
    pusher.close()
    assert seconds <= time.monotonic() - started < seconds + 1.0
    assert f"{NAME}@checkpoints: the last push is not through after {seconds:.0f} s" in capsys.readouterr().out


LINKS = {
    "tokenizer/tokenizer.json": "../../secret",
    "tokenizer/curves.png": "../../secret",
    "checkpoints/step-00000002/config.json": "../../../secret",
    "checkpoints/step-00000002/model.safetensors": "../../../secret",
    "checkpoints/step-00000002/layers.py": "../../tokenizer/tokenizer.json",
}


@pytest.mark.parametrize("name", LINKS)
def test_a_link_in_a_run_is_not_followed(small, hub_here, capsys, name):
    path = small.folder / name
    path.unlink(missing_ok=True)
    path.symlink_to(LINKS[name])
    assert path.exists()
    pusher = push.Pusher(small)
    pusher.offer(2, last=True)
    assert f"warning: step 2 not pushed to {NAME}@checkpoints: {path}: a link, which is not" in capsys.readouterr().out
    assert (pusher.thread, pusher.waiting, hub_here.requests) == (None, None, [])


def test_a_run_that_is_resumed_at_its_end_pushes_its_last_checkpoint(fit, write_recipe, hub_here, monkeypatch, capsys):
    """It had taken all its steps and was killed before it was finished, and no push had come through."""
    recipe = write_recipe(loop={"max_steps": 2, "save_every": 1, "push_to": NAME, "push_every": 5})
    hub_here.fail("^POST .*/commit/", 503, times=10**6)
    killed = []

    def kill(run):
        killed.append(run.pusher)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finish, "finish", kill)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe)
    wait_for(lambda: killed[0].waiting is None and not killed[0].busy)
    assert f"warning: step 2 not pushed to {NAME}@checkpoints: " in capsys.readouterr().out
    hub_here.faults.clear()
    for _ in range(2):  # once more: the run is finished, and there is nothing to push
        folder = fit(recipe)
        titles = [commit.title for commit in hub_here.repo(NAME).history("checkpoints")]
        assert titles.count("Checkpoint of step 2") == 1 == len(titles) - 1
    weights = (folder / "checkpoints" / "step-00000002" / "model.safetensors").read_bytes()
    assert hub_here.files(NAME, "checkpoints")["model.safetensors"] == weights
    assert capsys.readouterr().out.count(f"pushed step 2 to {NAME}@checkpoints") == 1
    assert not list(folder.glob(".staging*"))


def test_a_hub_that_never_answers_does_not_hold_the_run(starter, without, hub_here, tmp_path):
    hub_here.fail("^GET /api/models", 0, delay=30.0, after=1, times=10**6)
    run = tmp_path / "run"
    code = pushing(hub_here, tmp_path)["code"] + "from train.hub import push\npush.PATIENCE = 1.0\n"
    (job,) = starter.start(run, "--loop.push_to", NAME, code=code)
    assert job.wait(timeout=25) == 0, job.text
    assert "the last push is not through after 1 s; the run ends without" in job.text
    same_end(run, without)


def test_two_processes_push_once(starter, hub_here, tmp_path):
    run = tmp_path / "run"
    words = ("--loop.push_to", NAME, "--loop.push_every", "24")
    jobs = starter.start(run, *words, world=2, **pushing(hub_here, tmp_path))
    assert [job.wait() for job in jobs] == [0, 0], jobs[0].text + jobs[1].text
    assert len(hub_here.sent("^POST .*/commit/")) == 1
    weights = (run / "checkpoints" / "step-00000024" / "model.safetensors").read_bytes()
    assert hub_here.files(NAME, "checkpoints")["model.safetensors"] == weights
    assert ["pushed step 24" in job.text for job in jobs] == [True, False]


@pytest.mark.parametrize("trouble", ["token", "wrong", "foreign"])
def test_what_cannot_work_is_said_before_the_training(starter, hub_here, tmp_path, trouble):
    token = {"token": None, "wrong": "hf_wrong", "foreign": "hf_alice"}[trouble]
    if trouble == "foreign":
        HfApi().create_repo(NAME)
        HfApi().upload_file(path_or_fileobj=b"1,2", path_in_repo="data.csv", repo_id=NAME)
    run = tmp_path / "run"
    (job,) = starter.start(run, "--loop.push_to", NAME, **pushing(hub_here, tmp_path, token))
    assert job.wait() == 2, job.text
    message = {"token": "no token for the Hub", "wrong": "does not know this token", "foreign": "holds other files"}
    assert message[trouble] in job.text
    assert not run.exists()


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["--loop.push_to", "name"], "loop.push_to"),
        (["--loop.push_to", NAME, "--loop.push_every", "3"], "loop.push_every"),
        (["--loop.push_to", NAME, "--loop.push_revision", "a" * 40], "loop.push_revision"),
        (["--data.license", "Creative Commons"], "data.license"),
        (["--data.license", "other"], "data.license"),
        (["--data.language", "[English]"], "data.language"),
    ],
)
def test_recipes_are_told_what_the_hub_would_not_take(starter, words, field):
    with pytest.raises(UserError, match=f"command line: {field}: "):
        load_recipe([str(starter.recipe), *words])
