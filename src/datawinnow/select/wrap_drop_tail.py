"""`drop_tail`: cut the suspicious tail of a score off before selecting."""

from __future__ import annotations

from typing import Any, Literal

import torch

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card_of
from datawinnow.core.check import Missing
from datawinnow.core.draw import largest
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._wrapping import Selector, back, claim, given, named


def drop_tail(selector: Selector, *, fraction: float, by: str = "by", end: Literal["low", "high"] = "low") -> Selector:
    """``selector`` on what is left when the suspicious tail of a score is dropped.

    The examples of lowest AUM, for example, are likely mislabelled: CCS, D2 and BOSS drop them before they select.
    The tail goes by a score of its own, whatever the selector goes by.

    Args:
        selector: any selector, for example `top`.
        fraction: fraction of the examples that is dropped, in [0, 1]: ``floor(fraction * n)``, of ties the smaller
            id first.
        by: the name under which the score is given at the call, for example ``"aum"``.
        end: which end of it is suspicious: ``"low"`` for AUM, ``"high"`` for a loss.

    Returns:
        A selector called as ``drop_tail(top, by="aum", fraction=0.1)(score, aum=aum, budget=100)``; ``aum`` is (n,)
        float. The dropped have the reason ``suspect``. The selector sees the others alone, as if there were no more.
        With ``missing="skip"`` an example without that score counts neither way and is never chosen. It raises
        `CapacityError` for a budget above what the cut leaves.

    Raises:
        ArgumentError: an option out of range, or a name that the selector takes itself.

    >>> from datawinnow.select.top import top
    >>> careful = drop_tail(top, by="aum", fraction=0.25)
    >>> careful([4.0, 3.0, 2.0, 1.0], aum=[-9.0, 1.0, 2.0, 3.0], budget=2).index.tolist()
    [1, 2]
    """
    own = card_of(selector)
    check.number("fraction", fraction, 0, 1)
    check.one_of("end", end, ("low", "high"))
    if not isinstance(by, str) or not by.isidentifier():
        raise ArgumentError(
            f"by must be the name under which the score is given at the call, got {type(by).__name__}; write "
            'drop_tail(top, by="aum", fraction=0.1)(score, aum=aum, budget=100)'
        )
    claim(own, "drop_tail", by)

    def trimmed(*arrays: Any, budget: int, missing: Missing = "raise", **options: Any) -> Selection:
        if by not in options:
            raise ArgumentError(f"{trimmed.__name__} needs the score whose tail is dropped, (n,), as {by}=")
        values = check.array(by, options.pop(by), "n")
        n = values.numel()
        check_budget(budget, n)
        check.finite(by, values, missing)
        if "missing" in own.takes:
            options["missing"] = missing
        all_ = given(own, arrays, options, n, missing, ruler=by)
        there = torch.nonzero(~values.isnan()).flatten()
        cut = int(fraction * there.numel() + 1e-9)
        if budget > there.numel() - cut:
            raise CapacityError(
                f"{trimmed.__name__} can give at most {there.numel() - cut} of {n} examples, since fraction={fraction} "
                f"drops the {cut} of {'lowest' if end == 'low' else 'highest'} {by} first; got budget={budget}: lower "
                "the budget or the fraction",
                there.numel() - cut,
            )
        reason = torch.full((n,), int(Reason.UNSCORED), dtype=torch.int8)
        reason[there] = int(Reason.SUSPECT)
        stays = torch.ones(there.numel(), dtype=torch.bool)
        if cut:
            stays[largest(values[there] if end == "high" else -values[there], cut)] = False
        ids = there[stays]
        positional, keywords = all_.part(ids)
        return back(selector(*positional, budget=budget, **keywords), ids, reason)

    sentence = f"Without the {fraction:g} of {'lowest' if end == 'low' else 'highest'} {by}."
    wrapped: Selector = named(trimmed, own, "drop_tail", f"tail of {by} dropped", sentence, (by, "missing"))
    return wrapped
