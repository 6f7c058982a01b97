"""``datawinnow train --record-plan`` and ``--policy replay --plan``: what a policy planned, for other runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from datawinnow.cli.ui import Screen
from datawinnow.core.errors import ArgumentError

REPLAY = "replay"
"""Of --policy: the plan of a file, as it is."""
_PANEL = "Pruning while training"
RecordPlan = Annotated[
    Path | None,
    typer.Option(
        "--record-plan",
        metavar="FILE",
        help="With --policy: write what every epoch trained on to this file, for --policy replay to train on again, "
        "with another seed, other settings or a larger network. Default: not written.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Plan = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="With --policy replay: the file that --record-plan wrote, on the same data. Trained on are its examples "
        "in its order; --epochs or --passes may end earlier. Default: none.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def read(policy: str | None, plan: Path | None, record: Path | None, **others: Any) -> Any:
    """The plan to train on, before any data are read; None for a training that replays none.

    Args:
        policy: of the command line, as ``plan`` and ``record``.
        plan: the file to replay.
        record: the file to write.
        others: what a replay has no use for, by the name of its option; ``options`` are those of --policy-option.

    Raises:
        ArgumentError: options that do not go together.
        RunError: no such file, or one that is no plan.
    """
    if (policy == REPLAY) != (plan is not None):
        raise ArgumentError(
            "--policy replay needs the plan: give --plan FILE, as written by: datawinnow train DATA --policy ucb "
            "--keep 0.7 --record-plan FILE"
            if plan is None
            else f"--plan goes with --policy replay: datawinnow train DATA --policy replay --plan {plan}"
        )
    if record is not None and policy in (None, REPLAY):
        why = "the plan is in a file already" if policy == REPLAY else "name one, as --policy ucb --keep 0.7"
        raise ArgumentError(f"--record-plan writes what a policy plans: {why}")
    if plan is None:
        return None
    options = set(others.pop("options")) - {"after"}
    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if value not in (None, [])]
    given += ["--policy-option"] if options else []
    if given:
        raise ArgumentError(
            f"a plan is trained on as it is, so leave {', '.join(given)} out; --policy replay takes --policy-option "
            "after=cycle, to begin again at its end"
        )
    from datawinnow.core.selection_history import SelectionHistory

    return SelectionHistory.load(plan)


def length_of(history: Any, length: dict[str, Any] | None, options: dict[str, Any]) -> dict[str, Any]:
    """How long to replay: as told, or the whole plan.

    Raises:
        ArgumentError: longer than the plan, which does not begin again.
    """
    whole = {"passes": history.num_passed / history.n}
    if length is None:
        return whole
    name, value = next(iter(length.items()))
    most = len(history) if name == "epochs" else whole["passes"]
    if value > most and options.get("after") != "cycle":
        raise ArgumentError(
            f"--{name} {value:g} is more than the plan's {most:g}: leave it out to train on the whole plan, or begin "
            "again at its end with --policy-option after=cycle"
        )
    return length


def replay(screen: Screen, history: Any, examples: Any, options: dict[str, Any]) -> Any:
    """The policy that trains on the plan.

    Raises:
        ArgumentError: it was made on other data.
    """
    from datawinnow.dynamic import build_policy

    policy = build_policy(REPLAY, options={**options, "history": history, "fingerprint": examples.fingerprint})
    policy.init(len(examples))
    screen.note(
        f"plan: {len(history)} epochs, {history.num_passed:,} examples, by {history.made_by or 'an unknown policy'}; "
        f"making it passed {history.cost:,.0f}, which is not counted again"
    )
    return policy
