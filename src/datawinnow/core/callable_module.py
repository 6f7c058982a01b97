"""A package that is also a function: ``datawinnow.bench(...)`` beside ``datawinnow.bench.read_grid``."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def make_callable(package: str, function: str) -> None:
    """Let a call of a package call a function of another module, which is imported at the first call.

    Args:
        package: ``__name__`` of an imported package.
        function: ``"module:function"``, imported from when it is called, so that a lower layer can name a higher one.
    """
    module, _, name = function.partition(":")

    class CallablePackage(ModuleType):
        def __call__(self, *args: object, **kwargs: object) -> object:
            return getattr(import_module(module), name)(*args, **kwargs)

    # a call looks up __call__ on the type, not on the module; Python allows a subclass of ModuleType here
    sys.modules[package].__class__ = CallablePackage
