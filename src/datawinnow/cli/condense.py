"""``datawinnow condense``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from datawinnow.cli import datasets as found
from datawinnow.cli.options import Loading, Quiet, Seed, Source, Training, key_value, pairs
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.duration import duration

_METHOD, _JUDGE, _OUT = "Method", "Judging", "Output"


@dataclass(frozen=True)
class Network:
    """The network that looks at images, and where; the options are those of `Training`."""

    model: str | None = None
    model_option: list[str] = field(default_factory=list)
    device: str = "auto"
    threads: int | None = None

    def chosen(self, shape: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
        """Name and options: the papers' ConvNet unless told, as deep as leaves a map of 4 pixels or so."""
        options = pairs(self.model_option, "--model-option")
        if self.model is None:
            side = min(shape[1:]) if len(shape) == 3 else 32
            return "convnet", {"depth": max(1, min(side.bit_length() - 1, max(2, side.bit_length() - 3))), **options}
        return self.model, options


for _name, _hint in get_type_hints(Training, include_extras=True).items():
    if _name in Network.__annotations__:  # declared once, the same in every verb
        Network.__annotations__[_name] = _hint


@dataclass(frozen=True)
class Judging:
    """How the result is judged on held-out data."""

    networks: Annotated[
        int,
        typer.Option(
            "--networks",
            metavar="N",
            help="Fresh networks trained on the result, and on as many random real images; 0 to judge nothing.",
            rich_help_panel=_JUDGE,
        ),
    ] = 5
    watched: Annotated[
        int,
        typer.Option(
            "--watched", metavar="N", help="Networks that judge each state before the last.", rich_help_panel=_JUDGE
        ),
    ] = 1
    snapshots: Annotated[
        int,
        typer.Option(
            "--snapshots", metavar="N", help="States kept and judged, start and end included.", rich_help_panel=_JUDGE
        ),
    ] = 4
    judge_epochs: Annotated[
        int | None,
        typer.Option(
            "--judge-epochs",
            metavar="N",
            help="Epochs of a judging network. Default: the papers', 1,000 with augmentation, else 300 (CAFE 600).",
            rich_help_panel=_JUDGE,
            show_default=False,
        ),
    ] = None


@verb(
    "datawinnow condense my-images/ --method dm --per-class 10",
    "datawinnow condense digits --method dsa --per-class 1 --iterations 200 --option real_batch=64",
)
def condense(
    data: Source,
    loading: Loading,
    network: Network,
    judging: Judging,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="dc, dsa, dm, cafe or idm.", rich_help_panel=_METHOD)
    ] = "dm",
    per_class: Annotated[
        int, typer.Option("--per-class", metavar="N", help="Images of every class.", rich_help_panel=_METHOD)
    ] = 10,
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations",
            metavar="N",
            help="Outer iterations. Default: the paper's (dc and dsa 1,000, cafe 2,000, dm and idm 20,000).",
            rich_help_panel=_METHOD,
            show_default=False,
        ),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            "--augment",
            metavar="STRATEGY",
            help="none, or operations as color_crop_cutout_flip_scale_rotate. Default: the paper's, without flip where "
            "the data are not mirrored in training.",
            rich_help_panel=_METHOD,
            show_default=False,
        ),
    ] = None,
    option: Annotated[
        list[str],
        key_value("--option", "Option of the method (repeatable), for example real_batch=64 or lr=0.1.", _METHOD),
    ] = [],  # noqa: B006  # typer reads the default; nothing changes it
    seed: Seed = 0,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="FOLDER",
            help="Run folder to write. Default: runs/ and the names of dataset, method and images a class.",
            rich_help_panel=_OUT,
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the HTML page as well.", rich_help_panel=_OUT)
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Learn a few images of every class that a network can be trained on instead of all the data.

    What it takes is estimated first, from a few iterations. Stop it at any moment and run the same command again: it
    goes on from its last checkpoint, to the same images. The result is judged on held-out data beside as many random
    real images, and nothing is chosen by that.

    The run folder gets synthetic.safetensors (Synthetic.load), the images at the start, in between and at the end, and
    a page.
    """
    from datawinnow import condense as library
    from datawinnow.condense._run import all_images, check_judging, condense_run
    from datawinnow.core.card import resolve

    screen = Screen(quiet=quiet)
    chosen = resolve(method, library.METHODS, kind="condenser")
    key, options = chosen.card.key, pairs(option, "--option")  # type: ignore[attr-defined]
    _refuse(options)
    check_judging(judging.networks, judging.watched, judging.snapshots, judging.judge_epochs)
    if network.threads is not None:
        import torch

        torch.set_num_threads(network.threads)
    train, test = found.load(data, loading.given(), screen)
    all_images(train)
    name, model_options = network.chosen(train.shape)
    build = _builder(name, train, model_options)
    spelled = ", ".join([name, *(f"{k}={v}" for k, v in model_options.items())])
    screen.note(f"network: {spelled}")
    how = _augment(augment, chosen, train, screen)
    options = {**options, "augment": how, "device": network.device}
    count = int(chosen.card.options["iterations"]) if iterations is None else iterations  # type: ignore[attr-defined]
    path = found.default_run(train, run, suffix=f"-{key}-{per_class}" + (f"-seed{seed}" if seed else ""))
    if not (path / "synthetic.safetensors").exists():
        how_much = {**options, "per_class": per_class, "build": build}
        _estimated(screen, chosen, (train, test), seed, count, judging, how_much)
    with screen.stage() as stage:
        metadata = condense_run(
            train, test, path, method=chosen, per_class=per_class, build=build, network=spelled, seed=seed,
            iterations=count, options=options, networks=judging.networks, watched=judging.watched,
            snapshots=judging.snapshots, epochs=judging.judge_epochs, augment=how, load=loading.given(), progress=stage,
        )  # fmt: skip
    page = None
    if report:
        from datawinnow import report as pages

        page = pages.write(path)
    _tell(screen, metadata, path, page)


TAKEN = ("per_class", "build", "generator", "iterations", "augment", "device", "mean", "std", "classes", "checkpoint")


def _refuse(options: dict[str, Any]) -> None:
    from datawinnow.core.errors import ArgumentError

    for name in (*TAKEN, "on_iteration", "progress"):
        if name in options:
            raise ArgumentError(f"--option {name}=... is not for the command line: it has a flag of its own, or is set")


def _builder(name: str, train: Any, options: dict[str, Any]) -> Any:
    """A function that builds a fresh network for these data; built once at once, so that what is wrong is told."""
    from datawinnow.models import build as build_model

    def build() -> Any:
        return build_model(name, shape=train.shape, classes=len(train.classes), **options)

    import torch

    with torch.random.fork_rng(), torch.device("meta"):
        build()
    return build


def _augment(given: str | None, method: Any, train: Any, screen: Screen) -> Any:
    """What is done to images in matching and in judging."""
    from datawinnow.condense._augment import augmentation

    if given is not None:
        return augmentation(None if given.lower() == "none" else given)
    default = method.card.options["augment"]
    if default is None or (train.augment is not None and train.augment.flip):
        return default
    screen.note("augmentation: all but flip, since these data are not mirrored in training")
    return default.without("flip")


def _estimated(
    screen: Screen,
    method: Any,
    data: tuple[Any, Any],
    seed: int,
    iterations: int,
    judging: Judging,
    how: dict[str, Any],
) -> None:
    import torch

    from datawinnow.condense import evaluate
    from datawinnow.condense._estimate import estimate
    from datawinnow.condense._run import evaluation_epochs

    train, test = data
    own = {"build": how["build"], "augment": how["augment"], "device": how["device"], "networks": 1}

    def judge(made: Any, epochs: int) -> None:
        evaluate(made, test.x[:1], test.labels[:1], generator=torch.Generator(), epochs=epochs, **own)

    each = judging.judge_epochs or evaluation_epochs(method.card.key, how["augment"])
    nets = 2 * judging.networks + judging.watched * (judging.snapshots - 1) if judging.networks else 0
    found_ = estimate(
        method, train.x, train.labels, seed=seed, iterations=iterations, judging=judge, epochs=each * nets,
        mean=train.mean or None, std=train.std or None, **how,
    )  # fmt: skip
    then = ""
    if nets:
        then = (
            f"; judging by {nets} networks about {duration(found_['judging'], rough=True)} (--networks 0 leaves it out)"
        )
    screen.note(
        f"estimate: {iterations:,} iterations of {duration(found_['iteration'])} take about "
        f"{duration(found_['seconds'], rough=True)}, and {found_['memory'] / 1e9:.1f} GB of memory{then}"
    )


def _tell(screen: Screen, metadata: dict[str, Any], path: Path, page: Path | None) -> None:
    rows = {row["set"]: row for row in metadata["result"]["curve"]}
    last = rows.get(f"iteration {metadata['options']['iterations']}")
    if last is not None:
        screen.say(f"accuracy {spread_of(last)} on held-out data, of {len(last['accuracies'])} networks trained on it")
    lines = []
    if last is not None and "random" in rows:
        lines.append(("against", f"{spread_of(rows['random'])} with as many random real images"))
    cost = metadata["cost"]
    lines.append(("cost", f"{duration(cost['seconds'])}; {sum(cost['passed'].values()):,} images passed"))
    lines.append(("images", str(path / "synthetic.safetensors")))
    if page is not None:
        lines.append(("page", str(page)))
    screen.rows(lines)


def spread_of(row: dict[str, Any]) -> str:
    """Mean and population standard deviation of a row's accuracies, in percent; of one network there is none."""
    import statistics

    found_ = row["accuracies"]
    if len(found_) == 1:
        return f"{100 * found_[0]:.1f}%"
    return f"{100 * statistics.fmean(found_):.1f} +- {100 * statistics.pstdev(found_):.1f}%"
