"""Whom and what the stand-in for the Hub refuses, and how: the codes that publishing has to understand."""

import pytest
from hub_client import NAME, add, status
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.utils import get_session

# ---- who may


def test_rights(hub_here, api):
    reader, bob, nobody = (HfApi(endpoint=hub_here.url, token=token) for token in ("hf_reader", "hf_bob", False))
    assert status(nobody.create_repo, NAME) == 401
    assert status(reader.create_repo, NAME) == 403
    assert status(bob.create_repo, NAME) == 403
    assert status(bob.create_repo, "lab/model") == 403
    assert status(HfApi(endpoint=hub_here.url, token="hf_wrong").whoami) == 401
    api.create_repo("lab/model", private=True)
    assert api.create_repo(NAME, private=True).repo_id == NAME
    assert status(api.create_repo, NAME) == 409
    api.create_repo(NAME, exist_ok=True)
    for other in (bob, nobody):
        with pytest.raises(RepositoryNotFoundError):
            other.model_info(NAME)
        with pytest.raises(RepositoryNotFoundError):
            other.create_commit(NAME, add(x=b"1"), commit_message="x")
    assert reader.model_info(NAME).private
    assert bob.model_info("lab/model").private
    assert status(bob.create_commit, "lab/model", add(x=b"1"), commit_message="x") == 403
    assert status(reader.create_commit, NAME, add(x=b"1"), commit_message="x") == 403
    assert status(reader.create_commit, NAME, add(x=b"1"), commit_message="x", create_pr=True) == 403
    assert len(hub_here.repo(NAME).commits) == 1
    api.update_repo_settings(NAME, private=False, gated="auto")
    assert not bob.model_info(NAME).private
    for other in (bob, nobody):
        with pytest.raises(GatedRepoError):
            other.hf_hub_download(NAME, ".gitattributes")
    assert status(bob.delete_repo, NAME) == 403
    api.delete_repo(NAME)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(NAME)


# ---- what it refuses


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("license: my-own", '"license"'),
        ("language: Klingon", '"language"'),
        ("pipeline_tag: guess", '"pipeline_tag"'),
        ("datasets: [a b]", '"datasets"'),
        ("tags: [1]", '"tags"'),
        ("model-index: [{results: []}]", "model-index[0].name"),
        ("model-index: [{name: m, results: [{task: {type: translation}, metrics: []}]}]", "dataset.type"),
        ("a: [", "yaml metadata"),
    ],
)
def test_cards_are_checked(hub_here, api, repo, front, message):
    with pytest.raises(ValueError, match="Invalid metadata") as error:
        api.create_commit(NAME, add(**{"README.md": f"---\n{front}\n---\n".encode()}), commit_message="card")
    assert message in str(error.value)
    assert "README.md" not in hub_here.files(NAME)


def test_a_right_card_passes(api, repo):
    card = ModelCard("---\nlicense: mit\nlanguage: [en, ko]\npipeline_tag: translation\n---\n# x\n")
    api.upload_file(path_or_fileobj=str(card).encode(), path_in_repo="README.md", repo_id=NAME)
    assert api.model_info(NAME).pipeline_tag == "translation"
    with pytest.warns(UserWarning, match="empty or missing"):
        api.upload_file(path_or_fileobj=b"# x", path_in_repo="README.md", repo_id=NAME)


def ndjson(*lines: str) -> dict:
    return {"content": "\n".join(lines), "headers": {"Content-Type": "application/x-ndjson"}}


HEADER = '{"key": "header", "value": {"summary": "s", "description": ""}}'
LINE = '{"key": "file", "value": {"path": "%s", "content": "%s", "encoding": "base64"}}'


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("commit/main", ndjson(LINE % ("a", "eA==")), "begins with a header"),
        ("commit/main", ndjson(HEADER, '{"key": "magic", "value": {}}'), "magic"),
        ("commit/main", ndjson(HEADER, LINE % ("../a", "eA==")), "not a path"),
        ("commit/main", ndjson(HEADER, LINE % ("/a", "eA==")), "not a path"),
        ("commit/main", ndjson(HEADER, LINE % (".git/config", "eA==")), "not a path"),
        ("commit/main", ndjson(HEADER, LINE % ("a", "eA=")), "not base64"),
        ("commit/main", ndjson(HEADER, LINE % ("a.bin", "eA==")), "large file storage"),
        ("commit/main", ndjson(HEADER, "{"), "a line of a commit"),
        ("commit/main", {"json": {}}, "application/json"),
        (
            "commit/main",
            ndjson(HEADER, '{"key": "lfsFile", "value": {"path": "a", "algo": "sha256", "oid": "0", "size": 1}}'),
            "no object",
        ),
        ("preupload/main", {"json": {"files": [], "more": 1}}, "unknown keys"),
        ("tag/main", {"json": {}}, "lacks"),
        ("magic/main", {"json": {}}, "not known here"),
    ],
)
def test_wrong_requests_are_refused_and_remembered(hub_here, repo, path, body, message):
    body = dict(body)
    headers = {"Authorization": "Bearer hf_alice"} | body.pop("headers", {})
    answer = get_session().post(f"{hub_here.url}/api/models/{NAME}/{path}", headers=headers, **body)
    assert answer.status_code == (501 if "magic/" in path else 400)
    (complaint,) = hub_here.complaints
    assert message in complaint
    assert len(repo.commits) == 2
    hub_here.complaints.clear()


def test_other_bytes_than_announced_are_refused(hub_here, api, repo):
    objects = [{"oid": "0" * 64, "size": 3}]
    batch = {"operation": "upload", "transfers": ["basic"], "objects": objects, "hash_algo": "sha256"}
    headers = {"Authorization": "Bearer hf_alice"}
    answer = get_session().post(f"{hub_here.url}/{NAME}.git/info/lfs/objects/batch", headers=headers, json=batch)
    href = answer.json()["objects"][0]["actions"]["upload"]["href"]
    assert get_session().put(href, content=b"abc").status_code == 400
    assert "3 bytes came, announced were 3" in hub_here.complaints.pop()
    assert list(repo.objects) == [repo.find("main").files["model.safetensors"].sha256]
