"""Options that several verbs share. A field or parameter is the option, its docstring entry the help (`verb`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from datawinnow.core.errors import ArgumentError
from datawinnow.core.model_names import IMAGE_MODELS, TEXT_MODELS
from datawinnow.core.options import Option

if TYPE_CHECKING:
    from datawinnow.methods import Method
    from datawinnow.train import Recipe

TRAINING_PANEL, OUTPUT_PANEL = "Training", "Output"

DataArgument = Annotated[
    str,
    Option(
        "DATA",
        positional=True,
        help="digits (embedded), a folder of images by class, a .parquet file or a folder of them, an .npz file, "
        "labelled texts in .csv, .tsv or .jsonl, or hf:owner/name.",
    ),
]
RunPath = Annotated[Path, Option("RUN", positional=True, help="Run folder that record or prune made.")]
Keep = Annotated[float, Option("FRACTION", help="Fraction kept, in (0, 1], as 0.3 or 30%.")]
RunOption = Annotated[
    Path | None,
    Option(
        "FOLDER",
        panel=OUTPUT_PANEL,
        help="Run folder to write; a run that was stopped resumes from there. Default: runs/<dataset name>.",
    ),
]
LogDir = Annotated[Path | None, Option("FOLDER", panel=OUTPUT_PANEL)]
Quiet = Annotated[bool, Option(flags=("--quiet", "-q"), panel=OUTPUT_PANEL, help="Show only the result and errors.")]
NoReport = Annotated[bool, Option(panel=OUTPUT_PANEL, help="Do not write the HTML page.")]
Epochs = Annotated[int, Option("N", panel=TRAINING_PANEL)]
ScheduleEpochs = Annotated[int | None, Option("N", panel=TRAINING_PANEL)]
UntilStable = Annotated[
    bool,
    Option(
        panel=TRAINING_PANEL,
        help="Stop recording before --epochs once the DUAL ranking is stable: when two halves of the last 10 epochs "
        "have a rank correlation of 0.5.",
    ),
]
Seed = Annotated[int, Option("N", panel=TRAINING_PANEL, help="Seed of weights, order, augmentation and draws.")]
ReadEpochs = Annotated[int | None, Option("N", help="Read only the first N recorded epochs. Default: all of them.")]
RecordedModel = Annotated[str | None, Option("module:function")]
RecordedModelOptions = Annotated[dict[str, Any] | None, Option(flags=("--model-option",))]
DataOverride = Annotated[
    str | None,
    Option("DATA", help="Where the run's dataset is now, if it moved. Default: where it was when recorded."),
]


@dataclass(frozen=True)
class NetworkOptions:
    """The network, and where it runs.

    Attributes:
        model: name of a network, ``"hf:PATH"`` of a transformers model, or ``"module:function"``.
        model_options: option of the network (repeatable), for example width=32.
        device: where it runs: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        threads: CPU threads; a resumed run gives the same bytes with the same number. Default: PyTorch's choice.
    """

    PANEL: ClassVar[str] = TRAINING_PANEL

    model: Annotated[
        str | None,
        Option(
            "NAME",
            help=f"{', '.join(IMAGE_MODELS)}; for texts {', '.join(TEXT_MODELS)}; hf:PATH of a transformers model of "
            "images or texts; or module:function that returns a torch.nn.Module. Default: chosen by the kind and size "
            "of the examples.",
        ),
    ] = None
    model_options: Annotated[dict[str, Any], Option(flags=("--model-option",))] = field(default_factory=dict)
    device: Annotated[str, Option("NAME", help="auto, cpu, cuda, cuda:1, ...")] = "auto"
    threads: Annotated[int | None, Option("N", min=1)] = None

    def network_flags(self) -> list[str]:
        """The options that choose the network, for a command that is to use it again."""
        flags = ["--model", self.model] if self.model is not None else []
        for key, value in self.model_options.items():
            flags += ["--model-option", f"{key}={value}"]
        return flags

    def function_flags(self) -> list[str]:
        """`network_flags` where the network is a function, which a later command has to name again; else none."""
        return self.network_flags() if self.model and ":" in self.model and not self.model.startswith("hf:") else []

    def set_threads(self) -> None:
        """Set the number of CPU threads, which is global to the process."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)


@dataclass(frozen=True)
class TrainingOptions(NetworkOptions):
    """The network and how it is trained; the defaults are those of `datawinnow.Recipe`.

    Attributes:
        batch: examples a step.
        lr: peak learning rate. Default: 0.1 with sgd, 0.001 with adamw.
        optimizer: SGD with Nesterov momentum 0.9, or AdamW.
        schedule: schedule of the learning rate, by step.
        weight_decay: weight decay, on all parameters.
        label_smoothing: share of the target spread over all classes.
        precision: arithmetic; auto measures which is faster, once: a resumed run, a training on the examples that a run
            of the same network selected, and all trainings of a race or a check take the first choice.
        progressive_resizing: train on small inputs first: SIZE is the first size (the shorter side of images, tokens of
            texts) or its share of the full size, as 50%; it rises over the first 60% of the steps. SIZE:SHARE of each
            stage for another shape. A step on smaller inputs costs less. Default: full size throughout.
        view: how an input becomes smaller: resize or crop (a random window) of images, patches (a random choice of
            them) of images for a vision transformer; start (the first tokens), both_ends or window (a random one) of
            texts; auto is resize or both_ends.
        similar_lengths: deal texts of similar length into a batch, so that little is padded. Images and vectors are
            dealt as they are.
        augment_strength: strength of further random changes of training images (colour, shear, shift, rotation,
            cut-out), from 0 to 1; with --progressive-resizing it rises with the size. Default: none.
        freeze: a module that is not trained (repeatable), as layer1 or encoder.layer.0; backbone is everything but the
            head. Default: all are trained.
        lr_scale: factor on the learning rate of a module (repeatable), as backbone=0.1. Default: one rate for all.
        cache_features: where all but the head is frozen, pass the examples through the network once, without
            augmentation, and train the head on the features.
    """

    batch: Annotated[int, Option("N")] = 128
    lr: Annotated[float | None, Option("RATE")] = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    weight_decay: Annotated[float, Option("RATE")] = 5e-4
    label_smoothing: Annotated[float, Option("SHARE")] = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    progressive_resizing: Annotated[str | None, Option("SIZE[:SHARE,...]")] = None
    view: Literal["auto", "resize", "crop", "patches", "start", "both_ends", "window"] = "auto"
    similar_lengths: bool = True
    augment_strength: Annotated[float, Option("SHARE")] = 0.0
    freeze: Annotated[Sequence[str], Option("MODULE")] = ()
    lr_scale: Annotated[dict[str, Any], Option("MODULE=FACTOR")] = field(default_factory=dict)
    cache_features: bool = False

    def recipe(self) -> Recipe:
        """The recipe; sets the number of CPU threads too."""
        from datawinnow.train import Recipe, SizeSchedule

        self.set_threads()
        sizes = None
        if self.progressive_resizing is not None:
            sizes = SizeSchedule.from_text(self.progressive_resizing, self.view)
        elif self.view != "auto":
            raise ArgumentError(f"`view={self.view!r}` goes with `progressive_resizing=`, which makes inputs smaller")
        return Recipe(
            batch=self.batch,
            lr=self.lr,
            optimizer=self.optimizer,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            precision=self.precision,
            device=self.device,
            size_schedule=sizes,
            similar_lengths=self.similar_lengths,
            augment_strength=self.augment_strength,
            freeze=tuple(self.freeze),
            lr_scale=self.lr_scale,
            cache_features=self.cache_features,
        )


def option_flags(options: Any) -> list[str]:
    """The flags of a dataclass of options that differ from their defaults, for a command that is to repeat them."""
    flags: list[str] = []
    for option in fields(options):
        value = getattr(options, option.name)
        default = option.default_factory() if option.default_factory is not MISSING else option.default
        flag = f"--{option.name.replace('_', '-')}"
        if value == default or (not value and not default):
            continue
        if isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, dict):
            for key, item in value.items():
                flags += [flag.removesuffix("s"), f"{key}={item}"]
        elif isinstance(value, (list, tuple)):
            for item in value:
                flags += [flag, str(item)]
        else:
            flags += [flag, str(value)]
    return flags


@dataclass(frozen=True)
class MethodOptions:
    """The method that chooses.

    Attributes:
        method: a method by name; datawinnow methods lists them. Default: dual_beta.
        score: instead of --method: rank by this score. Default: that of the method.
        select: instead of --method: choose with this selector. Default: beta for dual, top for other scores.
        options: option of the selector, the score, or the probe of the network that these need (repeatable), for
            example c_d=4, window=5, mode=rademacher.
        per_class: keep the same share of every class.
        embedding: features by a pretrained model, hf:PATH, or by module:function from a batch to (b, d), in place of
            those of the recorded network: methods that read features alone (k_center, herding, prototypes) then need no
            training. Default: the recorded network.
    """

    PANEL: ClassVar[str] = "Method"

    method: Annotated[str | None, Option("NAME")] = None
    score: Annotated[str | None, Option("NAME")] = None
    select: Annotated[str | None, Option("NAME")] = None
    options: Annotated[dict[str, Any], Option(flags=("--option",))] = field(default_factory=dict)
    per_class: bool = False
    embedding: Annotated[str | None, Option("hf:PATH|module:function")] = None

    def to_method(self) -> Method:
        """The method, each option handed to the part that has it.

        Raises:
            ArgumentError: unknown names or options, or a method and a score at once.
        """
        from datawinnow.methods import create_method
        from datawinnow.methods.create import embedded

        if self.method is not None and (self.score or self.select):
            raise ArgumentError(
                f"give either --method ({self.method}) or --score and --select, not both: a method is a score and a "
                "selector put together"
            )
        method = create_method(self.method, score=self.score, select_by=self.select, per_class=self.per_class)
        method = method.with_options(*method.split_options(self.options))
        return method if self.embedding is None else embedded(method, self.embedding)
