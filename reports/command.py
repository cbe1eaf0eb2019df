"""``bnnbench report NAME``: the study's report as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli.options import open_store, storage_option
from bnnbench.errors import UsageError
from bnnbench.hookspecs import hookimpl

if TYPE_CHECKING:
    from bnnbench.plugins import Component, Plugins
    from bnnbench.results import Results


@hookimpl
def register_commands(register: Callable[[click.Command], None]) -> None:
    """Register ``bnnbench report``."""
    register(report)


@click.command()
@click.argument("name")
@click.option("-o", "--output", metavar="FILE", help="Where to write it; NAME.html by default.")
@click.option("--open", "show", is_flag=True, help="Open it in the web browser.")
@storage_option
@click.pass_context
def report(context: click.Context, name: str, output: str | None, show: bool, storage: str) -> None:
    """Write a study's report, one HTML file."""
    from bnnbench.plugins import load_plugins
    from bnnbench.results import Results

    results = Results(open_store(storage), name)
    check_finished(results)
    path = check_writable(f"{name}.html" if output is None else output)
    from bnnbench_reports.page import build

    plugins = load_plugins(blocked_by(context.obj))
    write(path, build(results, figures(plugins)))
    click.echo(str(path.resolve()))
    if show:
        browse(path)


def blocked_by(settings: Any) -> tuple[str, ...]:
    """Return the plugins that the command line blocks; ``settings`` is a dict or an object."""
    if isinstance(settings, dict):
        return tuple(settings.get("blocked", ()))
    return tuple(getattr(settings, "blocked", ()))


def figures(plugins: Plugins) -> list[tuple[str, Callable[[Results], Any]]]:
    """Return the figures of all plugins in the order of their registration, not yet imported."""
    offered = [n for plugin in plugins.plugins for n in plugin.components.get("figures", ())]
    return [(name, _drawn_by(plugins.component("figures", name))) for name in offered]


def _drawn_by(component: Component) -> Callable[[Results], Any]:
    return lambda results: component.target(results)


def check_finished(results: Results) -> None:
    """Refuse a study that has nothing to report yet.

    Raises:
        UsageError: no confirming run is finished.
    """
    if results.confirmed():
        return
    ended = [e for e in results.entries if e.state in ("failed", "diverged")]
    why = f" ({len(ended)} of its runs failed or diverged)" if ended else ""
    raise UsageError(
        f"study {results.name!r} has no finished confirming run yet{why};"
        f" run 'bnnbench study run {results.name}' first"
    )


def check_writable(output: str) -> Path:
    """Return the path of the report if a file can be written there.

    Raises:
        UsageError: the folder is missing or not writable, or the path is not a file's.
    """
    try:
        return _checked(Path(output), output)
    except (OSError, RuntimeError) as error:  # a name that is too long, a loop of links
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{output} cannot be written: {reason}; give -o another path") from None


def _checked(path: Path, output: str) -> Path:
    folder = path.resolve().parent
    if path.is_dir() or not path.name:
        raise UsageError(f"a report is a file, {output or '.'} is a folder; give -o a file's name")
    if path.exists() and not path.is_file():
        raise UsageError(f"a report is a file, {path} is not one; give -o another path")
    if not folder.is_dir():
        raise UsageError(f"the folder of {path} does not exist; make it, or give -o another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"no permission to write {path}; give -o a path in a folder of your own")
    return path


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; who reads it meanwhile sees the old one.

    Raises:
        UsageError: it cannot be written.
    """
    target = path.resolve()
    draft = target.with_name(f".bnnbench-report.{os.getpid()}.tmp")
    try:
        with draft.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        reason = error.strerror or error
        raise UsageError(f"{path} cannot be written: {reason}; give -o another path") from None
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def browse(path: Path) -> None:
    """Open a file in the web browser, or say that there is none."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        click.echo("no web browser could be started; open the file in one yourself", err=True)
