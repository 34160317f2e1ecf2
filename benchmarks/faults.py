"""What a search survives: kills, lost machines, full disks, damaged files, bad trials.

    python benchmarks/faults.py [--kills 100] [--quick] [--only NAME]

Kills are of the demo search, made small so that a training takes about a second: the driver with all its
workers, or one worker, at a random moment, and resumed each time. A finished trial is lost when a later
journal lacks it, repeated when it has two rows; the best is compared with that of an unbroken search.
"""

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
import fault_cases as cases
from fault_cases import Seen, gemnet_search, rows
from result import print_table, write_result

from gemnet.search.journal import Journal
from gemnet.search.standing import standing

SMALL = ("strategy.samples=8", "strategy.candidates=2000", "strategy.finalists=2", "strategy.encoder.steps=60",
         "strategy.predictor.form=gp-embedding", "evaluator.train_images=400", "evaluator.val_images=200",
         "evaluator.recipe.epochs=1", "study.retries=50")  # fmt: skip
SHARE = 0.8  # the longest time between two kills, of that of a whole search


@click.command()
@click.option("--kills", type=click.IntRange(1), default=100, show_default=True)
@click.option("--quick", is_flag=True, help="6 kills and 100 flipped bits.")
@click.option("--only", help="One fault.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random moments.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(kills: int, quick: bool, only: str | None, seed: int, out: Path | None, as_json: bool) -> None:
    """Write zoo/results/faults.json."""
    table: dict[str, Callable[[Path, str], Seen]] = {
        "a trial raises": cases.raising,
        "a trial hangs": partial(cases.once, "hang"),
        "a trial runs out of memory": partial(cases.once, "memory"),
        "a trial is killed for memory": partial(cases.once, "die"),
        "an artifact is deleted": cases.deleted_artifact,
        "an artifact is damaged": cases.damaged_artifact,
        "the journal is cut off": cases.truncated,
        "a bit of the journal is flipped": partial(cases.flipped_bits, flips=100 if quick else 2000),
        "the disk is full": full_disk,
        "the directory is read-only": read_only,
        "a node of a Ray cluster is killed": lost_node,
        "driver or worker is killed": partial(killed, count=6 if quick else kills, rng=random.Random(seed)),
    }
    found = []
    with tempfile.TemporaryDirectory(prefix="gemnet-") as scratch:
        best = cases.searched(Path(scratch) / "unbroken")
        for name, fault in table.items():
            if only and only not in name:
                continue
            folder = Path(scratch) / name.replace(" ", "-")
            folder.mkdir()
            start = time.perf_counter()
            seen = fault(folder, best)
            took = {"seconds": round(time.perf_counter() - start, 1)}
            found.append({"fault": name, **{k: v for k, v in asdict(seen).items() if k != "what"}, **took,
                          "what": seen.what})  # fmt: skip
            click.echo(f"{name}: {seen}", err=True)
    print_table(found)
    result = write_result("faults", seed, found, out)
    if as_json:
        click.echo(json.dumps(result))


def killed(folder: Path, _: str, count: int, rng: random.Random) -> Seen:
    """The demo search, killed again and again until it has finished, from the start again until the kills are spent."""
    start, driver = time.perf_counter(), _started(folder / "unbroken")
    assert driver.wait() == 0
    longest = SHARE * (time.perf_counter() - start)
    best, content = standing(folder / "unbroken").best()[0].key, rows(folder / "unbroken")
    kinds, studies, lost, repeated, same = Counter[str](), 0, 0, 0, True
    while sum(kinds.values()) < count:
        directory, known = folder / f"study{studies}", set[str]()
        driver = _started(directory)
        while not _ended(driver, rng.uniform(0, longest) if sum(kinds.values()) < count else None):
            workers = _workers(driver.pid)
            if workers and rng.random() < 0.5:
                os.kill(rng.choice(workers), signal.SIGKILL)
                kinds["worker"] += 1
            else:
                os.killpg(driver.pid, signal.SIGKILL)
                driver.wait()
                kinds["driver"] += 1
                lost += len(known - _finished(directory))
                known |= _finished(directory)
                driver = _started(directory)
        assert driver.returncode == 0, directory
        repeated += len(_trial_rows(directory)) - len(_finished(directory))
        same = same and standing(directory).best()[0].key == best and rows(directory) == content
        studies += 1
    what = f"{kinds['driver']} drivers, {kinds['worker']} workers in {studies} searches, all finished"
    return Seen(sum(kinds.values()), what, lost, repeated, same)


def full_disk(folder: Path, _: str) -> Seen:
    """A search on a disk of 200 kB stops with a message, and goes on when there is room."""
    said = _on_disk("200k", "size=20m", folder)
    if said is None:
        return Seen(0, "this machine lets nobody mount a disk", same_best=None)
    cases.expect(said, "first 2", "full", "second 0", "best cell")
    line = next(line for line in said.splitlines() if line.startswith("Error: "))
    return Seen(1, f"stopped with {line.replace(str(folder), '')!r}; with room again, the search finished")


def read_only(folder: Path, _: str) -> Seen:
    """A study on a disk that can only be read can be looked at, not gone on with."""
    said = _on_disk("20m", "ro", folder)
    if said is None:
        return Seen(0, "this machine lets nobody mount a disk", same_best=None)
    cases.expect(said, "first 0", "second 2", "Read-only")
    line = next(line for line in said.splitlines() if line.startswith("Error: "))
    return Seen(1, f"stopped with {line.replace(str(folder), '')!r}", same_best=None)


def lost_node(folder: Path, best: str) -> Seen:
    """A Ray cluster of two nodes of which one is killed in the middle."""
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        return Seen(0, "ray is not installed", same_best=None)
    from gemnet.search.evaluators.synthetic import Synthetic
    from gemnet.search.study import Study
    from gemnet.search.workforce import RAY, Workforce

    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node, os.environ["RAY_ADDRESS"] = cluster.add_node(num_cpus=1), cluster.address
    slow = cases.parts(Synthetic(data="none", duration_s=1.0))
    with Study.create(folder / "s", slow, workers=Workforce(kind=RAY)) as study:
        append = study._journal.append

        def noticed(kind: str, key: str, body: dict[str, object]) -> object:
            if len(study._trials) == 8:
                cluster.remove_node(node, allow_graceful=False)
            return append(kind, key, body)

        study._journal.append = noticed  # type: ignore[method-assign, assignment]
        found = study.run().arch_key
    cluster.shutdown()
    repeated = len(_trial_rows(folder / "s")) - len(_finished(folder / "s"))
    return Seen(1, "its trials measured on the other node, the search finished", 0, repeated, found == best)


def _on_disk(size: str, after: str, folder: Path) -> str | None:
    preset = {"schema": "gemnet.search/1", **cases.SETTINGS}
    (folder / "preset.json").write_text(json.dumps(preset))
    script = ('d=$DIR/s; [ -e $d/study.json ] && set -- "$@" resume $d || set -- "$@" run $d --preset preset.json; '
              'exec "$@" --workers 0')  # fmt: skip
    try:
        return cases.disk(size, after, folder, ["bash", "-c", script, "-", *gemnet_search()])
    except PermissionError:
        return None


def _started(directory: Path) -> subprocess.Popen[bytes]:
    """The demo search, begun or gone on with, in a process group of its own."""
    begin = ["run", str(directory), "--preset", "demo", *(word for change in SMALL for word in ("--set", change))]
    go_on = ["resume", str(directory)]
    task = go_on if (directory / "study.json").exists() else begin
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(gemnet_search(*task, "--workers", "2"), start_new_session=True, **quiet)  # type: ignore[call-overload, no-any-return]


def _ended(driver: "subprocess.Popen[bytes]", wait_s: float | None) -> bool:
    try:
        driver.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _workers(driver: int) -> list[int]:
    """Process ids of a driver's workers."""
    listed = ["ps", "-o", "pid=,args=", "--ppid", str(driver)]
    found = subprocess.run(listed, capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


def _trial_rows(directory: Path) -> list[str]:
    if not (directory / "study.json").exists():
        return []
    with Journal.open(directory / "journal.db", read_only=True) as journal:
        return [row.key for row in journal.rows if row.kind == "trial"]


def _finished(directory: Path) -> set[str]:
    return set(_trial_rows(directory))


if __name__ == "__main__":
    main()
