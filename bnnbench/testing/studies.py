"""The promises of a bundled study file."""

from __future__ import annotations

from bnnbench.studyfile import read_study
from bnnbench.testing.checks import Subject, check

KIND = "studies"


@check(KIND, "loads")
def is_read(subject: Subject) -> None:
    """The file is there, and is a study.

    If not: the message names the key; include the file in the package's data.
    """
    read_study(subject.target, f"{subject.name}.toml")
