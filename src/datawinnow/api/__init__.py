"""What the command line does, as Python functions with the same parameters."""

from datawinnow.api.bench import BenchResult, GridResult, bench
from datawinnow.api.condense import Condensed, condense
from datawinnow.api.race import RaceResult, race

__all__ = ["BenchResult", "Condensed", "GridResult", "RaceResult", "bench", "condense", "race"]
