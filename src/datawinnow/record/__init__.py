"""(logits, labels) -> per-example signals, written at ``index`` into (epochs, n) columns."""

from datawinnow.record.columns import column
from datawinnow.record.recorder import Recorder
from datawinnow.record.signals import kl_step, signals

__all__ = ["Recorder", "column", "kl_step", "signals"]
