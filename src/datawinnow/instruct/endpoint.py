"""One question to an OpenAI-compatible endpoint, through the ``openai`` client."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.extras import import_extra

MAX_BYTES = 1 << 20
"""Bytes of a reply that are read."""
RETRIED_STATUSES = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""HTTP statuses that may pass; any other error ends the run."""
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
REDACTED = "[key]"
"""Replaces the key where an endpoint sends it back."""


class JudgeError(Exception):
    """A question without a usable reply.

    Attributes:
        kind: a few words, the same for the same fault.
        retry: whether asking again may help.
        retry_after: seconds that the endpoint asks to wait, or None.
        tokens: (in, out) that the endpoint counts although the reply is of no use, or None.
    """

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        retry: bool = True,
        retry_after: float | None = None,
        tokens: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind, self.retry, self.retry_after, self.tokens = kind, retry, retry_after, tokens


@dataclass(frozen=True)
class Reply:
    """The text of a reply, and the tokens (in, out) that the endpoint counts; None where it does not say."""

    text: str
    tokens: tuple[int, int] | None


@dataclass(frozen=True)
class Endpoint:
    """Where to ask.

    Attributes:
        url: base, such as ``https://api.openai.com/v1``; ``/chat/completions`` is added.
        model: name of the model there.
        key_env: environment variable that holds the key. The key is read for each question and stored nowhere.
        temperature: of sampling.
        max_tokens: tokens of a reply.
        timeout: seconds for a whole reply.
        same_model: refuse a reply by another model than the requested one (a dated version of it passes).
    """

    url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 400
    timeout: float = 60.0
    same_model: bool = True

    def __post_init__(self) -> None:
        url = urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query:
            raise ArgumentError(
                "the endpoint's url must be like https://host/v1, without a user name, a key or a query in it"
            )
        if self._read_key() and url.scheme == "http" and not self.is_local:
            raise ArgumentError(f"the key in {self.key_env} would go to {url.hostname} unencrypted: use https")
        check.number("timeout", self.timeout, 0.01, 1e5)
        check.number("max_tokens", self.max_tokens, 1, 10**6, integer=True)
        check.number("temperature", self.temperature, 0, 2)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, and so costs nothing."""
        return urlsplit(self.url).hostname in LOCAL_HOSTS

    def _read_key(self) -> str:
        """The key, without the newline that a file leaves behind it.

        Raises:
            ArgumentError: it cannot stand in an HTTP header; the error does not show it.
        """
        key = os.environ.get(self.key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ArgumentError(f"the key in {self.key_env} holds characters that no key has; set it again")
        return key

    def ask(self, prompt: str) -> Reply:
        """The reply to one prompt.

        The key stands neither in the reply nor in an error, whatever the endpoint sends back.

        Raises:
            JudgeError: what is wrong with the reply, by kind.
            ArgumentError: the ``openai`` client is not installed, or the key cannot be one.
        """
        key = self._read_key()
        try:
            raw = self._post(prompt, key)
            reply = self._parse(raw.replace(key.encode(), REDACTED.encode()) if key else raw)
        except JudgeError as error:
            error.args = (_redact(str(error), key),)
            raise
        return replace(reply, text=_redact(reply.text, key))  # JSON may have spelled it with escapes

    def _post(self, prompt: str, key: str) -> bytes:
        """The body of a reply that is complete within `timeout` seconds.

        A timeout of the client restarts with every byte, so the whole exchange runs in an event loop that is
        cancelled. ``asyncio.run`` needs a thread without a running loop: a worker thread of `Judge`.
        """
        openai = import_extra("openai", "judge", "the judge")
        httpx = import_extra("httpx2", "judge", "the judge")
        responses: list[Any] = []

        async def keep_response(response: Any) -> None:
            responses.append(response)

        client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=self.url,
            max_retries=0,  # `retry_with_backoff` counts what a failed try costs, keeps the pace, and can be stopped
            timeout=self.timeout,
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,  # a redirect would carry the key to another host
                event_hooks={"response": [keep_response]},
            ),
        )
        omit = openai.Omit()
        headers = {"OpenAI-Organization": omit, "OpenAI-Project": omit}  # those of the environment
        if not key:
            headers["Authorization"] = omit
        try:
            return asyncio.run(asyncio.wait_for(self._request(client, prompt, headers), self.timeout))
        except openai.APIStatusError as error:
            raise self._refusal(error.response, error.response.content, key) from None
        except (TimeoutError, openai.APITimeoutError):
            if responses and not responses[-1].is_success:  # the status came, the rest of the refusal did not
                raise self._refusal(responses[-1], b"", key) from None
            raise JudgeError("timeout", f"no reply within {self.timeout:g} s") from None
        except (openai.APIConnectionError, httpx.HTTPError) as error:
            cause = error.__cause__ or error
            kind = "no connection" if isinstance(cause, httpx.ConnectError) else "connection broken"
            raise JudgeError(kind, f"{type(cause).__name__}: {cause}") from None

    async def _request(self, client: Any, prompt: str, headers: Mapping[str, Any]) -> bytes:
        body = bytearray()
        async with (
            client,
            client.chat.completions.with_streaming_response.create(
                model=self.model,
                # half of a surrogate pair cannot be sent as UTF-8
                messages=[{"role": "user", "content": prompt.encode("utf-8", "replace").decode()}],
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                extra_headers=headers,
            ) as response,
        ):
            async for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise JudgeError("too long", f"over {MAX_BYTES:,} bytes")
        return bytes(body)

    def _refusal(self, response: Any, body: bytes, key: str) -> JudgeError:
        text = _redact(body.decode("utf-8", "replace"), key)
        detail = " ".join(text.split())[:200]
        if response.status_code in (401, 403):
            detail = f"the key in {self.key_env} {'is not accepted' if key else 'is not set'}: {detail}"
        header = response.headers.get("Retry-After", "").strip()
        return JudgeError(
            f"HTTP {response.status_code}",
            detail,
            # an account without credit answers 429 as a rate limit does, but waiting does not help
            retry=response.status_code in RETRIED_STATUSES and "insufficient_quota" not in text,
            retry_after=float(header) if header.isdigit() else None,
        )

    def _parse(self, raw: bytes) -> Reply:
        """The reply in a body. The client's types are not used: they need fields that other servers leave out."""
        try:
            body = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            raise JudgeError("not JSON", repr(raw[:80])) from None
        # Before the text is looked for: a reply without one may be charged all the same.
        tokens = _token_counts(body)
        try:
            text = body["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise JudgeError("no answer in it", repr(raw[:120]), tokens=tokens) from None
        if not isinstance(text, str) or not text.strip():
            raise JudgeError("empty answer", tokens=tokens)
        model = body.get("model")
        if self.same_model and isinstance(model, str) and model and not _is_same_model(model, self.model):
            detail = f"requested {self.model!r}, got a reply by {model!r}"
            raise JudgeError("another model", detail, retry=False, tokens=tokens)
        return Reply(text, tokens)


def _token_counts(body: Any) -> tuple[int, int] | None:
    usage = body.get("usage") if isinstance(body, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if all(type(count) is int and 0 <= count < 10**9 for count in counts):
        return counts  # type: ignore[return-value]
    return None


def _is_same_model(name: str, requested: str) -> bool:
    """Whether a model is the requested one, or a version: ``gpt-4o-2024-08-06`` of ``gpt-4o``, ``x`` of ``org/x``."""
    name, requested = name.lower(), requested.lower()
    if name == requested or name.startswith((f"{requested}-", f"{requested}:")):
        return True
    return name.rsplit("/", 1)[-1] == requested.rsplit("/", 1)[-1]


def _redact(text: str, key: str) -> str:
    return text.replace(key, REDACTED) if key else text


def retry_with_backoff(
    ask: Callable[[], Reply],
    *,
    tries: int,
    initial_backoff: float,
    max_backoff: float,
    jitter: Callable[[], float],
    sleep: Callable[[float], None] = time.sleep,
) -> Reply:
    """Ask until there is a reply, waiting twice as long each time.

    Args:
        ask: raises `JudgeError`.
        tries: how often to ask, at least 1.
        initial_backoff: seconds before the second try.
        max_backoff: the longest wait in seconds; an endpoint that asks for a longer one is not asked again.
        jitter: returns a number in [0, 1), so that questions refused together do not come back together.
        sleep: waits.

    Raises:
        JudgeError: that of the last try, or one that asking again does not help.
    """
    for turn in range(1, tries + 1):
        try:
            return ask()
        except JudgeError as error:
            # Between half of the wait and all of it.
            delay = min(max_backoff, initial_backoff * 2 ** (turn - 1)) * (0.5 + jitter() / 2)
            # An endpoint that asks for a longer wait than the maximum would refuse an earlier try anyway.
            if not error.retry or turn == tries or (error.retry_after or 0) > max_backoff:
                raise
            sleep(max(delay, error.retry_after or 0))
    raise ArgumentError(f"tries must be at least 1, got {tries}")
