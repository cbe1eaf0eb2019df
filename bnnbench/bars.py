"""Progress bars of downloads: bars on a terminal, plain lines elsewhere, all on standard error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress


@contextmanager
def bars(name: str, shown: bool) -> Iterator[Callable[[str], Any]]:
    """Yield what makes a file's bar, in pooch's protocol; it makes None where none is shown."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not shown:
        yield lambda filename: None
    elif not console.is_terminal:
        yield lambda filename: _Line(console, f"{name}/{filename}")
    else:
        with _progress(console) as progress:
            yield lambda filename: _Bar(progress, f"{name}/{filename}")


def _progress(console: Console) -> Progress:
    from rich import progress as parts

    return parts.Progress(
        parts.TextColumn("{task.description}", markup=False),
        parts.BarColumn(),
        parts.DownloadColumn(),
        parts.TransferSpeedColumn(),
        console=console,
    )


class _Bar:
    """One file's bar. pooch sets ``total`` as a download begins, and fills the bar at its end.

    ``start`` is what was here before: pooch's total is only of what is still to come.
    """

    def __init__(self, progress: Progress, label: str) -> None:
        self.progress, self.start = progress, 0
        self.task = progress.add_task(label, total=None)

    @property
    def total(self) -> float | None:
        return self.progress.tasks[self.task].total

    @total.setter
    def total(self, total: int) -> None:
        whole = self.start + total if total else None
        self.progress.reset(self.task, total=whole, completed=self.start)

    def update(self, size: int) -> None:
        self.progress.advance(self.task, size)

    def reset(self) -> None:
        self.progress.reset(self.task, completed=self.start)

    def close(self) -> None:
        self.progress.stop_task(self.task)


class _Line:
    """One line for a file, once it is there."""

    def __init__(self, console: Console, label: str) -> None:
        self.console, self.label = console, label
        self.total = self.start = 0

    def update(self, size: int) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None:
        from rich.filesize import decimal

        size = f" ({decimal(self.start + self.total)})" if self.total else ""
        self.console.print(f"downloaded {self.label}{size}", markup=False, soft_wrap=True)
