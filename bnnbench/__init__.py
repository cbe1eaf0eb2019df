"""bnnbench: which way of training a binarized network is better, by how much, at what cost.

A plugin needs ``bnnbench.hookimpl``, the nouns of :mod:`bnnbench.interfaces` and, for a method,
:mod:`bnnbench.methods`, :mod:`bnnbench.schedules` and :mod:`bnnbench.spaces`.
"""

from bnnbench.hookspecs import API_VERSION, hookimpl
from bnnbench.spaces import Choice, Float, Int

__version__ = "0.1.0"

__all__ = ["API_VERSION", "Choice", "Float", "Int", "__version__", "hookimpl"]
