"""Progress of a search on stderr: one bar per phase with count, rate and time left."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress


class Phase:
    """A running phase; `advance` moves its bar, if there is one."""

    def __init__(self, bars: "rich.progress.Progress | None", task: "rich.progress.TaskID | None") -> None:
        self._bars, self._task = bars, task

    def advance(self, n: float = 1) -> None:
        """Counts `n` more steps as finished."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, n)

    def note(self, text: str) -> None:
        """Shows a short text behind the bar, such as the best score so far."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, note=text)


class Progress:
    """Shows phases as they run; silent when `quiet` or when stderr is no terminal."""

    def __init__(self, quiet: bool = False) -> None:
        self._silent = quiet or not sys.stderr.isatty()
        self._bars: rich.progress.Progress | None = None
        self._depth = 0

    @contextmanager
    def phase(self, name: str, total: int | None = None, done: int = 0) -> Iterator[Phase]:
        """A phase of `total` steps (None when unknown), of which `done` are finished already."""
        if self._silent:
            yield Phase(None, None)
            return
        if self._bars is None:
            self._bars = _bars()
        if self._depth == 0:
            self._bars.start()
        self._depth += 1
        task = self._bars.add_task(name, total=total, completed=done, note="")
        try:
            yield Phase(self._bars, task)
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
