"""A grid of experiments (method x keep x seed x scenario) and its cells; read from TOML or made in Python."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from datawinnow.bench.grid_mistakes import unknown_key
from datawinnow.core.budget import budget_of, parse_fraction
from datawinnow.core.card import card_of, unknown_name
from datawinnow.core.errors import ArgumentError
from datawinnow.core.load_options import LoadOptions
from datawinnow.data.assemble import Loaded
from datawinnow.data.images import OnBroken
from datawinnow.data.load import load_with
from datawinnow.dynamic.build import build_policy, policies_by_name, policy_by_name, takes_keep
from datawinnow.methods import Method, create_method
from datawinnow.runs.early_stopping import RankStability
from datawinnow.scenarios import METHODS as SCENARIOS
from datawinnow.train import Recipe
from datawinnow.train.recipe import check_recipe

CellKind = Literal["full", "shorter_full", "static", "policy"]
BASELINES = {"full": "all the data", "shorter_full": "all the data, fewer epochs"}


def _check_keep_keys(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for key in table:
        try:
            is_fraction = 0 < parse_fraction(key) <= 1
        except ValueError:
            is_fraction = False
        if not is_fraction:
            raise ValueError(f'the key {key!r} must be a fraction kept, as "0.2" or "20%"')
    return table


def _check_folder_name(value: str) -> str:
    if not value.strip(". ") or any(c in "/\\:" or not c.isprintable() for c in value):
        raise ValueError(f"names the folder of the results: no slashes and colons, got {value!r}")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value


KeptFraction = Annotated[float, BeforeValidator(parse_fraction)]
"""A fraction as 0.3, "0.3" or "30%"."""
KeptFractions = Annotated[list[KeptFraction], BeforeValidator(_as_list)]
"""KeptFractions kept; one may stand without brackets."""
SeedValue = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
"""A seed; true is none."""
PositiveCount = Annotated[int, Field(ge=1, le=2**53, strict=True)]
"""A number of 1 and above; true is none."""
FolderName = Annotated[str, AfterValidator(_check_folder_name)]
"""A name that a folder can have, below the one where it is made."""
ByKeep = Annotated[dict[str, dict[str, Any]], AfterValidator(_check_keep_keys)]
"""A table whose keys are fractions kept."""


def at_keep(table: dict[str, dict[str, Any]], keep: float) -> dict[str, Any]:
    """The entry of a table by fraction kept; empty where ``keep`` has none.

    >>> at_keep({"0.2": {"batch": 64}}, 0.2), at_keep({"0.2": {"batch": 64}}, 0.3)
    ({'batch': 64}, {})
    """
    # keys are text: parsed, they may differ from the keep in the last bit
    return next((dict(entry) for key, entry in table.items() if abs(parse_fraction(key) - keep) < 1e-9), {})


class Strict(BaseModel):
    """A section of the file. An unknown key is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InBatchSpec(Strict):
    """``batch = {...}`` of a method: it chooses inside each loaded batch, by a proxy network or by its own loss."""

    keep: KeptFraction = Field(gt=0, lt=1)
    model: str | None = None
    model_options: dict[str, Any] = {}
    every: int = Field(default=4, gt=0)
    selector: Literal["highest", "drawn"] = "highest"


class ReplaySpec(Strict):
    """``replay = {...}`` of a method: a small network trains by a policy, and the main network trains by its plan.

    With ``charged`` the run pays for the plan out of its budget, and each seed makes its own plan. Without, the run
    keeps its whole budget and one plan serves all seeds, as when a plan is used many times; rows report its cost.
    """

    model: str
    model_options: dict[str, Any] = {}
    policy: str
    options: dict[str, Any] = {}
    wrap: list[str] = []
    charged: bool = True


class MethodSpec(Strict):
    """``[[method]]``: a static method, one that chooses in training (``policy``, ``batch``, ``replay``), or a baseline.

    ``train`` holds fields of `Recipe` for this method only, such as a learning rate tuned for it. ``keep`` lists those
    keeps of the grid that the method has cells for (default: all). ``levels`` makes a vision transformer sparse.
    ``options_at`` holds further options of the selector by fraction kept, as ``{ "0.3" = { cutoff = 0.2 } }``.
    ``selection`` is the digest of a selection that the caller of `run_grid` passes in (`GridData.selections`).
    """

    name: str
    label: str | None = None
    method: str | None = None
    score: str | None = None
    select: str | None = None
    options: dict[str, Any] = {}
    options_at: ByKeep = {}
    score_options: dict[str, Any] = {}
    epochs: int | None = Field(default=None, gt=0, le=1 << 20)
    per_class: bool = False
    policy: str | None = None
    wrap: list[str] = []
    batch: InBatchSpec | None = None
    replay: ReplaySpec | None = None
    baseline: Literal["shorter_full"] | None = None
    selection: str | None = None
    train: dict[str, Any] = {}
    keep: KeptFractions = []
    levels: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check_one_kind(self) -> MethodSpec:
        static = self.method is not None or self.score is not None or self.select is not None
        kinds = (self.policy, self.batch, self.replay, self.baseline, self.selection)
        if static + sum(kind is not None for kind in kinds) != 1:
            raise ValueError("set exactly one of method (or score and select), policy, batch, replay and baseline")
        if self.options_at and not static:
            raise ValueError("options_at requires a static method")
        if self.wrap and self.policy is None:
            raise ValueError("wrap requires policy")
        return self


class Data(Strict):
    """``[data]``: the dataset and how to load it."""

    source: str
    limit: PositiveCount | None = None
    size: PositiveCount | None = None
    seed: SeedValue = 0
    image: str | None = None
    label: str | None = None
    flip: bool | None = None
    text: str | None = None
    length: PositiveCount | None = None
    tokenizer: str | None = None
    header: bool | None = None
    standardise: bool | None = None
    holdout: float | None = None
    on_broken: OnBroken | None = None
    test: str | None = None
    decisions: str | None = None

    def read(self) -> tuple[Loaded, Loaded]:
        """Train and test split; see `datawinnow.load`."""
        return load_with(self.source, LoadOptions.from_dict(self.model_dump(exclude={"source"})))


class Train(Strict):
    """``[train]``: the network and how every cell trains it; other keys are fields of `Recipe`.

    ``at`` holds other values of these for static selections by fraction kept, as ``[train.at."0.2"]``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    epochs: int = Field(gt=0, le=1 << 20)
    model: str | None = None
    model_options: dict[str, Any] = {}
    at: ByKeep = {}

    def recipe(self) -> Recipe:
        """The recipe of every cell.

        Raises:
            ArgumentError: unknown keys, or a value out of range.
        """
        fields = dict(self.__pydantic_extra__ or {})
        names = [*type(self).model_fields, *Recipe.__dataclass_fields__]
        unknown = [key for key in fields if key not in names]
        if unknown:
            raise ArgumentError("; ".join(unknown_key("train", key, names) for key in unknown))
        # "auto" only if the file says so: measured in each cell, it could choose differently in two of them
        return Recipe(**{"precision": "fp32", **fields})


class Scoring(Strict):
    """``[score]``: the recording that all scores of a seed and scenario share.

    With ``until_stable`` it ends before ``epochs`` once its ranking is stable (`datawinnow.runs.early_stopping`). With
    ``size_schedule``, the attributes of a `datawinnow.SizeSchedule`, it is made on smaller inputs, which cost less:
    ``{ sizes = [16], shares = [1.0] }`` for 16 pixels a side throughout.
    """

    epochs: int | None = Field(default=None, gt=0, le=1 << 20)
    schedule_epochs: int | None = Field(default=None, gt=0, le=1 << 20)
    until_stable: float | None = Field(default=None, gt=0, le=1)
    model: str | None = None
    model_options: dict[str, Any] = {}
    size_schedule: dict[str, Any] = {}


class Grid(Strict):
    """Methods x keeps x seeds x scenarios, the data, and how every cell trains."""

    name: FolderName
    about: str = ""
    data: Data
    train: Train
    score: Scoring = Scoring()
    methods: list[str]
    keep: KeptFractions
    seeds: list[SeedValue]
    scenarios: list[str] = ["clean"]
    method: list[MethodSpec] = []

    @field_validator("keep")
    @classmethod
    def _check_keep(cls, value: list[float]) -> list[float]:
        if any(not 0 < k <= 1 for k in value):
            raise ValueError("each keep must be in (0, 1]: it is the fraction kept, or of the budget of full training")
        return value

    @field_validator("methods", "seeds", "scenarios", "keep")
    @classmethod
    def _check_entries(cls, value: list[Any]) -> list[Any]:
        if not value:
            raise ValueError("must not be empty")
        if len(set(value)) != len(value):
            raise ValueError(f"has an entry twice: {value}")
        return value

    def spec_of(self, name: str) -> MethodSpec:
        """The ``[[method]]`` called ``name``, or a spec for a name of the library.

        Raises:
            ArgumentError: no method has this name.
        """
        for spec in self.method:
            if spec.name == name:
                return spec
        if name in BASELINES:
            return MethodSpec(name=name, label=BASELINES[name], baseline="shorter_full")
        if name in policies_by_name():
            return MethodSpec(name=name, policy=name)
        return MethodSpec(name=name, method=name)

    def method_of(self, name: str) -> tuple[Method, int | None]:
        """The static method called ``name``, and how many recorded epochs it may read (None: all)."""
        spec = self.spec_of(name)
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
            # read before `built` is replaced, or the new function would call itself
            published = built.options_at
            built = replace(
                built,
                options_at=lambda keep: {**(published(keep) if published else {}), **at_keep(spec.options_at, keep)},
            )
        return replace(built, key=name, label=spec.label or (built.label if spec.method else name)), spec.epochs

    def policy(self, name: str, keep: float, passes: float | None = None) -> Any:
        """The policy called ``name``, for a budget of ``keep`` times full training.

        Args:
            name: a method with ``policy``, or with ``replay``, whose policy is that of the small network.
            keep: budget over that of full training; also the policy's keep where its options have none.
            passes: budget of the small network; None for that of the cell.
        """
        spec = self.spec_of(name).replay or self.spec_of(name)
        assert spec.policy is not None, name
        options = dict(spec.options)
        policy_keep = options.pop("keep", None)
        if policy_keep is None and takes_keep(spec.policy):
            policy_keep = keep
        passes = self.train.epochs * keep if passes is None else passes
        return build_policy(spec.policy, passes=passes, keep=policy_keep, options=options, wrap=spec.wrap)

    def kind(self, name: str) -> CellKind:
        """What a cell of the method trains on."""
        spec = self.spec_of(name)
        if spec.baseline is not None:
            return "full" if name == "full" else "shorter_full"
        return "static" if spec.policy is None and spec.batch is None and spec.replay is None else "policy"

    @property
    def recorded_epochs(self) -> int:
        """Epochs of the recording."""
        return self.score.epochs or self.train.epochs

    @property
    def full_is_recording(self) -> bool:
        """Whether the full run and the recording are the same training, so that one serves as both."""
        score = self.score
        same_length = score.epochs in (None, self.train.epochs) and score.schedule_epochs in (None, self.train.epochs)
        return same_length and not (score.model or score.size_schedule) and score.until_stable is None

    @property
    def until(self) -> RankStability | None:
        """When the recording may end early. Not by the methods, since methods may be added to the file later."""
        enough = self.score.until_stable
        return None if enough is None else RankStability(enough)

    @property
    def min_recorded_epochs(self) -> int:
        """Smallest number of epochs that the recording may have."""
        return self.recorded_epochs if self.until is None else min(self.recorded_epochs, self.until.min_epochs)

    def reads_recording(self, cell: Cell) -> bool:
        """Whether a cell needs the recording of its seed and scenario."""
        if cell.kind == "full":
            # given selections read no recording, so that none need be made
            return self.full_is_recording and not any(spec.selection is not None for spec in self.method)
        if cell.kind != "static" or self.spec_of(cell.method).selection is not None:
            return False
        return bool(self.method_of(cell.method)[0].needs)

    def label(self, name: str) -> str:
        """The method's name for people."""
        spec = self.spec_of(name)
        if spec.label is None and spec.policy is not None:
            return card_of(policy_by_name(spec.policy)).name if name == spec.policy else name
        if self.kind(name) == "static" and spec.selection is None:
            return self.method_of(name)[0].label
        return spec.label or name

    def recipe(self, name: str, keep: float | None = None) -> Recipe:
        """How cells of the method train: ``[train]``, then ``[train.at]`` of this keep, then the method's ``train``.

        Raises:
            ArgumentError: a key that is no field of `Recipe`.
        """
        at = at_keep(self.train.at, keep) if keep is not None and self.kind(name) == "static" else {}
        return replace(self.train.recipe(), **check_recipe({**at, **self.spec_of(name).train}))


class Cell(Strict):
    """One run of the grid."""

    kind: CellKind
    method: str
    keep: float
    seed: int
    scenario: str

    @property
    def key(self) -> tuple[str, float, int, str]:
        """Method, keep, seed and scenario, which identify its row."""
        return (self.method, self.keep, self.seed, self.scenario)

    @property
    def title(self) -> str:
        """The cell in words."""
        kept = "" if self.kind == "full" else f" at keep {self.keep:g}"
        return f"cell {self.method}{kept}, seed {self.seed}, {self.scenario}"


def equal_epochs(epochs: float, keep: float, n: int) -> float:
    """Epochs over all ``n`` examples that pass as many examples as ``epochs`` over those kept.

    >>> equal_epochs(30, 0.3, 10_000), equal_epochs(3, 0.5, 60)
    (9, 1.5)
    """
    quotient, rest = divmod(epochs * budget_of(keep, n), n)
    return quotient + rest / n if rest else quotient


def parse_scenario(text: str) -> tuple[str, float]:
    """``"symmetric 0.2"`` -> ``("symmetric", 0.2)``; ``"clean"`` -> ``("clean", 0.0)``.

    Raises:
        ArgumentError: an unknown scenario or a rate outside (0, 1].
    """
    if text == "clean":
        return "clean", 0.0
    name, _, rate = text.partition(" ")
    if name not in SCENARIOS:
        raise unknown_name("scenario", name, ["clean", *SCENARIOS])
    try:
        value = parse_fraction(rate)
    except ArgumentError:
        value = -1.0
    if not 0 < value <= 1:
        raise ArgumentError(
            f'a scenario is "clean" or a name and a rate in (0, 1], for example "{name} 0.2", got {text!r}'
        )
    return name, value


def cells_of(grid: Grid) -> list[Cell]:
    """All cells, seed by seed with the full run first, so that a run that is stopped leaves complete seeds."""
    cells: list[Cell] = []
    for seed in grid.seeds:
        for scenario in grid.scenarios:
            if "full" in grid.methods:
                cells.append(Cell(kind="full", method="full", keep=1.0, seed=seed, scenario=scenario))
            for keep in grid.keep:
                for name in grid.methods:
                    if name == "full" or keep not in (grid.spec_of(name).keep or grid.keep):
                        continue
                    cells.append(Cell(kind=grid.kind(name), method=name, keep=keep, seed=seed, scenario=scenario))
    return cells
