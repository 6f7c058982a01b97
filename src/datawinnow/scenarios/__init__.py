"""What may be wrong with data: ``f(x, labels, *, rate, generator) -> (x, labels, changed)``."""

from datawinnow.core.card import collect
from datawinnow.scenarios.label_noise import symmetric

METHODS = collect(globals())

__all__ = ["METHODS", "symmetric"]
