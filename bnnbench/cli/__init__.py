"""The command line. Each command's code is imported when that command is called."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bnnbench import __version__
from bnnbench.errors import INTERRUPTED, BnnbenchError, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnnbench.plugins import Plugins
    from bnnbench.studies import Study

_COMMANDS = {
    "study": ("bnnbench.cli.study:group", "Create, run and look at studies."),
    "export": ("bnnbench.cli.pack:command", "Write a run as a really binary network."),
    "packed": ("bnnbench.cli.packed:group", "Look at really binary networks."),
    "deploy": ("bnnbench.cli.deploy:command", "Pack the networks of a study and time them."),
    "time": ("bnnbench.cli.time:command", "Time the methods of a study against each other."),
    "plugins": ("bnnbench.cli.plugins:group", "List plugins and explain what they offer."),
    "data": ("bnnbench.cli.data:group", "List and fetch data sets."),
    "db": ("bnnbench.cli.db:group", "Upgrade, copy and check a database."),
    "completion": ("bnnbench.cli.completion:command", "Let the shell complete names."),
    "architectures": (
        "bnnbench.cli.architectures:group",
        "List networks, show what they are made of.",
    ),
}
EPILOG = (
    "Exit codes: 0 done, 1 an error, 2 a wrong name, value or study file, 3 bad or missing data,"
    " 4 the database, 5 a plugin, 6 the study ended with failed runs, 130 interrupted."
)


class Group(click.Group):
    """A group that answers an unknown command with the nearest known one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or suggest one."""
        if args and self.get_command(ctx, args[0]) is None:
            hint = suggestion(args[0], self.list_commands(ctx))
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


class _Main(Group):
    """The top: our own commands by name, and those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS, *sorted(set(self._plugin_commands(ctx)) - set(_COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            import importlib

            module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return self._plugin_commands(ctx).get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        theirs = self._plugin_commands(ctx)
        rows = [(name, text) for name, (_, text) in _COMMANDS.items()]
        rows += [
            (n, c.get_short_help_str()) for n, c in sorted(theirs.items()) if n not in _COMMANDS
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _plugin_commands(self, ctx: click.Context) -> dict[str, click.Command]:
        from bnnbench.plugins import load_commands

        found = ctx.meta.get("bnnbench.commands")
        if found is None:
            blocked = ctx.params.get("plugin_options", ())
            found, plugins = load_commands(blocked, taken=_COMMANDS)
            ctx.meta["bnnbench.commands"] = found
            for plugin in plugins:
                if plugin.status == "failed":
                    left_out = f"commands of plugin {plugin.name!r} are left out: {plugin.reason}"
                    click.echo(f"warning: {left_out}", err=True)
        return dict(found)


class Settings:
    """What the options before the command say: plugins to leave out, and files of plugins."""

    def __init__(self, blocked: Sequence[str] = (), files: Sequence[str] = ()) -> None:
        self.blocked, self.files = tuple(blocked), tuple(files)

    def plugins(self, study: Study | None = None) -> Plugins:
        """Return the plugins in use, with those of the files that a study names.

        Raises:
            UsageError: a file is missing, or is no Python file.
            PluginError: the plugin of a file does not work.
        """
        from bnnbench.names import remember
        from bnnbench.plugins import load_plugins

        plugins = load_plugins(self.blocked, self.files_of(study) if study else self.files)
        remember(plugins)
        return plugins

    def files_of(self, study: Study) -> tuple[str, ...]:
        """Return the plugin files of a study; one of the same name from the options goes first."""
        from pathlib import Path

        ours = {Path(file).name for file in self.files}
        named = [file for file in study.plugins.files if Path(file).name not in ours]
        return (*named, *self.files)


def _blocked(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    for value in values:
        if not value.startswith("no:") or value == "no:":
            raise click.BadParameter(f"must be no:NAME, got {value!r}")
    return tuple(value.removeprefix("no:") for value in values)


@click.group(cls=_Main, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-p",
    "plugin_options",
    metavar="no:NAME",
    multiple=True,
    callback=_blocked,
    is_eager=True,
    help="Leave a plugin out (as BNNBENCH_BLOCK_PLUGINS does). May be repeated.",
)
@click.option(
    "--plugin",
    "files",
    metavar="FILE",
    multiple=True,
    help="Use the plugin of a Python file, without installing it. May be repeated.",
)
@click.version_option(__version__, prog_name="bnnbench")
@click.pass_context
def cli(ctx: click.Context, plugin_options: tuple[str, ...], files: tuple[str, ...]) -> None:
    """Compare ways of training binarized neural networks, honestly."""
    ctx.obj = Settings(plugin_options, files)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error and warning is one line."""
    with _warnings_in_one_line():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        cli.main(arguments, prog_name="bnnbench", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        context: click.Context | None = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        if getattr(error, "option_name", "") in ("--plugin", "-p"):
            hint = f" It stands before the command: bnnbench {error.option_name} ..."  # type: ignore[attr-defined]
        return _fail(error.format_message() + hint, error.exit_code)
    except BnnbenchError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Let what a method warns of look like an error, and leave Python's own warnings alone."""
    with warnings.catch_warnings():
        before = warnings.showwarning
        told: set[str] = set()

        def show(message: Any, category: type[Warning], *where: Any) -> None:
            if category.__module__.partition(".")[0] == "builtins" and category is not UserWarning:
                before(message, category, *where)
            elif str(message) not in told:
                told.add(str(message))
                click.echo(f"warning: {' '.join(str(message).split())}", err=True)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code
