"""What the JSON artefacts hold: checked once, where a file is read (`datawinnow.core.artifacts.read_json`).

A field that is read has a type here; others are kept as they are. A file that was cut short, edited or made by somebody
else is then refused with the name of the field, before anything is computed from it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
SeedNumber = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Content(BaseModel):
    """A JSON object: no conversion, no NaN; fields without a type are kept."""

    # strict: "60" is no number, and 1 is no truth value
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class LoadedWith(Content):
    """As `datawinnow.api.LoadOptions.to_dict`: how a dataset was read, which a run and its selection keep."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    size: Positive | None = None
    holdout: Fraction | None = None
    limit: Positive | None = None
    seed: SeedNumber | None = None
    image: str | None = None
    label: str | None = None
    text: str | None = None
    length: Positive | None = None
    tokenizer: str | None = None
    header: bool | None = None
    standardise: bool | None = None
    flip: bool | None = None
    on_broken: Literal["raise", "skip"] | None = None
    test: str | None = None
    decisions: str | None = None


class StageCost(Content):
    """As `datawinnow.core.cost.Cost.as_dict`."""

    seconds: Annotated[float, Field(ge=0)]
    forward: Count
    backward: Count
    flops: Annotated[float, Field(ge=0)]


class Dataset(Content):
    """As `datawinnow.data.dataset_info.DatasetInfo.as_dict`."""

    name: str
    fingerprint: str
    n: Positive
    shape: list[Count]
    classes: list[str]
    notes: list[str] = []
    source: str = ""
    vocabulary: Positive | None = None
    tokenizer: str = ""


class Network(Content):
    """Name and options of a network."""

    name: str
    parameters: Count = 0
    options: dict[str, Any] | None = None


class Stability(Content):
    """As `datawinnow.runs.early_stopping.RankStability`."""

    threshold: float
    min_epochs: Positive
    window: Positive


class RecordOptions(Content):
    """Options of a recording."""

    epochs: Positive
    schedule_epochs: Positive | None = None
    signals: list[str] = []
    seed: SeedNumber = 0
    model_options: dict[str, Any] | None = None
    until_stable: Stability | None = None
    recipe: dict[str, Any] = {}


class TrainedSelection(Content):
    """The selection that a training was on."""

    method: str | None = None
    label: str | None = None
    kept: Count
    charge: Annotated[float, Field(ge=0)] | None = None


class TrainOptions(Content):
    """Options of a training."""

    epochs: Annotated[float, Field(ge=0)] | None = None
    passes: Annotated[float, Field(ge=0)] | None = None
    recipe: dict[str, Any] = {}
    selection: TrainedSelection | None = None
    policy: str | None = None


class Arithmetic(Content):
    """Precision and memory format; empty where nothing was trained."""

    precision: Literal["fp32", "bf16"] | None = None
    channels_last: bool | None = None
    note: str | None = None


class TrainedWith(Content):
    """As `datawinnow.runs.stage.arithmetic_of`."""

    model: str
    model_options: dict[str, Any] | None = None
    recipe: dict[str, Any]
    device: str | None = None
    arithmetic: Arithmetic


class Selected(Content):
    """How a selection was made: in ``run.json`` and in the schema of ``selection.parquet``."""

    method: str | None = None
    label: str | None = None
    options: dict[str, Any] = {}
    score: str | None = None
    score_options: dict[str, Any] = {}
    per_class: bool = False
    keep: Annotated[float, Field(gt=0)] | None = None
    seed: SeedNumber | None = None
    budget: Count = 0
    epochs: Count | None = None
    charge: Annotated[float, Field(ge=0)] = 0
    fingerprint: str | None = None
    dataset: str | None = None
    load: LoadedWith = LoadedWith()
    recorded: TrainedWith | None = None
    cost: dict[str, StageCost] = {}


class IssuesFile(Content):
    """Metadata of ``issues.parquet``: which dataset the issues are of."""

    dataset: str
    fingerprint: str
    n: dict[Literal["train", "test"], Count]
    classes: list[str] = []
    notes: list[str] = []


class WrittenOut(Content):
    """The folder of kept examples that a run wrote, and of which selection."""

    path: str
    selection: str


class PruneOptions(Content):
    """Options of pruning that the report counts by."""

    train_epochs: Positive | None = None
    is_fitted: bool | None = None


class RunOptions(Content):
    """Options by stage."""

    load: LoadedWith = LoadedWith()
    record: RecordOptions | None = None
    train: TrainOptions | None = None
    select: Selected | None = None
    out: WrittenOut | None = None
    prune: PruneOptions | None = None


class Result(Content):
    """What a training came to."""

    test_accuracy: Fraction | None = None
    test_loss: float | None = None
    near_chance: str | None = None


class RecordedUntil(Content):
    """Where a recording with early stopping ended."""

    epochs: Positive
    agreement: float | None = None


class RunFile(Content):
    """``run.json`` of a recording or a training."""

    name: str | None = None
    created: str | None = None
    status: dict[str, str]
    dataset: Dataset
    options: RunOptions
    model: Network
    seed: SeedNumber = 0
    device: str | None = None
    threads: Count | None = None
    versions: dict[str, str] = {}
    commit: str | None = None
    cost: dict[str, StageCost]
    recorded: RecordedUntil | None = None
    result: Result = Result()
    arithmetic: Arithmetic = Arithmetic()
    files: dict[str, str] = {}


class CheckSettings(Content):
    """What a check was made with."""

    epochs: Positive | None = None


class PairedComparison(Content):
    """As `datawinnow.core.verdict.Comparison`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    ours: float
    reference: float
    difference: float
    half: float | None
    num_seeds: Count
    outcome: Literal["wins", "loses", "ties"]
    noise: Annotated[float, Field(ge=0)] = 0.0


class CheckFile(Content):
    """``check.json``: the answer of ``prune --check``."""

    fingerprint: str | None = None
    verdict: str = ""
    sentence: str = ""
    settings: CheckSettings | None = None
    arithmetic: Arithmetic | None = None
    comparisons: dict[str, PairedComparison] = {}


class PilotPoint(Content):
    """The errors of the pilots at a share, fold by fold."""

    share: Fraction
    errors: list[Fraction]


class CurvePoint(Content):
    """The fitted error at a share, and the accuracy lost there: median and the ends of its 95% interval."""

    share: Fraction
    error: Annotated[float, Field(ge=0)]
    drop: Annotated[list[float], Field(min_length=3, max_length=3)]


class PlanRoute(Content):
    """A way to train for less."""

    label: str
    axis: Literal["examples", "epochs"]
    pilots: list[PilotPoint]
    curve: list[CurvePoint] = []
    share: Fraction | None = None


class PlanChoice(Content):
    """The route and the share of the advice."""

    label: str
    share: Fraction


class PlanFile(Content):
    """``plan.json``: the pilots, the curves and the advice of ``plan``."""

    name: str
    sentence: str
    labels: str = ""
    notes: list[str] = []
    n: Positive
    epochs: Positive
    num_pilots: Count
    pilots_cost: Annotated[float, Field(ge=0)]
    max_drop: Annotated[float, Field(ge=0)]
    full: list[Fraction] | None = None
    routes: list[PlanRoute]
    chosen: PlanChoice | None = None


class CurveRow(Content):
    """Accuracies of the networks trained on one set."""

    set: str
    iteration: Count | None = None
    accuracies: list[Fraction]
    seconds: Annotated[float, Field(ge=0)] = 0.0


class CurveFile(Content):
    """``curve.json`` of a condensation."""

    rows: list[CurveRow]


Point = Annotated[list[float], Field(min_length=3, max_length=3)]


class ProjectionFile(Content):
    """``projection.json``: x, y and class of images."""

    real: list[Point]
    synthetic: list[Point]
    accuracy: Fraction


class CondensedDataset(Content):
    """The dataset of a condensation."""

    name: str
    n: Positive
    fingerprint: str
    shape: list[Count] = []
    classes: list[str] = []
    notes: list[str] = []


class CondensedOptions(Content):
    """Options of a condensation."""

    method: str
    per_class: Positive
    iterations: Count
    network: str
    load: LoadedWith = LoadedWith()


class Judged(Content):
    """How the images are judged."""

    networks: Count
    epochs: Count
    test: Count


class ImagesSeen(Content):
    """Images passed."""

    forward: Count = 0
    backward: Count = 0


class CondensedCost(Content):
    """What a condensation cost; empty before it is done."""

    seconds: Annotated[float, Field(ge=0)] | None = None
    images_seen: ImagesSeen | None = None
    memory: Count = 0


class CondenseResult(Content):
    """What a condensation came to."""

    outside: Fraction = 0.0
    curve: list[CurveRow] = []


class CondenseFile(Content):
    """``run.json`` of a condensation."""

    verb: Literal["condense"]
    name: str
    dataset: CondensedDataset
    options: CondensedOptions
    judged: Judged
    status: dict[str, str]
    cost: CondensedCost
    result: CondenseResult | None = None
    created: str | None = None
    commit: str | None = None
    versions: dict[str, str] | None = None
    device: str | None = None
    threads: Count | None = None
    seed: SeedNumber | None = None


class Mean(Content):
    """As `datawinnow.core.interval.Interval`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    mean: float
    half: float | None
    n: Count


class LeftOut(Content):
    """As `datawinnow.instruct.leave_one_out.LeaveOneOut.as_dict`."""

    name: str
    predicted: list[float]
    error: Mean
    difference: Mean | None
    correlation: float | None
    outcome: Literal["wins", "loses", "ties", ""]


class LeaveOneOutFile(Content):
    """``leave_one_out.json``: the test of the scorers."""

    key: str
    scorers: list[LeftOut]


class ClusterRow(Content):
    """Size, share and number kept of a cluster."""

    cluster: int
    size: Count
    quota: Count
    kept: Count


class IndicatorMean(Content):
    """Mean of an indicator over the chosen and over all pairs."""

    name: str
    chosen: float
    pool: float
    spread: float
    gap: float


class Ends(Content):
    """Lowest, mean and highest over pairs of seeds."""

    low: float
    mean: float
    high: float


class SeedAgreement(Content):
    """Agreement of the choices of several seeds."""

    seeds: Count = 0
    correlation_between: Ends | None = None
    overlap_between: Ends | None = None


class GalleryText(Content):
    """A pair that the page shows."""

    id: str
    instruction: str
    answer: str
    reason: str
    note: str
    where: str


class ScorerDetails(Content):
    """What a scorer says of itself."""

    parameters: Count = 0


class InstructFile(Content):
    """``instruct.json``: a choice of pairs."""

    name: str | None = None
    dataset: str | None = None
    fingerprint: str | None = None
    n: Positive
    budget: Count
    label: str
    details: ScorerDetails | None = None
    clusters: str | None = None
    by_cluster: list[ClusterRow] | None = None
    duplicates: float | None = None
    means: list[IndicatorMean]
    agreement: SeedAgreement
    scorers: list[LeftOut] | None = None
    summary: list[str] = []
    problems: list[str] = []
    missing: dict[str, Count] | None = None
    reasons: dict[str, Count]
    gallery: dict[str, list[GalleryText]]
    labels: list[float] | None = None
    subsets: str | None = None
    mode: str | None = None
    versions: dict[str, str] | None = None
    commit: str | None = None


class GridSettings(Content):
    """The settings behind the rows of a grid."""

    data: dict[str, Any] = {}
    train: dict[str, Any] = {}
    score: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}


class GridFile(Content):
    """``grid.json``: what the rows of a grid were made with."""

    name: str | None = None
    about: str | None = None
    fingerprint: str | None = None
    test_fingerprint: str | None = None
    settings: GridSettings


class ResultLine(Content):
    """What names a line of ``rows.jsonl``."""

    method: str
    keep: float
    seed: int
    scenario: str


class ProbeFile(Content):
    """``probe.json``: which arrays a folder holds."""

    fingerprint: str
    model: str
    head: str
    n: Positive
    arrays: dict[str, dict[str, Any]]
    checksums: dict[str, str] = {}
    notes: list[str]
    cost: StageCost


class SignalsFile(Content):
    """``about.json`` of recorded signals."""

    fingerprint: str | None = None
    n: Count | None = None
    epochs: Count | None = None
    columns: list[str] = []
    planned: Positive | None = None


class SubsetsFile(Content):
    """``about.json`` of networks trained on random subsets."""

    runs: Positive
    fraction: Fraction
    epochs: Positive
    seed: SeedNumber
    recipe: dict[str, Any]


class CheckpointRow(Content):
    """An epoch of the history in a checkpoint; its losses may be NaN."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=True)

    examples: Annotated[float, Field(ge=0, le=2**53)]


class CheckpointMetadata(Content):
    """Metadata of a checkpoint: of a training that goes on, or of a network alone, which lacks most."""

    # losses of a training that diverged
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=True)

    epoch: Count = 0
    rows: list[CheckpointRow] = []
    cost: StageCost | dict[str, StageCost] | None = None
    scalars: dict[str, float | bool] = {}
    fingerprint: str | None = None
    selection: str | None = None
    seed: SeedNumber | None = None
    policy: str | None = None
    budget: Annotated[float, Field(ge=0)] | None = None
    size_schedule: str | None = None


class SelectionHistoryFile(Content):
    """Metadata of a selection history; `datawinnow.core.selection_history` checks its arrays against them."""

    n: Annotated[int, Field(ge=1, le=2**40)]
    first_epoch: Count = 0
    fingerprint: str | None = None
    made_by: str = ""
    cost: Annotated[float, Field(ge=0)] = 0.0
