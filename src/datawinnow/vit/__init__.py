"""Sparse vision transformers: the token and attention levels of "Peeling the Onion" (the example level is a policy).

>>> sorted(FORMS)
['auto', 'dense', 'flex', 'fused', 'gathered', 'paying']
"""

from __future__ import annotations

from datawinnow.vit.costs import LevelCost, kept_patches, level_costs, sparsity_of
from datawinnow.vit.levels import SparseLevels
from datawinnow.vit.masked_attention import FORMS, Keys
from datawinnow.vit.random_patches import RandomPatches, random_patches
from datawinnow.vit.schedule import KeepSchedule, counts_of
from datawinnow.vit.sparsify import Rates, Sparsity, dense, sparsify

__all__ = [
    "FORMS",
    "KeepSchedule",
    "Keys",
    "LevelCost",
    "RandomPatches",
    "Rates",
    "SparseLevels",
    "Sparsity",
    "counts_of",
    "dense",
    "kept_patches",
    "level_costs",
    "random_patches",
    "sparsify",
    "sparsity_of",
]
