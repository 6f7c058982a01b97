"""``datawinnow train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from datawinnow.cli import datasets as found
from datawinnow.cli import plans
from datawinnow.cli.levels import LevelOptions
from datawinnow.cli.options import Loading, Quiet, Seed, Source, Training, key_value, pairs
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.duration import duration
from datawinnow.core.errors import ArgumentError

Select = Annotated[
    Path | None,
    typer.Option(
        "--select",
        metavar="FILE",
        help="selection.parquet, or the run folder that holds it. Default: train on all.",
        show_default=False,
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="NAME",
        help="Choose the examples of each epoch by this policy, such as random, ucb or info_batch (datawinnow methods "
        "lists all). auto takes the policy that won in benchmarks on similar data, if any; replay trains on what "
        "--record-plan wrote. Default: none; every epoch trains on all.",
        rich_help_panel="Pruning while training",
        show_default=False,
    ),
]
KeepEach = Annotated[
    float | None,
    typer.Option(
        "--keep",
        metavar="FRACTION",
        help="With --policy: the fraction of the examples that an epoch trains on. Default: the policy's own, where "
        "it has one.",
        rich_help_panel="Pruning while training",
        show_default=False,
    ),
]
PolicyOptions = Annotated[
    list[str],
    key_value("--policy-option", "An option of the policy (repeatable), as period=5.", "Pruning while training"),
]
Wrap = Annotated[
    list[str],
    typer.Option(
        "--wrap",
        metavar="NAME[=VALUE]",
        help="Put the policy into a wrapper (repeatable, from the inside out): "
        "warm_up=2 (epochs on everything first), every=5 (epochs between plans), rescaled (unbiased weights), "
        "annealed=full or annealed=partial (no choosing in the last eighth), shrinking=0.5 (a keep that falls to it), "
        "guarded (leaves out what looks mislabelled). Default: none.",
        rich_help_panel="Pruning while training",
        show_default=False,
    ),
]
Passes = Annotated[
    float | None,
    typer.Option(
        "--passes",
        metavar="N",
        help="With --policy, instead of --epochs: train until as many examples went through as N epochs on everything "
        "would pass, so that it costs what the shorter full run of N epochs costs. Default: count epochs.",
        rich_help_panel="Pruning while training",
        show_default=False,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        metavar="N",
        help="Passes over the kept examples. Default: 30.",
        rich_help_panel="Training",
        show_default=False,
    ),
]
DEFAULT_EPOCHS = 30
AUTO = "auto"
"""Of --policy: what beat all the data for fewer epochs where it was measured, or all the data."""
OwnRun = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="FOLDER",
        help="Run folder to write. Default: runs/ and the names of dataset, method, keep and seed.",
        rich_help_panel="Output",
        show_default=False,
    ),
]


@verb(
    "datawinnow train my-images/ --select runs/my-images --epochs 30",
    "datawinnow train my-images/ --epochs 30",
    "datawinnow train my-images/ --policy ucb --keep 0.7 --policy-option period=1 --passes 20",
    "datawinnow train my-images/ --policy ucb --keep 0.7 --passes 20 --record-plan ucb.safetensors",
    "datawinnow train my-images/ --policy replay --plan ucb.safetensors --seed 1 --run runs/replayed",
    "datawinnow train my-images/ --model vit --optimizer adamw --levels examples,tokens,attention",
)
def train(
    data: Source,
    loading: Loading,
    training: Training,
    sparsity: LevelOptions,
    select: Select = None,
    policy: PolicyName = None,
    keep: KeepEach = None,
    policy_option: PolicyOptions = [],  # noqa: B006
    wrap: Wrap = [],  # noqa: B006
    record_plan: plans.RecordPlan = None,
    plan: plans.Plan = None,
    epochs: Epochs = None,
    passes: Passes = None,
    seed: Seed = 0,
    run: OwnRun = None,
    quiet: Quiet = False,
) -> None:
    """Train on the kept examples, on all, or on what a policy chooses each epoch; say what it reached and cost.

    The accuracy is that of the last epoch on the test split. The total cost includes the scoring that found the
    examples.
    The network, the history and the cost are left in a run folder; a training that was stopped goes on from its last
    whole epoch.
    """
    from datawinnow.core.selection import Selection
    from datawinnow.runs.selection_file import read_selection
    from datawinnow.runs.train import train_run
    from datawinnow.vit.levels import EXAMPLE_POLICY

    screen = Screen(quiet=quiet)
    recipe, model_options = training.recipe(), training.model_options()
    levels = sparsity.to_levels()
    length = _length(EXAMPLE_POLICY if levels is not None and levels.examples else policy, epochs, passes)
    how = pairs(policy_option, "--policy-option")
    if levels is not None:
        policy, keep, how = levels.example_policy(policy, keep, how, length.get("epochs") or length["passes"])
    log = plans.read(policy, plan, record_plan, options=how, keep=keep, wrap=wrap, select=select)
    if log is not None:
        length = plans.length_of(log, None if epochs is None and passes is None else length, how)
    planned = None if log is not None else _policy(policy, {"keep": keep, "options": how, "wrap": wrap}, length)
    selection: Selection | None = None
    # read before the data are: a wrong file is told at once, and the data are loaded as they were for the selection
    about: dict[str, Any] = read_selection(select)[1] if select is not None else {}
    options = {**about.get("load", {}), **loading.given()}
    examples, test = found.load(data, options, screen)
    if select is not None:
        selection, about = read_selection(select, fingerprint=examples.fingerprint, name=examples.name)
    if policy == AUTO:
        several = len(examples if selection is None else selection)
        planned, length = _auto(screen, several, found.nature(examples), length, **how)
        if record_plan is not None and planned is None:
            raise ArgumentError("auto chose all the data, so there is no plan for --record-plan: name a policy")
    if log is not None:
        planned = plans.replay(screen, log, examples, how)
    path = found.default_run(examples, run, suffix=_suffix(about, policy, keep, seed))
    with screen.stage("training") as stage:
        folder = train_run(
            examples,
            path,
            test=test,
            selection=selection,
            about=about,
            policy=planned,
            record_plan=record_plan,
            levels=levels,
            **length,
            model=training.model,
            model_options=model_options,
            seed=seed,
            recipe=recipe,
            source=found.lasting(data),
            load=options,
            progress=stage,
            log=screen.note,
        )
    _tell(screen, folder, about, len(test))
    if planned is not None:
        _tell_fractions(screen, folder, about)
    if record_plan is not None:
        screen.next("train", data, "--policy", "replay", "--plan", str(record_plan))


def _auto(
    screen: Screen, n: int, nature: dict[str, Any], length: dict[str, Any], *, noisy: bool = False
) -> tuple[Any, dict[str, Any]]:
    """The policy that the measured map advises, or none, for a budget of as many passes."""
    from datawinnow.dynamic import recommend

    budget = float(next(iter(length.values())))
    advice = recommend(n, passes=budget, noisy=noisy, **nature)
    screen.note(f"auto: {advice.why}")
    if advice.policy is not None:
        return advice.policy, {"passes": budget}
    return None, {"epochs": int(budget) if budget.is_integer() else budget}


def _length(policy: str | None, epochs: int | None, passes: float | None) -> dict[str, Any]:
    """``epochs`` or ``passes``, whichever was given."""
    if passes is None:
        return {"epochs": DEFAULT_EPOCHS if epochs is None else epochs}
    if epochs is not None:
        raise ArgumentError("--passes stands instead of --epochs: give one of them")
    if policy is None:
        raise ArgumentError("--passes belongs to --policy; without one a pass is an epoch: give --epochs")
    if passes <= 0:
        raise ArgumentError(f"--passes must be above 0, got {passes:g}")
    return {"passes": passes}


def only_noisy(how: dict[str, Any]) -> bool:
    """Whether labels are said to be noisy, which is all that ``auto`` is told beside the data and the budget."""
    if how["keep"] is not None or how["wrap"] or set(how["options"]) - {"noisy"}:
        raise ArgumentError(
            "--policy auto chooses keep, options and wrappers itself; it takes --policy-option noisy=true, for data "
            "with many wrong labels. For one of your choice, name it by --policy"
        )
    noisy = how["options"].get("noisy", False)
    if not isinstance(noisy, bool):
        raise ArgumentError(f"--policy-option noisy must be true or false, got {noisy!r}")
    return noisy


def _policy(name: str | None, how: dict[str, Any], length: dict[str, Any]) -> Any:
    """The policy asked for, before any data are read."""
    from datawinnow.dynamic.build import build_policy

    if name == AUTO:
        only_noisy(how)
        return None
    if name is not None:
        return build_policy(name, **length, **how)
    if any(value for value in how.values()):
        raise ArgumentError(
            "--keep, --policy-option and --wrap belong to --policy: name one, for example --policy ucb --keep 0.5; to "
            "train on a fixed selection give its file with --select"
        )
    return None


def _tell_fractions(screen: Screen, folder: Any, about: dict[str, Any]) -> None:
    """What share of the examples the epochs trained on, as it was and not as it was meant."""
    import pyarrow.parquet as pq

    shares = pq.read_table(folder.path / "history.parquet").column("fraction").to_pylist()
    of = "selected examples" if about else "examples"
    text = (
        f"the policy trained on {100 * sum(shares) / len(shares):.0f}% of the {of} an epoch on average "
        f"({100 * min(shares):.0f} to {100 * max(shares):.0f}%)."
    )
    epochs = round((folder.metadata["cost"]["train"]["backward"] + int(about.get("charge", 0))) / folder.n)
    if epochs:
        text += f" The alternative that counts passes as many: datawinnow train DATA --epochs {epochs}"
    screen.say(text)


def _suffix(about: dict[str, Any], policy: str | None, keep: float | None, seed: int) -> str:
    name = f"-{about['method']}-{about['keep']:g}" if about else "" if policy else "-full"
    if policy is not None:
        name += f"-{policy.lower()}" + (f"-{keep:g}" if keep is not None else "")
    return name + (f"-seed{seed}" if seed else "")


def _tell(screen: Screen, folder: Any, about: dict[str, Any], test_n: int) -> None:
    import pyarrow.parquet as pq

    epochs = pq.read_metadata(folder.path / "history.parquet").num_rows
    cost, result = folder.metadata["cost"]["train"], folder.metadata["result"]
    scoring, n = int(about.get("charge", 0)), folder.n
    total = cost["backward"] + scoring
    accuracy = result["test_accuracy"]
    screen.say(
        f"accuracy {100 * accuracy:.2f}% on {test_n:,} test examples after the last of {epochs} epochs"
        if accuracy is not None
        else f"trained {epochs} epochs; there is no test split to say how well"
    )
    parts = f"{cost['backward']:,} in training + {scoring:,} in scoring" if about else "all in training"
    rows = [("cost", f"{total:,} examples passed ({parts}); training took {duration(cost['seconds'])}")]
    if about or cost["backward"] != epochs * n:
        full = epochs * n
        rows.append(("against", f"{full:,} for {epochs} epochs on all {n:,}: {100 * total / full:.0f}% of it"))
    screen.rows([*rows, ("run", str(folder.path))])
