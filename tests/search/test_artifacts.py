import os

import pytest
from studies import create, reopen
from toys import Number

from gemnet.errors import ReplayError, StudyError


class Building:
    """A builder that counts its calls and can be stopped in the middle."""

    def __init__(self, stop=False):
        self.calls, self.stop = 0, stop

    def __call__(self, folder):
        self.calls += 1
        done = folder / "half.txt"
        self.found = done.exists()
        done.write_text("half")
        if self.stop:
            raise KeyboardInterrupt
        (folder / "sub").mkdir()
        (folder / "sub" / "weights.bin").write_bytes(b"weights")


def test_an_artifact_is_built_once_and_found_again(tmp_path, calls):
    build = Building()
    with create(tmp_path / "s", calls) as study:
        folder = study.artifact("encoder/0", build, inputs=[{"steps": 3}])
        assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*")) == ["half.txt", "sub/weights.bin"]
    with reopen(tmp_path / "s", calls) as study:
        assert study.artifact("encoder/0", build, inputs=[{"steps": 3}]) == folder
    with (
        reopen(tmp_path / "s", calls) as study,
        pytest.raises(ReplayError, match="replay diverged at encoder/0: the artifact was built from other inputs"),
    ):
        study.artifact("encoder/0", build, inputs=[{"steps": 4}])
    assert build.calls == 1


def test_an_interrupted_build_finds_what_it_left(tmp_path, calls):
    build = Building(stop=True)
    with create(tmp_path / "s", calls) as study, pytest.raises(KeyboardInterrupt):
        study.artifact("encoder", build)
    assert not build.found
    build.stop = False
    with reopen(tmp_path / "s", calls) as study:
        study.artifact("encoder", build)
    assert build.found


def test_an_artifact_that_was_journalled_but_not_renamed_is_taken(tmp_path, calls):
    build = Building()
    with create(tmp_path / "s", calls) as study:
        folder = study.artifact("encoder", build)
    os.rename(folder, folder.parent / ".partial" / folder.name)
    with reopen(tmp_path / "s", calls) as study:
        assert study.artifact("encoder", build) == folder
    assert build.calls == 1
    assert folder.is_dir()


class SafetensorError(Exception):
    """As that of safetensors, which is no OSError."""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left")])
def test_an_artifact_that_cannot_be_written_is_one_clear_line_and_is_built_later(tmp_path, calls, error):
    def full(folder):
        raise error

    with (
        create(tmp_path / "s", calls) as study,
        pytest.raises(StudyError, match=r"cannot build artifact 'encoder' in .*No space left.*; mend this and resume"),
    ):
        study.artifact("encoder", full)
    with reopen(tmp_path / "s", calls) as study:
        assert (study.artifact("encoder", Building()) / "half.txt").exists()


@pytest.mark.parametrize("state", ["damaged", "missing"])
def test_a_damaged_artifact_is_named_and_can_be_built_again(tmp_path, calls, state):
    build = Building()
    with create(tmp_path / "s", calls) as study:
        folder = study.artifact("encoder", build)
    file = folder / "sub" / "weights.bin"
    if state == "damaged":
        file.write_bytes(b"Weights")
    else:
        file.unlink()
    with (
        reopen(tmp_path / "s", calls) as study,
        pytest.raises(StudyError, match=f"artifact 'encoder': .*weights.bin is {state}; delete .* and resume"),
    ):
        study.artifact("encoder", build)
    for part in sorted(folder.rglob("*"), reverse=True):
        part.rmdir() if part.is_dir() else part.unlink()
    folder.rmdir()
    with reopen(tmp_path / "s", calls) as study:
        assert (study.artifact("encoder", build) / "sub" / "weights.bin").read_bytes() == b"weights"
    assert build.calls == 2


def test_the_inputs_of_an_artifact_are_results_not_times(tmp_path, calls):
    build = Building()
    with create(tmp_path / "a", calls) as study:
        first = study.artifact("table", build, inputs=study.evaluate("x", [Number(1)]))
    with create(tmp_path / "b", calls) as study:
        second = study.artifact("table", build, inputs=study.evaluate("x", [Number(1)]))
    with create(tmp_path / "c", calls, seed=6) as study:
        third = study.artifact("table", build, inputs=study.evaluate("x", [Number(1)]))
    assert first.name == second.name != third.name
