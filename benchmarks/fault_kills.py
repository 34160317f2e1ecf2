"""Kills for benchmarks/faults.py: the demo search, ended by SIGKILL at random moments and resumed until it is finished.

Its trials are real trainings, made so small that each takes about a second. Moments are measured in the processor
time of the search, so that they are as random on a busy machine as on an idle one.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fault_cases import Seen, gemnet_search, rows

from gemnet.search.journal import Journal
from gemnet.search.standing import standing

SMALL = ("strategy.samples=8", "strategy.candidates=2000", "strategy.finalists=2", "strategy.encoder.steps=60",
         "strategy.predictor.form=gp-embedding", "evaluator.train_images=400", "evaluator.val_images=200",
         "evaluator.recipe.epochs=1", "study.retries=50")  # fmt: skip
SHARE = 0.8  # the longest time between two kills, of that of a whole search
LOOK_S = 0.2
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Tally:
    """What was seen so far; kept in a file after every search, so that a run that is cut off can be gone on with."""

    drivers: int = 0
    workers: int = 0
    searches: int = 0
    lost: int = 0
    repeated: int = 0
    same: bool = True
    whole_s: float = 0.0  # processor seconds of the unbroken search

    @property
    def kills(self) -> int:
        """Of either kind."""
        return self.drivers + self.workers


def killed(folder: Path, _: str, count: int, seed: int) -> Seen:
    """Searches killed again and again until each has finished, one after the other until the kills are spent.

    A finished trial is lost when a later journal lacks it, repeated when it has two rows.
    """
    kept, unbroken = folder / "tally.json", folder / "unbroken"
    if not kept.exists():
        shutil.rmtree(unbroken, ignore_errors=True)
        _keep(kept, Tally(whole_s=_unbroken(unbroken)))
    tally = Tally(**json.loads(kept.read_text()))
    best, content = standing(unbroken).best()[0].key, rows(unbroken)
    while tally.kills < count:
        directory = folder / f"study{tally.searches}"
        shutil.rmtree(directory, ignore_errors=True)
        _kill_and_resume(directory, tally, count, random.Random(f"{seed}/{tally.searches}"))
        tally.repeated += len(trial_rows(directory)) - len(set(trial_rows(directory)))
        tally.same = tally.same and standing(directory).best()[0].key == best and rows(directory) == content
        tally.searches += 1
        _keep(kept, tally)
    what = f"{tally.drivers} drivers, {tally.workers} workers in {tally.searches} searches, all finished"
    return Seen(tally.kills, what, tally.lost, tally.repeated, tally.same)


def _kill_and_resume(directory: Path, tally: Tally, count: int, rng: random.Random) -> None:
    driver, known = _started(directory), set[str]()
    while not _ended(driver, rng.uniform(0, SHARE * tally.whole_s) if tally.kills < count else None):
        workers = _workers(driver.pid)
        one = bool(workers) and rng.random() < 0.5
        if one:
            os.kill(rng.choice(workers), signal.SIGKILL)
            tally.workers += 1
        else:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
            tally.drivers += 1
        finished = set(trial_rows(directory))
        tally.lost += len(known - finished)
        known = finished
        driver = driver if one else _started(directory)
    assert driver.returncode == 0, directory
    tally.lost += len(known - set(trial_rows(directory)))


def _unbroken(directory: Path) -> float:
    """Makes an unbroken search; returns its processor seconds."""
    driver, spent_s = _started(directory), 0.0
    while driver.poll() is None:
        spent_s = max(spent_s, _spent_s(driver.pid))
        time.sleep(LOOK_S)
    assert driver.returncode == 0, directory
    return spent_s


def _started(directory: Path) -> "subprocess.Popen[bytes]":
    """The demo search, begun or gone on with, in a process group of its own."""
    begin = ["run", str(directory), "--preset", "demo", *(word for change in SMALL for word in ("--set", change))]
    task = ["resume", str(directory)] if (directory / "study.json").exists() else begin
    with open(directory.with_name(f"{directory.name}.log"), "ab") as log:
        return subprocess.Popen(gemnet_search(*task, "--workers", "2"), start_new_session=True, stdout=log, stderr=log)


def _ended(driver: "subprocess.Popen[bytes]", wait_s: float | None) -> bool:
    """Whether a search ends before it has used so many processor seconds more."""
    if wait_s is None:
        driver.wait()
        return True
    until = _spent_s(driver.pid) + wait_s
    while driver.poll() is None:
        if _spent_s(driver.pid) >= until:
            return False
        time.sleep(LOOK_S)
    return True


def _spent_s(driver: int) -> float:
    """Processor seconds of a driver, its living workers, and those it has buried."""
    try:
        fields = Path(f"/proc/{driver}/stat").read_text().rpartition(")")[2].split()
        own = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: numbers 14 to 17 of proc_pid_stat(5)
        theirs = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in _workers(driver)]
    except FileNotFoundError:  # one of them ended just now
        return 0.0
    return (own + sum(int(ticks) for line in theirs for ticks in line[11:13])) / TICKS


def _workers(driver: int) -> list[int]:
    """Process ids of a driver's workers."""
    try:
        children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def trial_rows(directory: Path) -> list[str]:
    """Keys of the trials in a study's journal, one of each row."""
    if not (directory / "study.json").exists():
        return []
    with Journal.open(directory / "journal.db", read_only=True) as journal:
        return [row.key for row in journal.rows if row.kind == "trial"]


def _keep(path: Path, tally: Tally) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(json.dumps(asdict(tally)))
    os.replace(beside, path)
