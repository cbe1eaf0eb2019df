"""``bnnbench architectures``: list networks, show what one is made of."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bnnbench.cli import Group, Settings
from bnnbench.cli.completion import components
from bnnbench.cli.options import set_option
from bnnbench.errors import PluginError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnnbench.experiments import Workbench
    from bnnbench.plugins import Component
    from bnnbench.runs import Part
    from bnnbench.summary import Layer, Summary


class Inputs(NamedTuple):
    """What a network is built for: the shape of one input and the number of classes."""

    shape: tuple[int, ...]
    classes: int

    def __str__(self) -> str:
        """Say it: "inputs of 3x32x32, 10 classes"."""
        return f"inputs of {_by(self.shape)}, {self.classes} classes"


#: tried in this order where nothing is asked for: CIFAR-10, ImageNet, MNIST
CUSTOMARY = (Inputs((3, 32, 32), 10), Inputs((3, 224, 224), 1000), Inputs((1, 28, 28), 10))

#: the numbers of a row and the heads of their columns
COUNTS = {
    "binary": "1-bit",
    "real": "32-bit",
    "statistics": "statistics",
    "memory_bits": "kB",
    "macs": "MACs",
}
SPARE = ("statistics", "kind", "kB", "place")  #: columns that a narrow terminal does without


@click.group(cls=Group)
def group() -> None:
    """List networks and show what they are made of."""


@group.command("list")
@click.pass_obj
def list_(settings: Settings) -> None:
    """List the architectures, each with a sentence that says what it is."""
    from bnnbench.cli.tables import console, table

    plugins = settings.plugins()
    found = [plugins.component("architectures", name) for name in plugins.names("architectures")]
    made = table("architecture", "what", title="")
    made.columns[0].no_wrap = True
    for component, sentence in zip(found, sentences(found), strict=True):
        made.add_row(component.name, sentence)
    console().print(made, markup=False)


def sentences(components: Sequence[Component]) -> list[str]:
    """Return what each component is: the first sentence of the module that it comes from.

    Where several come from one module, it is the component's own, if that tells them apart.
    """
    texts = [_texts(component) for component in components]
    shared = Counter(module for module, _, _ in texts)
    return [
        (_apart(first_sentence(own)) if shared[module] > 1 else "") or first_sentence(whole)
        for module, whole, own in texts
    ]


def _apart(sentence: str) -> str:
    """What a sentence says beside that a network is returned, and from what to what it leads.

    >>> _apart("Return the small one, from images to (batch, classes).")
    'The small one.'
    >>> _apart("Return a network from images to (batch, classes).")
    ''
    """
    told = re.sub(r",? from .*", ".", sentence.removeprefix("Return "))
    return "" if told == "a network." else told[:1].upper() + told[1:]


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, in one line.

    >>> first_sentence("ResNet (He et al., 2016), with 1.5 M weights. Real ends.")
    'ResNet (He et al., 2016), with 1.5 M weights.'
    """
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph)[0]


def _texts(component: Component) -> tuple[str, str, str]:
    """The module of a component, the module's docstring and the component's own.

    What is given by reference is read from its source: importing it would import torch.
    """
    reference = component.reference
    if not isinstance(reference, str):
        module, own = inspect.getmodule(reference), inspect.getdoc(reference)
        return reference.__module__, (inspect.getdoc(module) if module else "") or "", own or ""
    name, _, attribute = reference.partition(":")
    return name, *_docstrings(_source(name), attribute)


def _source(module: str) -> str:
    """The source of a module, empty where there is none to be read."""
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
        return spec.loader.get_source(module) or ""  # type: ignore[union-attr]
    except (Exception, SystemExit):  # whatever the packages around it may raise
        return ""


def _docstrings(source: str, name: str) -> tuple[str, str]:
    """The docstrings of a module and of a function or class in it."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return "", ""
    kinds = (ast.FunctionDef, ast.ClassDef)
    named = [node for node in tree.body if isinstance(node, kinds) and node.name == name]
    own = ast.get_docstring(named[-1]) if named else None
    return ast.get_docstring(tree) or "", own or ""


def _shape(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    if text is None:
        return None
    sizes = re.split(r"[,x]", text)
    if not all(re.fullmatch(r"[1-9]\d*", size) for size in sizes):
        raise click.BadParameter(f"must be whole numbers above 0, as in 3,32,32, got {text!r}")
    return tuple(map(int, sizes))


@group.command()
@click.argument("name", shell_complete=components("architectures"))
@click.option("--shape", callback=_shape, metavar="C,H,W", help="The shape of one input.")
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=components("datasets"),
    help="Take shape and classes of a data set.",
)
@click.option("--classes", type=click.IntRange(min=1), metavar="N", help="The number of classes.")
@set_option("A hyperparameter; repeat it.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_obj
def show(
    settings: Settings,
    name: str,
    shape: tuple[int, ...] | None,
    dataset: str | None,
    classes: int | None,
    values: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Show a network layer by layer: what is binary, its memory, its multiplications.

    Without --shape or --dataset the network is built for the first that it takes of 3,32,32 with
    10 classes, 3,224,224 with 1000, and 1,28,28 with 10.
    """
    from bnnbench.experiments import Workbench
    from bnnbench.runs import Part

    workbench, part = Workbench(settings.plugins()), Part(name, values)
    complete = workbench.complete("architectures", name, values)
    tried, why = _asked(workbench, shape, dataset, classes)
    inputs, summary = _first_taken(workbench, part, tried)
    if as_json:
        built = {"architecture": name, "hyperparameters": complete, **inputs._asdict()}
        click.echo(json.dumps(built | summary.to_dict(), indent=2))
        return
    chosen = ", ".join(f"{key} = {value!r}" for key, value in values.items())
    click.echo(f"{name}{f' with {chosen}' if chosen else ''}: {inputs} ({why})")
    print_summary(summary)
    _print_options(workbench.plugins.component("architectures", name))


def _asked(
    workbench: Workbench, shape: tuple[int, ...] | None, dataset: str | None, classes: int | None
) -> tuple[tuple[Inputs, ...], str]:
    """The inputs to try, in their order, and why these."""
    from bnnbench.runs import Part

    if dataset is None and shape is None:
        tried = tuple(Inputs(i.shape, classes or i.classes) for i in CUSTOMARY)
        return tried, "the first that it takes; --shape or --dataset names others"
    if dataset is None:
        usual = {i.shape: i.classes for i in CUSTOMARY}
        return (Inputs(shape or (), classes or usual.get(shape or (), 10)),), "as asked"
    if shape is not None or classes is not None:
        raise UsageError("give either --dataset or --shape and --classes, not both")
    data = workbench.dataset(Part(dataset))
    return (Inputs(data.shape, data.classes),), f"those of {dataset}"


def _first_taken(
    workbench: Workbench, part: Part, tried: Sequence[Inputs]
) -> tuple[Inputs, Summary]:
    """The first inputs for which the network can be built and called, and its summary.

    Raises:
        UsageError: it refuses all of them.
        PluginError: its code fails.
    """
    refused: list[UsageError | PluginError] = []
    for inputs in tried:
        try:
            return inputs, _summary(workbench, part, inputs)
        except (UsageError, PluginError) as error:
            refused.append(error)
    first = refused[0]
    if len(tried) == 1:
        raise first
    shapes = ", ".join(_by(inputs.shape) for inputs in tried)
    raise type(first)(
        f"{part.name} takes none of the customary inputs {shapes}; name its own with --shape"
        f" (the first: {first})"
    ) from first


def _summary(workbench: Workbench, part: Part, inputs: Inputs) -> Summary:
    from bnnbench.plugins import describe
    from bnnbench.seeds import RandomState
    from bnnbench.summary import summarize

    with RandomState(0).in_force():
        network = workbench.build("architectures", part, **inputs._asdict())
        try:
            return summarize(network, inputs.shape)
        except Exception as error:  # whatever a plugin's network may raise
            raise PluginError(
                f"{part.name} fails with {inputs}; take another --shape: {describe(error)}"
            ) from error


def print_summary(summary: Summary) -> None:
    """Print the layers, the totals, and what must be known to read them."""
    from bnnbench.cli.tables import console

    out = console()
    out.print(layers_table(summary, out.width), markup=False)
    out.print(totals_table(summary), markup=False)
    for line in _notes(summary):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def layers_table(summary: Summary, width: int) -> Any:
    """Return the table of layers and their sums, no wider than ``width``.

    Columns that can be spared give way first, then the names, which take several lines.
    """
    from bnnbench.cli.tables import table

    rows = [*map(_row, summary.layers), {"layer": "total"} | _numbers(summary.counts)]
    heads = _fitting(rows, width)
    made = table(heads[0], title="")
    made.padding = (0, 1, 0, 0)
    for head in heads[1:]:
        side = "left" if head in ("kind", "place") else "right"
        made.add_column(head, justify=side, no_wrap=True)
    for row in rows:
        if row is rows[-1]:
            made.add_section()
        made.add_row(*(row.get(head, "") for head in heads))
    return made


def _row(layer: Layer) -> dict[str, str]:
    calls = "" if layer.calls < 2 else f" ({layer.calls} times)"
    bits = f"{layer.weight_bits}/{layer.input_bits}" if layer.input_bits else ""
    described = {
        "layer": f"{layer.name or '(all)'}{calls}",
        "kind": layer.kind,
        "place": layer.place,
        "W/A": f"{bits}{'*' if layer.zeros else ''}",
        "output": "-" if layer.output is None else _by(layer.output),
    }
    return described | _numbers(layer.counts)


def _numbers(counts: Mapping[str, int]) -> dict[str, str]:
    """The numbers of a row, by the head of their column; what is 0 is left empty."""
    shown = {head: f"{counts[name]:,}" for name, head in COUNTS.items()}
    shown["kB"] = _kilobytes(counts["memory_bits"])
    return {head: shown[head] if counts[name] else "" for name, head in COUNTS.items()}


def _fitting(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The heads of the columns for which there is room, two blanks between any two."""
    needed = {head: max(len(row.get(head, "")) for row in rows) for head in rows[0]}
    for head in SPARE:
        if sum(max(needed[h], len(h)) + 2 for h in needed) <= width:
            break
        del needed[head]
    return list(needed)


def totals_table(summary: Summary) -> Any:
    """Return the totals and their shares: parameters, memory, MACs by the bits of both factors."""
    from bnnbench.cli.tables import table

    made = table("in all", "", title="")
    made.columns[1].justify = "right"
    made.add_column("", justify="right")
    counts, parameters = summary.counts, summary.parameters
    made.add_row("parameters", f"{parameters:,}")
    made.add_row("  of 1 bit", f"{counts['binary']:,}", _share(counts["binary"], parameters))
    made.add_row("  of 32 bits", f"{counts['real']:,}", _share(counts["real"], parameters))
    made.add_row("statistics", f"{counts['statistics']:,}")
    made.add_row("memory, kB", _kilobytes(counts["memory_bits"]))
    made.add_row("  all of 32 bits", _kilobytes(summary.real_memory_bits))
    made.add_row("  compression", f"{summary.compression:.2f} x")
    made.add_row("MACs", f"{counts['macs']:,}")
    for kind, macs in summary.macs.items():
        if macs:
            made.add_row(f"  W/A {kind}", f"{macs:,}", _share(macs, counts["macs"]))
    return made


def _notes(summary: Summary) -> list[str]:
    notes = [
        "W/A: bits of weights and of inputs, the latter as measured on a random input",
        "kB: 1,000 bytes, with the statistics (running means and variances, of 32 bits)",
        "MACs: of dense layers and convolutions for one input; other layers' are not counted",
    ]
    if any(layer.zeros for layer in summary.layers):
        notes.append("*: zeros, as of padding, are a third value among the inputs")
    return notes


def _print_options(component: Component) -> None:
    """The table that ``plugins show`` prints."""
    from bnnbench.cli.plugins import print_hyperparameters

    print_hyperparameters(component)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _kilobytes(bits: int) -> str:
    return f"{bits / 8000:,.2f}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else ""
