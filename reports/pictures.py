"""``bnnbench report figures NAME``: the report's figures as files, drawn by a browser unseen.

Kaleido lets Chrome or Chromium draw them, with the plotly.js of the report; nothing is fetched.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from bnnbench.cli import Settings
from bnnbench.cli.completion import studies
from bnnbench.cli.options import open_store, storage_option
from bnnbench.errors import UsageError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from plotly.graph_objects import Figure as Drawing

    from bnnbench.results import Results

    Draw = Callable[[Results], Any]

Format = Literal["svg", "png", "pdf"]
FORMATS: tuple[Format, ...] = ("svg", "png", "pdf")
WIDTH, HEIGHT = 900, 450  #: in pixels; a figure of several panels has a height of its own
SHARP = 2  #: a pixel of a PNG file is so many dots wide
HEAD = 30  #: pixels above a drawing for its title
INSTALL = "figures as files need the package kaleido from version 1; pip install 'bnnbench[export]'"


class Picture(NamedTuple):
    """A figure's name, and its drawing as it goes into a file."""

    name: str
    drawing: Drawing


@click.command("figures")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=studies)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="svg",
    show_default=True,
    help="SVG and PDF are made of lines, PNG of dots.",
)
@click.option("-o", "--output", metavar="FOLDER", help="Where to; NAME-figures by default.")
@click.option(
    "--figure",
    "wanted",
    metavar="FIGURE",
    multiple=True,
    help="This figure only; repeat it. [default: all that the study has data for]",
)
@storage_option
@click.pass_context
def pictures(
    context: click.Context,
    /,
    names: tuple[str, ...],
    form: Format,
    output: str | None,
    wanted: tuple[str, ...],
    storage: str,
) -> None:
    """Write the figures of a study's report as files, FIGURE.svg and so on.

    It takes the package kaleido (pip install 'bnnbench[export]') and Chrome or Chromium, which is
    looked for; BROWSER_PATH names it. Several studies are drawn as one.
    """
    from bnnbench.together import results_of
    from bnnbench_reports.command import check_finished, figures, write

    results = results_of(open_store(storage), names)
    check_finished(results)
    chosen = choose(figures(context.ensure_object(Settings).plugins()), wanted)
    folder = made(output or f"{'+'.join(names)}-figures")
    drawn = list(drawings(results, chosen, asked=bool(wanted)))
    for picture, content in zip(drawn, rendered([p.drawing for p in drawn], form), strict=True):
        path = folder / f"{picture.name}.{form}"
        write(path, content)
        click.echo(str(path))


def choose(offered: Sequence[tuple[str, Draw]], wanted: Sequence[str]) -> list[tuple[str, Draw]]:
    """Return the figures that are wanted, all where none is named.

    Raises:
        UsageError: there is no such figure.
    """
    known = dict(offered)
    for name in wanted:
        if name not in known:
            raise UsageError(f"there is no figure {name!r}{suggestion(name, known)}")
    return [(name, draw) for name, draw in offered if name in wanted or not wanted]


def made(output: str) -> Path:
    """Return a folder for the files, which is made if it is not there.

    Raises:
        UsageError: it cannot be.
    """
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{folder} cannot be made: {reason}; give -o another folder") from None
    return folder.resolve()


def drawings(
    results: Results, figures: Iterable[tuple[str, Draw]], *, asked: bool = False
) -> Iterable[Picture]:
    """Yield the drawings of those figures that there are data for.

    Raises:
        UsageError: one that was ``asked`` for has no data, or fails; others are left out with a
            warning.
    """
    for name, draw in figures:
        problem = ""
        try:
            figure = draw(results)
            if figure is not None:
                yield Picture(name, complete(figure.drawing, figure.title, results))
            elif asked:
                problem = "has nothing to show of this study; leave it out"
        except Exception as error:  # whatever a plugin's figure may raise
            problem = f"could not be drawn: {type(error).__name__}: {error}"
        if problem and asked:
            raise UsageError(f"figure {name!r} {problem}")
        if problem:
            click.echo(f"warning: figure {name!r} is left out, it {problem}", err=True)


def complete(drawing: Drawing, title: str, results: Results) -> Drawing:
    """Return a drawing with what stands around it on the page: its title, and notes on the data."""
    from bnnbench_reports.cards import annotate
    from bnnbench_reports.figures.drawing import plain
    from bnnbench_reports.readings import noted_tasks

    if note := "; ".join(f"{tasks}: {said}" for tasks, said in noted_tasks(results.notes)):
        annotate(drawing, note)
    height, above = drawing.layout.height or HEIGHT, drawing.layout.margin.t or 50
    drawing.update_layout(
        template="plotly_white",
        height=height + HEAD,
        margin_t=above + HEAD,
        title={"text": plain(title), "x": 0.01, "y": 1, "yref": "container", "pad": {"t": 12}}
        | {"yanchor": "top", "font": {"size": 15}},
    )
    return drawing


def rendered(drawings: Sequence[Drawing], form: Format) -> list[bytes]:
    """Return drawings as the contents of files; one browser draws them all.

    Raises:
        UsageError: kaleido is not installed, or finds no browser that works.
    """
    try:
        from choreographer import errors
        from kaleido import Kaleido
    except ImportError:
        raise UsageError(INSTALL) from None
    failed = (errors.BrowserFailedError, errors.BrowserClosedError, errors.BrowserDepsError)
    try:
        return asyncio.run(_rendered(Kaleido, drawings, form))
    except errors.ChromeNotFoundError:
        raise UsageError(
            "a browser must draw the figures, and none is found; install Chrome or Chromium, or"
            " set BROWSER_PATH to the one that is there"
        ) from None
    except (*failed, TimeoutError):
        raise UsageError(
            "the browser that must draw the figures does not work; set BROWSER_PATH to a Chrome or"
            " Chromium that does"
        ) from None


async def _rendered(kaleido: Any, drawings: Sequence[Drawing], form: Format) -> list[bytes]:
    scale = SHARP if form == "png" else 1
    async with kaleido(mathjax=False) as browser:
        return [
            await browser.calc_fig(
                drawing,
                opts={
                    "format": form,
                    "width": WIDTH,
                    "height": drawing.layout.height,
                    "scale": scale,
                },
            )
            for drawing in drawings
        ]
