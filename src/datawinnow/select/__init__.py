"""One selector a file: ``f(array, ..., *, budget, generator, option=...) -> Selection``; `per_class` wraps any of them.

A new selector is a file here, a line below and a test.
"""

from datawinnow.core.card import collect
from datawinnow.select.beta import beta, beta_log_weight, beta_parameters
from datawinnow.select.coverage import coverage
from datawinnow.select.random import random
from datawinnow.select.top import top
from datawinnow.select.wrap import per_class

METHODS = collect(globals())

__all__ = ["METHODS", "beta", "beta_log_weight", "beta_parameters", "coverage", "per_class", "random", "top"]
