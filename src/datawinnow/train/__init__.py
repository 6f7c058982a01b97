"""`fit`: one flat training loop; `evaluate`; `Recipe`: how to train; `SizeSchedule`; `History`: what happened."""

from datawinnow.core.callable_module import make_callable
from datawinnow.train.evaluate import evaluate
from datawinnow.train.fit import fit
from datawinnow.train.history import History
from datawinnow.train.recipe import Recipe
from datawinnow.train.size_schedule import SizeSchedule

__all__ = ["History", "Recipe", "SizeSchedule", "evaluate", "fit"]

make_callable(__name__, "datawinnow.api.train:train")  # datawinnow.train(...), as the verb
