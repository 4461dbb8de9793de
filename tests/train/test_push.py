"""Checkpoints go to the Hub beside the training; whatever becomes of them, the run ends as without."""

import json

import pytest
from huggingface_hub import HfApi
from safetensors.torch import load_file
from transformers import AutoTokenizer

from modeling_vanilla import VanillaForConditionalGeneration
from train import hub_check_code
from train.errors import UserError
from train.recipe import load_recipe

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


def test_a_hub_that_never_answers_does_not_hold_the_run(starter, without, hub_here, tmp_path):
    hub_here.fail("^GET /api/models", 0, delay=30.0, after=1, times=10**6)
    run = tmp_path / "run"
    code = pushing(hub_here, tmp_path)["code"] + "from train import push\npush.PATIENCE = 1.0\n"
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
