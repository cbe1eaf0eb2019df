"""``bnnbench report NAME --watch``: the report written again whenever the study has changed.

The page is not made to load itself again: that would undo what is zoomed, opened and chosen in it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from bnnbench.holding import workers
from bnnbench.together import results_of
from bnnbench.watching import changes, is_complete
from bnnbench_reports.command import browse, check_finished, write
from bnnbench_reports.page import build, status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bnnbench.plugins import Plugins
    from bnnbench.results import Results
    from bnnbench.store import Store


def watch(
    store: Store,
    names: Sequence[str],
    path: Path,
    figures: Sequence[tuple[str, Callable[[Results], Any]]],
    *,
    every: float,
    show: bool = False,
    plugins: Plugins | None = None,
) -> None:
    """Write the report of some studies until they are complete, or until Ctrl-C.

    Args:
        store: where they are.
        names: the studies.
        path: the report's.
        figures: what it shows, by name.
        every: the seconds between two looks at the database.
        show: open it in the web browser, once it is there.
        plugins: those that say what to cite.

    Raises:
        UsageError: the studies came to their end without a finished confirming run, or are gone,
            or the file cannot be written.
    """
    try:
        for _ in changes(store, names, every):
            results = results_of(store, names)
            complete = is_complete(results, held=any(workers(store, name) for name in names))
            if results.confirmed():
                write(path, build(results, figures, plugins))
                say(f"{path.resolve()}: {status(results)}")
                if show:
                    browse(path)
                show = False
            elif complete:
                check_finished(results)
            else:
                say(f"{results.name}: no confirming run is finished, so there is nothing to write")
            if complete:
                return
    except KeyboardInterrupt:
        say("stopped; the report stays as it is")


def say(line: str) -> None:
    """Print a line after the time of the day."""
    click.echo(f"{time.strftime('%H:%M:%S')}  {line}")
