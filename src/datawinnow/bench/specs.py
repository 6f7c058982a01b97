"""What a method of a grid's file may be made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _by_keep(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for key in table:
        try:
            good = 0 < float(key) <= 1
        except ValueError:
            good = False
        if not good:
            raise ValueError(f'the key {key!r} must be a fraction kept, as "0.2"')
    return table


ByKeep = Annotated[dict[str, dict[str, Any]], AfterValidator(_by_keep)]
"""A table whose keys are fractions kept."""


def at_keep(table: dict[str, dict[str, Any]], keep: float) -> dict[str, Any]:
    """What a table by the fraction kept has for ``keep``; nothing where it has none.

    >>> at_keep({"0.2": {"batch": 64}}, 0.2), at_keep({"0.2": {"batch": 64}}, 0.3)
    ({'batch': 64}, {})
    """
    return next((dict(found) for key, found in table.items() if abs(float(key) - keep) < 1e-9), {})


class Strict(BaseModel):
    """A section of the file: an unknown key is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InBatchSpec(Strict):
    """``batch = {...}`` of a method: it chooses inside each loaded batch, by a proxy network or by itself."""

    keep: float = Field(gt=0, lt=1)
    model: str | None = None
    model_options: dict[str, Any] = {}
    every: int = Field(default=4, gt=0)
    selector: Literal["highest", "drawn"] = "highest"


class ReplaySpec(Strict):
    """``replay = {...}`` of a method: a small network trains by a policy first, and its plan is trained by.

    With ``charged`` the plan is paid from the arm's own budget, each seed for its own. Without, the arm has all of it
    for itself, as who uses a plan again and again has: one plan serves all seeds, and the rows tell what it cost.
    """

    model: str
    model_options: dict[str, Any] = {}
    policy: str
    options: dict[str, Any] = {}
    wrap: list[str] = []
    charged: bool = True


class MethodSpec(Strict):
    """``[[method]]``: a method put together in the file: a static one, one that chooses while training (``policy``,
    ``batch``, ``replay``), or a baseline trained otherwise.

    ``train`` are fields of `Recipe` for this method alone, such as a learning rate tuned for it; ``keep`` those of the
    grid's that it has cells for, all unless told; ``levels`` how a vision transformer is made sparse; ``options_at``
    more options of the selector by the fraction kept, as ``{ "0.3" = { cutoff = 0.2 } }``.
    """

    name: str
    label: str | None = None
    method: str | None = None
    score: str | None = None
    select: str | None = None
    options: dict[str, Any] = {}
    options_at: ByKeep = {}
    score_options: dict[str, Any] = {}
    epochs: int | None = Field(default=None, gt=0)
    per_class: bool = False
    policy: str | None = None
    wrap: list[str] = []
    batch: InBatchSpec | None = None
    replay: ReplaySpec | None = None
    baseline: Literal["shorter_full"] | None = None
    train: dict[str, Any] = {}
    keep: list[float] = []
    levels: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> MethodSpec:
        static = self.method is not None or self.score is not None or self.select is not None
        others = (self.policy, self.batch, self.replay, self.baseline)
        if static + sum(other is not None for other in others) != 1:
            raise ValueError(
                "give one of method (or score and select), policy, batch, replay and baseline: what it is made of"
            )
        if self.options_at and not static:
            raise ValueError("options_at goes with a static method")
        if self.wrap and self.policy is None:
            raise ValueError("wrap goes with policy")
        return self
