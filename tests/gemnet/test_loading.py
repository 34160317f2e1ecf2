"""Loading against a Hub on this machine, from folders, and from the package; the client is the real one."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import timm
import torch
from tiny_models import CFG, IMAGES, answers, build, flip, push

import gemnet
from gemnet import loading
from gemnet.errors import (
    ConfigError,
    FileError,
    HubError,
    ManifestError,
    NoWeightsError,
    UnknownArgumentError,
)
from gemnet.fetching import unlisted, verify
from gemnet.saving import save_folder
from gemnet.task import trained_model


def run(code, hub, home, **env):
    """What Python says in a fresh process that talks to the Hub."""
    place = {**hub.env(home), **env}
    done = subprocess.run([sys.executable, "-c", code], env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("ref", "revision"),
    [
        ("acme/net", None), ("acme/net@v1.0.0", None), ("hf-hub:acme/net@v1.0.0", None), ("hf_hub:acme/net", None),
        ("acme/net", "v1.0.0"), ("acme/net", "COMMIT"), ("local-dir:FOLDER", None), ("FOLDER", None),
    ],
)  # fmt: skip
def test_a_reference_loads_what_was_published(ref, revision, repo, folder, published):
    revision = repo.head.oid if revision == "COMMIT" else revision
    model = gemnet.from_pretrained(ref.replace("FOLDER", str(folder)), revision)
    assert torch.equal(answers(model), answers(published))
    assert not model.training
    cfg = model.pretrained_cfg
    assert (cfg["mean"], cfg["std"], cfg["input_size"], cfg["crop_pct"]) == ((0.3,), (0.2,), (1, 28, 28), 1.0)
    assert cfg["label_names"] == ("a", "b", "c")
    assert "state_dict" not in cfg
    assert cfg["source"] == ("local-dir" if "FOLDER" in ref else "hf-hub")
    assert model.cells == published.cells


def test_a_folder_is_loaded_by_its_path_and_never_for_a_name_that_is_known(folder, published, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename("gemnet_b")
    for ref in (folder.with_name("gemnet_b"), "./gemnet_b", "local-dir:gemnet_b", "gemnet_b/"):
        assert torch.equal(answers(gemnet.from_pretrained(ref)), answers(published))
    with pytest.raises(NoWeightsError, match="the zoo has no weights of gemnet_b"):
        gemnet.from_pretrained("gemnet_b")


def test_what_is_saved_of_a_loaded_model_loads_again(folder, published, tmp_path):
    model = gemnet.from_pretrained(folder)
    save_folder(model, tmp_path / "again")
    timm.models.save_for_hf(model, tmp_path / "timms", safe_serialization=True)
    assert torch.equal(answers(gemnet.from_pretrained(tmp_path / "again")), answers(published))
    theirs = timm.create_model(f"local-dir:{tmp_path}/timms", pretrained=True).eval()
    assert torch.equal(answers(theirs), answers(published))


def test_a_model_is_adapted_as_timm_does(folder, published):
    model = gemnet.from_pretrained(folder, num_classes=7, in_chans=3, drop_rate=0.1)
    assert model(torch.zeros(1, 3, 28, 28)).shape == (1, 7)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7, in_chans=3)
    assert torch.equal(model.stem.conv.weight, theirs.stem.conv.weight)
    assert torch.equal(model.conv_head.conv.weight, published.conv_head.conv.weight)
    features = gemnet.from_pretrained(folder, features_only=True, out_indices=(1, 2))
    assert [f.shape[1] for f in features(IMAGES)] == [16, 24]
    assert "state_dict" not in features.pretrained_cfg


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "cell", "pretrained", "nonsense"])
def test_an_argument_that_would_change_what_is_loaded_is_refused(name, folder):
    with pytest.raises(UnknownArgumentError, match=name):
        gemnet.from_pretrained(folder, **{name: "/tmp/evil.pth"})


@pytest.mark.parametrize("arguments", [{"cell": "gemnet_a"}, {"nonsense": 1}])
def test_the_known_arguments_are_one_list(arguments, folder):
    for ref in (folder, "gemnet_a_cifar"):
        with pytest.raises(UnknownArgumentError) as caught:
            gemnet.from_pretrained(ref, **arguments)
        assert {"num_classes", "act_layer", "out_indices", "scriptable"} < set(caught.value.known)
        assert not {"cell", "net", "pretrained", "pretrained_cfg", "checkpoint_path"} & set(caught.value.known)


@pytest.mark.parametrize(
    "arguments", [{"num_classes": "x"}, {"num_classes": -1}, {"num_classes": 2.5}, {"in_chans": 0}, {"drop_rate": "x"}]
)
def test_a_number_that_is_none_is_refused_in_one_line(arguments, folder):
    ((name, value),) = arguments.items()
    for ref in (folder, "gemnet_a_cifar"):
        with pytest.raises(ConfigError, match=rf"^{name} must be a (whole )?number from [01] on, got {value!r}$"):
            gemnet.from_pretrained(ref, **arguments)


def test_the_package_offers_the_function_without_importing_it():
    code = "import gemnet, sys; print('timm' in sys.modules, callable(gemnet.from_pretrained), 'timm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
    with pytest.raises(AttributeError, match="has no attribute 'from_pretrain'"):
        gemnet.from_pretrain  # noqa: B018


LOAD_ALL = """
import json, sys
import gemnet, timm, torch
images = torch.linspace(-1, 1, 2 * 28 * 28).reshape(2, 1, 28, 28)
for name in ("timm hf-hub:acme/net@v1.0.0", "timm local-dir:FOLDER", "ours acme/net@v1.0.0", "ours FOLDER"):
    by, ref = name.split(" ", 1)
    model = timm.create_model(ref, pretrained=True).eval() if by == "timm" else gemnet.from_pretrained(ref)
    with torch.no_grad():
        print(json.dumps(model(images).tolist()))
"""


def test_a_fresh_process_loads_a_cell_that_is_in_no_zoo(hub, repo, folder, published, tmp_path):
    told = run(LOAD_ALL.replace("FOLDER", str(folder)), hub, tmp_path / "home")
    assert [json.loads(line) for line in told.splitlines()] == [answers(published).tolist()] * 4


@pytest.mark.slow
def test_a_fresh_process_loads_offline_what_another_has_loaded(hub, repo, folder, published, tmp_path):
    code = LOAD_ALL.replace("FOLDER", str(folder))
    online = run(code, hub, tmp_path / "home")
    hub.log.clear()
    assert run(code, hub, tmp_path / "home", HF_HUB_OFFLINE="1") == online
    assert hub.log == []


def test_a_release_that_moves_on_while_it_is_loaded_is_loaded_as_it_was(hub, repo, folder, published, tmp_path):
    other = save_folder(build(1), tmp_path / "other", pretrained_cfg=CFG)
    hub.fail("resolve", skip=1, first=lambda: push(repo, other))  # when the manifest is there and the config is not
    assert torch.equal(answers(gemnet.from_pretrained("acme/net")), answers(published))
    assert torch.equal(answers(gemnet.from_pretrained("acme/net")), answers(build(1)))
    assert torch.equal(answers(gemnet.from_pretrained("acme/net@v1.0.0")), answers(published))


def test_two_releases_mixed_into_one_are_refused(hub, repo, folder, tmp_path):
    other = save_folder(build(1), tmp_path / "other", pretrained_cfg=CFG)
    repo.put("careless", model__safetensors=(other / "model.safetensors").read_bytes())
    for load in (gemnet.from_pretrained, lambda ref: timm.create_model(f"hf-hub:{ref}", pretrained=True)):
        with pytest.raises(ManifestError, match=r"model\.safetensors is damaged"):
            load("acme/net")


LOADS = {
    "ours": gemnet.from_pretrained,
    "timm": lambda ref: timm.create_model(f"hf-hub:{ref}" if "@" in ref else f"local-dir:{ref}", pretrained=True),
    "gemnet eval": lambda ref: trained_model(f"hf-hub:{ref}" if "@" in ref else ref, None, 3, 1, None, None),
    "verify": lambda ref: [_raise(row) for row in verify(ref)],
}


def _raise(row):
    if row.problem:
        raise ManifestError(row.problem)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("load", LOADS)
def test_a_flipped_byte_in_a_folder_is_refused_by_name(load, name, folder):
    LOADS[load](str(folder))
    text = (folder / name).read_bytes()
    flip(folder / name, text.index(b"0.3") + 2 if name == "config.json" else -1)
    with pytest.raises(ManifestError, match=rf"{re.escape(str(folder / name))} is damaged: .*; copy or fetch it again"):
        LOADS[load](str(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("load", LOADS)
def test_a_flipped_byte_in_the_cache_is_refused_and_the_remedy_helps(load, name, hub, repo, tmp_path):
    gemnet.from_pretrained("acme/net@v1.0.0")
    cache = tmp_path / "hub-cache" / "models--acme--net"
    (file,) = cache.glob(f"snapshots/*/{name}")
    flip(file.resolve(), file.read_bytes().index(b"0.3") + 2 if name == "config.json" else -1)
    with pytest.raises(ManifestError, match=rf"{name} is damaged: .*; remove {re.escape(str(cache))} and load again"):
        LOADS[load]("acme/net@v1.0.0")
    shutil.rmtree(cache)
    LOADS[load]("acme/net@v1.0.0")


@pytest.mark.parametrize("how", [{"flip": True}, {"cut": 0.5, "times": 99}])
def test_a_damaged_download_is_refused(how, hub, repo):
    hub.fail("cdn", **how)
    with pytest.raises((ManifestError, HubError), match=r"model\.safetensors .*(is damaged|cannot be down|bytes)"):
        gemnet.from_pretrained("acme/net@v1.0.0")


def test_a_connection_that_breaks_once_is_mended(hub, repo, published):
    hub.fail("cdn", cut=0.5)
    assert torch.equal(answers(gemnet.from_pretrained("acme/net@v1.0.0")), answers(published))


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("acme/none", "the Hub shows no model acme/none: it is misspelt, or private and needs 'hf auth login'"),
        ("acme/net@v9", "acme/net has no revision 'v9'; leave it out for the newest"),
        ("acme/bare", r"acme/bare has no manifest.json, so nothing says .* timm.create_model\('hf-hub:acme/bare'"),
    ],
)
def test_what_the_hub_has_not_is_told_in_a_line(ref, words, hub, repo):
    hub.add_repo("acme/bare", config__json=b"{}")
    with pytest.raises((HubError, FileError), match=words):
        gemnet.from_pretrained(ref)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 500, "times": 99}, "the Hub cannot be reached"),
        ({"drop": True, "times": 99}, "manifest.json of acme/net cannot be downloaded: Server disconnected"),
        ({"status": 403, "times": 99}, "the Hub cannot be reached|the Hub refuses acme/net to this token"),
    ],
)
def test_a_hub_that_does_not_answer_is_told_in_a_line(fault, words, hub, repo, published):
    hub.fail("head", **fault)
    with pytest.raises(HubError, match=words) as error:
        gemnet.from_pretrained("acme/net")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    hub.faults.clear()
    gemnet.from_pretrained("acme/net")
    hub.fail("head", **fault)  # what is in the cache needs no Hub
    assert torch.equal(answers(gemnet.from_pretrained("acme/net")), answers(published))


def test_a_token_that_ran_out_is_not_shown(hub, folder, monkeypatch):
    hub.add_token("hf_secret", "acme")
    push(hub.add_repo("acme/closed", private=True), folder)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    gemnet.from_pretrained("acme/closed")
    hub.expire("hf_secret")
    shutil.rmtree(os.path.join(hub_cache(), "models--acme--closed"))
    with pytest.raises(HubError, match="refuses acme/closed to this token; log in anew by 'hf auth login'") as error:
        gemnet.from_pretrained("acme/closed")
    assert "hf_secret" not in str(error.value)


def hub_cache():
    from huggingface_hub import constants

    return constants.HF_HUB_CACHE


def test_without_a_cache_offline_says_what_to_do(hub, repo, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    words = r"not in the cache and HF_HUB_OFFLINE is set; .*'gemnet fetch acme/net@v1\.0\.0 --to DIR'"
    with pytest.raises(HubError, match=words):
        gemnet.from_pretrained("acme/net@v1.0.0")


def test_a_folder_without_a_manifest_is_left_to_timm(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(FileError, match=r"has no manifest\.json.*timm\.create_model\('local-dir:.*loads it unverified"):
        gemnet.from_pretrained(folder)
    timm.create_model(f"local-dir:{folder}", pretrained=True)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileError, match=r"holds no model\.safetensors, .*gemnet predict takes exports"):
        gemnet.from_pretrained(folder)


def test_a_model_on_the_hub_without_a_manifest_is_left_to_timm(hub, folder, published, monkeypatch):
    (folder / "manifest.json").unlink()
    push(hub.add_repo("acme/bare"), folder)
    for _ in range(2):  # the second time without the Hub
        theirs = timm.create_model("hf-hub:acme/bare", pretrained=True).eval()
        assert torch.equal(answers(theirs), answers(published))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_files_that_are_not_listed_are_never_read(folder, published, hub):
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04evil")
    (folder / "link").symlink_to("/etc/passwd")
    assert torch.equal(answers(gemnet.from_pretrained(folder)), answers(published))
    assert sorted(unlisted(folder)) == ["link", "pytorch_model.bin"]
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["model.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=r"does not list 'model\.safetensors'"):
        gemnet.from_pretrained(folder)


def test_a_config_that_changes_after_it_was_read_changes_nothing(folder, published, monkeypatch):
    parse = loading.parse_json

    def exchange(content, where):
        (folder / "config.json").write_text("{}")
        return parse(content, where)

    monkeypatch.setattr(loading, "parse_json", exchange)
    assert torch.equal(answers(gemnet.from_pretrained(folder)), answers(published))
    with pytest.raises(ManifestError, match=r"config\.json has 2 bytes, not"):
        gemnet.from_pretrained(folder)
