"""One score a file: pure functions on recorded arrays, ``f(array, ..., *, option=...) -> (n,)``.

A new score is a file here, a line below and a test.
"""

from datawinnow.core.card import collect
from datawinnow.scores.aum import aum
from datawinnow.scores.dual import dual
from datawinnow.scores.dyn_unc import dyn_unc
from datawinnow.scores.el2n import el2n
from datawinnow.scores.entropy import entropy
from datawinnow.scores.forgetting import forgetting

METHODS = collect(globals())

__all__ = ["METHODS", "aum", "dual", "dyn_unc", "el2n", "entropy", "forgetting"]
