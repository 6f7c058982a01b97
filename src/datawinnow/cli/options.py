"""The options, each declared once for every verb: long because a list of declarations has no seam to split it at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from datawinnow.core.errors import ArgumentError
from datawinnow.core.model_names import IMAGE_MODELS, TEXT_MODELS

if TYPE_CHECKING:
    from datawinnow.methods import Method
    from datawinnow.train import Recipe

_DATA, _TRAIN, _METHOD, _OUT = "Data", "Training", "Method", "Output"

Source = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="digits (embedded), a folder of images by class, a .parquet file or a folder of them, an .npz file, "
        "labelled texts in .csv, .tsv or .jsonl, or hf:owner/name.",
        show_default=False,
    ),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="Run folder that record or prune made.", show_default=False)
]
Keep = Annotated[
    float, typer.Option("--keep", metavar="FRACTION", help="Fraction kept, in (0, 1].", show_default=False)
]
Run = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="FOLDER",
        help="Run folder to write; a run that was stopped goes on from there. Default: runs/<dataset name>.",
        rich_help_panel=_OUT,
        show_default=False,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Show only the result and errors.", rich_help_panel=_OUT, show_default=False),
]
Epochs = Annotated[
    int,
    typer.Option("--epochs", metavar="N", help="Epochs recorded: passes over all the data.", rich_help_panel=_TRAIN),
]
ScheduleEpochs = Annotated[
    int | None,
    typer.Option(
        "--schedule-epochs",
        metavar="N",
        help="Epochs of the training that is planned; recording follows the first part of its schedule. "
        "Default: as many as --epochs.",
        rich_help_panel=_TRAIN,
        show_default=False,
    ),
]
UntilStable = Annotated[
    bool,
    typer.Option(
        "--until-stable",
        help="End before --epochs once the ranking by DUAL has settled: once two halves of the last 10 epochs, which "
        "share none, agree on it to 0.5 (rank correlation).",
        rich_help_panel=_TRAIN,
        show_default=False,
    ),
]
Signals = Annotated[
    list[str],
    typer.Option(
        "--signals",
        metavar="NAME",
        help="Record this as well (repeatable): kl_step, which TDDS needs; it keeps a row of class probabilities an "
        "example in memory.",
        rich_help_panel=_TRAIN,
        show_default=False,
    ),
]
Seed = Annotated[
    int,
    typer.Option("--seed", metavar="N", help="Of weights, order, augmentation and draws.", rich_help_panel=_TRAIN),
]
SelectSeed = Annotated[int, typer.Option("--seed", metavar="N", help="Of selectors that draw.")]
ReadEpochs = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        metavar="N",
        help="Read only the first N recorded epochs. Default: all of them.",
        show_default=False,
    ),
]
DataOverride = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Where the run's dataset is now, if it moved. Default: where it was when recorded.",
        show_default=False,
    ),
]


def key_value(flag: str, text: str, panel: str | None = None) -> Any:
    """A repeatable option ``flag KEY=VALUE``; `pairs` reads what is given.

    Args:
        flag: its name.
        text: its help.
        panel: the part of the help that it stands in.
    """
    return typer.Option(flag, metavar="KEY=VALUE", help=text, rich_help_panel=panel, show_default=False)


@dataclass(frozen=True)
class Loading:
    """How the dataset is read; None stands for the default, or for what the run at hand was made with."""

    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            help="Side that images are resized to. Default: as they are if all are of one size up to 64, else chosen "
            "and told.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            metavar="FRACTION",
            help="Fraction of each class held out for testing where the data have no test split. Default: 0.2.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            help="Use only N training examples, every class keeping its share. Default: all.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    split_seed: Annotated[
        int | None,
        typer.Option(
            "--split-seed",
            metavar="N",
            help="Of the draws for --holdout and --limit; apart from --seed, so that seeds share one dataset. "
            "Default: 0.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="NAME",
            help="Column (or array) of images in Parquet, .npz or hf:. Default: guessed.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            metavar="NAME",
            help="Column (or array) of labels. Default: guessed.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="NAME",
            help="Column of texts; its number, from 0, in a file without a line of names. Default: guessed.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    length: Annotated[
        int | None,
        typer.Option(
            "--length",
            metavar="TOKENS",
            help="Of a text; the rest is cut off. Default: what 99 of 100 training texts fit in, at most 256.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            metavar="hf:PATH",
            help="Cut texts into the tokens of this transformers model. Default: that of --model hf:PATH, else the "
            "words of the training texts.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Whether training mirrors images left to right half of the time; not for text, digits, left and "
            "right. Default: colour images only, which is told.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None
    skip_broken: Annotated[
        bool,
        typer.Option(
            "--skip-broken",
            help="Leave out images that cannot be decoded and broken lines, and tell how many; otherwise the first "
            "is an error.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = False

    def given(self) -> dict[str, Any]:
        """What the user set, as keyword arguments of `datawinnow.load`."""
        named = {
            "size": self.size,
            "holdout": self.holdout,
            "limit": self.limit,
            "seed": self.split_seed,
            "image": self.image,
            "label": self.label,
            "text": self.text,
            "length": self.length,
            "tokenizer": self.tokenizer,
            "flip": self.flip,
            "on_broken": "skip" if self.skip_broken else None,
        }
        return {key: value for key, value in named.items() if value is not None}

    def beside(self, groups: Mapping[str, Any]) -> Loading:
        """These, with the tokenizer of the network where that is a pretrained one: it reads no other tokens."""
        model = next((group.model for group in groups.values() if isinstance(group, Training)), None)
        from datawinnow.text.pretrained import is_pretrained  # imports torch, which help must not wait for

        if self.tokenizer is not None or not is_pretrained(model):
            return self
        return replace(self, tokenizer=model)


@dataclass(frozen=True)
class Training:
    """The network and how it is trained; the defaults are those of `datawinnow.Recipe`."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help=f"{', '.join(IMAGE_MODELS)}; for texts {', '.join(TEXT_MODELS)} or hf:PATH of a transformers model; "
            "or module:function that returns a torch.nn.Module. Default: chosen by the kind and size of the examples.",
            rich_help_panel=_TRAIN,
            show_default=False,
        ),
    ] = None
    model_option: Annotated[
        list[str], key_value("--model-option", "Option of the network (repeatable), for example width=32.", _TRAIN)
    ] = field(default_factory=list)
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Examples a step.", rich_help_panel=_TRAIN)] = 128
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="RATE",
            help="Learning rate at its peak. Default: 0.1 with sgd, 0.001 with adamw.",
            rich_help_panel=_TRAIN,
            show_default=False,
        ),
    ] = None
    optimizer: Annotated[
        Literal["sgd", "adamw"],
        typer.Option("--optimizer", help="SGD with Nesterov momentum 0.9, or AdamW.", rich_help_panel=_TRAIN),
    ] = "sgd"
    schedule: Annotated[
        Literal["cosine", "one_cycle", "constant"],
        typer.Option("--schedule", help="Of the learning rate, by step.", rich_help_panel=_TRAIN),
    ] = "cosine"
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", metavar="RATE", help="On all parameters.", rich_help_panel=_TRAIN)
    ] = 5e-4
    label_smoothing: Annotated[
        float,
        typer.Option(
            "--label-smoothing",
            metavar="SHARE",
            help="Share of the target spread over all classes.",
            rich_help_panel=_TRAIN,
        ),
    ] = 0.0
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option("--precision", help="Arithmetic; auto measures which is faster.", rich_help_panel=_TRAIN),
    ] = "auto"
    device: Annotated[
        str,
        typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=_TRAIN),
    ] = "auto"
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            help="CPU threads. A resumed run gives the same bytes with the same number. Default: torch's choice.",
            rich_help_panel=_TRAIN,
            show_default=False,
            min=1,
        ),
    ] = None

    def model_options(self) -> dict[str, Any]:
        """Options of the network, typed."""
        return pairs(self.model_option, "--model-option")

    def network(self) -> list[str]:
        """The options that choose the network, to be given again."""
        named = ["--model", self.model] if self.model is not None else []
        return [*named, *(word for option in self.model_option for word in ("--model-option", option))]

    def recipe(self) -> Recipe:
        """The recipe; the threads are set on the way."""
        import torch

        from datawinnow.train import Recipe

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return Recipe(
            batch=self.batch,
            lr=self.lr,
            optimizer=self.optimizer,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            precision=self.precision,
            device=self.device,
        )


@dataclass(frozen=True)
class Choosing:
    """Which method chooses."""

    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="A method by name; datawinnow methods lists them. Default: dual_beta.",
            rich_help_panel=_METHOD,
            show_default=False,
        ),
    ] = None
    score: Annotated[
        str | None,
        typer.Option(
            "--score",
            metavar="NAME",
            help="Instead of --method: rank by this score.",
            rich_help_panel=_METHOD,
            show_default=False,
        ),
    ] = None
    select: Annotated[
        str | None,
        typer.Option(
            "--select",
            metavar="NAME",
            help="Instead of --method: choose with this selector. Default: beta for dual, top for other scores.",
            rich_help_panel=_METHOD,
            show_default=False,
        ),
    ] = None
    option: Annotated[
        list[str],
        key_value(
            "--option",
            "Option of the selector, the score, or the look at the network that these need (repeatable), for example "
            "c_d=4, window=5, mode=rademacher, or embedding=hf:PATH for features of texts by a pretrained model.",
            _METHOD,
        ),
    ] = field(default_factory=list)
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class",
            help="Keep the same share of every class.",
            rich_help_panel=_METHOD,
            show_default=False,
        ),
    ] = False

    def chosen(self) -> Method:
        """The method, its options handed to the part that has them.

        Raises:
            ArgumentError: unknown names or options, or a method and a score at once.
        """
        from datawinnow.methods import create_method

        if self.method is not None and (self.score or self.select):
            raise ArgumentError(
                f"give either --method ({self.method}) or --score and --select, not both: a method is a score and a "
                "selector put together"
            )
        bare = create_method(self.method, score=self.score, select_by=self.select, per_class=self.per_class)
        options, score_options = bare.split_options(pairs(self.option, "--option"))
        return create_method(bare, options=options, score_options=score_options)


def pairs(texts: list[str], flag: str) -> dict[str, Any]:
    """``["width=32", "norm=batch"]`` as ``{"width": 32, "norm": "batch"}``.

    A value is a number, true, false, null or a list as in JSON, and text otherwise.

    Raises:
        ArgumentError: no ``=``, or a key twice.

    >>> pairs(["width=32", "norm=batch", "c_d=5.5"], "--option")
    {'width': 32, 'norm': 'batch', 'c_d': 5.5}
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise ArgumentError(f"{flag} must be KEY=VALUE, for example {flag} width=32, got {text!r}")
        if key in found:
            raise ArgumentError(f"{flag} gives {key!r} twice: {found[key]!r} and {value!r}")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = {"True": True, "False": False, "None": None}.get(value, value)
    return found
