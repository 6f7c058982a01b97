"""Policies, which choose during training the examples of each epoch; one policy a file.

A new policy is a file in this folder, its import in `registry` and below, and a test. Wrappers change when and
with which weights a policy applies.
"""

from datawinnow.core.selection_history import SelectionHistory
from datawinnow.dynamic.auto import Advice, auto, recommend
from datawinnow.dynamic.budget import expected_fraction
from datawinnow.dynamic.build import build_policy
from datawinnow.dynamic.divbs import divbs
from datawinnow.dynamic.epsilon_greedy import EpsilonGreedy
from datawinnow.dynamic.example_swap import ExampleSwap
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.dynamic.info_batch import InfoBatch
from datawinnow.dynamic.loss_power import LossPower
from datawinnow.dynamic.order_dp import OrderDP
from datawinnow.dynamic.policy import Policy, State, Stream
from datawinnow.dynamic.random_pruning import RandomPruning
from datawinnow.dynamic.registry import BATCH_SELECTORS, METHODS, POLICIES
from datawinnow.dynamic.repeated_subset import RepeatedSubset
from datawinnow.dynamic.replay import Replay
from datawinnow.dynamic.rho_loss import rho_loss
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.dynamic.selective_backprop import selective_backprop
from datawinnow.dynamic.seta import SeTa
from datawinnow.dynamic.static_subset import StaticSubset
from datawinnow.dynamic.ucb import UCB
from datawinnow.dynamic.wrap import annealed, every, rescaled, warm_up
from datawinnow.dynamic.wrap_guarded import guarded
from datawinnow.dynamic.wrap_recorded import recorded
from datawinnow.dynamic.wrap_shrinking import shrinking

__all__ = [
    "BATCH_SELECTORS",
    "METHODS",
    "POLICIES",
    "UCB",
    "Advice",
    "EpsilonGreedy",
    "ExampleSwap",
    "InBatch",
    "InfoBatch",
    "LossPower",
    "OrderDP",
    "Policy",
    "PolicySampler",
    "RandomPruning",
    "RepeatedSubset",
    "Replay",
    "SeTa",
    "SelectionHistory",
    "State",
    "StaticSubset",
    "Stream",
    "annealed",
    "auto",
    "build_policy",
    "divbs",
    "every",
    "expected_fraction",
    "guarded",
    "recommend",
    "recorded",
    "rescaled",
    "rho_loss",
    "selective_backprop",
    "shrinking",
    "warm_up",
]
