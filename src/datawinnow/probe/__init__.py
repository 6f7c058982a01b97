"""Arrays of every example from a trained model: features, probabilities, gradient norms, boundary distances.

>>> import torch, datawinnow as dw
>>> from datawinnow.probe import probe
>>> train, test = dw.load("digits")
>>> with torch.random.fork_rng(devices=[]):
...     model = dw.models.mlp(classes=10, channels=1, size=8)
>>> sorted(probe(model, test, arrays=("features", "grad_norm")))
['features', 'grad_norm', 'labels']
"""

from datawinnow.core.curvature import input_curvature
from datawinnow.probe.arrays import (
    ARRAYS,
    EMBEDDING,
    FORWARD_ARRAYS,
    HELD_OUT_ARRAYS,
    INPUT_ARRAYS,
    array_options,
    is_probed,
)
from datawinnow.probe.deepfool import Walk, deepfool
from datawinnow.probe.gradients import gradient_norms, last_layer_gradient
from datawinnow.probe.manifest import Probed, read_probed
from datawinnow.probe.probe import held_out, probe

__all__ = [
    "ARRAYS",
    "EMBEDDING",
    "FORWARD_ARRAYS",
    "HELD_OUT_ARRAYS",
    "INPUT_ARRAYS",
    "Probed",
    "Walk",
    "array_options",
    "deepfool",
    "gradient_norms",
    "held_out",
    "input_curvature",
    "is_probed",
    "last_layer_gradient",
    "probe",
    "read_probed",
]
