"""Selectors: ``f(array, ..., *, budget, generator, option=...) -> Selection``, one per file; `per_class` wraps any.

A new selector takes its file, its import below and its test.
"""

from datawinnow.core.callable_module import make_callable
from datawinnow.core.card import collect
from datawinnow.select.beta import beta, beta_log_weight, beta_parameters, beta_weights, fitted_c_d
from datawinnow.select.boss import boss
from datawinnow.select.bottom import bottom
from datawinnow.select.cal import cal, cal_contrast
from datawinnow.select.contextual_diversity import contextual_diversity
from datawinnow.select.coverage import coverage
from datawinnow.select.craig import craig
from datawinnow.select.d2 import d2
from datawinnow.select.facility_location import facility_location
from datawinnow.select.glister import glister
from datawinnow.select.grad_match import grad_match
from datawinnow.select.graph_cut import graph_cut
from datawinnow.select.herding import herding
from datawinnow.select.k_center import k_center
from datawinnow.select.log_det import log_det
from datawinnow.select.middle import middle
from datawinnow.select.random import random
from datawinnow.select.top import top
from datawinnow.select.wrap import per_class
from datawinnow.select.wrap_blend import blend, combine
from datawinnow.select.wrap_cost import capped_by_cost
from datawinnow.select.wrap_drop_tail import drop_tail
from datawinnow.select.wrap_duplicates import deduplicated

METHODS = collect(globals())

__all__ = [
    "METHODS",
    "beta",
    "beta_log_weight",
    "beta_parameters",
    "beta_weights",
    "blend",
    "boss",
    "bottom",
    "cal",
    "cal_contrast",
    "capped_by_cost",
    "combine",
    "contextual_diversity",
    "coverage",
    "craig",
    "d2",
    "deduplicated",
    "drop_tail",
    "facility_location",
    "fitted_c_d",
    "glister",
    "grad_match",
    "graph_cut",
    "herding",
    "k_center",
    "log_det",
    "middle",
    "per_class",
    "random",
    "top",
]

make_callable(__name__, "datawinnow.api.select:select")  # datawinnow.select(...), as the verb
