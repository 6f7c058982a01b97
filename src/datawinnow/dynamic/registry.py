"""Every policy and batch selector by the key of its card; a new one is an import here."""
# ruff: noqa: F401  what is imported is collected

from datawinnow.core.card import collect
from datawinnow.dynamic.divbs import divbs
from datawinnow.dynamic.epsilon_greedy import EpsilonGreedy
from datawinnow.dynamic.example_swap import ExampleSwap
from datawinnow.dynamic.info_batch import InfoBatch
from datawinnow.dynamic.loss_power import LossPower
from datawinnow.dynamic.order_dp import OrderDP
from datawinnow.dynamic.random_pruning import RandomPruning
from datawinnow.dynamic.repeated_subset import RepeatedSubset
from datawinnow.dynamic.replay import Replay
from datawinnow.dynamic.rho_loss import rho_loss
from datawinnow.dynamic.selective_backprop import selective_backprop
from datawinnow.dynamic.seta import SeTa
from datawinnow.dynamic.static_subset import StaticSubset
from datawinnow.dynamic.ucb import UCB

METHODS = collect(globals())
POLICIES = {key: method for key, method in METHODS.items() if method.card.kind == "policy"}  # type: ignore[attr-defined]
BATCH_SELECTORS = {key: method for key, method in METHODS.items() if key not in POLICIES}

__all__ = ["BATCH_SELECTORS", "METHODS", "POLICIES"]
