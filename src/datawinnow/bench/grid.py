"""A grid of experiments, read from TOML: method x keep x seed x scenario."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from datawinnow.bench.specs import ByKeep, MethodSpec, Strict, at_keep
from datawinnow.core.card import card_of
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.build import build_policy, policies_by_name, policy_by_name, takes_keep
from datawinnow.methods import METHODS, Method, create_method
from datawinnow.runs.early_stopping import Settled
from datawinnow.scenarios import METHODS as SCENARIOS
from datawinnow.train import Recipe
from datawinnow.train.recipe import check_recipe

Kind = Literal["full", "shorter_full", "static", "policy"]
BASELINES = {"full": "all the data", "shorter_full": "all the data, fewer epochs"}


class Data(Strict):
    """``[data]``: what to train on."""

    source: str
    limit: int | None = None
    size: int | None = None
    seed: int = 0
    image: str | None = None
    label: str | None = None
    flip: bool | None = None
    text: str | None = None
    length: int | None = None
    tokenizer: str | None = None


class Train(Strict):
    """``[train]``: the network and how every cell trains it; other keys are fields of `Recipe`.

    ``at`` are other values of these for static selections by the fraction kept, as ``[train.at."0.2"]``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    epochs: int = Field(gt=0)
    model: str | None = None
    model_options: dict[str, Any] = {}
    at: ByKeep = {}

    def recipe(self) -> Recipe:
        """The recipe of every cell.

        Raises:
            ArgumentError: an unknown key, or a value out of range.
        """
        given = dict(self.__pydantic_extra__ or {})
        known = list(Recipe.__dataclass_fields__)
        for key in given:
            if key not in known:
                raise ArgumentError(
                    f"[train] has no key {key!r}; its keys are: epochs, model, model_options, at, {', '.join(known)}"
                )
        # Not "auto" unless the file says so: timed in every cell by itself it could choose differently in two of them.
        return Recipe(**{"precision": "fp32", **given})


class Scoring(Strict):
    """``[score]``: the recording that all scores of a seed and scenario share.

    With ``until_stable`` it ends before ``epochs`` once its ranking has settled so far
    (`datawinnow.runs.early_stopping`).
    """

    epochs: int | None = Field(default=None, gt=0)
    schedule_epochs: int | None = Field(default=None, gt=0)
    until_stable: float | None = Field(default=None, gt=0, le=1)
    model: str | None = None
    model_options: dict[str, Any] = {}


class Grid(Strict):
    """The whole file."""

    name: str
    about: str = ""
    data: Data
    train: Train
    score: Scoring = Scoring()
    methods: list[str]
    keep: list[float]
    seeds: list[int]
    scenarios: list[str] = ["clean"]
    method: list[MethodSpec] = []

    @field_validator("keep")
    @classmethod
    def _keep(cls, value: list[float]) -> list[float]:
        if any(not 0 < k <= 1 for k in value):
            raise ValueError("each keep must be in (0, 1]: it is the fraction kept, or of the budget of full training")
        return value

    @field_validator("methods", "seeds", "scenarios", "keep")
    @classmethod
    def _some(cls, value: list[Any]) -> list[Any]:
        if not value:
            raise ValueError("must not be empty")
        if len(set(value)) != len(value):
            raise ValueError(f"has an entry twice: {value}")
        return value

    def named(self, name: str) -> MethodSpec:
        """The ``[[method]]`` called ``name``; one made up for a name of the library.

        Raises:
            ArgumentError: nothing is called so.
        """
        for spec in self.method:
            if spec.name == name:
                return spec
        if name in BASELINES:
            return MethodSpec(name=name, label=BASELINES[name], baseline="shorter_full")
        if name in policies_by_name():
            return MethodSpec(name=name, policy=name)
        return MethodSpec(name=name, method=name)

    def spec(self, name: str) -> tuple[Method, int | None]:
        """The static method called ``name`` in this file, and the number of recorded epochs it may read."""
        spec = self.named(name)
        if spec not in self.method:
            return create_method(name), None
        built = create_method(
            spec.method,
            score=spec.score,
            select_by=spec.select,
            options=spec.options,
            score_options=spec.score_options,
            per_class=spec.per_class,
        )
        if spec.options_at:
            own = built.options_at
            built = replace(built, options_at=lambda k: {**(own(k) if own else {}), **at_keep(spec.options_at, k)})
        return replace(built, key=name, label=spec.label or (built.label if spec.method else name)), spec.epochs

    def policy(self, name: str, keep: float, passes: float | None = None) -> Any:
        """The policy called ``name``, for ``keep`` times the passes of full training; its own keep may differ.

        Of ``replay`` it is the policy of the small network, whose ``passes`` are told; ``batch`` has none.
        """
        spec = self.named(name).replay or self.named(name)
        assert spec.policy is not None, name
        options = dict(spec.options)
        own = options.pop("keep", None)
        if own is None and takes_keep(spec.policy):
            own = keep
        passes = self.train.epochs * keep if passes is None else passes
        return build_policy(spec.policy, passes=passes, keep=own, options=options, wrap=spec.wrap)

    def kind(self, name: str) -> Kind:
        """What a cell of the method does."""
        spec = self.named(name)
        if spec.baseline is not None:
            return "full" if name == "full" else "shorter_full"
        return "static" if spec.policy is None and spec.batch is None and spec.replay is None else "policy"

    @property
    def recorded_epochs(self) -> int:
        """Epochs of the recording."""
        return self.score.epochs or self.train.epochs

    @property
    def full_is_recording(self) -> bool:
        """Whether the full run and the scoring run are the same run, so that one does for both."""
        score = self.score
        whole = score.epochs in (None, self.train.epochs) and score.schedule_epochs in (None, self.train.epochs)
        return whole and not score.model and score.until_stable is None

    @property
    def until(self) -> Settled | None:
        """When the recording may end, whatever methods read it: they may be added to the file later."""
        enough = self.score.until_stable
        return None if enough is None else Settled(enough)

    @property
    def least_recorded(self) -> int:
        """Epochs that the recording has at least."""
        return self.recorded_epochs if self.until is None else min(self.recorded_epochs, self.until.first)

    def reads_recording(self, cell: Cell) -> bool:
        """Whether a cell needs the recording of its seed and scenario."""
        if cell.kind == "full":
            return self.full_is_recording
        return cell.kind == "static" and bool(self.spec(cell.method)[0].needs)

    def label(self, name: str) -> str:
        """The method's name for people."""
        spec = self.named(name)
        if spec.label is None and spec.policy is not None:
            return card_of(policy_by_name(spec.policy)).name if name == spec.policy else name
        return self.spec(name)[0].label if self.kind(name) == "static" else spec.label or name

    def recipe(self, name: str, keep: float | None = None) -> Recipe:
        """How cells of the method train: as ``[train]`` says, but for what it says of this keep and the method itself.

        Raises:
            ArgumentError: something that is no field of `Recipe`.
        """
        at = at_keep(self.train.at, keep) if keep is not None and self.kind(name) == "static" else {}
        return replace(self.train.recipe(), **check_recipe({**at, **self.named(name).train}))


class Cell(Strict):
    """One run of the grid."""

    kind: Kind
    method: str
    keep: float
    seed: int
    scenario: str

    @property
    def key(self) -> tuple[str, float, int, str]:
        """What identifies its row."""
        return (self.method, self.keep, self.seed, self.scenario)

    @property
    def title(self) -> str:
        """What it is, for people."""
        kept = "" if self.kind == "full" else f" at keep {self.keep:g}"
        return f"cell {self.method}{kept}, seed {self.seed}, {self.scenario}"


def parse_scenario(text: str) -> tuple[str, float]:
    """``"symmetric 0.2"`` -> ``("symmetric", 0.2)``; ``"clean"`` -> ``("clean", 0.0)``.

    Raises:
        ArgumentError: an unknown scenario or a rate outside (0, 1].
    """
    if text == "clean":
        return "clean", 0.0
    name, _, rate = text.partition(" ")
    try:
        value = float(rate)
    except ValueError:
        value = -1.0
    if name not in SCENARIOS or not 0 < value <= 1:
        raise ArgumentError(
            f'scenario must be "clean" or "NAME RATE" with RATE in (0, 1] and NAME one of '
            f"{', '.join(SCENARIOS)}, got {text!r}"
        )
    return name, value


def cells_of(grid: Grid) -> list[Cell]:
    """All cells, seed by seed, the recording (``full``) first, so that every prefix is as whole as can be."""
    cells: list[Cell] = []
    for seed in grid.seeds:
        for scenario in grid.scenarios:
            if "full" in grid.methods:
                cells.append(Cell(kind="full", method="full", keep=1.0, seed=seed, scenario=scenario))
            for keep in grid.keep:
                for name in grid.methods:
                    if name == "full" or keep not in (grid.named(name).keep or grid.keep):
                        continue
                    cells.append(Cell(kind=grid.kind(name), method=name, keep=keep, seed=seed, scenario=scenario))
    return cells


def known_methods() -> list[str]:
    """Names that ``methods`` may list without a ``[[method]]`` of their own."""
    return [*BASELINES, *METHODS, *policies_by_name()]
