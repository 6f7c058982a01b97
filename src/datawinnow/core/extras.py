"""Optional dependencies, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from datawinnow.core.errors import ArgumentError


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional dependency.

    Args:
        module: its name, for example ``"transformers"``.
        extra: the extra of datawinnow that installs it.
        purpose: what needs it, for the error.

    Raises:
        ArgumentError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ArgumentError(f"{purpose} needs {module}: pip install 'datawinnow[{extra}]' ({error})") from error
