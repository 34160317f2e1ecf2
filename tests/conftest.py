"""Fixtures shared by all tests. Random cells are drawn here by hand, so that no code under test draws them."""

import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "hub"))  # so that all tests can import the loopback Hub

from loopback import LoopbackHub

from gemnet.cell import Cell

# The Hub's client reads these once, when it is imported: no test reaches the real Hub, a user's token or cache.
HUB = LoopbackHub()
HUB_HOME = tempfile.TemporaryDirectory(prefix="gemnet-hub-")
os.environ |= {"HF_ENDPOINT": HUB.url, "HF_HOME": HUB_HOME.name, "HF_HUB_DISABLE_XET": "1",
               "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # fmt: skip
for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
    os.environ.pop(variable, None)
ALL_OPS = ("sepconv3x3", "conv1x1", "sepconv5x5", "maxpool3x3", "identity")


def pytest_configure(config: pytest.Config) -> None:
    """Lets the Hub's client send files as it does, which its HTTP library calls an old way."""
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=<...>' to upload:DeprecationWarning")


def pytest_unconfigure() -> None:
    HUB.close()
    HUB_HOME.cleanup()


def draw_cell(rng: random.Random, nodes: int, ops: tuple[str, ...] = ALL_OPS, max_in_degree: int = 4) -> Cell:
    edges = [(i, j) for j in range(1, nodes) for i in rng.sample(range(j), min(j, rng.randint(1, max_in_degree)))]
    return Cell(("input", *(rng.choice(ops) for _ in range(nodes - 1))), tuple(edges))


def relabel(cell: Cell, rng: random.Random) -> Cell:
    """The same cell with its nodes in another random topological order."""
    waiting = [len(preds) for preds in cell.predecessors]
    ready = [0]
    ready += [v for v, count in enumerate(waiting) if count == 0 and v > 0]
    order = [ready.pop(0)]
    ready += [s for s in cell.successors[0] if not _waits(waiting, s)]
    while ready:
        order.append(ready.pop(rng.randrange(len(ready))))
        ready += [s for s in cell.successors[order[-1]] if not _waits(waiting, s)]
    place = {v: k for k, v in enumerate(order)}
    return Cell(tuple(cell.ops[v] for v in order), tuple((place[i], place[j]) for i, j in cell.edges), cell.output)


def _waits(waiting: list[int], node: int) -> bool:
    waiting[node] -= 1
    return waiting[node] > 0


@pytest.fixture
def rng() -> random.Random:
    return random.Random(0)


def cpu_seconds() -> float:
    """Time on a CPU of this thread and of ended child processes: other work on the machine adds none."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.thread_time() + children.ru_utime + children.ru_stime


@pytest.fixture
def within() -> Callable[..., bool]:
    """Whether a call takes less than a limit of CPU time in one try: garbage collection alone can exceed a limit."""

    def tried(limit_s: float, call: Callable[[], object], tries: int = 10) -> bool:
        for _ in range(tries):
            start = cpu_seconds()
            call()
            if cpu_seconds() - start < limit_s:
                return True
        return False

    return tried


@pytest.fixture
def cell_of(rng: random.Random) -> Callable[..., Cell]:
    """Draws a random cell of a number of nodes."""
    return lambda nodes, **kwargs: draw_cell(rng, nodes, **kwargs)


@pytest.fixture
def relabelled(rng: random.Random) -> Callable[[Cell], Cell]:
    return lambda cell: relabel(cell, rng)


@pytest.fixture
def shrinkcnn() -> Cell:
    """ShrinkCNN's cell: a reference, found by another method."""
    ops = ("input", "sepconv3x3", "sepconv3x3", "sepconv3x3", "conv1x1")
    return Cell(ops, ((0, 1), (0, 2), (0, 3), (1, 3), (0, 4), (2, 4)))


@pytest.fixture
def chain() -> Cell:
    """Two separable convolutions in a row, as in MobileNet: a reference."""
    return Cell(("input", "sepconv3x3", "sepconv3x3"), ((0, 1), (1, 2)))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """An empty Hub on this machine that the client in this process, or in a new one, talks to; no token is set.

    In this process the cache is empty, and retries do not wait. `hub.env` makes a new process's environment.
    """
    import huggingface_hub.constants
    import huggingface_hub.file_download
    import huggingface_hub.utils._http

    for module in (huggingface_hub.utils._http, huggingface_hub.file_download):
        monkeypatch.setattr(module, "time", Impatient)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    HUB.reset()
    yield HUB
    assert not HUB.leaks
    assert not [name for name in HUB.log if name.startswith("unknown")]


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `gemnet train` leaves of a tiny network; copy it to change it."""
    from tiny_training import train_tiny

    return train_tiny(tmp_path_factory.mktemp("training") / "tiny")


@pytest.fixture(scope="session")
def release_folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its release as lab/tiny, tag v1.0.0; copy it to change it."""
    from gemnet.export.release import Wish, assemble

    folder = tmp_path_factory.mktemp("release") / "tiny"
    assemble(str(trained_folder), folder, Wish("lab/tiny", "v1.0.0", data="fashion-mini"))
    return folder


class Impatient:
    """Stands for the module `time` where it is only slept with."""

    @staticmethod
    def sleep(seconds: float) -> None:
        """Returns at once."""
