"""A tiny language model, saved once as transformers saves real ones."""

from __future__ import annotations

import pytest

from tests.instruct.helpers import language_model


@pytest.fixture(scope="session")
def lm(tmp_path_factory):
    """The folder of a GPT-2 with random weights."""
    return language_model(tmp_path_factory.mktemp("text") / "lm")
