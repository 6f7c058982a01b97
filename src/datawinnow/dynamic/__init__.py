"""Policies, which choose during training the examples of each epoch; one policy a file.

A new policy is a file in this folder, its import in `registry`, and a test. Wrappers change when and
with which weights a policy applies.
"""

from datawinnow.core.selection_history import SelectionHistory
from datawinnow.dynamic.auto import Advice, auto, recommend
from datawinnow.dynamic.budget import expected_fraction
from datawinnow.dynamic.build import build_policy
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.dynamic.policy import Policy, State, Stream
from datawinnow.dynamic.registry import *  # noqa: F403  every policy and batch selector
from datawinnow.dynamic.registry import BATCH_SELECTORS, METHODS, POLICIES
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.dynamic.wrap import annealed, every, rescaled, warm_up
from datawinnow.dynamic.wrap_guarded import guarded
from datawinnow.dynamic.wrap_recorded import recorded
from datawinnow.dynamic.wrap_shrinking import shrinking

__all__ = [
    "BATCH_SELECTORS",
    "METHODS",
    "POLICIES",
    "Advice",
    "InBatch",
    "Policy",
    "PolicySampler",
    "SelectionHistory",
    "State",
    "Stream",
    "annealed",
    "auto",
    "build_policy",
    "every",
    "expected_fraction",
    "guarded",
    "recommend",
    "recorded",
    "rescaled",
    "shrinking",
    "warm_up",
]
__all__ += [method.__name__ for method in METHODS.values()]
