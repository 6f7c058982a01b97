"""Tiny models, saved once, as transformers saves real ones."""

from __future__ import annotations

import pytest

from tests.instruct.helpers import clip_model, language_model, reward_model


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "lm": language_model(folder / "lm"),
        "no bos": language_model(folder / "nobos", bos=False),
        "reward": reward_model(folder / "reward"),
        "two": reward_model(folder / "two", labels=2),
        "clip": clip_model(folder / "clip"),
    }
