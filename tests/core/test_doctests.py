"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

from datawinnow import condense, core, probe, scenarios, scores, select

MODULES = [
    "datawinnow.probe",
    *(
        f"{package.__name__}.{module.name}"
        for package in (core, probe, scores, select, scenarios, condense)
        for module in pkgutil.iter_modules(package.__path__)
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    attempted = sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES)
    assert attempted >= 25
