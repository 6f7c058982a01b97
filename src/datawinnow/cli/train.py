"""``datawinnow train``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from datawinnow import api
from datawinnow.api import LoadOptions
from datawinnow.cli.levels import LevelOptions
from datawinnow.cli.options import (
    OUTPUT_PANEL,
    TRAINING_PANEL,
    DataArgument,
    LogDir,
    Quiet,
    Seed,
    TrainingOptions,
    option_flags,
)
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.counts import many
from datawinnow.core.duration import duration
from datawinnow.core.options import Option
from datawinnow.core.policy_names import POLICY_NAMES

if TYPE_CHECKING:
    from datawinnow.runs.train import Trained

POLICY_PANEL = "Pruning while training"


@verb(
    "datawinnow train my-images/ --select runs/my-images --epochs 30",
    "datawinnow train my-images/ --epochs 30",
    "datawinnow train my-images/ --policy ucb --keep 0.7 --policy-option period=1 --passes 20",
    "datawinnow train my-images/ --policy ucb --keep 0.7 --passes 20 --record-plan ucb.safetensors",
    "datawinnow train my-images/ --policy replay --plan ucb.safetensors --seed 1 --run runs/replayed",
    "datawinnow train my-images/ --model vit --optimizer adamw --levels examples,tokens,attention",
    docs=api.train,
)
def train(
    data: DataArgument,
    loading: LoadOptions,
    training: TrainingOptions,
    sparsity: LevelOptions,
    select: Annotated[Path | None, Option("FILE")] = None,
    policy: Annotated[
        str | None,
        Option(
            "NAME",
            panel=POLICY_PANEL,
            help="Select again during training: auto (what beat all the data for fewer epochs in the most similar "
            "benchmarks, else all the data), replay (the plan that --record-plan wrote), "
            f"{', '.join(POLICY_NAMES)}. Default: none; every epoch trains on all.",
        ),
    ] = None,
    keep: Annotated[str | None, Option("KEEP", panel=POLICY_PANEL)] = None,
    policy_options: Annotated[dict[str, Any] | None, Option(flags=("--policy-option",), panel=POLICY_PANEL)] = None,
    wrap: Annotated[Sequence[str], Option("NAME[=VALUE]", panel=POLICY_PANEL)] = (),
    record_plan: Annotated[Path | None, Option("FILE", panel=POLICY_PANEL)] = None,
    plan: Annotated[Path | None, Option("FILE", panel=POLICY_PANEL)] = None,
    epochs: Annotated[int | None, Option("N", panel=TRAINING_PANEL)] = None,
    passes: Annotated[float | None, Option("N", panel=POLICY_PANEL)] = None,
    seed: Seed = 0,
    run: Annotated[Path | None, Option("FOLDER", panel=OUTPUT_PANEL)] = None,
    log_dir: LogDir = None,
    quiet: Quiet = False,
) -> None:
    """Train on the kept examples, on all, or on what a policy chooses each epoch; show accuracy and cost.

    The accuracy is that of the last epoch on the test split. The total cost includes the scoring that found the
    examples. The network, the history and the cost are left in a run folder; a training that was stopped resumes from
    its last whole epoch.
    """
    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        trained = api.train(
            data,
            select=select,
            policy=policy,
            keep=keep,
            policy_options=policy_options,
            wrap=wrap,
            record_plan=record_plan,
            plan=plan,
            levels=sparsity.to_levels(),
            epochs=epochs,
            passes=passes,
            model=training.model,
            model_options=training.model_options,
            recipe=training.recipe(),
            seed=seed,
            load=loading,
            run=run,
            log_dir=log_dir,
            progress=stage,
            log=screen.note,
        )
    _print_trained(screen, trained, [data, *option_flags(loading), *option_flags(training)])
    if record_plan is not None:
        screen.next("train", data, "--policy", "replay", "--plan", str(record_plan))


def _print_trained(screen: Screen, trained: Trained, words: Sequence[str]) -> None:
    folder, selection = trained.run, trained.selection_metadata
    history = folder.history()
    epochs, n = history.num_rows, folder.n
    cost, scoring = folder.metadata["cost"]["train"], int(selection.get("charge", 0))
    total = cost["backward"] + scoring
    screen.print(
        f"accuracy {100 * trained.accuracy:.2f}% on {many(len(trained.test), 'test example')} after the last of "
        f"{many(epochs, 'epoch')}"
        if trained.accuracy is not None
        else f"trained {many(epochs, 'epoch')}; no test split to measure accuracy on"
    )
    split = f"{cost['backward']:,} in training + {scoring:,} in scoring" if selection else "all in training"
    unit = "examples at full size" if "full_size_examples" in history.column_names else "examples passed"
    rows = [("cost", f"{total:,} {unit} ({split}); training took {duration(cost['seconds'])}")]
    if selection or cost["backward"] != epochs * n:
        full = epochs * n
        rows.append(("", f"{100 * total / full:.0f}% of {full:,} for {many(epochs, 'epoch')} on all {n:,} examples"))
    screen.rows([*rows, ("run", str(folder.path))])
    if trained.policy is None:
        return
    fractions = history.column("fraction").to_pylist()
    candidates = "selected examples" if selection else "examples"
    text = (
        f"the policy trained on {100 * sum(fractions) / len(fractions):.0f}% of the {candidates} an epoch on average "
        f"({100 * min(fractions):.0f} to {100 * max(fractions):.0f}%)."
    )
    equal_epochs = round(total / n)
    if equal_epochs:
        alternative = shlex.join(["train", *words, "--epochs", str(equal_epochs)])
        exact = "" if total == equal_epochs * n else f" ({many(total / n, 'epoch')} on all the data, rounded)"
        text += f" The alternative of equal cost{exact}: datawinnow {alternative}"
    screen.print(text)
