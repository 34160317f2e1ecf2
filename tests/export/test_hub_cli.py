"""`gemnet publish` from the command line: what it prints, what it leaves, and that the token is nowhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gemnet.cli import main
from gemnet.manifest import Manifest

REPO, TAG, TOKEN = "lab/tiny", "v1.0.0", "hf_Secret0123456789"
PUBLISH = ("--repo", REPO, "--tag", TAG, "--data", "fashion-mini")


@pytest.fixture
def lab(hub, monkeypatch):
    hub.add_token(TOKEN, "anna", orgs=("lab",))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


@pytest.fixture
def trained(trained_folder, release_folder, tmp_path) -> Path:
    """A trained folder, whose release has been written before."""
    folder = shutil.copytree(trained_folder, tmp_path / "tiny")
    shutil.copytree(release_folder, folder / "release")
    return folder


def run(*arguments: object):
    """The command's result; the token stands in nothing that it prints."""
    result = CliRunner().invoke(main, ["publish", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert TOKEN not in result.output
    return result


def test_it_says_what_it_did_and_the_second_time_that_nothing_was_sent(lab, trained):
    first = run(trained, *PUBLISH)
    assert first.exit_code == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0] == f"{trained}/release: the release is whole"
    assert "  + model.safetensors" in lines
    assert re.fullmatch(rf"{lab.url}/lab/tiny: commit \w{{8}}, read back", lines[-2])
    assert lines[-1] == "tag v1.0.0 was set"
    second = run(trained, *PUBLISH).stdout.splitlines()
    assert re.fullmatch(rf"{lab.url}/lab/tiny: commit \w{{8}} holds it already, nothing was sent", second[-2])
    assert second[-1] == "tag v1.0.0 was there already"
    assert len(lab.repos[REPO].commits) == 2


def test_json_is_one_line_with_everything(lab, trained):
    said = json.loads(run(trained, *PUBLISH, "--json").stdout)
    assert said["commit"] == lab.repos[REPO].head.oid
    assert said["folder"] == str(trained / "release")
    assert (said["committed"], said["tagged"], said["tag"], said["notes"]) == (True, True, TAG, [])
    assert "manifest.json" in said["difference"]["added"]


def test_a_dry_run_says_what_would_change(lab, trained):
    lines = run(trained, *PUBLISH, "--dry-run").stdout.splitlines()
    assert lines[-1] == f"{lab.url}/lab/tiny: nothing was sent; the files above would change"
    assert "  + README.md" in lines and lab.repos == {}
    run(trained, *PUBLISH)
    again = run(trained, *PUBLISH, "--dry-run").stdout
    assert re.search(r"nothing was sent; commit \w{8} holds it already$", again.strip())


def test_a_release_folder_is_published_as_it_is(lab, release_folder):
    assert run(release_folder, "--repo", REPO, "--tag", TAG).exit_code == 0
    files = set(Manifest.read(release_folder / "manifest.json").files)
    assert set(lab.repos[REPO].files) == {*files, "manifest.json"}
    wrong = run(release_folder, "--repo", "lab/other", "--tag", TAG)
    assert wrong.exit_code == 1
    assert 'is the card of another release: it never says "hf-hub:lab/other@v1.0.0"; publish' in wrong.stderr
    assert "publish the trained folder again with --repo lab/other --tag v1.0.0, which" in wrong.stderr


def test_a_folder_may_be_named_as_timm_names_it(lab, trained, monkeypatch):
    monkeypatch.chdir(trained.parent)
    assert run("local-dir:tiny", *PUBLISH).exit_code == 0
    assert Path("tiny/release/manifest.json").is_file() and lab.repos[REPO].tags
    gone = run("local-dir:absent", *PUBLISH)
    assert (gone.exit_code, "unknown model or folder 'absent/'" in gone.stderr) == (2, True)


def test_a_registered_name_wins_over_a_folder_of_that_name(lab, trained, monkeypatch):
    monkeypatch.chdir(trained.parent)
    trained.rename("gemnet_b")
    assert "the zoo has no weights of gemnet_b" in run("gemnet_b", *PUBLISH).stderr
    assert run("local-dir:gemnet_b", *PUBLISH).exit_code == 0
    Path("gemnet_b/release").rename("release")
    shutil.rmtree("gemnet_b")
    Path("release").rename("gemnet_b")
    assert "the zoo has no weights of gemnet_b" in run("gemnet_b", "--repo", REPO, "--tag", TAG).stderr
    done = run("./gemnet_b", "--repo", REPO, "--tag", TAG)
    assert done.exit_code == 0, done.stderr


def test_options_for_what_is_in_a_release_are_refused_for_one_that_is_written(lab, release_folder, tmp_path):
    asked = ("--precision", "fp32", "--data", "fashion-mini", "--benchmark", "lab/x:top1", "--out", tmp_path / "out")
    said = run(release_folder, "--repo", REPO, "--tag", TAG, *asked)
    assert said.exit_code == 2
    wanted = "is a release, published as it is; leave out --precision, --data, --benchmark, --out\n"
    assert said.stderr.endswith(wanted)
    assert "leave out --data\n" in run(release_folder, *PUBLISH).stderr
    assert lab.log == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing option '--repo'"),
        (("--repo", "tiny"), 2, "Error: a repository is named ORG/NAME, in letters, digits and ._-, got 'tiny'\n"),
        (("--repo", REPO, "--tag", "one"), 2, "Error: a tag is a version such as v1.0.0, got 'one'\n"),
        (("--repo", REPO, "--precision", "int4"), 2, "'int4' is not one of fp32, fp16, int8"),
    ],
)
def test_a_mistake_is_one_line(lab, trained, arguments, code, message):
    result = run(trained, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert lab.log == []


def test_an_expired_token_is_said_and_never_shown(lab, trained):
    lab.fail("batch", status=401)
    result = run(trained, *PUBLISH)
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: the Hub refuses the token, which may have expired; run hf auth login, or set HF_TOKEN; lab/tiny was "
        f"made and is empty; the release itself is whole and in {trained}/release\n"
    )


def test_the_token_is_written_nowhere(lab, trained, tmp_path):
    env = lab.env(tmp_path / "home", TOKEN) | {"HF_DEBUG": "1"}
    command = [sys.executable, "-W", "default", "-m", "gemnet.cli", "publish", str(trained), *PUBLISH]
    lab.fail("commit", status=500)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert "the commit had not landed; it was sent again" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert left == []
    assert all(TOKEN.encode() not in data for data in lab.repos[REPO].files.values())


@pytest.mark.slow
def test_what_was_published_loads_in_fresh_processes(lab, trained, tmp_path):
    """From the training's folder to the Hub, and by timm and gemnet from there, each in a new process."""
    shutil.rmtree(trained / "release")
    env = lab.env(tmp_path / "home", TOKEN)
    command = [sys.executable, "-m", "gemnet.cli", "publish", str(trained), *PUBLISH, "--precision", "fp32,fp16"]
    subprocess.run(command, env=env, check=True, cwd=Path.cwd())
    code = f"""
import gemnet, timm, torch
image = torch.ones(1, 1, 28, 28)
own = timm.create_model("local-dir:{trained}", pretrained=True).eval()(image)
for model in (timm.create_model("hf-hub:{REPO}@{TAG}", pretrained=True), gemnet.from_pretrained("hf-hub:{REPO}@{TAG}")):
    assert torch.equal(model.eval()(image), own)
"""
    reader = lab.env(tmp_path / "other", None)
    subprocess.run([sys.executable, "-c", code], env=reader, check=True, cwd=Path.cwd())
    offline = reader | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    subprocess.run([sys.executable, "-c", code], env=offline, check=True, cwd=Path.cwd())
