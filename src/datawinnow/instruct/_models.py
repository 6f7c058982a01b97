"""Transformers, where they are there: models by name or folder, known again by their content, on the right device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.pretrained import is_pretrained, located, transformers_for
from datawinnow.core.progress import Progress
from datawinnow.instruct.store import Store

T = TypeVar("T")
ENDS = 1 << 20
"""Bytes read at both ends of a file of weights, to know it again."""


def load(what: str, kind: str, name: str, **options: Any) -> Any:
    """``transformers.<kind>.from_pretrained(name)``, from safetensors only where it is a model.

    No code that comes with a model is run, nor is anybody asked about it, and for a folder nothing is fetched.

    Args:
        what: the indicator, for the error.
        kind: a class of transformers, for example ``"AutoTokenizer"``.
        name: a folder, or a name on the Hub (then fetched, unless ``HF_HUB_OFFLINE`` says otherwise); or with ``hf:``
            before it, as everywhere else, ``hf:package:NAME`` among them.
        options: passed on.

    Raises:
        ArgumentError: no transformers.
        DataError: no such model, or not of this kind.
    """
    package = transformers_for(what)
    place, fetching = located(name) if is_pretrained(name) else (name, {})
    options = {**fetching, **options}
    if Path(place).is_dir():
        options["local_files_only"] = True
    if kind.endswith("Model") or "ModelFor" in kind:
        options = {"use_safetensors": True, **options}  # nothing from outside is ever unpickled
    if kind.startswith("Auto"):
        options = {"trust_remote_code": False, **options}
    try:
        return getattr(package, kind).from_pretrained(place, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        where = "" if Path(place).is_dir() else " (it is no folder here, so it was looked for on the Hub)"
        reason = str(error).strip().split("\n")[0][:200]
        raise DataError(f"{what}: cannot load {kind} from {name!r}{where}: {reason}") from None


def folder_of(name: str) -> str:
    """The folder, or the name on the Hub, that a name means with or without ``hf:`` before it.

    Raises:
        ArgumentError: no such folder or package.
    """
    return located(name)[0] if is_pretrained(name) else name


def fingerprint(name: str, model: Any) -> str:
    """What tells a model apart: of a folder both ends of each file (small ones whole), else its name and revision."""
    folder = Path(folder_of(name))
    if not folder.is_dir():
        return f"{folder_of(name)}@{getattr(model.config, '_commit_hash', None)}"
    found = hashlib.sha256()
    for file in sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")):
        size = file.stat().st_size
        found.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as data:
            found.update(data.read(ENDS))
            if size > ENDS:
                data.seek(max(ENDS, size - ENDS))
                found.update(data.read())
    return found.hexdigest()[:32]


def on(device: str | None) -> torch.device:
    """The device asked for; None and ``"auto"`` are a GPU where there is one.

    Raises:
        ArgumentError: no such device.
    """
    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(f"device={device!r} cannot be used here ({str(error).splitlines()[0][:120]})") from None
    return found


def computed(
    store: Store,
    what: str,
    keys: Sequence[bytes | None],
    work: Callable[[list[int]], np.ndarray],
    *,
    batch: int,
    order: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> list[np.ndarray | None]:
    """A vector for every key: from the store, or worked out a batch at a time and kept at once.

    Args:
        store: where results are kept.
        what: the indicator.
        keys: one an example; None for an example that cannot be computed.
        work: vectors (b, d) of the examples at some positions.
        batch: positions a call.
        order: (n,) what to sort the missing by, so that a batch pads little; None keeps their order.
        progress: called with what is done, how far, of how many.

    Returns:
        One a key, None where the key is None.
    """
    there = store.arrays(key for key in keys if key is not None)
    first: dict[bytes, int] = {}
    for i, key in enumerate(keys):
        if key is not None and key not in there:
            first.setdefault(key, i)  # equal contents are computed once
    todo = sorted(first.values(), key=(lambda i: -order[i]) if order is not None else None)
    for begin in range(0, len(todo), batch):
        part = todo[begin : begin + batch]
        made = np.asarray(work(part), dtype=np.float32)
        new = {keys[i]: row for i, row in zip(part, made, strict=True)}
        store.put(what, new)  # type: ignore[arg-type]
        there.update(new)  # type: ignore[arg-type]
        if progress is not None:
            progress(what, begin + len(part), len(todo))
    return [None if key is None else there[key] for key in keys]


def numbers(found: Sequence[np.ndarray | None]) -> torch.Tensor:
    """(n,) float32 of single numbers; NaN where there is none."""
    return torch.tensor([float("nan") if value is None else float(value[0]) for value in found])


def vectors(found: Sequence[np.ndarray | None]) -> torch.Tensor:
    """(n, d) float32; a row of NaN where there is none."""
    width = next((len(value) for value in found if value is not None), 1)
    out = torch.full((len(found), width), torch.nan)
    for i, value in enumerate(found):
        if value is not None:
            out[i] = torch.from_numpy(np.array(value))
    return out


def texts_of(name: str, value: Sequence[T]) -> list[T]:
    """``value`` as a list of texts.

    Raises:
        ArgumentError: one text instead of several, none, or something that is no text.
    """
    if isinstance(value, str):
        raise ArgumentError(f"{name} must be a list of texts, one an example, got one text")
    found = list(value)
    if not found:
        raise ArgumentError(f"{name} holds no examples")
    wrong = next((i for i, text in enumerate(found) if not isinstance(text, str)), None)
    if wrong is not None:
        raise ArgumentError(f"{name} must hold texts, got {type(found[wrong]).__name__} for example {wrong}")
    return found
