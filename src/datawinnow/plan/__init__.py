"""How few are enough: pilot trainings, scaling curves, and advice with a promise."""

from datawinnow.core.callable_module import make_callable
from datawinnow.plan.advice import PlanAdvice, Route, advise
from datawinnow.plan.curve import ScalingCurves, fit_curves

__all__ = ["PlanAdvice", "Route", "ScalingCurves", "advise", "fit_curves"]

make_callable(__name__, "datawinnow.api.plan:plan")
