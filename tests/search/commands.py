"""Commands of gemnet-search, called here or in a process of their own, on searches that train nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

from click.testing import CliRunner

from gemnet.errors import GemnetError
from gemnet.search.cli import main
from gemnet.search.journal import Journal

PRESET = {
    "schema": "gemnet.search/1",
    "data": {"name": "fashion-mini"},
    "space": {"name": "cells", "min_nodes": 4, "max_nodes": 10},
    "evaluator": {"name": "synthetic"},
    "strategy": {"name": "random", "samples": 12},
}


def call(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def process(*arguments, **options):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)) + os.pathsep + os.getcwd()}
    command = [sys.executable, "-m", "gemnet.search.cli", *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def trials(directory):
    try:
        with Journal.open(Path(directory) / "journal.db", read_only=True) as journal:
            return {row.key for row in journal.of("trial")}
    except GemnetError:
        return set()


def wait_for_trials(directory, count):
    end = time.monotonic() + 60
    while len(trials(directory)) < count and time.monotonic() < end:
        time.sleep(0.02)
    assert len(trials(directory)) >= count
