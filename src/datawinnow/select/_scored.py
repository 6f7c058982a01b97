"""What selectors share: who can be chosen at all, and the answer about everybody else."""

from __future__ import annotations

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.errors import CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection


def scored(budget: int, missing: check.Missing, **arrays: Tensor) -> Tensor | None:
    """Ids of the examples that have a number in every (n,) array, or None when all have.

    Args:
        budget: how many are to be chosen.
        missing: ``"skip"`` leaves NaN out, ``"raise"`` refuses it.
        arrays: (n,) arrays by name.

    Raises:
        ArgumentError: NaN (unless ``"skip"``) or infinity, or a budget that no n examples can fill.
        CapacityError: more asked for than have a number.
    """
    n = check.same_n(**arrays)
    check_budget(budget, n)
    for name, values in arrays.items():
        check.finite(name, values, missing)
    if missing == "raise" or not any(bool(values.sum(dtype=torch.float64).isnan()) for values in arrays.values()):
        return None
    there = torch.ones(n, dtype=torch.bool)
    for values in arrays.values():
        there &= ~values.isnan()
    ids = torch.nonzero(there).flatten()
    if budget > ids.numel():
        raise CapacityError(
            f"budget={budget}, but only {ids.numel()} of {n} examples have a number in {' and '.join(arrays)} (the "
            f"others were never seen); lower the budget to at most {ids.numel()} or record until all are seen",
            ids.numel(),
        )
    return ids


def answer(
    chosen: Tensor, n: int, ids: Tensor | None, *, kept: Reason, dropped: Reason, special: Tensor | None = None
) -> Selection:
    """The selection of ``chosen``, with the examples outside ``ids`` marked as unscored.

    Args:
        chosen: (m,) int64 positions among ``ids`` in the order chosen.
        n: number of examples.
        ids: the examples that could be chosen, as `scored` gave them; None for all.
        kept: reason of the chosen.
        dropped: reason of the others.
        special: (n,) int8 reasons that stand for the dropped where they are not 0; None for nothing.
    """
    reason = torch.full((n,), int(dropped), dtype=torch.int8)
    if special is not None:
        reason = torch.where(special != 0, special, reason)
    if ids is not None:
        chosen = ids[chosen]
        outside = torch.ones(n, dtype=torch.bool)
        outside[ids] = False
        reason[outside] = int(Reason.UNSCORED)
    reason[chosen] = int(kept)
    return Selection(chosen, torch.ones(chosen.numel(), dtype=torch.float32), reason)
