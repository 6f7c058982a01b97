"""Condensation: learn a few synthetic images of every class that replace the real ones in training.

``datawinnow.condense(data, ...)`` is `datawinnow.api.condense`: the whole of ``datawinnow condense``, in a run folder.
"""

from datawinnow.condense.augment import SIAMESE, Augmentation
from datawinnow.condense.cafe import cafe
from datawinnow.condense.dc import dc
from datawinnow.condense.dm import dm
from datawinnow.condense.dsa import dsa
from datawinnow.condense.evaluation import Evaluation, evaluate, pooled
from datawinnow.condense.idm import idm
from datawinnow.condense.loop import DivergedError
from datawinnow.condense.real_sets import REAL, real_set
from datawinnow.condense.run_folder import Judging
from datawinnow.core.callable_module import make_callable
from datawinnow.core.card import collect
from datawinnow.core.synthetic import Synthetic

METHODS = collect(globals())

__all__ = [
    "METHODS",
    "REAL",
    "SIAMESE",
    "Augmentation",
    "DivergedError",
    "Evaluation",
    "Judging",
    "Synthetic",
    "cafe",
    "dc",
    "dm",
    "dsa",
    "evaluate",
    "idm",
    "pooled",
    "real_set",
]

make_callable(__name__, "datawinnow.api.condense:condense")
