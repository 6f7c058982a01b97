"""`train`: on the kept examples, on all, or on what a policy chooses each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import RUNS, open_dataset
from datawinnow.core.bars import with_progress
from datawinnow.core.errors import ArgumentError
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.policy_names import AUTO, REPLAY
from datawinnow.core.progress import ProgressOption

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

    from datawinnow.core.selection import Selection
    from datawinnow.core.selection_history import SelectionHistory
    from datawinnow.data.dataset_info import DatasetInfo
    from datawinnow.dynamic.auto import DataDescription, MeasuredSetting
    from datawinnow.runs.train import Trained
    from datawinnow.train import Recipe, SizeSchedule
    from datawinnow.train.build import Model
    from datawinnow.vit import SparseLevels

DEFAULT_EPOCHS = 30


@dataclass(frozen=True)
class TrainingLength:
    """The length of a training: one of the two is set.

    Attributes:
        epochs: passes over the kept examples.
        passes: examples passed, in units of one epoch on all the data.
    """

    epochs: float | None = None
    passes: float | None = None

    @property
    def unit(self) -> str:
        """``"epochs"`` or ``"passes"``."""
        return "passes" if self.epochs is None else "epochs"

    @property
    def value(self) -> float:
        """The number that is set."""
        length = self.passes if self.epochs is None else self.epochs
        assert length is not None
        return length


@with_progress
def train(
    train: Any,
    *,
    select: Path | str | Selection | None = None,
    policy: Any = None,
    keep: float | str | None = None,
    policy_options: Mapping[str, Any] | None = None,
    wrap: Sequence[str] = (),
    record_plan: Path | str | None = None,
    plan: Path | str | None = None,
    levels: SparseLevels | None = None,
    epochs: float | None = None,
    passes: float | None = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    test: Any = None,
    load: LoadOptions | None = None,
    run: Path | str | None = None,
    log_dir: Path | str | None = None,
    logger: Logger | Sequence[Logger] | None = None,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> Trained:
    """Train on the kept examples, on all, or on what a policy chooses each epoch, and leave a run folder.

    A training that was stopped resumes from its last whole epoch. ``select`` may be a `Selection` of ``train`` as well.

    Args:
        train: a map-style dataset of ``(x, y)``, or DATA.
        select: the selection: selection.parquet, or the run folder that holds it. Default: train on all.
        policy: choose again while training: a policy, or the name of one. ``"auto"`` takes what beat all the data for
            fewer epochs in benchmarks on the most similar data (a policy, small inputs first, or both), else all the
            data; ``"replay"`` what
            ``record_plan`` wrote. Default: none; every epoch trains on all.
        keep: with ``policy``: the fraction of the examples that an epoch trains on, as 0.3 or 30%; as 0.3..1.0 one that
            goes from 0.3 in the first epoch to 1.0 in the last, evenly or as 0.3..1.0:cosine, :step:4 (four levels) or
            :oscillating:3 (there and back three times). Default: that of the policy, where it has one, else 0.7.
        policy_options: option of the policy (repeatable), for example period=5.
        wrap: put the policy into a wrapper (repeatable, from the inside out): warm_up=2 (epochs on everything first),
            every=5 (epochs between plans), rescaled (unbiased weights), annealed=full or annealed=partial (no choosing
            in the last eighth), shrinking=0.5 (a keep that falls to it), guarded (leaves out what looks mislabelled).
            Default: none.
        record_plan: with ``policy``: write what every epoch trained on to this file, for ``"replay"`` to train on
            again, with another seed, other settings or a larger network. Default: not written.
        plan: with ``"replay"``: the file that ``record_plan`` wrote, on the same data. The training passes its examples
            in its order; ``epochs`` or ``passes`` may end it earlier. Default: none.
        levels: of a sparse vision transformer. Default: none.
        epochs: passes over the kept examples. Default: 30.
        passes: with ``policy`` or a size schedule, instead of ``epochs``: spend what this number of epochs on
            everything at full size costs, so that it costs what the shorter full run costs. Default: count epochs.
        model: network; by default chosen by the shape of the examples.
        model_options: its options.
        recipe: how to train.
        seed: of weights, order and augmentation.
        test: test split, evaluated after the last epoch: of a dataset object another object; for DATA, which brings its
            own, another DATA.
        load: how DATA is read; by default as for the selection.
        run: run folder to write. Default: runs/ and the names of dataset, method, policy, keep and seed.
        log_dir: folder for the metrics of each epoch, as a CSV file and for TensorBoard where it is installed. Default:
            none.
        logger: a logger of lightning-fabric or Lightning (TensorBoard, W&B, MLflow, CSV), or several, which gets the
            metrics of each epoch.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with what was chosen.

    Returns:
        The run folder, with what it reached.

    Raises:
        ArgumentError: options that do not go together, or an unknown policy.
        RunError: a selection or plan of another dataset; a run folder that was started with other options.
        TrainingError: the loss is no longer a number.
    """
    from datawinnow.core.budget import parse_percentages
    from datawinnow.core.changing_keep import constant_or_changing
    from datawinnow.core.lock import only_writer
    from datawinnow.core.selection import Selection
    from datawinnow.core.selection_history import SelectionHistory
    from datawinnow.dynamic.build import policy_of_run
    from datawinnow.runs.record import begin_run
    from datawinnow.runs.selection_file import read_selection
    from datawinnow.runs.train import TrainSettings, run_training
    from datawinnow.train import Recipe, SizeSchedule
    from datawinnow.train.build import takes_sizes

    keep, options = constant_or_changing(keep), parse_percentages(policy_options or {})
    has_policy = policy is not None or (levels is not None and levels.examples)
    length = _training_length(has_policy or (recipe is not None and recipe.size_schedule is not None), epochs, passes)
    if levels is not None:
        policy, keep, options = levels.example_policy(policy, keep, options, length.value)
    name = policy if isinstance(policy, str) else None
    _check_plan_options(name, has_policy, plan, record_plan, keep=keep, wrap=wrap, select=select, options=options)
    history = None
    if plan is not None:
        history = SelectionHistory.load(plan)
        length = _replay_length(history, None if epochs is None and passes is None else length, options)
    elif name == AUTO:
        noisy = noisy_option(keep, wrap, options)
    elif name is not None:
        policy = policy_of_run(name, length.epochs, length.passes, keep=keep, options=options, wrap=wrap)
        if log is not None:
            log(f"policy: {policy}")
    elif keep is not None or options or wrap:
        raise ArgumentError(
            "`keep=`, `policy_options=` and `wrap=` belong to `policy=`: name one, for example `policy='ucb'` "
            "with `keep=0.5`; to train on a fixed selection give its file with `select=`"
        )
    selection, metadata = select if isinstance(select, Selection) else None, dict[str, Any]()
    load = load or LoadOptions()
    file = None if select is None or isinstance(select, Selection) else Path(select)
    if file is not None:  # before the data, which are read as they were for the selection
        metadata = read_selection(file)[1]
        if isinstance(train, (str, Path)):
            load = load.or_else(LoadOptions.from_dict(metadata.get("load", {})))
        else:
            load = load.or_else(LoadOptions(standardise=metadata.get("load", {}).get("standardise")))
    splits = open_dataset(train, test=test, load=load, model=model, recipe=recipe, progress=progress, log=log)
    info = splits.train
    if file is not None:
        selection, metadata = read_selection(file, info=info)
        if selection.reason is None and log is not None:
            log(f"selection: {select} has some of its rows only; the {len(selection):,} kept ones are trained on")
    if name == AUTO:
        policy = None
        num_examples = info.n if selection is None else len(selection)
        recipe = recipe or Recipe()
        try_sizes = None
        if recipe.size_schedule is None and levels is None:
            try_sizes = partial(takes_sizes, model=model, info=info, options=model_options)
        budget = float(length.value)
        setting = recommended(described(info, num_examples, noisy=noisy), budget, try_sizes, log)
        if setting is None and recipe.size_schedule is None:
            length = TrainingLength(epochs=int(budget) if budget.is_integer() else budget)
        elif setting is not None:
            policy = setting.build(budget)
            length = TrainingLength(passes=budget)
            if setting.size_schedule is not None:
                recipe = replace(recipe, size_schedule=SizeSchedule(**setting.size_schedule))
        if record_plan is not None and policy is None:
            raise ArgumentError(
                "auto chose to train on all the data, so there is no plan to record: name a policy with `policy=`"
            )
    if history is not None:
        policy = _replay(history, info, options, log)
    settings = TrainSettings(
        epochs=length.epochs,
        passes=length.passes,
        policy=policy,
        record_plan=None if record_plan is None else Path(record_plan),
        levels=levels,
        recipe=recipe or Recipe(),
    )
    suffix = _run_suffix(metadata, name or (None if policy is None else type(policy).__name__), keep, seed)
    path = Path(run) if run is not None else RUNS / f"{info.name}{suffix}"
    with only_writer(path, option="run", who="another command"):
        setup = begin_run(
            info,
            path,
            model=model,
            model_options=model_options,
            seed=seed,
            logger=logger,
            log_dir=log_dir,
            log=log,
        )
        return run_training(
            setup,
            settings,
            test=splits.test,
            selection=selection,
            selection_metadata=metadata,
            load=splits.stored_load,
            progress=progress,
            log=log,
        )


def _training_length(varying_epochs: bool, epochs: float | None, passes: float | None) -> TrainingLength:
    if passes is None:
        if epochs is not None and not epochs > 0:
            raise ArgumentError(f"`epochs=` must be above 0, got {epochs:g}")
        return TrainingLength(epochs=DEFAULT_EPOCHS if epochs is None else epochs)
    if epochs is not None:
        raise ArgumentError("give either `epochs=` or `passes=`, not both")
    if not varying_epochs:
        raise ArgumentError(
            "`passes=` requires `policy=` or `progressive_resizing=`; without either one pass is one epoch: use "
            "`epochs=`"
        )
    if not passes > 0:
        raise ArgumentError(f"`passes=` must be above 0, got {passes:g}")
    return TrainingLength(passes=passes)


def noisy_option(keep: float | str | None, wrap: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Whether the labels are noisy, the only option of ``"auto"``.

    Raises:
        ArgumentError: another option, or one that is neither true nor false.
    """
    if keep is not None or wrap or set(options) - {"noisy"}:
        raise ArgumentError(
            "`policy='auto'` chooses keep, options and wrappers itself; its only option is "
            "`policy_options={'noisy': True}`, for data with many wrong labels. To set the others, name a policy with "
            "`policy=`"
        )
    noisy = options.get("noisy", False)
    if not isinstance(noisy, bool):
        raise ArgumentError(f"the option noisy of `policy='auto'` must be true or false, got {noisy!r}")
    return noisy


def described(info: DatasetInfo, n: int, *, noisy: bool) -> DataDescription:
    """What a policy is recommended by: ``n`` examples of the dataset."""
    from datawinnow.dynamic.auto import DataDescription

    return DataDescription(n, info.kind, len(info.classes), info.channels, info.size, noisy)


def recommended(
    data: DataDescription,
    budget: float,
    takes_sizes: Callable[[SizeSchedule], bool] | None,
    log: Callable[[str], None] | None,
) -> MeasuredSetting | None:
    """The setting that ``"auto"`` takes; None for all the data at full size.

    Args:
        data: what is trained on.
        budget: passes.
        takes_sizes: whether the network takes the sizes of a schedule; None to leave sizes as they are.
        log: called with the reason.
    """
    from datawinnow.dynamic.auto import recommended_setting
    from datawinnow.train import SizeSchedule

    setting, reason = recommended_setting(data, budget, size_schedules=takes_sizes is not None)
    if setting is not None and setting.size_schedule is not None:
        assert takes_sizes is not None
        if not takes_sizes(SizeSchedule(**setting.size_schedule)):
            setting, reason = recommended_setting(data, budget, size_schedules=False)
            reason += "; small inputs first won there, but this network does not take them"
    if log is not None:
        log(f"auto: {reason}")
    return setting


def _check_plan_options(
    name: str | None,
    has_policy: bool,
    plan: Path | str | None,
    record_plan: Path | str | None,
    *,
    keep: float | str | None,
    wrap: Sequence[str],
    select: Any,
    options: Mapping[str, Any],
) -> None:
    if (name == REPLAY) != (plan is not None):
        raise ArgumentError(
            "`policy='replay'` requires `plan=FILE`, a file written with `dw.api.train(data, policy='ucb', keep=0.7, "
            "record_plan=FILE)`"
            if plan is None
            else f"`plan={str(plan)!r}` requires `policy='replay'`"
        )
    if record_plan is not None and (not has_policy or name == REPLAY):
        raise ArgumentError(
            "`policy='replay'` already reads its plan from a file: leave `record_plan=` out"
            if name == REPLAY
            else "`record_plan=` requires a policy, for example `policy='ucb'` with `keep=0.7`"
        )
    if plan is None:
        return
    superfluous = {
        "`keep=`": keep is not None,
        "`wrap=`": bool(wrap),
        "`select=`": select is not None,
        "`policy_options=`": bool(set(options) - {"after"}),
    }
    flags = [flag for flag, is_set in superfluous.items() if is_set]
    if flags:
        raise ArgumentError(
            f"a plan is replayed unchanged, so leave {', '.join(flags)} out; the only option of "
            "`policy='replay'` is `policy_options={'after': 'cycle'}`, which starts over at the end of the plan"
        )


def _replay_length(
    history: SelectionHistory, length: TrainingLength | None, options: Mapping[str, Any]
) -> TrainingLength:
    """The length of a replay: ``length``, or by default that of the plan.

    Raises:
        ArgumentError: longer than the plan, which does not begin again.
    """
    passes = history.num_passed / history.n
    if length is None:
        return TrainingLength(passes=passes)
    plan_length = len(history) if length.unit == "epochs" else passes
    if length.value > plan_length and options.get("after") != "cycle":
        raise ArgumentError(
            f"`{length.unit}={length.value:g}` is more than the plan's {plan_length:g}: leave it out to train on the "
            "full plan, or start over at its end with `policy_options={'after': 'cycle'}`"
        )
    return length


def _replay(
    history: SelectionHistory, info: DatasetInfo, options: Mapping[str, Any], log: Callable[[str], None] | None
) -> Any:
    """The policy that trains on a plan.

    Raises:
        ArgumentError: the plan was made on other data.
    """
    from datawinnow.dynamic.build import build_policy

    policy = build_policy(REPLAY, options={**options, "history": history, "fingerprint": info.fingerprint})
    policy.init(info.n)
    if log is not None:
        log(
            f"plan: {len(history)} epochs, {history.num_passed:,} examples, by "
            f"{history.made_by or 'an unknown policy'}; recording it took {history.cost:,.0f} examples passed, which "
            "are not counted again"
        )
    return policy


def _keep_text(keep: float | str) -> str:
    """A keep in the name of a folder."""
    return keep.replace(":", "-") if isinstance(keep, str) else f"{keep:g}"


def _run_suffix(selection: Mapping[str, Any], policy: str | None, keep: float | str | None, seed: int) -> str:
    name = f"-{selection['method']}-{selection['keep']:g}" if selection else "" if policy else "-full"
    if policy is not None:
        name += f"-{policy.lower()}" + ("" if keep is None else f"-{_keep_text(keep)}")
    return name + (f"-seed{seed}" if seed else "")
