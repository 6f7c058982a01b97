"""Scenarios of flawed data: ``f(x, labels, *, rate, generator) -> (x, labels, changed)``."""

from datawinnow.core.card import collect
from datawinnow.scenarios.corruption import corruption, fog, gaussian_noise, low_resolution, motion_blur, occlusion
from datawinnow.scenarios.duplicates import duplicates
from datawinnow.scenarios.label_noise import instance_dependent, pair, symmetric
from datawinnow.scenarios.long_tail import long_tail

METHODS = collect(globals())

__all__ = [
    "METHODS",
    "corruption",
    "duplicates",
    "fog",
    "gaussian_noise",
    "instance_dependent",
    "long_tail",
    "low_resolution",
    "motion_blur",
    "occlusion",
    "pair",
    "symmetric",
]
