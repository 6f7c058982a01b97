"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

from datawinnow import condense, core, models, probe, record, scenarios, scores, select, train

MODULES = [
    "datawinnow.probe",
    *(
        f"{package.__name__}.{module.name}"
        for package in (core, models, record, train, probe, scores, select, scenarios, condense)
        for module in pkgutil.iter_modules(package.__path__)
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in tests) >= 25
