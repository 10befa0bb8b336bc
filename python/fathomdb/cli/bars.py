"""Progress bars on stderr: how much, how fast, how long still."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from fathomdb.cli import formats, terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import RenderableType


class _Share(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = int(task.total or 0)
        return Text(formats.share(min(int(task.completed), total), total) if total else "")


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{_count(task):,} {task.fields['unit']}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(formats.rate(_count(task), task.elapsed or 0.0), style="dim")


class _Left(ProgressColumn):
    """From the whole run so far: rich's own estimate starts anew whenever a total grows."""

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        if task.stop_time is not None:
            return Text(f"in {formats.duration(elapsed)}", style="dim")
        if not task.total or not task.completed or elapsed < 1:
            return Text("")
        left = elapsed * max(0.0, task.total - task.completed) / task.completed
        return Text(f"{formats.countdown(left)} left", style="dim")


def _count(task: Task) -> int:
    """What is counted, where the bar's length is measured in something else."""
    return int(task.fields.get("count", task.completed))


class Bars(Progress):
    """Bars one below the other; ``poll`` is called before each is drawn, and must be cheap."""

    def __init__(self) -> None:
        self.poll: Callable[[], None] | None = None
        console = terminal.err()
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            _Share(table_column=Column(justify="right", min_width=5)),
            _Count(table_column=Column(justify="right", no_wrap=True, min_width=14)),
            _Rate(table_column=Column(justify="right", no_wrap=True, min_width=8)),
            _Left(table_column=Column(no_wrap=True, min_width=16)),
            console=console,
            disable=not terminal.animated(console),
            expand=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is drawn."""
        if self.poll is not None:
            self.poll()
        yield from super().get_renderables()

    def begin(self, description: str, unit: str, total: float | None = None) -> TaskID:
        """Adds a bar; without a total it only shows that something goes on."""
        return self.add_task(description, total=total, unit=unit)

    def end(self, bar: TaskID) -> None:
        """Says how long it took, and stops that bar's clock."""
        if not self.disable:
            task = self.tasks[bar]
            self.update(bar, total=task.total if task.completed else 1, completed=task.total or 1)
        self.stop_task(bar)


@contextmanager
def one(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A single bar; yields what is called with (done, in all)."""
    with Bars() as bars:
        bar = bars.begin(description, unit)
        yield lambda done, total: bars.update(bar, completed=done, total=total)
        bars.end(bar)
