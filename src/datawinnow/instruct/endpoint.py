"""One question to an OpenAI-compatible endpoint, asked so that it cannot hang, leak the key or pass nonsense on."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.instruct._transport import OPENER, Refused, hung_up_on

LARGEST = 1 << 20
"""Bytes of an answer that are read at most."""
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""What may pass if asked again; any other status ends the run."""
LOCAL = ("127.0.0.1", "localhost", "::1")
HIDDEN = "[key]"
"""What stands where an endpoint sends the key back."""


class AskError(Exception):
    """An answer that cannot be used.

    Attributes:
        kind: a few words, the same for the same fault.
        again: whether asking again may help.
        after: seconds that the endpoint asked to wait, if it did.
        spent: tokens (in, out) that it says were paid for.
    """

    def __init__(
        self, kind: str, detail: str = "", *, again: bool = True, after: float | None = None,
        spent: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.kind, self.again, self.after, self.spent = kind, again, after, spent


@dataclass(frozen=True)
class Answered:
    """An answer: its text, and the tokens (in, out) that the endpoint says were used; None where it does not say."""

    text: str
    spent: tuple[int, int] | None


@dataclass(frozen=True)
class Endpoint:
    """Where to ask.

    Attributes:
        url: base, such as ``https://api.openai.com/v1``; ``/chat/completions`` is added.
        model: name of the model there.
        key_env: environment variable that holds the key; it is read when asked and stands nowhere else.
        temperature: of the draw.
        most: tokens of an answer at most.
        timeout: seconds for one answer, all of it.
        same_model: refuse an answer by another model than asked for (a dated version of it passes).
    """

    url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    most: int = 400
    timeout: float = 60.0
    same_model: bool = True
    _key: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ArgumentError(
                "the endpoint's url must be like https://host/v1, without a name, a key or a query in it"
            )
        if self._read_key() and parts.scheme == "http" and not self.local:
            raise ArgumentError(f"the key in {self.key_env} would go to {parts.hostname} unencrypted: use https")
        check.number("timeout", self.timeout, 0.01, 1e5)
        check.number("most", self.most, 1, 10**6, integer=True)
        check.number("temperature", self.temperature, 0, 2)

    @property
    def local(self) -> bool:
        """Whether it is on this machine, so that nobody asks money for it."""
        return urlsplit(self.url).hostname in LOCAL

    def _read_key(self) -> str:
        """The key, without the line end that a file leaves behind it.

        Raises:
            ArgumentError: it cannot stand in a header; the error does not show it.
        """
        key = os.environ.get(self.key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ArgumentError(f"the key in {self.key_env} holds letters that no key has; set it again")
        return key

    def ask(self, prompt: str) -> Answered:
        """The answer to one prompt; the key stands neither in it nor in an error, whatever the endpoint sends back.

        Raises:
            AskError: whatever is wrong with the answer, by kind.
            ArgumentError: a key that cannot be one.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "max_tokens": self.most,
        }
        key = self._read_key()
        raw = self._post(json.dumps(body).encode("utf-8", "surrogatepass"), key)
        try:
            found = self._checked(raw.replace(key.encode(), HIDDEN.encode()) if key else raw)
        except AskError as error:
            error.args = (_without(str(error), key),)  # it may have been spelled with escapes
            raise
        return replace(found, text=_without(found.text, key))

    def _post(self, body: bytes, key: str) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self.url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        end = time.monotonic() + self.timeout
        try:
            with hung_up_on(self.timeout), OPENER.open(request, timeout=self.timeout) as answer:
                return _read(answer, end)
        except urllib.error.HTTPError as error:
            raise self._refused(error, key) from None
        except (OSError, http.client.HTTPException) as error:  # URLError, TimeoutError and what a hang-up leaves
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, TimeoutError) or time.monotonic() >= end:
                raise AskError("timeout", f"no answer within {self.timeout:g} s") from None
            if isinstance(error, urllib.error.URLError):
                raise AskError("no connection", _without(str(reason), key)) from None
            raise AskError("connection broken", _without(f"{type(error).__name__}: {error}", key)) from None

    def _refused(self, error: urllib.error.HTTPError, key: str) -> AskError:
        said = _without(error.said.decode("utf-8", "replace"), key) if isinstance(error, Refused) else ""
        detail = " ".join(said.split())[:200]
        if error.code in (401, 403):
            have = "is not accepted" if key else "is not set"
            detail = f"the key in {self.key_env} {have}: {detail}"
        after = error.headers.get("Retry-After") if error.headers else None
        wait = float(after) if after is not None and after.strip().isdigit() else None
        # a used-up account answers 429 as a rate limit does, but no waiting helps
        again = error.code in AGAIN and "insufficient_quota" not in said
        return AskError(f"HTTP {error.code}", detail, again=again, after=wait)

    def _checked(self, raw: bytes) -> Answered:
        try:
            found = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            raise AskError("not JSON", repr(raw[:80])) from None
        spent = _spent(found)
        try:
            choice = found["choices"][0]
            text = choice["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise AskError("no answer in it", repr(raw[:120]), spent=spent) from None
        if not isinstance(text, str) or not text.strip():
            raise AskError("empty answer", spent=spent)
        told = found.get("model")
        if self.same_model and isinstance(told, str) and told and not _same(told, self.model):
            raise AskError("another model", f"asked {self.model!r}, answered by {told!r}", again=False, spent=spent)
        return Answered(text, spent)


def _read(answer: Any, end: float) -> bytes:
    """The body, if it comes whole before ``end``."""
    parts, size = [], 0
    while True:
        if time.monotonic() > end:
            raise TimeoutError
        part = answer.read1(1 << 16)
        if not part:
            if time.monotonic() > end:  # hung up on: what came is not whole
                raise TimeoutError
            break
        size += len(part)
        if size > LARGEST:
            raise AskError("too long", f"over {LARGEST:,} bytes")
        parts.append(part)
    if answer.length:  # what was announced and did not come
        raise AskError("connection broken", f"{answer.length} bytes are missing")
    return b"".join(parts)


def _spent(found: Any) -> tuple[int, int] | None:
    usage = found.get("usage") if isinstance(found, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    told = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if all(type(n) is int and 0 <= n < 10**9 for n in told):
        return told  # type: ignore[return-value]
    return None


def _same(told: str, asked: str) -> bool:
    """Whether a name is the asked one, or a version of it: ``gpt-4o-2024-08-06`` of ``gpt-4o``, ``x`` of ``org/x``."""
    told, asked = told.lower(), asked.lower()
    if told == asked or told.startswith((f"{asked}-", f"{asked}:")):
        return True
    return told.rsplit("/", 1)[-1] == asked.rsplit("/", 1)[-1]


def _without(text: str, key: str) -> str:
    return text.replace(key, HIDDEN) if key else text


def patiently(
    ask: Callable[[], Answered],
    *,
    tries: int,
    first: float,
    most: float,
    jitter: Callable[[], float],
    sleep: Callable[[float], None] = time.sleep,
) -> Answered:
    """Ask until it is answered, waiting twice as long each time.

    Args:
        ask: raises `AskError`.
        tries: how often at most.
        first: seconds before the second try.
        most: seconds to wait at most; an endpoint that asks for longer than that is given up on.
        jitter: a number in [0, 1), so that many that were refused together do not come back together.
        sleep: waits.

    Raises:
        AskError: of the last try, or one that asking again does not help.
    """
    for turn in range(tries):
        try:
            return ask()
        except AskError as error:
            if not error.again or turn + 1 == tries:
                raise
            wait = min(most, first * 2**turn) * (0.5 + jitter() / 2)
            if error.after is not None:
                if error.after > most:
                    raise
                wait = max(wait, error.after)
            sleep(wait)
    raise RunError("tries must be at least 1")
