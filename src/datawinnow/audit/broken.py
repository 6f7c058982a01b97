"""Broken examples: blank images, odd sizes, texts that are empty, garbled or of another script, and NaN."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from datawinnow.audit.outliers import MIN_SEVERITY, tail_severity
from datawinnow.core import check
from datawinnow.core.issues import Issue

BLANK_SPREAD = 2.0
"""Standard deviation of the pixels, of 255, below which an image is blank."""
ODD_RATIO = 2.0
"""How many times taller, wider, larger or smaller than usual the side of an image must be to be odd."""
LONG_RATIO = 4.0
"""How many times longer than usual a text must be to be too long."""
MAIN_SCRIPT_SHARE = 0.9
"""Least share of the letters of all texts in one script, for another to be remarkable."""
MIN_LETTERS = 4
"""Letters from which the script of a text is judged."""
REPEATED_FROM = 60
"""Bytes from which a text that repeats itself is remarkable: refrains are short."""
REPEATED_SIZE = 0.25
"""Share of a text's size, compressed, below which it repeats itself."""
GARBLED = re.compile(
    "[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2122\u20ac]{2,}"
)
"""Runs of the letters that bytes of UTF-8 become if they are read as Windows-1252."""
LONG_RUN = 6
"""Letters of such a run from which chance is ruled out."""
WINDOWS_1252_GAPS = (0x81, 0x8D, 0x8F, 0x90, 0x9D)
ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "FULLWIDTH": "LATIN"}
"""Scripts that are written together with another."""


class Fault(NamedTuple):
    """One thing that is wrong with one example.

    Attributes:
        example: its position.
        severity: in [0, 1].
        words: what is wrong.
        action: what is suggested.
    """

    example: int
    severity: float
    words: str
    action: str = "look"


def blank_images(images: Any, first: int = 0) -> list[Fault]:
    """Images of one colour, or nearly.

    Args:
        images: (n, channels, height, width) uint8.
        first: position of the first image, if these are a block of more.
    """
    pixels = check.as_tensor("images", images)
    faults = []
    for start in range(0, len(pixels), 1024):
        block = pixels[start : start + 1024].flatten(2).float()
        spread, mean = block.std(2, correction=0).amax(1), block.mean(2)
        for i in torch.nonzero(spread < BLANK_SPREAD).flatten().tolist():
            colour = ", ".join(f"{value:.0f}" for value in mean[i].tolist())
            words = "all pixels are" if float(spread[i]) == 0 else "nearly all pixels are"
            faults.append(
                Fault(
                    first + start + i,
                    1 - 0.5 * float(spread[i]) / BLANK_SPREAD,
                    f"blank: {words} of one colour ({colour})",
                    "drop",
                )
            )
    return faults


def odd_sizes(sizes: Sequence[tuple[int, int]]) -> list[Fault]:
    """Images of a size or aspect ratio far from that of the others.

    Args:
        sizes: (height, width) of each image in its source, in pixels.
    """
    if len(sizes) < 3:
        return []
    sides = np.asarray(sizes, dtype=np.float64)
    scale, aspect = np.sqrt(sides.prod(1)), sides[:, 1] / sides[:, 0]
    faults = []
    for values, words in ((aspect, ("wide", "tall")), (scale, ("large", "small"))):
        ratios = values / np.median(values)
        for side, word in ((ratios, words[0]), (1 / ratios, words[1])):
            # tail_severity takes what is above 1 of values around 1
            severity = tail_severity(side)
            for i in np.flatnonzero((side >= ODD_RATIO) & (severity >= MIN_SEVERITY)).tolist():
                height, width = sizes[i]
                sentence = f"odd size: {width}x{height} pixels, {side[i]:.1f} times as {word} as usual"
                faults.append(Fault(i, float(severity[i]), sentence))
    return faults


def unreadable(errors: Mapping[int, str]) -> list[Fault]:
    """Examples that could not be read; ``errors`` has their positions and what was said."""
    return [Fault(i, 1.0, f"cannot be read: {message}", "drop") for i, message in sorted(errors.items())]


def missing_numbers(x: Any) -> list[Fault]:
    """Vectors with NaN or infinity.

    Args:
        x: (n, ...) float.
    """
    rows = check.as_tensor("x", x)
    if not rows.is_floating_point():
        return []
    bad = ~rows.flatten(1).isfinite()
    counts = bad.sum(1)
    return [
        Fault(
            i,
            1.0,
            f"{int(counts[i])} of {bad.shape[1]} numbers are NaN or infinite, the first in column "
            f"{int(bad[i].int().argmax())}",
            "drop",
        )
        for i in torch.nonzero(counts).flatten().tolist()
    ]


def broken_texts(texts: Sequence[str]) -> list[Fault]:
    """Texts that are empty, too long, garbled by a wrong encoding, of another script than most, or repeat themselves.

    Args:
        texts: (n,) texts.
    """
    faults: list[Fault] = []
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    usual = float(np.median(lengths[lengths > 0])) if (lengths > 0).any() else 0.0
    # tail_severity leaves out empty texts
    too_long = tail_severity(lengths)
    for i, text in enumerate(texts):
        if not text.strip():
            faults.append(Fault(i, 1.0, "the text is empty", "drop"))
            continue
        if lengths[i] >= LONG_RATIO * usual and too_long[i] >= MIN_SEVERITY:
            words = f"long: {len(text):,} letters, {lengths[i] / usual:.1f} times the usual length"
            faults.append(Fault(i, float(too_long[i]), words))
        garbled = _garbled(text)
        if garbled:
            faults.append(Fault(i, min(1.0, 0.6 + 4 * garbled[0] / len(text)), garbled[1]))
        repeated = _repeated(text)
        if repeated:
            faults.append(Fault(i, repeated[0], repeated[1]))
    return faults + other_scripts(texts)


def _garbled(text: str) -> tuple[int, str] | None:
    """How many letters a wrong encoding has spoilt, and what they show."""
    lost = sum(letter == "\ufffd" or "\ud800" <= letter <= "\udfff" for letter in text) if not text.isascii() else 0
    if lost:
        return lost, f"wrong encoding: {lost} letters are replaced or no letters at all"
    wrong, sample = 0, ""
    for run in () if text.isascii() else GARBLED.findall(text):
        try:
            mended = _as_windows_1252(run).decode("utf-8")
        except (UnicodeDecodeError, UnicodeEncodeError):
            continue
        # two letters such as "É“" can be what they seem; what they would be else is usually Latin or punctuation
        is_usual = all("\u00a0" <= letter <= "\u017f" or "\u2010" <= letter <= "\u2122" for letter in mended)
        if len(run) >= LONG_RUN or is_usual:
            wrong += len(run)
            sample = sample or f"{run} for {mended}"
    return (wrong, f"wrong encoding: UTF-8 read as Windows-1252 ({sample[:40]})") if wrong else None


def _as_windows_1252(run: str) -> bytes:
    """The bytes that were read as these letters; the five that Windows-1252 lacks stand for themselves."""
    return b"".join(
        bytes([ord(letter)]) if ord(letter) in WINDOWS_1252_GAPS else letter.encode("cp1252") for letter in run
    )


def _repeated(text: str) -> tuple[float, str] | None:
    """How much a text repeats itself, and what."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) < REPEATED_FROM:
        return None
    # compressed as one of its own kind: the first 2,000 bytes, since long texts compress better
    encoded = encoded[:2000]
    share = max(0, len(zlib.compress(encoded, 6)) - 11) / len(encoded)
    if share >= REPEATED_SIZE:
        return None
    words = text.split()
    word, count = Counter(words).most_common(1)[0] if words else ("", 0)
    repetition = f"{word[:20]!r} {count} times" if count > 3 else f"compressed it takes {100 * share:.0f}% of its size"
    return 1 - share, f"repeats itself: {repetition}"


@cache
def script_of(letter: str) -> str:
    """The script of a letter, as in its Unicode name: ``"LATIN"``; empty for what is no letter."""
    if not letter.isalpha():
        return ""
    script = unicodedata.name(letter, "").split(" ")[0].split("-")[0]
    return ONE_SCRIPT.get(script, script)


def other_scripts(texts: Sequence[str]) -> list[Fault]:
    """Texts most of whose letters are of another script than nearly all others.

    Args:
        texts: (n,) texts; where no script has nearly all letters nothing is remarkable.
    """
    counts = []
    total: Counter[str] = Counter()
    for text in texts:
        count: Counter[str] = Counter()
        # by distinct letters: counting them is fast, naming them is not
        for letter, times in Counter(text).items():
            if script := script_of(letter):
                count[script] += times
        counts.append(count)
        total.update(count)
    if not total:
        return []
    main, letters = total.most_common(1)[0]
    if letters < MAIN_SCRIPT_SHARE * sum(total.values()):
        return []
    faults = []
    for i, count in enumerate(counts):
        size = sum(count.values())
        foreign = size - count[main]
        if size >= MIN_LETTERS and 2 * foreign > size:
            script = max((s for s in count if s != main), key=lambda s: count[s])
            words = (
                f"another script: {100 * foreign / size:.0f}% of its letters are {script.title()}, not {main.title()}"
            )
            faults.append(Fault(i, foreign / size, words))
    return faults


def broken_issues(faults: Iterable[Fault], *, split: str = "train") -> list[Issue]:
    """A row for every broken example: all that is wrong with it, the worst first.

    Args:
        faults: of the examples of one split.
        split: its name.

    Returns:
        A list of `Issue`; what is to be dropped for one fault is to be dropped.
    """
    by_example: dict[int, list[Fault]] = {}
    for fault in faults:
        by_example.setdefault(fault.example, []).append(fault)
    issues = []
    for i, its_faults in sorted(by_example.items()):
        worst_first = sorted(its_faults, key=lambda fault: -fault.severity)
        # the test split is kept whole
        drop = split == "train" and any(fault.action == "drop" for fault in its_faults)
        issues.append(
            Issue(
                "broken",
                i,
                min(1.0, max(0.0, worst_first[0].severity)),
                "; ".join(fault.words for fault in worst_first),
                split=split,
                action="drop" if drop else "look",
            )
        )
    return issues
