"""Per-example signals of a training, computed from (logits, labels) and written into (epochs, n) columns."""

from datawinnow.core.callable_module import make_callable
from datawinnow.record.files import mark_unseen, read_column
from datawinnow.record.recorder import Recorder
from datawinnow.record.signals import kl_step, signals

__all__ = ["Recorder", "kl_step", "mark_unseen", "read_column", "signals"]

make_callable(__name__, "datawinnow.api.record:record")  # datawinnow.record(...), as the verb
