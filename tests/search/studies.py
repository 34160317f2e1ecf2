"""Studies of the toy search, started, reopened, run in a process of their own, and their journals' content."""

import json
import os
import subprocess
import sys
from pathlib import Path

from toys import Numbers, Toy, TwoPhases

from gemnet.search.journal import Journal
from gemnet.search.study import Parts, Study


def create(directory, calls, settings=None, seed=5, evaluator=None, **options):
    parts = Parts(Numbers(), evaluator or Toy(calls), TwoPhases(), settings=settings or {})
    return Study.create(directory, parts, seed=seed, **options)


def reopen(directory, calls, evaluator=None, settings=None, **options):
    parts = Parts(Numbers(), evaluator or Toy(calls), TwoPhases(), settings=settings or {})
    return Study.open(directory, parts, **options)


def content(directory):
    """A study's journal but for times, in an order that does not depend on which trial ended first."""
    with Journal.open(Path(directory) / "journal.db", read_only=True) as journal:
        rows = [(row.kind, row.key, json.loads(json.dumps(row.body))) for row in journal.rows]
    for kind, _, body in rows:
        if kind == "trial":
            body["metrics"].pop("train_s", None)
    return sorted(rows, key=lambda row: row[:2])


def toy_search(directory, calls, workers, sleep_s=0.0, k=3, **options):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    script = str(Path(__file__).parent / "toys.py")
    command = [sys.executable, script, str(directory), str(calls), str(workers), str(sleep_s), str(k)]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )
