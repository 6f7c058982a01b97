"""Keywords that a public function does not have are met with where they belong."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import datawinnow as dw
from datawinnow import api
from datawinnow.core.errors import ArgumentError

VERBS = (api.prune, api.record, api.train, api.race, api.estimate)


def arrays() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((20, 3), np.float32), np.arange(20) % 2


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
@pytest.mark.parametrize(
    ("keyword", "place"),
    [
        ({"label": "y"}, "load=dw.LoadOptions(label=...)"),
        ({"size": 32}, "load=dw.LoadOptions(size=...), or for a dataset object by dw.load(data, size=...)"),
        ({"limit": 32}, "load=dw.LoadOptions(limit=...)"),
        ({"lr": 0.1}, "recipe=dw.Recipe(lr=...)"),
        ({"batch": 16}, "recipe=dw.Recipe(batch=...)"),
        ({"memory": 10**9}, "dw.load(data, memory=...)"),
        ({"modl": "mlp"}, "Did you mean 'model'?"),
    ],
)
def test_the_place_of_a_keyword_is_named(verb: Callable[..., Any], keyword: dict[str, Any], place: str) -> None:
    with pytest.raises(ArgumentError, match=rf"^{verb.__name__} has no parameter '{next(iter(keyword))}'") as error:
        verb(arrays(), **keyword)
    assert place in str(error.value)


@pytest.mark.parametrize("keyword", ["label", "lr"])
def test_what_is_proposed_is_taken(keyword: str) -> None:
    with pytest.raises(ArgumentError) as error:
        api.estimate(arrays(), **{keyword: 0.1})
    place = re.search(r"(load|recipe)=dw\.(\w+)\((\w+)=\.\.\.\)", str(error.value))
    assert place is not None
    parameter, name, field = place.groups()
    assert parameter in inspect.signature(api.estimate).parameters
    assert field in inspect.signature(getattr(dw, name)).parameters


def test_functions_without_those_options_name_the_nearest_of_theirs() -> None:
    with pytest.raises(ArgumentError, match=r"^load has no parameter 'lables'\. Did you mean 'label'\?"):
        dw.load(arrays(), lables="y")
    with pytest.raises(ArgumentError, match=r"^select has no parameter 'lr'\.(?! Recipe)"):
        api.select("run", keep=0.5, lr=0.1)
