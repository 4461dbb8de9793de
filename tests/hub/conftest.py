"""A client of the stand-in for the Hub, and a repository there."""

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

NAME = "alice/model"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"\0weights" * 50,
    "docs/a.txt": "가나다".encode(),
    "docs/b/c d.txt": b"",
}


@pytest.fixture
def api(hub_here):
    """Return the client of alice."""
    return HfApi(endpoint=hub_here.url, token="hf_alice")


@pytest.fixture
def repo(hub_here, api):
    """Return a repository with a text file, a large one, an empty one, and folders."""
    api.create_repo(NAME)
    operations = [CommitOperationAdd(path, data) for path, data in FILES.items()]
    api.create_commit(NAME, operations, commit_message="first", commit_description="more")
    return hub_here.repo(NAME)
