"""Every verb is a function of the package: ``dw.record(...)`` as ``dw.prune(...)``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import datawinnow as dw
from datawinnow.cli.app import VERB_NAMES
from datawinnow.core.errors import DatawinnowError

MISTAKES = {
    "audit": ("no such data",),
    "bench": ("nothing.toml",),
    "condense": ("no such data",),
    "demo": (),
    "estimate": ("no such data",),
    "instruct": ("no such data",),
    "methods": ("no such method",),
    "plan": ("no such data",),
    "prune": ("no such data",),
    "race": ("no such data",),
    "record": ("no such data",),
    "report": ("no such run",),
    "score": ("no such run",),
    "select": ("no such run",),
    "train": ("no such data",),
}
"""Arguments that the verb refuses by an error of this package."""


@pytest.mark.parametrize("verb", VERB_NAMES)
def test_every_verb_is_called_as_the_package_s_own(verb, monkeypatch):
    calls = []
    module = sys.modules[getattr(dw.api, verb).__module__]
    monkeypatch.setattr(module, verb, lambda *args, **options: calls.append((args, options)))
    if callable(getattr(dw, verb)) and getattr(dw, verb) is not getattr(dw.api, verb):
        getattr(dw, verb)("data", option=1)
        assert calls == [(("data",), {"option": 1})]
    else:
        assert getattr(dw, verb) is getattr(dw.api, verb)
    assert verb in dw.__all__


@pytest.mark.parametrize("verb", [verb for verb in VERB_NAMES if MISTAKES[verb]])
def test_a_verb_of_the_package_raises_what_the_verb_raises(verb):
    required = {"prune": {"keep": 0.5}, "race": {"budget": 1}, "select": {"keep": 0.5}, "score": {"scores": "dual"}}
    with pytest.raises((DatawinnowError, OSError)):
        getattr(dw, verb)(*MISTAKES[verb], **required.get(verb, {}))


def test_the_packages_stay_packages():
    assert dw.record.Recorder is dw.Recorder
    assert dw.train.fit is dw.fit
    assert "dual" in dw.methods.METHODS
    assert "beta" in dw.select.METHODS
    assert callable(dw.report.write)


def test_verbs_are_there_whatever_was_imported_first():
    code = (
        "import datawinnow.train.fit, datawinnow.methods.create, datawinnow as dw; "
        "print(callable(dw.train), callable(dw.methods))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "True True\n"
