"""Single faults of benchmarks/faults.py: each breaks a search in one way, goes on with it, and tells what was seen.

All but the kills search with made-up accuracies, so that they take seconds: what is tried out is the study, not
the training.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gemnet.errors import JournalError, StudyError
from gemnet.search.compose import Parts, compose
from gemnet.search.evaluators.synthetic import Synthetic
from gemnet.search.journal import Journal
from gemnet.search.mending import open_mended
from gemnet.search.study import Study
from gemnet.search.trial import Arch
from gemnet.stopping import Stop

SETTINGS: dict[str, Any] = {
    "data": {"name": "none"},
    "space": {"name": "cells", "min_nodes": 6, "max_nodes": 16},
    "evaluator": {"name": "synthetic"},
    "strategy": {"name": "nasgem", "samples": 20, "candidates": 4096, "finalists": 4,
                 "encoder": {"form": "mlp", "steps": 20, "held_out": 64}, "predictor": {"form": "gp-embedding"}},
    "study": {"max_failed_share": 0.5, "time_limit_s": 2.0},
}  # fmt: skip
UNIT = 4096


@dataclass(frozen=True)
class Seen:
    """What came of a fault: how often it was caused, in words, finished trials that were lost or measured twice,
    and whether the search ended with the unbroken search's cell (None where it ended with a message)."""

    count: int
    what: str
    lost: int = 0
    repeated: int = 0
    same_best: bool | None = True


@dataclass(frozen=True)
class Faulty:
    """Made-up accuracies, and a fault (`raise`, `hang`, `die` or `memory`) where the key begins with one of `first`.

    Once each, as a file in `folder` tells, or always when there is no folder.
    """

    inner: Synthetic
    fault: str
    first: str
    folder: str = ""

    @property
    def fingerprint(self) -> str:
        """As without faults."""
        return self.inner.fingerprint

    def evaluate(self, arch: Arch, seed: int) -> dict[str, float]:
        """Metrics, or the fault."""
        mark = Path(self.folder) / arch.key if self.folder else None
        if arch.key[0] in self.first and not (mark and mark.exists()):
            if mark:
                mark.touch()
            self._fail()
        return self.inner.evaluate(arch, seed)

    def _fail(self) -> None:
        if self.fault == "raise":
            raise ValueError("this cell cannot be trained")
        if self.fault == "memory":
            raise MemoryError
        if self.fault == "hang":
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL)


class StopAfter(Stop):
    """Wishes to stop once a journal has a number of trials."""

    def __init__(self, trials: int) -> None:
        self.trials, self.study = trials, None

    @property
    def requested(self) -> bool:
        return self.study is not None and len(self.study._trials) >= self.trials


def parts(evaluator: Any = None) -> Parts:
    """The made-up search."""
    made = compose(SETTINGS)
    return replace(made, evaluator=evaluator) if evaluator else made


def searched(folder: Path, evaluator: Any = None, workers: int = 0, resume: bool = False) -> str:
    """The key of the cell that the made-up search finds."""
    start = Study.open if resume else Study.create
    with start(folder, parts(evaluator), workers=workers) as study:
        return study.run().arch_key


def stopped(folder: Path, trials: int) -> None:
    """A search that was stopped after some trials."""
    stop = StopAfter(trials)
    try:
        with Study.create(folder, parts(), stop=stop) as study:
            stop.study = study
            study.run()
    except KeyboardInterrupt:
        return
    raise AssertionError("it was not stopped")


def rows(folder: Path) -> list[tuple[str, str, Any]]:
    """A journal's rows but for times."""
    with Journal.open(folder / "journal.db", read_only=True) as journal:
        found = [(row.kind, row.key, row.body) for row in journal.rows]
    for kind, _, body in found:
        if kind == "trial":
            body["metrics"] = {name: value for name, value in body["metrics"].items() if not name.endswith("_s")}
    return sorted(found, key=lambda row: row[:2])


def expect(said: str, *texts: str) -> None:
    """Raises AssertionError unless all texts were said, and no traceback."""
    missing = [text for text in texts if text not in said]
    assert not missing, f"{missing} not in {said}"
    assert "Traceback" not in said, said


def raising(folder: Path, best: str) -> Seen:
    """A trial that raises is a failed trial; the search goes on without it."""
    searched(folder / "s", Faulty(Synthetic(data="none"), "raise", "01"))
    failed = [body for kind, _, body in rows(folder / "s") if kind == "trial" and body["status"] == "failed"]
    expect(str(failed), "this cell cannot be trained")
    return Seen(len(failed), "each a failed trial with its error; the search finished", same_best=None)


def once(fault: str, folder: Path, best: str) -> Seen:
    """A trial that hangs, or whose worker is killed, is measured again."""
    (folder / "marks").mkdir()
    faulty = Faulty(Synthetic(data="none"), fault, "0123", str(folder / "marks"))
    found = searched(folder / "s", faulty, workers=2)
    count = len(list((folder / "marks").iterdir()))
    assert count, "no architecture was hit"
    return Seen(count, "measured again, the search finished", same_best=found == best)


def deleted_artifact(folder: Path, best: str) -> Seen:
    """An artifact that is gone is built again."""
    stopped(folder / "s", 22)
    gone = [path for path in (folder / "s" / "artifacts").iterdir() if not path.name.startswith(".")]
    for path in gone:
        shutil.rmtree(path)
    return Seen(len(gone), "built again, the search finished", same_best=searched(folder / "s", resume=True) == best)


def damaged_artifact(folder: Path, best: str) -> Seen:
    """An artifact with other bytes is refused by name; deleted, it is built again."""
    stopped(folder / "s", 22)
    file = next((folder / "s" / "artifacts").glob("encoder-*/*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"\0\1")
    said = ""
    try:
        searched(folder / "s", resume=True)
    except StudyError as error:
        said = str(error)
    expect(said, "is damaged; delete")
    shutil.rmtree(file.parent)
    same = searched(folder / "s", resume=True) == best
    return Seen(1, "refused with the file's name; deleted and resumed, the search finished", same_best=same)


def truncated(folder: Path, best: str) -> Seen:
    """A journal that was cut off keeps the rows before the cut."""
    searched(folder / "whole")
    rng, again, cuts = random.Random(0), 0, 8
    for k in range(cuts):
        shutil.copytree(folder / "whole", folder / str(k))
        file = folder / str(k) / "journal.db"
        file.write_bytes(file.read_bytes()[: rng.randrange(2 * UNIT, file.stat().st_size)])
        with open_mended(file, lambda _: None) as journal:
            again += 24 - len(journal.of("trial"))
        assert searched(folder / str(k), resume=True) == best
    return Seen(cuts, f"reported; {again / cuts:.1f} of 24 trials measured again, the searches finished")


def flipped_bits(folder: Path, best: str, flips: int) -> Seen:
    """A flipped bit is found or has no effect; one row at most is made again."""
    searched(folder / "whole")
    file = folder / "whole" / "journal.db"
    whole, before = file.read_bytes(), rows(folder / "whole")
    rng, silent, most = random.Random(0), 0, 0
    for k in range(flips):
        bit = rng.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            assert rows(folder / "whole") == before
            silent += 1
            continue
        except JournalError:
            pass
        with open_mended(file, lambda _: None) as journal:
            kept = {(row.kind, row.key) for row in journal.rows}
        most = max(most, sum(row[:2] not in kept and row[0] != "done" for row in before))
        if k % (flips // 10) == 0:
            assert searched(folder / "whole", resume=True) == best
        for aside in folder.glob("whole/*damaged*"):
            aside.unlink()
    return Seen(flips, f"{flips - silent} detected, {silent} without effect; at most {most} row made again each time")


FULL = """
mount -t tmpfs -o size=$SIZE tmpfs "$1" && shift && "$@" > first 2>&1; echo "first $?"; cat first
mount -o remount,$AFTER "$DIR" && "$@" > second 2>&1; echo "second $?"; cat second
"""


def disk(size: str, after: str, folder: Path, arguments: list[str]) -> str:
    """What a search says on a small disk, and again after the disk was mounted anew with other options.

    Raises:
        PermissionError: this machine lets nobody mount.
    """
    place = folder / "disk"
    place.mkdir()
    environment = os.environ | {"SIZE": size, "AFTER": after, "DIR": str(place)}
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        raise PermissionError("this machine lets nobody mount a disk")
    command = [*own, "bash", "-c", FULL, "-", str(place), *arguments]
    done = subprocess.run(command, env=environment, cwd=folder, check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


def gemnet_search(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "gemnet.search.cli", *arguments]
