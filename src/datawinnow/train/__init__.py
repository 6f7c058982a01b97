"""`fit`: one flat loop; `evaluate`; schedules."""

from datawinnow.train.evaluate import evaluate
from datawinnow.train.fit import History, Progress, Recipe, fit

__all__ = ["History", "Progress", "Recipe", "evaluate", "fit"]
