"""Per-example signals of a training, computed from (logits, labels) and written into (epochs, n) columns."""

from datawinnow.record.files import mark_unseen, read_column
from datawinnow.record.recorder import Recorder
from datawinnow.record.signals import kl_step, signals

__all__ = ["Recorder", "kl_step", "mark_unseen", "read_column", "signals"]
