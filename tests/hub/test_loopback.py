"""The loopback Hub against the real client: what it answers is what the client expects of the Hub."""

import hashlib
import subprocess
import sys

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

WEIGHTS = bytes(range(256)) * 40
FILES = {"README.md": b"---\nlicense: apache-2.0\n---\n# a net\n", "model.safetensors": WEIGHTS, "deep/a.json": b"{}"}


@pytest.fixture
def api(hub) -> HfApi:
    hub.add_token("hf_anna", "anna", orgs=("lab",))
    return HfApi(token="hf_anna")


def commit(api: HfApi, name: str = "lab/net", parent: str | None = None, **more: bytes):
    operations = [CommitOperationAdd(path, data) for path, data in {**FILES, **more}.items()]
    return api.create_commit(name, operations, commit_message="release", parent_commit=parent)


def status(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def test_a_commit_is_what_was_sent(hub, api):
    api.create_repo("lab/net")
    assert set(hub.repos["lab/net"].files) == set()
    done = commit(api)
    assert hub.repos["lab/net"].files == FILES
    assert api.repo_info("lab/net").sha == done.oid == hub.repos["lab/net"].head.oid
    assert [c.title for c in api.list_repo_commits("lab/net")] == ["release", "initial commit"]
    tree = {file.path: file for file in api.list_repo_tree("lab/net", recursive=True, revision=done.oid)}
    assert tree["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    expected = subprocess.run(["git", "hash-object", "--stdin"], input=b"{}", capture_output=True, check=True).stdout
    assert tree["deep/a.json"].blob_id == expected.decode().strip()
    assert tree["deep"].path == "deep"
    assert [file.path for file in api.get_paths_info("lab/net", ["README.md", "none"])] == ["README.md"]
    assert [model.id for model in api.list_models(author="lab")] == ["lab/net"]


def test_an_equal_commit_is_none_and_a_changed_one_sends_what_changed(hub, api):
    api.create_repo("lab/net")
    first = commit(api)
    hub.log.clear()
    assert commit(api).oid == first.oid
    assert "commit" not in hub.log
    commit(api, **{"deep/a.json": b"[]"})
    operations = [CommitOperationDelete("deep/a.json")]
    api.create_commit("lab/net", operations, commit_message="without")
    assert "deep/a.json" not in hub.repos["lab/net"].files
    assert len(hub.repos["lab/net"].commits) == 4


def test_a_parent_that_is_not_the_head_is_refused(hub, api):
    api.create_repo("lab/net")
    head = api.repo_info("lab/net").sha
    hub.repos["lab/net"].put("somebody", a__txt=b"a")
    with pytest.raises(HfHubHTTPError) as error:
        commit(api, parent=head)
    assert status(error) == 412
    assert hub.repos["lab/net"].files == {"a.txt": b"a"}


def test_downloads_come_through_redirects_with_their_hashes(hub, api, tmp_path):
    hub.add_repo("lab/net", private=True, model__safetensors=WEIGHTS, config__json=b"{}")
    path = hf_hub_download("lab/net", "model.safetensors", token="hf_anna")
    with open(path, "rb") as file:
        assert file.read() == WEIGHTS
    assert hub.log == ["head", "cdn"]
    folder = snapshot_download("lab/net", token="hf_anna", local_dir=tmp_path / "net")
    with open(f"{folder}/config.json", "rb") as file:
        assert file.read() == b"{}"
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("lab/net", "pytorch_model.bin", token="hf_anna")


def test_a_cut_download_is_resumed_by_range(hub, api):
    hub.add_repo("lab/net", model__safetensors=WEIGHTS)
    hub.fail("cdn", cut=0.4)
    with open(hf_hub_download("lab/net", "model.safetensors"), "rb") as file:
        assert file.read() == WEIGHTS
    assert hub.log == ["head", "cdn", "cdn"]


def test_a_flipped_byte_reaches_the_user_of_the_plain_client(hub, api):
    hub.add_repo("lab/net", model__safetensors=WEIGHTS)
    hub.fail("cdn", flip=True)
    with open(hf_hub_download("lab/net", "model.safetensors"), "rb") as file:
        assert file.read() != WEIGHTS


def test_private_repositories_are_hidden(hub, api):
    hub.add_repo("other/secret", private=True)
    hub.add_token("hf_bob", "bob")
    for token in (False, "hf_bob"):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).repo_info("other/secret")
    with pytest.raises(HfHubHTTPError) as error:
        HfApi(token="hf_bob").create_repo("lab/net")
    assert status(error) == 403


def test_an_expired_token_is_told_from_a_hidden_repository(hub, api):
    hub.add_repo("lab/net")
    assert api.whoami()["name"] == "anna"
    hub.expire("hf_anna")
    with pytest.raises(HfHubHTTPError) as error:
        api.repo_info("lab/net")
    assert status(error) == 401
    assert not isinstance(error.value, RepositoryNotFoundError)


def test_tags_are_made_once_and_resolve(hub, api):
    api.create_repo("lab/net")
    done = commit(api)
    api.create_tag("lab/net", tag="v1", revision=done.oid)
    commit(api, **{"deep/a.json": b"[]"})
    with pytest.raises(HfHubHTTPError) as error:
        api.create_tag("lab/net", tag="v1")
    assert status(error) == 409
    assert api.repo_info("lab/net", revision="v1").sha == done.oid
    assert [(tag.name, tag.target_commit) for tag in api.list_repo_refs("lab/net").tags] == [("v1", done.oid)]
    api.delete_tag("lab/net", tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info("lab/net", revision="v1")


@pytest.mark.parametrize(("late", "commits"), [(False, 1), (True, 2)])
@pytest.mark.parametrize("how", [{"status": 500}, {"drop": True}])
def test_a_commit_fails_before_or_after_it_landed(hub, api, how, late, commits):
    api.create_repo("lab/net")
    hub.fail("commit", late=late, **how)
    with pytest.raises((HfHubHTTPError, httpx2.HTTPError)):
        commit(api)
    assert len(hub.repos["lab/net"].commits) == commits


def test_an_upload_that_fails_once_is_tried_again(hub, api):
    api.create_repo("lab/net")
    hub.fail("upload", status=500)
    commit(api)
    assert hub.repos["lab/net"].files == FILES


def test_a_card_without_the_name_of_its_licence_is_refused(hub, api):
    api.create_repo("lab/net")
    with pytest.raises(ValueError, match="license_name"):
        commit(api, **{"README.md": b"---\nlicense: other\n---\n"})


def test_content_that_is_not_what_was_announced_is_refused(hub):
    assert httpx2.put(f"{hub.url}/lfs/{'0' * 64}", content=b"other").status_code == 400
    assert hub.objects == {}


def test_a_new_process_talks_to_it(hub, tmp_path):
    hub.add_token("hf_anna", "anna")
    code = "from huggingface_hub import HfApi; print(HfApi().whoami()['name'])"
    env = hub.env(tmp_path, "hf_anna")
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "anna\n"
