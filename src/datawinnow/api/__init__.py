"""What the command line does, as Python functions with the same parameters.

Each takes a dataset object or, as the command does, DATA: ``"digits"``, a path or ``"hf:owner/name"``, with
`LoadOptions`.
"""

from datawinnow.api.audit import audit
from datawinnow.api.bench import BenchResult, GridResult, bench
from datawinnow.api.condense import Condensed, condense
from datawinnow.api.demo import DemoResult, demo
from datawinnow.api.estimate import estimate
from datawinnow.api.instruct import instruct
from datawinnow.api.methods import MethodEntry, methods
from datawinnow.api.plan import PlanResult, plan
from datawinnow.api.prune import prune
from datawinnow.api.race import RaceResult, race
from datawinnow.api.record import record
from datawinnow.api.report import report
from datawinnow.api.score import score
from datawinnow.api.select import select
from datawinnow.api.train import train
from datawinnow.core.load_options import LoadOptions

__all__ = [
    "BenchResult",
    "Condensed",
    "DemoResult",
    "GridResult",
    "LoadOptions",
    "MethodEntry",
    "PlanResult",
    "RaceResult",
    "audit",
    "bench",
    "condense",
    "demo",
    "estimate",
    "instruct",
    "methods",
    "plan",
    "prune",
    "race",
    "record",
    "report",
    "score",
    "select",
    "train",
]
