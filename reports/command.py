"""``bnnbench report NAME``: the report of a study, or of several, as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnnbench.cli import Settings
from bnnbench.cli.completion import studies
from bnnbench.cli.options import open_store, storage_option
from bnnbench.errors import UsageError
from bnnbench.hookspecs import hookimpl
from bnnbench_reports.pictures import pictures

if TYPE_CHECKING:
    from bnnbench.plugins import Component, Plugins
    from bnnbench.results import Results
    from bnnbench_reports.page import Report


@hookimpl
def register_commands(register: Callable[[click.Command], None]) -> None:
    """Register ``bnnbench report``."""
    register(report)


class _Report(click.Command):
    """A command of names, with a command of its own: ``figures``, where a name follows it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> click.Context:
        if is_command(args, parent):
            return pictures.make_context(f"{info_name} figures", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


def is_command(args: Sequence[str], parent: click.Context | None) -> bool:
    """Return whether arguments call ``figures``: it comes first, and a name or --help follows."""
    if args[:1] != ["figures"]:
        return False
    told: dict[str, Any] = {"resilient_parsing": True, "ignore_unknown_options": True}
    context = pictures.make_context("figures", list(args[1:]), parent, **told)
    names = [name for name in context.params["names"] or () if not name.startswith("-")]
    return bool(names or set(context.help_option_names) & set(args))


@click.command(
    cls=_Report,
    epilog="'bnnbench report figures NAME' writes the figures as SVG, PNG or PDF files; a study"
    " called figures is reported by 'bnnbench report -- figures'.",
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=studies)
@click.option("-o", "--output", metavar="FILE", help="Where to write it; NAME.html by default.")
@click.option("--json", "data", metavar="FILE", help="Write the report's data there too.")
@click.option("--open", "show", is_flag=True, help="Open it in the web browser.")
@click.option(
    "--watch",
    is_flag=True,
    help="Write it again whenever the study has changed, until it is complete or Ctrl-C.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How often --watch looks.",
)
@storage_option
@click.pass_context
def report(
    context: click.Context,
    /,
    names: tuple[str, ...],
    output: str | None,
    data: str | None,
    storage: str,
    *,
    show: bool,
    watch: bool,
    every: float,
) -> None:
    """Write a study's report, one HTML file; several studies are reported as one."""
    from bnnbench.together import results_of

    store = open_store(storage)
    results = results_of(store, names)
    if not watch:
        check_finished(results)
    path = check_writable(f"{'+'.join(names)}.html" if output is None else output)
    beside = check_beside(data, path, watch=watch)
    plugins = context.ensure_object(Settings).plugins()
    if watch:
        from bnnbench_reports.watch import watch as follow

        follow(store, names, path, figures(plugins), every=every, show=show, plugins=plugins)
        return
    from bnnbench_reports.page import made

    whole = made(results, figures(plugins), plugins)
    write(path, whole.html)
    click.echo(str(path.resolve()))
    if beside:
        write_data(beside, results, whole)
    if show:
        browse(path)


def check_beside(data: str | None, path: Path, *, watch: bool) -> Path | None:
    """Return the path of the report's data, None where they are not asked for.

    Raises:
        UsageError: no file can be written there, it is the report's own, or the study is watched.
    """
    if data is None:
        return None
    if watch:
        raise UsageError("--json writes the data once, --watch goes on writing; leave out one")
    beside = check_writable(data, "--json")
    if beside.resolve() == path.resolve():
        raise UsageError(f"report and data are two files, {data} is both; give --json another path")
    return beside


def write_data(path: Path, results: Results, whole: Report) -> None:
    """Write the report's data as JSON, and say where."""
    from bnnbench_reports.data import as_text
    from bnnbench_reports.document import document

    write(path, f"{as_text(document(results, whole))}\n")
    click.echo(str(path.resolve()))


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
    from bnnbench.catalogue import FORMER

    first = results.parts[0]
    mine = [entry for entry in first.entries if not entry.role.startswith(FORMER)]
    ended = [entry for entry in mine if entry.state in ("failed", "diverged")]
    why = f" ({len(ended)} of its runs failed or diverged)" if ended else ""
    raise UsageError(
        f"study {first.name!r} has no finished confirming run yet{why};"
        f" run 'bnnbench study run {first.name}' first"
    )


def check_writable(output: str, option: str = "-o") -> Path:
    """Return the path of the report if a file can be written there.

    Raises:
        UsageError: the folder is missing or not writable, or the path is not a file's.
    """
    try:
        return _checked(Path(output), output, option)
    except (OSError, RuntimeError) as error:  # a name that is too long, a loop of links
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{output} cannot be written: {reason}; give {option} another path"
        ) from None


def _checked(path: Path, output: str, option: str) -> Path:
    folder, way_out = path.resolve().parent, f"give {option} another path"
    if path.is_dir() or not path.name:
        raise UsageError(f"a report is a file, {output or '.'} is a folder; {way_out}")
    if path.exists() and not path.is_file():
        raise UsageError(f"a report is a file, {path} is not one; {way_out}")
    if not folder.is_dir():
        raise UsageError(f"the folder of {path} does not exist; make it, or {way_out}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"no permission to write {path}; {way_out}")
    return path


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; who reads it meanwhile sees the old one.

    Raises:
        UsageError: it cannot be written.
    """
    target = path.resolve()
    draft = target.with_name(f".bnnbench-report.{os.getpid()}.tmp")
    try:
        with draft.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
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
