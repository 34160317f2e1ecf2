"""What a search survives: kills, lost machines, full disks, damaged files, bad trials.

    python benchmarks/faults.py [--kills 100] [--quick] [--only NAME] [--keep DIR]

Kills are of the demo search, its driver with all workers or one worker, see fault_kills.py. A run of them that is
cut off goes on where it was with the same `--keep DIR`.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import fault_cases as cases
from fault_cases import Seen, gemnet_search
from fault_kills import killed, trial_rows
from result import print_table, write_result

KILLS = "driver or worker is killed"


@click.command()
@click.option("--kills", type=click.IntRange(1), default=100, show_default=True)
@click.option("--quick", is_flag=True, help="6 kills and 100 flipped bits.")
@click.option("--only", help="One fault.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Where killed searches are kept.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random moments.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(
    kills: int, quick: bool, only: str | None, keep: Path | None, seed: int, out: Path | None, as_json: bool
) -> None:
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
        KILLS: partial(killed, count=6 if quick else kills, seed=seed),
    }
    found = []
    with tempfile.TemporaryDirectory(prefix="gemnet-") as scratch:
        best = cases.searched(Path(scratch) / "unbroken")
        for name, fault in table.items():
            if only and only not in name:
                continue
            folder = keep if keep and name == KILLS else Path(scratch) / name.replace(" ", "-")
            folder.mkdir(parents=True, exist_ok=folder == keep)
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
    cluster, node = _cluster(Cluster)
    os.environ["RAY_ADDRESS"] = cluster.address
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
    repeated = len(trial_rows(folder / "s")) - len(set(trial_rows(folder / "s")))
    return Seen(1, "its trials measured on the other node, the search finished", 0, repeated, found == best)


def _cluster(kind: Any) -> tuple[Any, Any]:
    """A cluster of two nodes, and the second; Ray gives a node 30 s to start, which a busy machine may need."""
    for left in (4, 3, 2, 1, 0):
        try:
            cluster = kind(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            return cluster, cluster.add_node(num_cpus=1)
        except Exception:  # Ray's own, of no kind of its own
            if not left:
                raise
    raise AssertionError


def _on_disk(size: str, after: str, folder: Path) -> str | None:
    preset = {"schema": "gemnet.search/1", **cases.SETTINGS}
    (folder / "preset.json").write_text(json.dumps(preset))
    script = ('d=$DIR/s; [ -e $d/study.json ] && set -- "$@" resume $d || set -- "$@" run $d --preset preset.json; '
              'exec "$@" --workers 0')  # fmt: skip
    try:
        return cases.disk(size, after, folder, ["bash", "-c", script, "-", *gemnet_search()])
    except PermissionError:
        return None


if __name__ == "__main__":
    main()
