"""What `train.hub.upload` leaves on a Hub, whatever goes wrong on the way there: all of a folder, or nothing of it."""

import hashlib
import json
import logging
import os

import pytest
from hub_protocol import Reply, refusal
from huggingface_hub import HfApi

from train import files
from train.errors import PublishError, UserError
from train.hub import client, upload

NAME = "alice/model"
COMMIT = r"^POST /api/models/alice/model/commit/"
LARGE = r"^PUT /"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Wait a hundredth of what huggingface_hub and we wait between two tries."""
    sleep = client.time.sleep
    monkeypatch.setattr(client.time, "sleep", lambda seconds: sleep(seconds / 100))


@pytest.fixture
def said():
    """Return the lines that were said."""
    return []


@pytest.fixture
def way(hub_here, said):
    """Return the way to the stand-in."""
    return client.Hub(say=said.append)


@pytest.fixture
def folder(tmp_path):
    """Return a small folder with all that matters here: a large file, small ones, a manifest."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "vanilla"}))
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 500)
    (folder / "layers.py").write_text("x = 1\n")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# A model\n")
    files.write_manifest(folder)
    return folder


def write(folder, name, text):
    """Change a file of the folder, or add one."""
    (folder / name).write_text(text)
    files.write_manifest(folder)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def there(hub, revision="main") -> dict[str, bytes]:
    return {name: data for name, data in hub.files(NAME, revision).items() if name != ".gitattributes"}


def commits(hub, revision="main") -> list[str]:
    return [commit.title for commit in HfApi().list_repo_commits(NAME, revision=revision)]


def test_a_new_repository_gets_one_commit(hub_here, way, folder, said):
    sent = upload.send(way, folder, upload.Target(NAME), "Publish it")
    assert there(hub_here) == content(folder)
    assert hub_here.repo(NAME).branches["main"] == sent.commit
    assert commits(hub_here)[0] == "Publish it"
    assert len(hub_here.sent(COMMIT)) == 1
    assert (sent.new, HfApi().model_info(NAME).private) == (True, False)
    assert said == ["made the public repository alice/model"]


def test_private_branch_and_tag(hub_here, way, folder, said):
    target = upload.Target(NAME, revision="v1-candidates", private=True, tag="v1")
    sent = upload.send(way, folder, target, "m")
    assert there(hub_here, "v1-candidates") == content(folder)
    assert there(hub_here) == {}
    assert there(hub_here, "v1") == content(folder)
    assert HfApi().model_info(NAME).private
    assert HfApi().model_info(NAME, revision="v1").sha == sent.commit
    again = upload.send(way, folder, target, "m")  # the same command again: nothing to do
    assert (again.commit, again.new) == (sent.commit, False)
    write(folder, "tasks.py", "y = 2\n")
    with pytest.raises(UserError, match=f"--tag v1: {NAME} has it, at {sent.commit} and other content"):
        upload.send(way, folder, target, "m")
    newer = upload.send(way, folder, upload.Target(NAME, revision="v1-candidates"), "m")
    with pytest.raises(UserError, match=f"--tag v1: {NAME} has it, at {sent.commit}; a tag stays where it is"):
        upload.send(way, folder, target, "m")
    assert HfApi().model_info(NAME, revision="v1-candidates").sha == newer.commit


def test_the_same_again_is_no_commit_and_a_change_is_one(hub_here, way, folder):
    first = upload.send(way, folder, upload.Target(NAME), "first")
    again = upload.send(way, folder, upload.Target(NAME, tag="v1"), "again")
    assert (again.commit, again.new) == (first.commit, False)
    assert HfApi().model_info(NAME, revision="v1").sha == first.commit
    write(folder, "README.md", "---\nlicense: mit\n---\n")
    (folder / "layers.py").unlink()
    write(folder, "tasks.py", "y = 2\n")
    hub_here.requests.clear()
    second = upload.send(way, folder, upload.Target(NAME), "second")
    assert second.new
    assert there(hub_here) == content(folder)  # layers.py went with it
    assert hub_here.sent(LARGE) == []  # the weights were there
    assert commits(hub_here)[:2] == ["second", "first"]


def test_what_publishing_did_not_write_stays(hub_here, way, folder, said):
    upload.send(way, folder, upload.Target(NAME), "first")
    for name in ("handler.py", "notes.txt"):
        HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo=name, repo_id=NAME)
    write(folder, "layers.py", "x = 3\n")
    upload.send(way, folder, upload.Target(NAME), "second")
    assert there(hub_here) == content(folder) | {"handler.py": b"mine", "notes.txt": b"mine"}
    assert said[-1] == "left alone in alice/model: handler.py, notes.txt"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", b'{"model_type": "bert"}', "holds a model of type 'bert'"),
        ("data.csv", b"1,2", r"holds other files \(data.csv\)"),
        ("pytorch_model.bin", b"pickle", r"holds other files"),
    ],
)
def test_a_repository_with_other_content_is_refused(hub_here, way, folder, name, data, message):
    HfApi().create_repo(NAME)
    HfApi().upload_file(path_or_fileobj=data, path_in_repo=name, repo_id=NAME)
    before = there(hub_here)
    for target in (upload.Target(NAME), upload.Target(NAME, revision="new"), upload.Target(NAME, create_pr=True)):
        with pytest.raises(UserError, match=message):
            upload.send(way, folder, target, "m")
    assert there(hub_here) == before
    assert list(hub_here.repo(NAME).branches) == ["main"]


def test_pickles_beside_our_own_model_are_refused(hub_here, way, folder):
    upload.send(way, folder, upload.Target(NAME), "first")
    HfApi().upload_file(path_or_fileobj=b"pickle", path_in_repo="training_args.bin", repo_id=NAME)
    with pytest.raises(UserError, match=f"training_args.bin.*hf repos delete-files {NAME} training_args.bin"):
        upload.send(way, folder, upload.Target(NAME), "second")


def test_an_initial_readme_is_no_other_content(hub_here, way, folder):
    HfApi().create_repo(NAME)
    HfApi().upload_file(path_or_fileobj=b"# Soon\n", path_in_repo="README.md", repo_id=NAME)
    upload.send(way, folder, upload.Target(NAME), "m")
    assert there(hub_here) == content(folder)


def test_a_pull_request_asks_and_changes_nothing(hub_here, way, folder):
    upload.send(way, folder, upload.Target(NAME), "first")
    before = there(hub_here)
    write(folder, "layers.py", "x = 4\n")
    sent = upload.send(way, folder, upload.Target(NAME, create_pr=True), "better")
    assert there(hub_here) == before
    assert there(hub_here, "refs/pr/1") == content(folder)
    assert HfApi().model_info(NAME, revision="refs/pr/1").sha == sent.commit
    assert sent.url.endswith(f"{NAME}/discussions/1")
    with pytest.raises(UserError, match="publish without --create-pr"):
        upload.send(way, folder, upload.Target("alice/none", create_pr=True), "m")


def test_busy_twice_then_well(hub_here, way, folder, said):
    hub_here.fail(COMMIT, 503, times=2)
    hub_here.fail(r"^POST /api/validate-yaml", 502)
    hub_here.fail(r"^GET /api/models/alice/model", 429)
    upload.send(way, folder, upload.Target(NAME), "Publish it")
    assert there(hub_here) == content(folder)
    assert commits(hub_here).count("Publish it") == 1
    tries = [line for line in said if "again in" in line]
    assert len(tries) == 4, said
    assert all("\n" not in line and len(line) < 100 for line in tries)
    assert "look: HTTP 429" in tries[0]


def test_an_error_page_in_between_is_a_busy_hub(hub_here, way, folder, said, monkeypatch):
    page = Reply(b"<html>Bad Gateway</html>", 502)
    monkeypatch.setattr("hub_server.refusal", lambda status, *more: page if status == 502 else refusal(status, *more))
    hub_here.fail(r"^POST /api/validate-yaml", 502)
    upload.send(way, folder, upload.Target(NAME), "Publish it")
    assert there(hub_here) == content(folder)
    assert len([line for line in said if "again in" in line]) == 1


@pytest.mark.parametrize("create_pr", [False, True])
@pytest.mark.parametrize("fault", [{"cut": "answer"}, {"cut": "body"}])
def test_a_commit_whose_answer_is_lost_is_made_once(hub_here, way, folder, fault, create_pr):
    HfApi().create_repo(NAME)
    hub_here.fail(COMMIT, **fault)
    sent = upload.send(way, folder, upload.Target(NAME, create_pr=create_pr), "Publish it")
    revision = "refs/pr/1" if create_pr else "main"
    assert there(hub_here, revision) == content(folder)
    assert commits(hub_here, revision).count("Publish it") == 1
    assert len(hub_here.sent(COMMIT)) == 1
    assert hub_here.repo(NAME).branches[revision] == sent.commit
    assert len(hub_here.repo(NAME).discussions) == create_pr


def test_a_lost_answer_that_cannot_be_looked_up_is_no_second_commit(hub_here, way, folder):
    HfApi().create_repo(NAME)
    hub_here.fail(COMMIT, cut="answer")
    hub_here.fail(r"^GET /api/models/alice/model/revision/main", 503, after=1)  # the look after the loss
    upload.send(way, folder, upload.Target(NAME), "Publish it")
    assert commits(hub_here).count("Publish it") == 1
    assert len(hub_here.sent(COMMIT)) == 2  # the second was refused: the branch had moved
    assert there(hub_here) == content(folder)


def test_somebody_else_is_faster(hub_here, way, folder, monkeypatch):
    upload.send(way, folder, upload.Target(NAME), "first")
    before = there(hub_here)
    write(folder, "layers.py", "x = 5\n")
    commit = upload._commit

    def late(*arguments):
        """Let bob commit between our look and our commit."""
        HfApi().upload_file(path_or_fileobj=b"z = 1\n", path_in_repo="bob.py", repo_id=NAME)
        return commit(*arguments)

    monkeypatch.setattr(upload, "_commit", late)
    with pytest.raises(PublishError, match="somebody else changed it meanwhile.*nothing of this run is in it"):
        upload.send(way, folder, upload.Target(NAME), "second")
    assert there(hub_here) == before | {"bob.py": b"z = 1\n"}


@pytest.mark.parametrize("status", [503, 0])
def test_weights_that_never_arrive_leave_the_repository_as_it_was(hub_here, way, folder, said, status):
    upload.send(way, folder, upload.Target(NAME), "first")
    before, head = there(hub_here), hub_here.repo(NAME).branches["main"]
    (folder / "model.safetensors").write_bytes(b"new" * 1000)
    files.write_manifest(folder)
    hub_here.fail(LARGE, status, cut=None if status else "request", times=100)
    with pytest.raises(
        PublishError, match="failed to write.*; run the same command again; the repository is as it was"
    ):
        upload.send(way, folder, upload.Target(NAME), "second")
    assert (there(hub_here), hub_here.repo(NAME).branches["main"]) == (before, head)
    assert [line for line in said if line.startswith("upload: ") and "again in" in line]
    assert logging.getLogger("huggingface_hub.utils._http").filters == []


def test_the_first_commit_fails_for_good(hub_here, way, folder):
    hub_here.fail(COMMIT, 500, times=100)
    with pytest.raises(PublishError, match="HTTP 500.*the repository is there, without content"):
        upload.send(way, folder, upload.Target(NAME), "m")
    assert there(hub_here) == {}


def test_a_commit_that_nobody_can_look_for_is_said_to_be_unknown(hub_here, way, folder):
    HfApi().create_repo(NAME)
    hub_here.fail(COMMIT, cut="answer")
    hub_here.fail(r"^(GET|POST) /api/models/alice/model/(revision|commit)/main", cut="request", after=1, times=1000)
    with pytest.raises(PublishError, match="whether it was written cannot be seen now"):
        upload.send(way, folder, upload.Target(NAME), "Publish it")
    hub_here.faults.clear()
    assert not upload.send(way, folder, upload.Target(NAME), "Publish it").new  # it was
    assert there(hub_here) == content(folder)


def test_what_arrived_is_compared(hub_here, way, folder, monkeypatch):
    look = upload.look

    def changed(hub, repo_id, revision="main"):
        """See other weights on the Hub than were sent."""
        remote = look(hub, repo_id, revision)
        if len(revision) == 40:
            remote.files["model.safetensors"].lfs.sha256 = hashlib.sha256(b"other").hexdigest()
        return remote

    monkeypatch.setattr(upload, "look", changed)
    with pytest.raises(PublishError, match="has other content in model.safetensors"):
        upload.send(way, folder, upload.Target(NAME), "m")


STRANGE = {
    "training_args.bin": lambda path: path.write_bytes(b"pickle"),
    "metrics.jsonl": lambda path: path.symlink_to(path.parents[1] / "secret"),  # out of the folder
    "results.json": lambda path: path.symlink_to("config.json"),  # within it
    "attention.png": lambda path: path.symlink_to("nowhere"),
    "code.py": lambda path: path.symlink_to(path.parents[1], target_is_directory=True),
    "tasks.py": lambda path: path.mkdir(),
    "curves.png": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("name", STRANGE)
def test_nothing_else_than_files_on_the_list_is_sent(hub_here, way, folder, name):
    """A link is not followed, wherever it leads; a pipe is not read."""
    (folder.parent / "secret").write_text("a key")
    STRANGE[name](folder / name)
    with pytest.raises(RuntimeError, match=f"{name} must not be published"):
        upload.send(way, folder, upload.Target(NAME), "m")
    assert hub_here.requests == []


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("hf_wrong", "does not know this token.*hf auth login"),
        ("hf_reader", "the token of alice may only read"),
        (None, "no token for the Hub: .*HF_TOKEN"),
    ],
)
def test_who_may_not(hub_here, way, monkeypatch, token, message):
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=message):
        upload.log_in(way)


def test_no_right_to_a_namespace(hub_here, way, folder, monkeypatch):
    upload.send(way, folder, upload.Target(NAME), "first")
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    write(folder, "layers.py", "x = 6\n")
    before = there(hub_here)
    with pytest.raises(UserError, match="this token may not write to the repository.*as it was"):
        upload.send(way, folder, upload.Target(NAME), "m")
    assert there(hub_here) == before
    with pytest.raises(UserError, match="lab/x: this token may not make the repository"):
        upload.send(way, folder, upload.Target("lab/x"), "m")


def test_a_revision_that_is_no_branch(hub_here, way, folder):
    sent = upload.send(way, folder, upload.Target(NAME, tag="v1"), "first")
    for revision in ("v1", sent.commit):
        with pytest.raises(UserError, match="must be a branch"):
            upload.send(way, folder, upload.Target(NAME, revision=revision), "m")


def test_nobody_there(hub_here, way, folder, said):
    hub_here.fail("", cut="request", times=1000)
    with pytest.raises(PublishError, match="failed to look at the repository: .*run the same command again"):
        upload.send(way, folder, upload.Target(NAME), "m")
    assert len(said) == len(client.WAITS)
