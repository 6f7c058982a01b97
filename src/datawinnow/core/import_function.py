"""Functions of the user's, by ``"module:function"``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datawinnow.core.errors import ArgumentError


def import_function(path: str, option: str) -> Callable[..., Any]:
    """The function of a ``"module:function"``; a module in the working directory is found, as by ``python -m``.

    Only what a user named in a call or on the command line may be imported, never what a file names.

    Args:
        path: ``"module:function"``.
        option: that names it, for the error.

    Raises:
        ArgumentError: no such module or function.
    """
    module_name, _, name = path.partition(":")
    # It stays on the path: what the module imports when it is called is found as well.
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ArgumentError(
            f"`{option}={path!r}`: cannot import module {module_name!r} ({error}); it must be in the working directory "
            f"({folder}) or on the Python path (PYTHONPATH), and named without .py"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ArgumentError(f"`{option}={path!r}`: module {module_name!r} has no function {name!r}")
    return function  # type: ignore[no-any-return]
