"""What the command line does, as Python functions with the same parameters."""

from datawinnow.api.condense import Condensed, condense

__all__ = ["Condensed", "condense"]
