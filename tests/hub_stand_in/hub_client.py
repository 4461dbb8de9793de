"""What the tests of the stand-in for the Hub share: a repository's name and files, a commit in one word, a refusal's status."""

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError

NAME = "alice/model"
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"\0weights" * 50,
    "docs/a.txt": "가나다".encode(),
    "docs/b/c d.txt": b"",
}


def add(**files: bytes) -> list[CommitOperationAdd]:
    """Return the operations that add files."""
    return [CommitOperationAdd(path, data) for path, data in files.items()]


def status(call, *arguments, **options) -> int:
    """Return the status of the refusal that a call meets."""
    with pytest.raises(HfHubHTTPError) as refusal:
        call(*arguments, **options)
    return refusal.value.response.status_code
