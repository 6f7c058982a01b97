"""Cards and docstrings of every method, and no file forgotten."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from datawinnow import condense, dynamic, scenarios, scores, select
from datawinnow.core.card import CONTRACT_PARAMETERS, Card
from tests.conformance import cases

FOLDERS = {"score": scores, "selector": select, "scenario": scenarios, "condenser": condense}
METHODS = {f"{kind} {key}": m for kind, package in FOLDERS.items() for key, m in package.METHODS.items()}
NOT_METHODS = {
    "score": "inputs wrap",
    "selector": "farthest greedy last_layer nnls similarity wrap wrap_blend wrap_cost wrap_drop_tail wrap_duplicates",
    "scenario": "corrupt_images",
    "condenser": """augment cost evaluation features gradients loop matching networks options pixels projection
        published_settings real_images real_sets run_folder training""",
}
"""Modules without a method of their own; a leading underscore says the same of what only its folder uses."""

SOURCE = r"arXiv \d{4}\.\d{4,5}|doi:10\.\d{4,}/\S+[^\s.,;)]"
"""Papers older than arXiv's habit are named by their DOI."""

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


@pytest.mark.parametrize("kind", FOLDERS)
def test_no_file_is_forgotten(kind):
    package = FOLDERS[kind]
    methods_by_key = {}
    for file in Path(package.__file__).parent.glob("*.py"):
        if file.stem.startswith("_") or file.stem in NOT_METHODS[kind].split():
            continue
        module = importlib.import_module(f"{package.__name__}.{file.stem}")
        methods = [m for m in vars(module).values() if isinstance(getattr(m, "card", None), Card)]
        methods = [m for m in methods if m.__module__ == module.__name__]
        assert methods, f"{file.name} holds no method; give it a card, or a name with an underscore"
        methods_by_key |= {m.card.key: m for m in methods}
    assert methods_by_key == package.METHODS, "import the method in __init__.py, one line each"
    assert set(package.METHODS) <= set(package.__all__), "name the method in __all__ of __init__.py"


def check_card(card):
    """What the cards of all kinds have in common."""
    assert re.search(SOURCE, card.source), f"the source needs arXiv NNNN.NNNNN or doi:10..., got {card.source!r}"
    assert re.search(r"\b(19|20)\d\d\b", card.source), f"the source needs a year, got {card.source!r}"
    assert re.match(r"time O\(.*memory O\(", card.cost), f"cost= is 'time O(...), memory O(...)', got {card.cost!r}"
    assert card.summary.endswith("."), f"the docstring's first line is a sentence, got {card.summary!r}"


@every_method
def test_the_card_is_complete(method, request):
    card = method.card
    assert card.kind == request.node.callspec.id.rsplit(" ", 1)[0]
    assert card.key == method.__name__
    assert (card.end in ("high", "low", "middle")) == (card.kind == "score")
    check_card(card)
    assert len(card.name) >= 3
    assert set(card.takes) <= set(CONTRACT_PARAMETERS)
    if card.kind == "selector":
        assert "budget" in card.takes
    if card.kind == "score":
        assert "missing" in card.takes
    if card.kind == "condenser":
        assert card.takes == ("per_class", "build", "generator")


@every_method
def test_the_docstring_says_everything(method):
    doc = inspect.getdoc(method)
    for section in ("Args:", "Returns:", "Raises:", "References:"):
        assert f"\n{section}\n" in doc, f"{section} is missing"
    args = doc.split("\nArgs:\n")[1].split("\nReturns:\n")[0]
    entries = dict(re.findall(r"^    (\w+): ((?:.|\n(?!    \w+: ))*)", args, flags=re.MULTILINE))
    parameters = inspect.signature(method).parameters
    assert list(entries) == list(parameters), "Args must list every parameter in order"
    for name, parameter in parameters.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            assert re.search(r"\([\w -]+,[\w ,.]*\)", entries[name]), f"{name} needs its shape"
    returns = doc.split("\nReturns:\n")[1].split("\nRaises:\n")[0]
    assert re.search(r"\(n,\)|Selection|Synthetic", returns), "Returns needs the shape (n,), or `Selection`"
    source = re.search(SOURCE, method.card.source).group()
    assert source.removeprefix("arXiv ") in doc.split("\nReferences:\n")[1]
    assert ">>> " in doc, "an example with a number"


def test_every_method_is_run_with_its_defaults_and_no_options_are_forgotten():
    keys = [case.id for case in cases.cases(scores.METHODS, {"dual": [{"window": 3}]})]
    assert set(scores.METHODS) | {"dual-window=3"} == set(keys)
    with pytest.raises(LookupError, match=r"options of no method: \['gone'\]"):
        cases.cases(scores.METHODS, {"gone": [{}]})


@pytest.mark.parametrize(
    ("package", "kind", "methods"),
    [
        (scores, "score", scores.METHODS),
        (select, "selector", select.METHODS),
        (dynamic, "policy", dynamic.POLICIES),
        (dynamic, "batch selector", dynamic.BATCH_SELECTORS),
    ],
    ids=["score", "selector", "policy", "batch selector"],
)
def test_a_method_without_a_conformance_case_fails_at_collection(package, kind, methods):
    files = cases.keys_of_files(package, kind)
    assert files == set(methods)
    last = max(methods)
    with pytest.raises(LookupError, match=rf"without a conformance case: \['{last}'\]"):
        cases.cases({key: method for key, method in methods.items() if key != last}, {}, files=files)
