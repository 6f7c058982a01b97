"""`race`: all the data for fewer epochs against a policy, at equal cost, on the user's data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datawinnow.api.dataset import open_dataset, require_two_classes, results_folder
from datawinnow.api.train import described, noisy_option, recommended
from datawinnow.core.bars import with_progress
from datawinnow.core.chance import rows_sentence, warn_of_learning
from datawinnow.core.counts import many
from datawinnow.core.errors import ArgumentError
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.policy_names import AUTO
from datawinnow.core.progress import ProgressOption, named_progress

if TYPE_CHECKING:
    from datawinnow.bench import Grid
    from datawinnow.core.verdict import Comparison, ResultRow
    from datawinnow.data.dataset_info import DatasetInfo
    from datawinnow.dynamic.auto import MeasuredSetting
    from datawinnow.train import Recipe, SizeSchedule
    from datawinnow.train.build import Model

DEFAULT_POLICY: dict[str, Any] = {
    "policy": "ucb",
    "options": {"keep": 0.7, "period": 1},
    "label": "UCB, keep 0.7",
}
"""What runs where no benchmark recommends a policy."""
DEFAULT_NOISY_POLICY: dict[str, Any] = {
    "policy": "random_pruning",
    "options": {"keep": 1.0},
    "wrap": ["guarded"],
    "label": "all but likely wrong labels (guarded)",
}
"""What runs where no benchmark recommends a policy and labels are noisy."""
MIN_SIDE = 16
"""Pixels of the shorter side of images from which small ones first are tried."""
POLICY_RUN, REFERENCE_RUN = "policy", "shorter_full"
"""Names of the two runs in the grid."""
TWICE_FOLDER = "twice-the-budget"
"""Folder of the longer reference, in that of the race."""
EARLY_SIZES: Mapping[str, Any] = {"start": 0.375, "share": 0.8, "num_smaller": 5}
"""The size schedule that is tried where none was measured on similar images: it won most on CIFAR-10 and CIFAR-100."""
TRIAL_FOLDER, MIN_TRIAL = "trial", 2
"""How the folder of a trial begins, in that of the race; epochs of a trial at least."""
SIZES_RUN, BOTH_RUN = "small_first", "policy_small_first"
"""With a size schedule: all the data, small inputs first; and the policy with them."""


@dataclass(frozen=True)
class RaceResult:
    """The result of a race.

    Attributes:
        folder: where the rows and the page are.
        label: name for people of what did best beside the reference: the policy, or with a size schedule also small
            inputs first on all the data, or both together.
        rows: result rows, a seed at a time: all the data, then the others.
        comparison: ``label`` against all the data; None where no seed has both results.
        comparisons: of each that was run, by its name for people.
        factor: how many times the budget all the data need for the accuracy of ``label``; infinite where they do not
            reach it in twice the budget. None without a longer reference, and where ``label`` is not ahead.
        verdict: accuracies, total cost and the outcome in a line.
        sentence: the verdict with the comparison and its interval.
        report: the HTML page; None if none was asked for.
    """

    folder: Path
    label: str
    rows: list[ResultRow]
    comparison: Comparison | None
    comparisons: dict[str, Comparison]
    verdict: str
    sentence: str
    report: Path | None
    factor: float | None = None

    def __repr__(self) -> str:
        return f"RaceResult({many(len(self.rows), 'training')} in {self.folder})\n{self.verdict}"


@with_progress
def race(
    data: Any,
    *,
    budget: int,
    test: Any = None,
    policy: str = AUTO,
    keep: float | str | None = None,
    policy_options: Mapping[str, Any] | None = None,
    wrap: Sequence[str] = (),
    small_first: Literal["auto", "yes", "no"] = "auto",
    longer_reference: bool = False,
    trial: float | str | None = None,
    seeds: int = 1,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    load: LoadOptions | None = None,
    out: Path | str | None = None,
    jobs: int = 0,
    threads: int = 0,
    report: bool = True,
    progress: ProgressOption = None,
    on_row: Callable[[ResultRow], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> RaceResult:
    """Train on all the data for ``budget`` epochs, and in ways that may learn more from as many operations; compare.

    On images four trainings are compared at equal operations: all the data at full size (the reference), all the data
    with small images first, the policy at full size, and the policy with small images first. On other data, and with
    ``small_first="no"``, all the data and the policy are.

    All use the same network, recipe and seeds, and each learning rate decays to its end. A race that was stopped
    resumes with the same call, and a race with more seeds trains only the new ones.

    Args:
        data: DATA (``"digits"``, a path or ``"hf:owner/name"``), or a training split: a map-style dataset of
            ``(x, y)``.
        budget: epochs on all the data; the policy passes as many examples. Give what you would train for.
        test: test split of a dataset object, or for DATA another DATA to test on instead of its own test split.
        policy: name of the policy; ``"auto"`` for what benchmarks on the most similar data recommend.
        keep: with ``policy``: fraction that an epoch trains on, as 0.3 or 30%, or one that changes, as 0.3..1.0 (see
            `train`). Default: that of the policy, where it has one, else 0.7.
        policy_options: option of the policy (repeatable), for example period=5; ``"auto"`` takes noisy=true, for many
            wrong labels.
        wrap: put the policy into a wrapper (repeatable, from the inside out): warm_up=2, every=5, rescaled,
            annealed=full, shrinking=0.5 or guarded; `train` describes them. Default: none.
        small_first: whether small inputs first are tried too, with the policy and without it: ``"auto"`` on images of
            16 pixels a side or more whose network takes smaller ones. They follow the size schedule that is
            given; without one, that of the most similar benchmark where it won, else from 3/8 of the side, below full
            size for 80% of the steps.
        longer_reference: train on all the data for twice the budget too, to say how many times the budget they need for
            the accuracy of the best.
        trial: race over this share of the budget only, as 0.25 or 25%: cheaper, with rows in a folder of their own; the
            result says how often what won at a smaller budget held at a larger one in benchmarks. Default: the whole
            budget.
        seeds: paired repeats; two or more give an interval, five make a result.
        model: network; by default chosen by the shape of the examples.
        model_options: options of the network.
        recipe: how to train; its size schedule is that of ``small_first``, and the reference trains at full size.
        load: how DATA is read.
        out: folder of rows and page. Default: runs/race-<data>; a new temporary folder for a dataset object without
            a name.
        jobs: trainings at a time, for DATA; 0 for one a core.
        threads: CPU threads of each training, for DATA; 0 for its share of the cores.
        report: write an HTML page beside the rows.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        on_row: called with each new row.
        log: called with what was chosen.

    Raises:
        ArgumentError: options out of range or that do not go together, or one class.
        RunError: ``out`` holds a race on another dataset or test split, or under other settings.
    """
    from datawinnow import report as reports
    from datawinnow.bench import GridData, grid_of, run_grid
    from datawinnow.core import check
    from datawinnow.core.budget import parse_fraction, parse_percentages
    from datawinnow.core.card import card_of
    from datawinnow.core.changing_keep import constant_or_changing
    from datawinnow.core.verdict import CLAIM_SEEDS, verdict
    from datawinnow.data.fingerprint import fingerprint_of
    from datawinnow.dynamic.build import build_policy, default_options, policy_by_name
    from datawinnow.train import Recipe
    from datawinnow.train.build import takes_sizes

    if recipe is not None and (recipe.loss is not None or recipe.metric is not None):
        raise ArgumentError("race compares accuracies of the cross-entropy: it takes no loss or metric of your own")
    check.number("budget", budget, 1, 1 << 20, integer=True)
    check.number("seeds", seeds, 1, 10_000, integer=True)
    wrap = (wrap,) if isinstance(wrap, str) else wrap
    keep, options = constant_or_changing(keep), parse_percentages(policy_options or {})
    if keep is not None and "keep" in options:
        raise ArgumentError(f"give `keep=` or the policy option keep, not both; got {keep!r} and {options['keep']!r}")
    check.one_of("small_first", small_first, ("auto", "yes", "no"))
    trial = None if trial is None else parse_fraction(trial)
    if trial is not None and not 0 < trial < 1:
        raise ArgumentError(f"`trial={trial:g}` is the share of the budget to race over, in (0, 1)")
    # the arms are chosen for the budget, and run for this long
    epochs = budget if trial is None else max(MIN_TRIAL, round(trial * budget))
    if trial is not None and epochs >= budget:
        raise ArgumentError(
            f"a trial takes {many(epochs, 'epoch')} of a budget of {budget}, which saves nothing: leave `trial=` out, "
            f"or make it smaller (it takes {MIN_TRIAL} epochs at least)"
        )
    if small_first == "no" and recipe is not None and recipe.size_schedule is not None:
        raise ArgumentError("`small_first='no'` and `progressive_resizing=` contradict each other: leave one out")
    noisy = noisy_option(keep, wrap, options) if policy == AUTO else False
    if policy != AUTO:
        options = default_options(policy, keep, options)
        build_policy(policy, passes=epochs, options=options, wrap=wrap)  # fails before any data are read
    splits = open_dataset(data, test=test, load=load, model=model, recipe=recipe, progress=progress, log=log)
    if splits.test is None:
        raise ArgumentError(
            "race needs a test split (`test=`), since accuracy on the training examples decides nothing"
        )
    info = splits.train
    require_two_classes(info)
    recipe = recipe or Recipe()
    setting = None
    # small inputs first are part of what is tried: the reference trains at full size
    size_schedule = recipe.size_schedule
    try_sizes = partial(takes_sizes, model=model, info=info, options=model_options)
    wants_small = small_first == "yes" or (small_first == "auto" and are_large_images(info))
    tries_default = size_schedule is None and wants_small
    if policy == AUTO:
        data_described = described(info, info.n, noisy=noisy)
        setting = recommended(data_described, budget, try_sizes if tries_default else None, log)
        # where small inputs won alone, the policy beside them is what won among policies
        by_policy = setting if setting is None or setting.policy else recommended(data_described, budget, None, None)
        chosen = _policy_spec(by_policy, noisy=noisy, log=log)
    else:
        keep = options.get("keep")
        fraction = [] if keep is None else [f"keep {keep}" if isinstance(keep, str) else f"keep {keep:g}"]
        name = ", ".join([card_of(policy_by_name(policy)).name, *fraction, *wrap])
        chosen = {"policy": policy, "options": options, "wrap": list(wrap), "label": name}
    if tries_default:
        size_schedule = default_size_schedule(setting, try_sizes)
        if size_schedule is None and small_first == "yes":
            raise ArgumentError(
                "`small_first='yes'`: the network or the data take inputs of one size only; name a network that "
                "pools over positions, such as `model='resnet8'`, or leave it out"
            )
    if size_schedule is not None and log is not None:
        log("small inputs first are tried too, in four trainings a seed; `small_first='no'` leaves them out")
    recipe_fields = {key: value for key, value in vars(recipe).items() if value is not None}
    recipe_fields.pop("size_schedule", None)
    specs = [{"name": POLICY_RUN, **chosen}]
    if size_schedule is not None:
        smaller = {"size_schedule": {key: value for key, value in vars(size_schedule).items() if value is not None}}
        label = "all the data, small inputs first"
        specs = [
            {"name": SIZES_RUN, "baseline": REFERENCE_RUN, "label": label, "train": smaller},
            *specs,
            {"name": BOTH_RUN, **chosen, "label": f"{chosen['label']}, small inputs first", "train": smaller},
        ]
    runs = [str(spec["name"]) for spec in specs]
    network = None if model is None or isinstance(model, str) else model
    grid = grid_of(
        "race",
        {
            "name": f"race {info.name}",
            "about": f"{info.name}: all the data for {many(epochs, 'epoch')} against choosing while training, "
            "equal examples passed",
            "data": {"source": info.source or info.name, **({} if splits.load is None else splits.load.to_dict())},
            "train": {
                **recipe_fields,
                "epochs": epochs,
                "model": model if network is None else None,
                "model_options": dict(model_options or {}),
            },
            "methods": [REFERENCE_RUN, *runs],
            "method": specs,
            "keep": [1.0],
            "seeds": list(range(seeds)),
        },
    )
    folder = results_folder(out, "race", data, splits)
    if trial is not None:
        folder /= f"{TRIAL_FOLDER}-{epochs}"
    in_process = splits.load is None or network is not None

    def rows_of(grid: Grid, folder: Path) -> list[ResultRow]:
        return run_grid(
            grid,
            folder,
            data=GridData(info, splits.test, network) if in_process else None,
            fingerprints=None if in_process else (info.fingerprint, fingerprint_of(splits.test)),
            jobs=jobs,
            threads=threads,
            progress=named_progress(progress, f"bench {grid.name}"),
            on_row=on_row,
            log=log,
        )

    rows = rows_of(grid, folder)
    longer_rows = []
    if longer_reference:
        twice = grid.train.model_copy(update={"epochs": 2 * epochs})
        changes = {"train": twice, "methods": [REFERENCE_RUN], "method": [], "name": f"{grid.name} for twice as long"}
        longer_rows = rows_of(grid.model_copy(update=changes), folder / TWICE_FOLDER)
    page: Path | None = reports.write(folder) if report else None
    warn_of_learning(rows_sentence(rows))
    answers = {run: verdict(rows, run) for run in runs}
    against = {run: answer.comparisons.get(REFERENCE_RUN) for run, answer in answers.items()}
    comparisons = {grid.label(run): comparison for run, comparison in against.items() if comparison is not None}
    best = max(runs, key=lambda run: -math.inf if (tried := against[run]) is None else tried.difference)
    answer, comparison, label = answers[best], against[best], grid.label(best)
    sentence = str(answer)
    if len(runs) > 1 and comparison is not None:
        sentence += f" {tried_sentence(label, comparisons)}"
    factor = None
    if longer_rows and comparison is not None and comparison.difference > 0:
        factor, words = _factor_and_words(label, best, [*rows, *longer_rows], epochs)
        sentence += f" {words}"
    if comparison is None:
        sentence = f"{answer} Try a lower `lr=`."
    elif comparison.num_seeds == 1:
        sentence += f" Add seeds (`seeds={CLAIM_SEEDS}`): the seed that is done is kept."
    if trial is not None:
        sentence += f" {trial_sentence(epochs, budget)}"
    return RaceResult(folder, label, rows, comparison, comparisons, answer.line, sentence, page, factor)


def trial_sentence(epochs: int, budget: int) -> str:
    """What a race over ``epochs`` says about one over ``budget``, by what was measured at two budgets."""
    from datawinnow.dynamic.auto import count_at_larger_budgets

    counts = count_at_larger_budgets()
    return (
        f"These trainings are a trial of {epochs} of {many(budget, 'epoch')}, and do not show what wins over {budget}: "
        f"in benchmarks at two budgets, of {many(counts.gains, 'gain')} beyond noise at the smaller one "
        f"{counts.still_gains} held at the larger and {counts.lost} became losses; of {counts.within_noise} within "
        f"noise {counts.became_gains} became gains and {counts.became_losses} losses. Race over the whole budget "
        "before you rely on it (without `trial=`)."
    )


def tried_sentence(best: str, comparisons: Mapping[str, Comparison]) -> str:
    """What all that were tried gained over the reference, and whether the best of them is ahead beyond noise."""
    from datawinnow.core.interval import best_of
    from datawinnow.core.verdict import points

    gains = "; ".join(f"{label} {points(comparison)}" for label, comparison in comparisons.items())
    sentence = f"Points over all the data for fewer epochs: {gains}."
    winner = comparisons[best]
    if winner.outcome == "wins" and winner.half is not None:
        half = best_of(winner.half, winner.num_seeds, len(comparisons))
        if winner.difference <= half:
            sentence += (
                f" {best} is the best of {len(comparisons)}, and as such within noise (± {100 * half:.1f} points): "
                "repeat it with other seeds before you rely on it."
            )
    return sentence


def _factor_and_words(label: str, run: str, rows: Sequence[ResultRow], budget: int) -> tuple[float, str]:
    """How many times the budget all the data need for the accuracy of a run that is ahead, and a sentence on it."""
    from datawinnow.core.equal_accuracy import cost_factor, passes_needed

    ours = {row["seed"]: row["accuracy"] for row in rows if row["method"] == run and row["accuracy"] is not None}
    reference: dict[float, dict[int, float]] = {}
    for row in rows:
        if row["method"] == REFERENCE_RUN and row["accuracy"] is not None and row["seed"] in ours:
            reference.setdefault(row["epochs"], {})[row["seed"]] = row["accuracy"]
    means = [(epochs, sum(of.values()) / len(of)) for epochs, of in sorted(reference.items())]
    needs = passes_needed(means, sum(ours.values()) / len(ours))
    longer = f"all the data for {2 * budget} epochs reach {100 * means[-1][1]:.1f}%"
    if needs is None:
        return math.inf, f"{label} saves more than half the cost: {longer}, which is less."
    interval = cost_factor(reference, ours, budget)
    by_seeds = ""
    if interval is not None and interval.half is not None:
        by_seeds = f", 95%: {math.exp(interval.low):.1f} to {math.exp(interval.high):.1f}"
    factor = needs / budget
    return factor, (
        f"For the accuracy of {label} all the data need about {many(needs, 'epoch')}, {factor:.2f} times the "
        f"budget{by_seeds} ({longer})."
    )


def are_large_images(info: DatasetInfo) -> bool:
    """Whether examples are images large enough to be shown smaller."""
    return info.kind == "images" and min(info.shape[1:]) >= MIN_SIDE


def default_size_schedule(
    setting: MeasuredSetting | None, takes_sizes: Callable[[SizeSchedule], bool]
) -> SizeSchedule | None:
    """The size schedule that won in the most similar benchmark, else `EARLY_SIZES`; None if it cannot be taken."""
    from datawinnow.train import SizeSchedule

    measured = None if setting is None else setting.size_schedule
    schedule = SizeSchedule(**(EARLY_SIZES if measured is None else measured))
    return schedule if takes_sizes(schedule) else None


def _policy_spec(setting: MeasuredSetting | None, *, noisy: bool, log: Callable[[str], None] | None) -> dict[str, Any]:
    """The policy of a measured setting, as a ``[[method]]``; a default without one."""
    if setting is not None:
        return {
            "policy": setting.policy,
            "options": setting.options,
            "wrap": list(setting.wrap),
            "label": setting.label,
        }
    chosen = DEFAULT_NOISY_POLICY if noisy else DEFAULT_POLICY
    if log is not None:
        log(f"no benchmark recommends a policy here, so the race is against {chosen['label']}")
    return chosen
