"""Names of the arrays that a pass over a trained model makes, and their options."""

from __future__ import annotations

from datawinnow.probe.makers import MAKERS, options_of

FORWARD_ARRAYS = ("features", "probs")
"""Made in one forward pass."""
ARRAYS = (*FORWARD_ARRAYS, *MAKERS)
"""Everything that a probe makes; the labels come with it."""
INPUT_ARRAYS = tuple(name for name, maker in MAKERS.items() if maker.moves_input)
"""Made by moving or differentiating an example's input, which tokens do not allow."""
HELD_OUT_ARRAYS = ("val_features", "val_probs", "val_labels")
"""Arrays of held-out data."""
EMBEDDING = "embedding"
"""Option by which ``features`` are by a pretrained model or a function of the user's (`probe.embeddings`)."""


def array_options(*names: str) -> tuple[str, ...]:
    """Options of the pass that makes these arrays.

    >>> array_options("features", "boundary_distance")
    ('embedding', 'max_iter', 'overshoot', 'candidates')
    """
    options: list[str] = []
    for name in names:
        options += (EMBEDDING,) if name in ("features", "val_features") else options_of(name)
    return tuple(options)


def is_probed(name: str) -> bool:
    """Whether a pass over the recorded network makes the array."""
    return name in ARRAYS or name in HELD_OUT_ARRAYS
