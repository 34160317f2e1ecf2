"""Releases that were changed by hand, and what finds it."""

from pathlib import Path

import pytest
from rewriting import REPO, TAG, change_weights, rewrite

from gemnet.errors import CardError, ExportError, GemnetError, ManifestError, ReleaseError
from gemnet.export.fitness import check_onnx, check_release, check_trained
from gemnet.manifest import FILE, describe


def dirty(change):
    """Changes a release and lists the change, as somebody who edits a release by hand would."""

    def spoil(folder: Path) -> None:
        change(folder)
        describe(folder).write(folder / FILE)

    return spoil


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def replaced(name: str, old: str, new: str):
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


TOP1 = "<!-- percent: train.json#/result/test/top1"
SPOILT = {
    "flipped byte": (lambda folder: flip(folder / "model.safetensors"), ManifestError, "model.safetensors is damaged"),
    "file not listed": (lambda folder: (folder / "notes.txt").touch(), ReleaseError, "notes.txt is not listed"),
    "file lost": (lambda folder: (folder / "cell.svg").unlink(), GemnetError, "cell.svg"),
    "link": (lambda folder: (folder / "a.txt").symlink_to("/etc/hostname"), ManifestError, "a.txt is a link"),
    "no licence": (dirty(replaced("README.md", "license: apache-2.0\n", "")), CardError, "license: None"),
    "other licence": (dirty(replaced("config.json", "apache-2.0", "mit")), ReleaseError, "the config's 'mit'"),
    "better figure": (dirty(replaced("README.md", f" %{TOP1}", f"9 %{TOP1}")), CardError, "the card says"),
    "other repository": (dirty(replaced("README.md", "lab/tiny", "other/tiny")), ReleaseError, "never says"),
    "other weights": (
        dirty(lambda folder: rewrite(folder, "report.json", lambda report: report["metrics"].update(accuracy=0.3))),
        ReleaseError, r"not the weights that were trained: 30\.0 % of 256 images of fashion-mini are right",
    ),
    "exchanged ONNX file": (dirty(lambda folder: flip(folder / "onnx/model.onnx")), ReleaseError, "report.json speaks"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_release_that_was_spoilt_by_hand_is_refused(release, case):
    spoil, error, message = SPOILT[case]
    spoil(release)
    with pytest.raises(error, match=message):
        check_whole(release)


def check_whole(folder: Path) -> None:
    check_release(folder, REPO, TAG)
    check_trained(folder)
    check_onnx(folder)


def test_a_release_passes_the_gate_again(release_folder):
    check_whole(release_folder)


def test_onnx_files_of_other_weights_are_refused(release):
    rewrite(release, "report.json", lambda report: report.update(weights="sha256 " + "0" * 64))
    with pytest.raises(ReleaseError, match="the ONNX files are of the weights sha256 0000"):
        check_onnx(release)


def test_an_onnx_file_that_differs_from_its_weights_is_refused(release):
    change_weights(release, lambda name, value: value * 1.01 if name == "head.fc.weight" else value)
    from gemnet.durable import file_sha256

    weights = f"sha256 {file_sha256(release / 'model.safetensors')}"
    rewrite(release, "report.json", lambda report: report.update(weights=weights))
    rewrite(release, "onnx/config.json", lambda config: config.update(weights=weights))
    with pytest.raises(ExportError):
        check_onnx(release)
