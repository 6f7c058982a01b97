"""``datawinnow condense``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from datawinnow import api
from datawinnow.api import LoadOptions
from datawinnow.cli.options import OUTPUT_PANEL, DataArgument, NetworkOptions, NoReport, Quiet, Seed
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.duration import duration
from datawinnow.core.options import Option

if TYPE_CHECKING:
    from datawinnow.api import Condensed
    from datawinnow.condense import Judging

METHOD_PANEL = "Method"


@dataclass(frozen=True)
class JudgingOptions:
    """The options of `datawinnow.condense.Judging`.

    Attributes:
        networks: fresh networks trained on the result, and on as many random real images; 0 to judge nothing.
        watched: networks that judge each snapshot before the last.
        snapshots: states kept and judged, the first and the last included.
        judge_epochs: epochs of a judging network. Default: the papers', 1,000 with augmentation, else 300 (CAFE 600).
    """

    PANEL: ClassVar[str] = "Judging"

    networks: Annotated[int, Option("N")] = 5
    watched: Annotated[int, Option("N")] = 1
    snapshots: Annotated[int, Option("N")] = 4
    judge_epochs: Annotated[int | None, Option("N")] = None

    def to_judging(self) -> Judging:
        """The options as Python takes them.

        Raises:
            ArgumentError: a number out of range.
        """
        from datawinnow.condense import Judging

        return Judging(self.networks, self.watched, self.snapshots, self.judge_epochs)


@verb(
    "datawinnow condense my-images/ --method dm --per-class 10",
    "datawinnow condense digits --method dsa --per-class 1 --iterations 200 --option real_batch=64",
    docs=api.condense,
)
def condense(
    data: DataArgument,
    loading: LoadOptions,
    network: NetworkOptions,
    judging: JudgingOptions,
    method: Annotated[str, Option("NAME", panel=METHOD_PANEL)] = "dm",
    per_class: Annotated[int, Option("N", panel=METHOD_PANEL)] = 10,
    iterations: Annotated[int | None, Option("N", panel=METHOD_PANEL)] = None,
    augment: Annotated[
        str,
        Option(
            "STRATEGY",
            panel=METHOD_PANEL,
            help="none, or operations as color_crop_cutout_flip_scale_rotate. auto is the paper's, without flip where "
            "the data are not mirrored in training.",
        ),
    ] = "auto",
    options: Annotated[dict[str, Any] | None, Option(flags=("--option",), panel=METHOD_PANEL)] = None,
    seed: Seed = 0,
    run: Annotated[
        Path | None,
        Option("FOLDER", panel=OUTPUT_PANEL, help="Run folder to write. Default: runs/<name>-<method>-<per_class>."),
    ] = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Learn a few images of every class on which a network can be trained instead of all the data.

    The cost is estimated first, from a few iterations. A run that was stopped resumes from its last checkpoint when the
    same command is run again, and ends in the same images. The result is judged on held-out data, compared with as many
    random real images; nothing is chosen by that.

    The run folder gets synthetic.safetensors (Synthetic.load), snapshots of the images, and a page.
    """
    screen = Screen(quiet=quiet)
    network.set_threads()
    with screen.stage() as stage:
        condensed = api.condense(
            data,
            method=method,
            per_class=per_class,
            iterations=iterations,
            augment=augment.lower(),
            options=options,
            model=network.model,
            model_options=network.model_options,
            device=network.device,
            judging=judging.to_judging(),
            seed=seed,
            load=loading,
            run=run,
            report=not no_report,
            progress=stage,
            log=screen.note,
        )
    _print_condensed(screen, condensed)


def _print_condensed(screen: Screen, condensed: Condensed) -> None:
    from datawinnow.report.condense import format_accuracies

    metadata = condensed.metadata
    rows = {row["set"]: row for row in metadata["result"]["curve"]}
    last = rows.get(f"iteration {metadata['options']['iterations']}")
    if last is not None:
        accuracy = format_accuracies(last["accuracies"])
        screen.print(
            f"accuracy {accuracy} on held-out data, of {len(last['accuracies'])} networks trained on the images"
        )
    lines = []
    if last is not None and "random" in rows:
        lines.append(("against", f"{format_accuracies(rows['random']['accuracies'])} with as many random real images"))
    cost = metadata["cost"]
    lines.append(("cost", f"{duration(cost['seconds'])}; {sum(cost['images_seen'].values()):,} images passed"))
    lines.append(("images", str(condensed.path / "synthetic.safetensors" if condensed.path else "")))
    if condensed.page is not None:
        lines.append(("page", str(condensed.page)))
    screen.rows(lines)
