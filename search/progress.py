"""Progress of a search: one bar per phase on stderr, and a notice in the study's directory for `status`."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gemnet.errors import GemnetError
from gemnet.settings import from_dict, to_dict

if TYPE_CHECKING:
    import rich.progress

LIVE = "live.json"
NOTICE_S = 1.0


@dataclass(frozen=True)
class Now:
    """The phase that runs now.

    Args:
        phase: its name.
        total: steps it has, None when unknown.
        done: steps that are finished.
        done_before: those of them that were finished when it began.
        since: when it began, UTC, ISO 8601.
        workers: how many measure at a time.
    """

    phase: str
    total: int | None
    done: float
    done_before: float
    since: str
    workers: int

    def step_s(self) -> float | None:
        """Seconds from one finished step to the next so far; None when nothing tells."""
        if self.done <= self.done_before:
            return None
        passed_s = (datetime.now(UTC) - datetime.fromisoformat(self.since)).total_seconds()
        return passed_s / (self.done - self.done_before)

    def left_s(self) -> float | None:
        """Seconds left at this pace; None when nothing tells."""
        step_s = self.step_s()
        return None if step_s is None or self.total is None else step_s * (self.total - self.done)


class Notice:
    """A small file that says what runs now, for whoever looks from outside; a search never fails for it."""

    def __init__(self, path: Path, workers: int) -> None:
        self._path, self._workers, self._written = path, workers, 0.0
        self._now: Now | None = None

    def begin(self, phase: str, total: int | None, done: float) -> None:
        """A phase has begun."""
        since = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write(Now(phase, total, done, done, since, self._workers))

    def advance(self, n: float) -> None:
        """`n` more steps of it are finished."""
        if self._now is None:
            return
        self._now = replace(self._now, done=self._now.done + n)
        if time.monotonic() - self._written >= NOTICE_S or self._now.done == self._now.total:
            self._write(self._now)

    def remove(self) -> None:
        """Nothing runs any more."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _write(self, now: Now) -> None:
        self._now, self._written = now, time.monotonic()
        beside = self._path.with_name(f".{self._path.name}.tmp")
        with contextlib.suppress(OSError):
            beside.write_text(json.dumps(to_dict(now)), encoding="utf-8")
            os.replace(beside, self._path)


def read_notice(directory: Path) -> Now | None:
    """What a study's process said last; None when it said nothing."""
    try:
        return from_dict(Now, json.loads((directory / LIVE).read_text(encoding="utf-8")))
    except (OSError, ValueError, GemnetError):
        return None


class Phase:
    """A running phase; `advance` moves its bar, if there is one."""

    def __init__(
        self, bars: "rich.progress.Progress | None", task: "rich.progress.TaskID | None", notice: Notice | None
    ) -> None:
        self._bars, self._task, self._notice = bars, task, notice

    def advance(self, n: float = 1) -> None:
        """Counts `n` more steps as finished."""
        if self._notice is not None:
            self._notice.advance(n)
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, n)

    def note(self, text: str) -> None:
        """Shows a short text behind the bar, such as the best score so far."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, note=text)


class Progress:
    """Shows phases as they run on a terminal, unless `quiet`, and to who looks from outside, if told where."""

    def __init__(self, quiet: bool = False) -> None:
        self._silent = quiet or not sys.stderr.isatty()
        self._bars: rich.progress.Progress | None = None
        self._notice: Notice | None = None
        self._depth = 0

    def post(self, notice: Notice | None) -> None:
        """From now on a notice says what runs; None takes the one there is away."""
        if self._notice is not None:
            self._notice.remove()
        self._notice = notice

    @contextmanager
    def phase(self, name: str, total: int | None = None, done: int = 0) -> Iterator[Phase]:
        """A phase of `total` steps (None when unknown), of which `done` are finished already."""
        if self._notice is not None and done != total:
            self._notice.begin(name, total, done)
        if self._silent:
            yield Phase(None, None, self._notice)
            return
        if self._bars is None:
            self._bars = _bars()
        if self._depth == 0:
            self._bars.start()
        self._depth += 1
        task = self._bars.add_task(name, total=total, completed=done, note="")
        try:
            yield Phase(self._bars, task, self._notice)
        finally:
            self._bars.stop_task(task)
            self._depth -= 1
            if self._depth == 0:
                self._bars.stop()
                for shown in self._bars.task_ids:
                    self._bars.remove_task(shown)


def _bars() -> "rich.progress.Progress":
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            if not speed:
                return Text("")
            return Text(f"{speed:,.1f}/s" if speed >= 1 else f"{1 / speed:,.1f} s each", style="progress.data.speed")

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", style="dim"),
        console=Console(stderr=True),
        speed_estimate_period=600,
    )
