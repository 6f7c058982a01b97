"""`fit`: one flat training loop; `evaluate`; `Recipe`: how to train; `History`: what happened."""

from datawinnow.train.evaluate import evaluate
from datawinnow.train.fit import fit
from datawinnow.train.history import History
from datawinnow.train.recipe import Recipe

__all__ = ["History", "Recipe", "evaluate", "fit"]
