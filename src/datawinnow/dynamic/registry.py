"""Every policy and batch selector by the key of its card; a new one is one import here.

A file is named as the key of its card. ``import UCB as UCB`` exports the name, also from `datawinnow.dynamic`.
"""

from datawinnow.core.card import collect
from datawinnow.dynamic.divbs import divbs as divbs
from datawinnow.dynamic.easy_to_hard import EasyToHard as EasyToHard
from datawinnow.dynamic.epsilon_greedy import EpsilonGreedy as EpsilonGreedy
from datawinnow.dynamic.example_swap import ExampleSwap as ExampleSwap
from datawinnow.dynamic.hide_easy import HideEasy as HideEasy
from datawinnow.dynamic.info_batch import InfoBatch as InfoBatch
from datawinnow.dynamic.loss_mass import LossMass as LossMass
from datawinnow.dynamic.loss_power import LossPower as LossPower
from datawinnow.dynamic.middle_loss import MiddleLoss as MiddleLoss
from datawinnow.dynamic.order_dp import OrderDP as OrderDP
from datawinnow.dynamic.random_pruning import RandomPruning as RandomPruning
from datawinnow.dynamic.repeated_subset import RepeatedSubset as RepeatedSubset
from datawinnow.dynamic.replay import Replay as Replay
from datawinnow.dynamic.rho_loss import rho_loss as rho_loss
from datawinnow.dynamic.selective_backprop import selective_backprop as selective_backprop
from datawinnow.dynamic.seta import SeTa as SeTa
from datawinnow.dynamic.static_subset import StaticSubset as StaticSubset
from datawinnow.dynamic.stop_mastered import StopMastered as StopMastered
from datawinnow.dynamic.ucb import UCB as UCB

METHODS = collect(globals())
POLICIES = {key: method for key, method in METHODS.items() if method.card.kind == "policy"}  # type: ignore[attr-defined]
BATCH_SELECTORS = {key: method for key, method in METHODS.items() if key not in POLICIES}
