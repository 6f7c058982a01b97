"""When a run's scoring is paid back: whatever was passed to find the selection counts."""

from __future__ import annotations

from typing import Any

import pytest

from datawinnow.report.run_page import _pays

RECORD = {"backward": 3000, "forward": 0}
META = {"keep": 0.3, "charge": 3000}


def facts(cost: dict[str, Any], **recorded: int) -> dict[str, Any]:
    return {"dataset": {"n": 100}, "options": {"record": recorded or None}, "cost": cost}


@pytest.mark.parametrize(
    ("cost", "recorded", "keep", "passed", "back"),
    [
        ({"record": RECORD}, {"epochs": 30}, 0.3, "3,000", "after 1.4 runs"),  # 3000 / (3000 - 900)
        ({"record": RECORD}, {"epochs": 30, "of": 200}, 0.3, "3,000", "after 0.2 runs"),  # 3000 / (20000 - 6000)
        # a third of the 600 that were passed forward alone
        ({"record": RECORD, "probe": {"backward": 0, "forward": 600}}, {"epochs": 30}, 0.3, "3,200", "after 1.5 runs"),
        (
            {
                "record": RECORD,
                "probe": {"backward": 100, "forward": 600},
                "subsets": {"backward": 2000, "forward": 900},
            },
            {"epochs": 30},
            0.3,
            "5,600",
            "after 2.7 runs",
        ),
        # choosing, training and checking are no part of it
        (
            {"record": RECORD, "score": {"backward": 70}, "train": {"backward": 900}, "check": {"backward": 2700}},
            {"epochs": 30},
            0.3,
            "3,000",
            "after 1.4 runs",
        ),
        ({"record": RECORD}, {"epochs": 30}, 1.0, "3,000", "never"),
    ],
    ids=["recording", "planned longer", "probe", "subsets", "the rest", "all kept"],
)
def test_all_that_was_passed_for_the_scores_is_paid_back(
    cost: dict[str, Any], recorded: dict[str, int], keep: float, passed: str, back: str
) -> None:
    said = _pays(facts(cost, **recorded), {**META, "keep": keep})
    epochs = recorded.get("of", 30)
    assert said == (
        f"Scoring passed {passed} examples. Against full runs of {epochs} epochs, training on the kept examples pays "
        f"it back {back}. Against training on everything for fewer epochs it never pays by cost alone: there it must "
        "win by accuracy (see the check, or run prune with --check)."
    )


def test_a_method_that_read_nothing_owes_nothing() -> None:
    said = _pays(facts({"record": RECORD}, epochs=30), {**META, "charge": 0})
    assert said == "This method reads no recording, so nothing has to be paid back."


@pytest.mark.parametrize(
    ("facts", "meta"),
    [(facts({"record": RECORD}, epochs=30), {}), (facts({}), META)],
    ids=["nothing selected", "nothing recorded"],
)
def test_nothing_is_said_where_nothing_is_known(facts: dict[str, Any], meta: dict[str, Any]) -> None:
    assert _pays(facts, meta) is None
