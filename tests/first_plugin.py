"""From nothing to the first compared result of an optimizer of one's own, in seconds.

    python -m tests.first_plugin [FOLDER]

A clean environment is made first, which sees the packages of the one that this runs in; that is
not timed. Then a plugin is begun, installed, checked, compared with Bop on digits, and reported.
"""

from __future__ import annotations

import importlib.util
import os
import site
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

NAME = "quick-signs"
STEPS = {
    "new": f"bnnbench plugins new {NAME} --path .",
    "install": "pip install -e .",
    "check": f"bnnbench plugins check {NAME}",
    "create": "bnnbench study create first --from study.toml",
    "run": "bnnbench study run first",
    "report": "bnnbench report first",
}
_COMMANDS = {
    "bnnbench": "from bnnbench.cli import main\nsys.exit(main())\n",
    "pip": "from pip._internal.cli.main import main\nsys.exit(main([*sys.argv[1:], *OFFLINE]))\n",
}


def environment(folder: Path) -> Path:
    """Make an environment whose pip installs without a network; returns its folder of commands.

    What is installed in this one is there too, but what is installed in it stays in it.
    """
    venv.create(folder, with_pip=False)
    commands = folder / "bin"
    python = commands / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in ours or site.getsitepackages()]
    (packages / "the_one_that_made_it.pth").write_text("\n".join(lines))
    offline = ["--no-deps", "--disable-pip-version-check", "--root-user-action=ignore"]
    if importlib.util.find_spec("setuptools"):
        offline.append("--no-build-isolation")
    for name, text in _COMMANDS.items():
        head = f"#!{python}\nimport sys\nOFFLINE = {offline!r}\n"
        (commands / name).write_text(head + text)
        (commands / name).chmod(0o755)
    return commands


def call(command: str, commands: Path, folder: Path) -> str:
    """Run a line of shell in a folder, with the commands of an environment; returns what it said.

    Raises:
        RuntimeError: it ended with another code than 0.
    """
    known = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BNNBENCH"))}
    known |= {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "BNNBENCH_CACHE": str(commands.parent / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, env=known, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def first_plugin(folder: Path, commands: Path) -> dict[str, tuple[float, str]]:
    """Take all steps in an empty folder; returns the seconds of each and what it said."""
    found = {}
    for name, command in STEPS.items():
        begun = time.perf_counter()
        said = call(command, commands, folder)
        found[name] = time.perf_counter() - begun, said
    return found


def main() -> None:
    """Print the seconds of each step, and of all."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(sys.argv[1]) if sys.argv[1:] else Path(made) / "plugin"
        folder.mkdir(parents=True, exist_ok=True)
        found = first_plugin(folder, environment(Path(made) / "env"))
    for name, (seconds, _) in found.items():
        print(f"{seconds:6.1f} s  {STEPS[name]}")
    print(f"{sum(seconds for seconds, _ in found.values()):6.1f} s  in all")


if __name__ == "__main__":
    main()
