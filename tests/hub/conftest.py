"""A client of the stand-in for the Hub, and a repository there."""

import pytest
from hub_client import FILES, NAME, add
from huggingface_hub import HfApi


@pytest.fixture
def api(hub_here):
    """Return the client of alice."""
    return HfApi(endpoint=hub_here.url, token="hf_alice")


@pytest.fixture
def repo(hub_here, api):
    """Return a repository with a text file, a large one, an empty one, and folders."""
    api.create_repo(NAME)
    api.create_commit(NAME, add(**FILES), commit_message="first", commit_description="more")
    return hub_here.repo(NAME)
