"""Which examples can be selected, and the `Selection` with the reasons of all examples."""

from __future__ import annotations

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.errors import CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection


def selectable_ids(budget: int, missing: check.Missing, **arrays: Tensor) -> Tensor | None:
    """Ids of the examples without NaN in all (n,) arrays; None if no example has any.

    Args:
        budget: number of examples to select.
        missing: ``"skip"`` leaves examples with NaN out, ``"raise"`` is an error.
        arrays: (n,) arrays by name.

    Raises:
        ArgumentError: NaN (unless ``"skip"``) or infinity, or a budget outside 1 to n.
        CapacityError: fewer examples without NaN than ``budget``.
    """
    n = check.same_n(**arrays)
    check_budget(budget, n)
    for name, values in arrays.items():
        check.finite(name, values, missing)
    if missing == "raise" or not any(bool(values.sum(dtype=torch.float64).isnan()) for values in arrays.values()):
        return None
    present = torch.ones(n, dtype=torch.bool)
    for values in arrays.values():
        present &= ~values.isnan()
    ids = torch.nonzero(present).flatten()
    if budget > ids.numel():
        raise CapacityError(
            f"budget={budget}, but only {ids.numel()} of {n} examples have a number in {' and '.join(arrays)} (the "
            f"others were never seen); lower the budget to at most {ids.numel()} or record until all are seen",
            ids.numel(),
        )
    return ids


def scale_to_mean_one(weight: Tensor) -> Tensor:
    """(m,) float64 weights of at least 0 divided by their mean; ones if all are 0, which ranks none above another."""
    mean = float(weight.double().mean())
    return weight.double() / mean if mean > 0 else torch.ones(weight.numel(), dtype=torch.float64)


def build_selection(
    chosen: Tensor, n: int, ids: Tensor | None, *, kept: Reason, dropped: Reason, special: Tensor | None = None
) -> Selection:
    """The selection of ``chosen``, with the examples outside ``ids`` marked as unscored.

    Args:
        chosen: (m,) int64 positions among ``ids`` in the order chosen.
        n: number of examples.
        ids: the examples that could be chosen, from `selectable_ids`; None for all.
        kept: reason of the chosen.
        dropped: reason of the others.
        special: (n,) int8 reasons that replace ``dropped`` where they are not 0; None for none.
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
