"""Where in its author's file a component failed, and not where in ours."""

from __future__ import annotations

import inspect
import sys
import traceback
from pathlib import Path
from typing import Any

from bnnbench.plugins import describe


def blamed(error: BaseException, component: Any) -> str:
    """Return an exception in one line, with the innermost line of the component's own code.

    Where it never got there, as with wrong arguments, that is the line it is defined in.
    """
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if _of(frame, component)]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{describe(error)} ({Path(error.filename).name}, line {error.lineno})"
    if not places:
        return f"{describe(error)} ({defined(component)})"
    last = places[-1]
    return f"{describe(error)} ({Path(last.filename).name}, line {last.lineno}, in {last.name})"


def defined(component: Any) -> str:
    """Return where a component is defined: "my_opt.py, line 12"."""
    try:
        file, (_, line) = inspect.getsourcefile(component), inspect.getsourcelines(component)
    except (OSError, TypeError):
        return f"{getattr(component, '__module__', type(component).__module__)}"
    return f"{Path(file or '?').name}, line {line}"


def home(component: Any) -> Path | None:
    """Return the folder of the component's package, or its file where it has none."""
    module = str(getattr(component, "__module__", type(component).__module__))
    top = sys.modules.get(module.partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is None:
        return None
    return Path(file).parent if hasattr(top, "__path__") else Path(file)


def _of(frame: traceback.FrameSummary, component: Any) -> bool:
    place = home(component)
    if place is None:
        return False
    file = Path(frame.filename).resolve()
    return file == place.resolve() or place.resolve() in file.parents
