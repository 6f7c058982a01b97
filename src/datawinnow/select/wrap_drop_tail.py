"""`drop_tail`: drops the suspicious tail of a score before selecting."""

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
from datawinnow.select._wrapping import Selector, among_all, bind_arguments, reserve_names, with_card


def drop_tail(selector: Selector, *, fraction: float, by: str = "by", end: Literal["low", "high"] = "low") -> Selector:
    """``selector`` applied after the suspicious tail of a score is dropped.

    The examples of lowest AUM, for example, are likely mislabelled: CCS, D2 and BOSS drop them before they select.
    The tail is that of a separate score, whatever the selector uses.

    Args:
        selector: any selector, for example `top`.
        fraction: fraction of the examples that is dropped, in [0, 1]: ``floor(fraction * n)``, ties are
            drawn.
        by: name of the keyword that passes the score at the call, for example ``"aum"``.
        end: which end of it is suspicious: ``"low"`` for AUM, ``"high"`` for a loss.

    Returns:
        A selector called as ``drop_tail(top, by="aum", fraction=0.1)(score, aum=aum, budget=100)``; ``aum`` is (n,)
        float. The dropped have the reason ``suspect``. The selector sees only the others.
        With ``missing="skip"`` an example without that score counts neither way and is never chosen. It raises
        `CapacityError` for a budget above what the cut leaves.

    Raises:
        ArgumentError: an option out of range, or a name that the selector takes itself.

    >>> from datawinnow.select.top import top
    >>> careful = drop_tail(top, by="aum", fraction=0.25)
    >>> careful([4.0, 3.0, 2.0, 1.0], aum=[-9.0, 1.0, 2.0, 3.0], budget=2).index.tolist()
    [1, 2]
    """
    card = card_of(selector)
    check.number("fraction", fraction, 0, 1)
    check.one_of("end", end, ("low", "high"))
    if not isinstance(by, str) or not by.isidentifier():
        raise ArgumentError(
            f"by must be the name of the keyword that passes the score at the call, got {type(by).__name__}; write "
            'drop_tail(top, by="aum", fraction=0.1)(score, aum=aum, budget=100)'
        )
    reserve_names(card, "drop_tail", by)

    def trimmed(*arrays: Any, budget: int, tie_seed: int = 0, missing: Missing = "raise", **options: Any) -> Selection:
        check.seed("tie_seed", tie_seed)
        if by not in options:
            raise ArgumentError(f"{trimmed.__name__} needs the score whose tail is dropped, (n,), as {by}=")
        values = check.array(by, options.pop(by), "n")
        n = values.numel()
        check_budget(budget, n)
        check.finite(by, values, missing)
        if "missing" in card.takes:
            options["missing"] = missing
        if "tie_seed" in card.takes:
            options["tie_seed"] = tie_seed
        all_ = bind_arguments(card, arrays, options, n, missing, ruler=by)
        # The fraction is of the examples with a score: one without it is neither dropped as suspect nor kept.
        scored_ids = torch.nonzero(~values.isnan()).flatten()
        # 0.29 * 100 is 28.999... in binary: the 1e-9 keeps floor() from losing one.
        cut = int(fraction * scored_ids.numel() + 1e-9)
        if budget > scored_ids.numel() - cut:
            raise CapacityError(
                f"{trimmed.__name__} can give at most {scored_ids.numel() - cut} of {n} examples, since "
                f"fraction={fraction} drops the {cut} of {'lowest' if end == 'low' else 'highest'} {by} first; got "
                f"budget={budget}: lower the budget or the fraction",
                scored_ids.numel() - cut,
            )
        reason = torch.full((n,), int(Reason.UNSCORED), dtype=torch.int8)
        reason[scored_ids] = int(Reason.SUSPECT)
        stays = torch.ones(scored_ids.numel(), dtype=torch.bool)
        if cut:
            stays[largest(values[scored_ids] if end == "high" else -values[scored_ids], cut, tie_seed)] = False
        ids = scored_ids[stays]
        positional, keywords = all_.at(ids)
        return among_all(selector(*positional, budget=budget, **keywords), ids, reason)

    sentence = f"Without the {fraction:g} of {'lowest' if end == 'low' else 'highest'} {by}."
    wrapped: Selector = with_card(
        trimmed, card, "drop_tail", f"tail of {by} dropped", sentence, (by, "missing", "tie_seed")
    )
    return wrapped
