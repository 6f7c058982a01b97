"""What asking a judge may cost, and what it came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from datawinnow.core import check
from datawinnow.instruct.endpoint import AskError

BYTES = 3.5
"""Of a token in UTF-8, for an estimate on the safe side: of English a token has more, and a letter of Chinese, which is
about a token, has 3."""


def tokens_of(text: str) -> float:
    """About how many tokens a text has, rather too many.

    >>> tokens_of("a" * 35), tokens_of("\u732b" * 35)
    (10.0, 30.0)
    """
    return len(text.encode("utf-8", "surrogatepass")) / BYTES


@dataclass(frozen=True)
class Terms:
    """How to ask, and what it may cost.

    Attributes:
        price_in: money for a million tokens of questions.
        price_out: money for a million tokens of answers.
        cap: money that a run may cost at most; None only for an endpoint on this machine that asks nothing (both prices
            0).
        per_minute: requests a minute at most; None for as many as `workers` make.
        workers: requests under way at a time.
        tries: how often one question is asked at most.
        first: seconds before the second try; twice as long each time.
        longest: seconds to wait at most.
        again: ask anew where an earlier answer could not be read.
        parse: ``"strict"``, or ``"published"`` for InstructionGPT-4's reading.
    """

    price_in: float = 0.0
    price_out: float = 0.0
    cap: float | None = None
    per_minute: float | None = None
    workers: int = 4
    tries: int = 5
    first: float = 1.0
    longest: float = 60.0
    again: bool = False
    parse: str = "strict"

    def __post_init__(self) -> None:
        for name in ("price_in", "price_out", "first", "longest"):
            check.number(name, getattr(self, name), 0, 1e9)
        for name in ("workers", "tries"):
            check.number(name, getattr(self, name), 1, 1000, integer=True)
        check.one_of("parse", self.parse, ("strict", "published"))
        if self.cap is not None:
            check.number("cap", self.cap, 0, 1e9)
        if self.per_minute is not None:
            check.number("per_minute", self.per_minute, 1e-3, 1e9)

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """Money for so many tokens."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass
class Account:
    """What asking came to.

    Attributes:
        asked: questions answered in this run.
        stored: answers that were there already.
        spent: money, by the tokens that the endpoint told, or by estimate where it told none.
        failed: kind of failure -> positions of the pairs.
        details: kind of failure -> the first one's detail.
    """

    asked: int = 0
    stored: int = 0
    spent: float = 0.0
    failed: dict[str, list[int]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def fail(self, i: int, error: AskError) -> None:
        """Count a pair that has no grade."""
        self.failed.setdefault(error.kind, []).append(i)
        self.details.setdefault(error.kind, str(error))

    def told(self) -> list[str]:
        """One line for each kind of failure."""
        counts = Counter({kind: len(at) for kind, at in self.failed.items()})
        lines = []
        for kind, count in counts.most_common():
            some = ", ".join(str(i) for i in self.failed[kind][:5]) + (", ..." if count > 5 else "")
            detail = f" (first: {self.details[kind]})" if self.details[kind] else ""
            lines.append(f"{count:,} without a grade: {kind}: pairs {some}{detail}")
        return lines


@dataclass(frozen=True)
class Estimate:
    """What is still to be asked: questions, and their cost at most, with every answer as long as it may be."""

    questions: int
    stored: int
    money: float
