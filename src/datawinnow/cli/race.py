"""``datawinnow race``: all the data for fewer epochs against a policy, side by side on somebody's own data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datawinnow.cli import datasets as found
from datawinnow.cli.bench import run, show
from datawinnow.cli.options import Loading, Quiet, Source, Training, key_value, pairs
from datawinnow.cli.train import AUTO, only_noisy
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.errors import ArgumentError

if TYPE_CHECKING:
    from datawinnow.bench import Grid

CANDIDATE: dict[str, Any] = {"policy": "ucb", "options": {"keep": 0.7, "period": 1}, "label": "UCB, keep 0.7"}
"""Who runs where the map has nobody to send."""
GUARDED: dict[str, Any] = {
    "policy": "random_pruning", "options": {"keep": 1.0}, "wrap": ["guarded"], "label": "all that looks right (guarded)"
}  # fmt: skip
"""And who where labels are noisy."""
CLAIM = 5
"""Seeds that a claim needs; the map asks for as many."""


@verb(
    "datawinnow race my-images/ --budget 30",
    "datawinnow race digits --budget 10 --seeds 3",
    "datawinnow race my-images/ --budget 30 --policy-option noisy=true",
)
def race(
    data: Source,
    budget: Annotated[
        int,
        typer.Option(
            "--budget",
            metavar="EPOCHS",
            min=1,
            help="Epochs on all the data; the policy passes as many examples. Give what you would train for.",
            show_default=False,
        ),
    ],
    policy: Annotated[
        str,
        typer.Option("--policy", metavar="NAME", help="Who runs against all the data; auto asks the measured map."),
    ] = AUTO,
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep", metavar="FRACTION", help="With --policy: its keep. Default: the policy's own.", show_default=False
        ),
    ] = None,
    policy_option: Annotated[
        list[str],
        key_value(
            "--policy-option",
            "An option of the policy (repeatable), as period=5; auto takes noisy=true, for many wrong labels.",
        ),
    ] = [],  # noqa: B006
    wrap: Annotated[
        list[str],
        typer.Option("--wrap", metavar="NAME[=VALUE]", help="Put it into a wrapper (repeatable).", show_default=False),
    ] = [],  # noqa: B006
    seeds: Annotated[
        int,
        typer.Option("--seeds", metavar="N", min=1, help="Paired repeats; two or more give an interval."),
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Where rows and page go. Default: runs/race-<data>.", show_default=False
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="Trainings at a time; 0: one a core.")] = 0,
    loading: Loading = Loading(),  # noqa: B008
    training: Training = Training(),  # noqa: B008
    quiet: Quiet = False,
) -> None:
    """Run all the data for fewer epochs against the best known policy, at equal cost, and print the difference.

    Both pass as many examples as --budget epochs on everything, with the same network, recipe and seeds, each learning
    rate going to its end. Whether choosing while training pays depends on the data and the budget: this finds out on
    yours. A race that was stopped goes on with the same command.
    """
    screen = Screen(quiet=quiet)
    options = loading.given()
    given = {"keep": keep, "options": pairs(policy_option, "--policy-option"), "wrap": wrap}
    noisy = policy == AUTO and only_noisy(given)
    named = None if policy == AUTO else _named(policy, given, budget)
    train, _ = found.load(data, options, screen)
    chosen = named or _asked(screen, train, budget, noisy=noisy)
    folder = out or found.RUNS / f"race-{train.name}"
    grid = _grid(found.lasting(data), train.name, options, training, chosen, budget, seeds)
    rows, total = run(screen, grid, folder, jobs=jobs, threads=training.threads or 0)
    show(screen, folder, rows)
    if len(rows) == total:
        screen.say()
        screen.say(_difference(rows, grid, seeds))


def _named(name: str, given: dict[str, Any], budget: int) -> dict[str, Any]:
    """The method of the grid that runs against all the data, told before any data are read."""
    from datawinnow.dynamic.build import build_policy

    options = given["options"]
    build_policy(name, passes=budget, keep=given["keep"], options=options, wrap=given["wrap"])
    if given["keep"] is not None:
        options = {**options, "keep": given["keep"]}
    return {"policy": name, "options": options, "wrap": given["wrap"]}


def _asked(screen: Screen, train: Any, budget: int, *, noisy: bool) -> dict[str, Any]:
    """Likewise, by the map."""
    from datawinnow.dynamic.auto import recommended_setting

    place, why = recommended_setting(len(train), passes=budget, noisy=noisy, **found.nature(train))
    screen.note(f"auto: {why}")
    if place is None:
        candidate = GUARDED if noisy else CANDIDATE
        screen.note(f"racing {candidate['label']} all the same, since you asked for a race")
        return candidate
    return {"policy": place.policy, "options": place.options, "wrap": list(place.wrap), "label": place.label}


def _grid(
    source: str,
    name: str,
    options: dict[str, Any],
    training: Training,
    chosen: dict[str, Any],
    budget: int,
    seeds: int,
) -> Grid:
    from dataclasses import asdict

    from datawinnow.bench import grid_of

    recipe = {key: value for key, value in asdict(training.recipe()).items() if value is not None}
    known = ("limit", "size", "seed", "image", "label", "text", "flip")
    for key in options:
        if key not in known:
            raise ArgumentError(f"race has no option {key!r} of the data yet: split or clean the data beforehand")
    raw = {
        "name": f"race {name}",
        "about": f"{name}: all the data for {budget} epochs against choosing while training, equal examples passed",
        "data": {"source": source, **options},
        "train": {
            **recipe,
            "epochs": budget,
            "model": training.model,
            "model_options": training.model_options(),
        },
        "methods": ["shorter_full", "challenger"],
        "method": [{"name": "challenger", **chosen}],
        "keep": [1.0],
        "seeds": list(range(seeds)),
    }
    return grid_of(Path("race"), raw)


def _difference(rows: list[dict[str, Any]], grid: Grid, seeds: int) -> str:
    """Who won, by how much, in a sentence."""
    from datawinnow.report.statistics import difference

    of = {
        method: {
            row["seed"]: row["accuracy"] for row in rows if row["method"] == method and row["accuracy"] is not None
        }
        for method in grid.methods
    }
    label, gain = grid.label("challenger"), difference(of["challenger"], of["shorter_full"])
    if gain is None:
        return "no seed has both results: training diverged; try a lower --lr"
    mean, half = 100 * gain.interval.mean, gain.interval.half
    if half is None:
        return (
            f"{label}: {mean:+.2f} points against all the data for {grid.train.epochs} epochs, on one seed, which is "
            "no result yet: add --seeds 5 for an interval (the seed that is done is kept)"
        )
    verdict = {"wins": "choosing wins", "loses": "all the data wins"}.get(gain.verdict, "no difference beyond noise")
    paired = len(set(of["challenger"]) & set(of["shorter_full"]))  # not those of which one diverged
    more = "" if paired >= CLAIM or seeds >= CLAIM else f"; a claim needs {CLAIM}: add --seeds {CLAIM}"
    against = f"against all the data over {paired} paired seeds"
    return f"{label}: {mean:+.2f} ± {100 * half:.2f} points {against}: {verdict}{more}"
