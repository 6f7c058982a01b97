"""The network of a run; `datawinnow.train.build` makes it."""

from __future__ import annotations

from datawinnow.train.build import Model as Model
from datawinnow.train.build import build_network as build_network
from datawinnow.train.build import check_outputs_for as check_outputs_for
