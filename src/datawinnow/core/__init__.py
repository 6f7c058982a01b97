"""The vocabulary that every other part shares; it imports nothing of datawinnow but itself.

Modules are imported by name (``from datawinnow.core.selection import Selection``), so that a part which must not
import torch (the report) can use ``core.files`` and ``core.errors`` alone.
"""
