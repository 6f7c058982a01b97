"""`Reason`: why an example is kept or dropped."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Codes of `Selection.reason` (int8). Codes below 10 are kept, 10 and above are dropped."""

    KEPT = 0
    """Kept; the method gives no further reason."""
    RANKED = 1
    """Kept by its rank."""
    DRAWN = 2
    """Kept by a (weighted) random draw."""
    COVERS = 3
    """Kept because it represents its neighbourhood."""
    BELOW_CUT = 10
    """Dropped: its rank is past the budget."""
    NOT_DRAWN = 11
    """Dropped by a (weighted) random draw."""
    SUSPECT = 12
    """Dropped: in the suspicious tail that the method cuts off (likely mislabelled)."""
    DUPLICATE = 13
    """Dropped: a near-duplicate of an example that is kept."""
    COVERED = 14
    """Dropped: kept examples represent it."""
    UNSCORED = 15
    """Dropped: never seen while recording, so there is no score."""
    ZERO_WEIGHT = 16
    """Dropped by a weighted draw that gave it no weight."""
    BROKEN = 17
    """Dropped: it is blank, empty or cannot be read."""

    @property
    def kept(self) -> bool:
        """Whether the example is kept."""
        return self < 10

    @property
    def word(self) -> str:
        """The word used in files and tables, for example ``below_cut``."""
        return self.name.lower()


REASON_SENTENCES: dict[Reason, str] = {
    Reason.KEPT: "kept",
    Reason.RANKED: "kept: ranked inside the budget",
    Reason.DRAWN: "kept: drawn",
    Reason.COVERS: "kept: represents its neighbourhood",
    Reason.BELOW_CUT: "dropped: ranked past the budget",
    Reason.NOT_DRAWN: "dropped: not drawn",
    Reason.SUSPECT: "dropped: in the suspicious tail (likely mislabelled)",
    Reason.DUPLICATE: "dropped: near-duplicate of a kept example",
    Reason.COVERED: "dropped: represented by kept examples",
    Reason.UNSCORED: "dropped: never seen while recording",
    Reason.ZERO_WEIGHT: "dropped: no weight in the draw",
    Reason.BROKEN: "dropped: blank, empty or unreadable",
}


def reason_sentence(word: str) -> str:
    """What a word of a file says; an unknown word itself.

    >>> reason_sentence("below_cut")
    'dropped: ranked past the budget'
    """
    return next((REASON_SENTENCES[reason] for reason in Reason if reason.word == word), word)
