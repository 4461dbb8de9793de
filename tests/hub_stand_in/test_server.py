"""The stand-in for the Hub, seen by the real client: it gives back what it was told, and shows nothing half done."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hub_client import FILES, NAME, add, status
from huggingface_hub import (
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

# ---- reading


def test_what_is_committed_comes_back(hub_here, api, repo, tmp_path):
    folder = Path(api.snapshot_download(NAME, local_dir=tmp_path / "copy"))
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found = {name: data for name, data in found.items() if not name.startswith(".cache/")}
    assert found.pop(".gitattributes")
    assert found == FILES
    info = api.model_info(NAME, files_metadata=True)
    assert info.sha == repo.branches["main"] == api.model_info(NAME, revision=info.sha[:12]).sha
    assert {s.rfilename: s.size for s in info.siblings if s.rfilename in FILES} == {
        n: len(d) for n, d in FILES.items()
    }
    assert [s.rfilename for s in info.siblings if s.lfs] == ["model.safetensors"]
    assert [c.title for c in api.list_repo_commits(NAME)] == ["first", "initial commit"]
    assert api.list_repo_commits(NAME)[0].message == "more"


def test_trees_come_in_pages(hub_here, api, repo):
    hub_here.page_size = 2
    top = [".gitattributes", "config.json", "docs", "model.safetensors"]
    assert [entry.path for entry in api.list_repo_tree(NAME)] == top
    everything = [*top[:3], "docs/a.txt", "docs/b", "docs/b/c d.txt", top[3]]
    assert [entry.path for entry in api.list_repo_tree(NAME, recursive=True)] == everything
    assert len(hub_here.sent(r"GET .*/tree/")) == 2 + 4
    assert [entry.path for entry in api.list_repo_tree(NAME, "docs")] == ["docs/a.txt", "docs/b"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(NAME, "nowhere"))
    api.create_commit(NAME, add(**{"docs/a.txt": b"new"}), commit_message="second")
    paths = api.get_paths_info(NAME, ["docs", "config.json", "missing"], expand=True)
    assert [(entry.path, entry.last_commit.title) for entry in paths] == [("docs", "second"), ("config.json", "first")]
    weights = api.get_paths_info(NAME, ["model.safetensors"])[0]
    assert weights.lfs.size == weights.size == 400


@pytest.mark.parametrize("name", FILES)
def test_metadata_and_ranges(hub_here, api, repo, name):
    url = hf_hub_url(NAME, name, endpoint=hub_here.url)
    metadata = get_hf_file_metadata(url, token="hf_alice")
    assert metadata.commit_hash == repo.branches["main"]
    assert metadata.size == len(FILES[name])
    assert metadata.etag == repo.find("main").files[name].content_id
    answer = get_session().get(url, headers={"Range": "bytes=2-5"}, follow_redirects=True)
    if len(FILES[name]) <= 2:
        assert answer.status_code == 416
    else:
        assert (answer.status_code, answer.content) == (206, FILES[name][2:6])
        assert answer.headers["Content-Range"] == f"bytes 2-5/{len(FILES[name])}"


def test_a_broken_download_is_repeated(hub_here, repo, tmp_path):
    broken = hub_here.fail("GET /large-files/", cut="body")
    path = hf_hub_download(NAME, "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == FILES["model.safetensors"]
    assert broken.seen == 2


# ---- names


def test_branches_and_tags(api, repo):
    first = repo.branches["main"]
    api.create_branch(NAME, branch="try/1")
    api.create_tag(NAME, tag="v1", tag_message="one")
    api.create_commit(NAME, add(x=b"1"), commit_message="on a branch", revision="try/1")
    refs = api.list_repo_refs(NAME)
    assert {b.name: b.target_commit for b in refs.branches} == {"main": first, "try/1": repo.branches["try/1"]}
    assert {t.name: t.target_commit for t in refs.tags} == {"v1": first}
    assert api.file_exists(NAME, "x", revision="try/1")
    assert not api.file_exists(NAME, "x", revision="v1")
    assert [status(api.create_branch, NAME, branch="try/1"), status(api.create_tag, NAME, tag="v1")] == [409, 409]
    api.create_branch(NAME, branch="try/1", exist_ok=True)
    api.delete_branch(NAME, branch="try/1")
    api.delete_tag(NAME, tag="v1")
    assert not repo.tags
    assert list(repo.branches) == ["main"]
    assert status(api.delete_branch, NAME, branch="main") == 403
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(NAME, add(x=b"1"), commit_message="nowhere", revision="try/1")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(NAME, "config.json", revision="v1")


def test_pull_requests(hub_here, api, repo):
    bob = HfApi(endpoint=hub_here.url, token="hf_bob")
    before = repo.branches["main"]
    commit = bob.create_commit(
        NAME, add(**{"new.bin": b"\0" * 9}), commit_message="better", create_pr=True, parent_commit=before
    )
    assert (commit.pr_num, commit.pr_revision, repo.branches["main"]) == (1, "refs/pr/1", before)
    assert api.file_exists(NAME, "new.bin", revision="refs/pr/1")
    assert [d.title for d in api.get_repo_discussions(NAME, discussion_type="pull_request")] == ["better"]
    assert status(bob.merge_pull_request, NAME, 1) == 403
    api.create_commit(NAME, add(other=b"1"), commit_message="meanwhile")
    api.merge_pull_request(NAME, 1)
    assert {"other", "new.bin"} < set(hub_here.files(NAME))
    assert api.get_discussion_details(NAME, 1).status == "merged"
    empty = bob.create_pull_request(NAME, "another")
    bob.create_commit(NAME, add(other=b"2"), commit_message="change", revision=f"refs/pr/{empty.num}", create_pr=True)
    assert api.comment_discussion(NAME, 2, "no").content == "no"
    assert api.change_discussion_status(NAME, 2, "closed").new_status == "closed"
    assert {r.name for r in api.list_repo_refs(NAME, include_pull_requests=True).pull_requests} == {"1", "2", "3"}


# ---- writing


def test_operations(hub_here, api, repo):
    operations = [
        CommitOperationDelete("docs/", is_folder=True),
        CommitOperationDelete("config.json"),
        CommitOperationCopy("model.safetensors", "again.safetensors"),
    ]
    api.create_commit(NAME, operations, commit_message="operations")
    weights = FILES["model.safetensors"]
    files = hub_here.files(NAME)
    del files[".gitattributes"]
    assert files == {"model.safetensors": weights, "again.safetensors": weights}
    with pytest.raises(EntryNotFoundError):
        api.create_commit(NAME, [CommitOperationDelete("config.json")], commit_message="again")


def test_what_is_there_is_not_sent_again(hub_here, api, repo):
    before = repo.branches["main"]
    api.create_commit(NAME, add(**FILES), commit_message="nothing new")
    assert repo.branches["main"] == before
    assert len(hub_here.sent("PUT /upload/")) == len(hub_here.sent("POST .*/commit/")) == 1


def test_files_are_ignored_that_gitignore_names(hub_here, api, repo):
    names = {".gitignore": b"*.bin\nlogs/\n", "a.bin": b"\0", "logs/x": b"1", "b": b"1"}
    api.create_commit(NAME, add(**names), commit_message="ignore")
    assert {".gitignore", "b"} < set(hub_here.files(NAME))
    assert not {"a.bin", "logs/x"} & set(hub_here.files(NAME))


@pytest.mark.parametrize("size", [64 * 3, 64 * 3 + 1])
def test_large_files_go_in_parts(hub_here, api, repo, tmp_path, size):
    hub_here.part_size = 64
    data = bytes(range(256)) * 2
    (tmp_path / "a.safetensors").write_bytes(data[:size])
    hub_here.fail("PUT /upload/.*/2", status=503)
    api.upload_file(path_or_fileobj=tmp_path / "a.safetensors", path_in_repo="a.safetensors", repo_id=NAME)
    assert hub_here.files(NAME)["a.safetensors"] == data[:size]
    assert len(hub_here.sent("PUT /upload/.*/")) == 1 + -(-size // 64)


def test_two_writers_with_one_parent(hub_here, api, repo):
    """Exactly one of eight wins; the others are told, and nothing of theirs is there."""
    parent = repo.branches["main"]
    together = threading.Barrier(8)

    def write(number: int) -> int:
        client = HfApi(endpoint=hub_here.url, token="hf_alice")
        together.wait()
        try:
            client.create_commit(
                NAME, add(**{f"{number}.safetensors": b"\0%d" % number}), commit_message="w", parent_commit=parent
            )
        except HfHubHTTPError as error:
            assert "A commit has happened since" in str(error)
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(write, range(8)))
    assert sorted(codes) == [200] + [412] * 7
    assert repo.find("main").parent == parent
    assert set(hub_here.files(NAME)) - set(FILES) - {".gitattributes"} == {f"{codes.index(200)}.safetensors"}


def test_without_a_parent_nobody_is_lost(hub_here, api, repo):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: api.create_commit(NAME, add(**{f"{n}": b"1"}), commit_message="w"), range(8)))
    assert {str(n) for n in range(8)} < set(hub_here.files(NAME))
    assert len(repo.history("main")) == 2 + 8


@pytest.mark.parametrize("place", ["validate-yaml", "preupload", "objects/batch", "PUT /upload", "verify", "/commit/"])
def test_an_upload_that_fails_leaves_nothing(hub_here, api, repo, place):
    before, files = repo.branches["main"], hub_here.files(NAME)
    hub_here.fail(place, status=403, times=99)
    new = {"README.md": b"---\nlicense: mit\n---\n", "a.safetensors": b"\0a", "b.safetensors": b"\0b", "c": b"c"}
    with pytest.raises((HfHubHTTPError, RuntimeError)) as error:
        api.create_commit(NAME, add(**new), commit_message="fails")
    cause = error.value.__cause__ if type(error.value) is RuntimeError else error.value
    assert cause.response.status_code == 403
    assert (repo.branches["main"], hub_here.files(NAME)) == (before, files)
    assert len(repo.commits) == 2
    hub_here.faults.clear()
    api.create_commit(NAME, add(**new), commit_message="works")
    assert set(new) < set(hub_here.files(NAME))


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429}, {"cut": "request"}, {"cut": "answer"}])
def test_the_client_tries_again(hub_here, api, repo, fault):
    hub_here.fail("PUT /upload", **fault)
    api.create_commit(NAME, add(**{"a.safetensors": b"\0a"}), commit_message="works")
    assert "a.safetensors" in hub_here.files(NAME)


def test_a_commit_whose_answer_is_lost_is_there(hub_here, api, repo):
    """The client cannot know: whoever publishes has to look before trying again."""
    hub_here.fail("/commit/", cut="answer")
    with pytest.raises(Exception, match="(?i)disconnected|closed|reset"):
        api.create_commit(NAME, add(x=b"1"), commit_message="lost")
    assert "x" in hub_here.files(NAME)


# ---- as a program


def test_it_runs_by_itself(tmp_path):
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("hub_server.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    try:
        words = dict(word.split("=") for word in server.stdout.readline().split()[1:])
        assert HfApi(endpoint=words["HF_ENDPOINT"]).whoami(token=words["HF_TOKEN"])["name"] == "alice"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
