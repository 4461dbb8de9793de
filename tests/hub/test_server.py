"""The stand-in for the Hub, seen by the real client: what it is told it must give back, and nothing half done."""

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

NAME = "alice/model"


@pytest.fixture
def api(hub_here):
    """Return the client of alice."""
    return HfApi(endpoint=hub_here.url, token="hf_alice")


@pytest.fixture
def repo(hub_here, api):
    """Return a repository with files small, large and in a folder."""
    api.create_repo(NAME)
    files = {"config.json": b"{}", "model.safetensors": b"\0weights" * 50, "docs/a.txt": b"a", "docs/b/c.txt": b"c"}
    api.create_commit(NAME, [CommitOperationAdd(path, data) for path, data in files.items()], commit_message="first")
    return hub_here.repo(NAME)


def test_what_is_committed_comes_back(hub_here, api, repo, tmp_path):
    assert api.whoami()["name"] == "alice"
    info = api.model_info(NAME, files_metadata=True)
    assert info.sha == repo.branches["main"]
    assert {s.rfilename: s.size for s in info.siblings if s.rfilename != ".gitattributes"} == {
        "config.json": 2, "model.safetensors": 400, "docs/a.txt": 1, "docs/b/c.txt": 1,
    }
    folder = api.snapshot_download(NAME, local_dir=tmp_path / "copy")
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in (tmp_path / "copy").rglob("*") if p.is_file() and ".cache" not in p.parts}
    assert found == hub_here.files(NAME)
