"""A judge: a language model behind an OpenAI-compatible endpoint grades every answer, and none is paid for twice."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.extras import import_extra
from datawinnow.core.progress import Progress
from datawinnow.instruct import judge_prompt
from datawinnow.instruct.endpoint import Endpoint, JudgeError, Reply, retry_with_backoff
from datawinnow.instruct.indicator_cache import IndicatorCache, cache_key
from datawinnow.instruct.pairs import check_pair_texts

MAX_CONSECUTIVE_FAILURES = 10
"""Failures in a row after which an endpoint is taken to be down."""
BYTES_PER_TOKEN = 3.5
"""In UTF-8, for an estimate on the safe side: an English token has more, and a Chinese character, which is about one
token, has 3."""


def estimate_tokens(text: str) -> float:
    """About the number of tokens of a text, rather too many.

    >>> estimate_tokens("a" * 35), estimate_tokens("\u732b" * 35)
    (10.0, 30.0)
    """
    return len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN


@dataclass(frozen=True)
class RequestLimits:
    """How fast to ask, how often, and at what cost.

    Attributes:
        price_in: money for a million tokens of questions.
        price_out: money for a million tokens of answers.
        cap: money that a run may cost; None only for an endpoint on this machine with both prices 0.
        per_minute: requests a minute; None for as many as `workers` make.
        workers: requests at a time.
        tries: how often one question is asked.
        initial_backoff: seconds before the second try; twice as long each time.
        max_backoff: the longest wait in seconds.
        ask_again: ask again where an earlier reply could not be parsed.
        parse: ``"strict"``, or ``"published"`` to parse replies as InstructionGPT-4 does.
    """

    price_in: float = 0.0
    price_out: float = 0.0
    cap: float | None = None
    per_minute: float | None = None
    workers: int = 4
    tries: int = 5
    initial_backoff: float = 1.0
    max_backoff: float = 60.0
    ask_again: bool = False
    parse: str = "strict"

    def __post_init__(self) -> None:
        for name in ("price_in", "price_out", "initial_backoff", "max_backoff"):
            check.number(name, getattr(self, name), 0, 1e9)
        for name in ("workers", "tries"):
            check.number(name, getattr(self, name), 1, 1000, integer=True)
        check.one_of("parse", self.parse, ("strict", "published"))
        if self.cap is not None:
            check.number("cap", self.cap, 0, 1e9)
        if self.per_minute is not None:
            check.number("per_minute", self.per_minute, 1e-3, 1e9)

    @property
    def is_free(self) -> bool:
        """Whether both prices are 0."""
        return self.price_in + self.price_out == 0

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """Money for so many tokens."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


@dataclass
class Usage:
    """Questions, money and failures of a run of the judge.

    Attributes:
        answered: questions answered in this run.
        cached: pairs whose reply was in the cache.
        cost: money, by the tokens that the endpoint counts, or by estimate where it counts none.
        failures: kind of failure -> positions of the pairs.
        details: kind of failure -> the detail of the first one.
    """

    answered: int = 0
    cached: int = 0
    cost: float = 0.0
    failures: dict[str, list[int]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def add_failure(self, position: int, error: JudgeError) -> None:
        """Count a pair that has no grade."""
        self.failures.setdefault(error.kind, []).append(position)
        self.details.setdefault(error.kind, str(error))

    def failure_lines(self) -> list[str]:
        """One line for each kind of failure, the most frequent first."""
        counts = Counter({kind: len(positions) for kind, positions in self.failures.items()})
        lines = []
        for kind, count in counts.most_common():
            shown = ", ".join(str(i) for i in self.failures[kind][:5]) + (", ..." if count > 5 else "")
            detail = f" (first: {self.details[kind]})" if self.details[kind] else ""
            lines.append(f"{count:,} without a grade: {kind}: pairs {shown}{detail}")
        return lines


@dataclass(frozen=True)
class CostEstimate:
    """Questions still to be asked, and their cost.

    Attributes:
        questions: number of them.
        cached: pairs whose reply is in the cache.
        cost: money, if every reply is as long as it may be.
    """

    questions: int
    cached: int
    cost: float


class _Pace:
    """Spreads requests evenly over the minute."""

    def __init__(self, per_minute: float | None) -> None:
        self.gap = 60.0 / per_minute if per_minute else 0.0
        self.lock, self.next = threading.Lock(), time.monotonic()

    def wait(self, stop: threading.Event) -> None:
        """Wait for the turn of one request, or until ``stop`` is set."""
        with self.lock:
            now = time.monotonic()
            # Slots are handed out under the lock, the waiting happens outside of it.
            turn = max(now, self.next)
            self.next = turn + self.gap
        stop.wait(turn - now)


class Judge:
    """Grades pairs through an endpoint.

    Args:
        endpoint: where to ask.
        limits: how fast, how often and at what cost.
        cache: replies of earlier runs; every new one is stored when it comes.
        confirm: called with a `CostEstimate` before the first question, where something is to be asked and paid for;
            returns whether to go on. None refuses to pay.

    Attributes:
        usage: of the last call.

    Raises:
        ArgumentError: a price, or an endpoint that may cost money, without a cap.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        limits: RequestLimits | None = None,
        cache: IndicatorCache | None = None,
        confirm: Callable[[CostEstimate], bool] | None = None,
    ) -> None:
        self.endpoint, self.limits, self.confirm = endpoint, limits or RequestLimits(), confirm
        self.cache = cache or IndicatorCache(None)
        self.usage = Usage()
        if not self.limits.is_free and self.limits.cap is None:
            raise ArgumentError("a price needs a cap: say with `cap=` what a run may cost at most")
        if self.limits.cap is None and not endpoint.is_local:
            raise ArgumentError(
                f"{urlsplit(endpoint.url).hostname} may charge for its answers: give the price of a million tokens "
                "with `price_in=` and `price_out=`, and what a run may cost at most with `cap=`; where it is free, "
                "`cap=0`"
            )
        self.made_by = {
            "url": endpoint.url.rstrip("/"),
            "model": endpoint.model,
            "temperature": endpoint.temperature,
            "prompt": judge_prompt.PROMPT_VERSION,
        }

    def grades(self, instruction: Sequence[str], answer: Sequence[str], progress: Progress | None = None) -> Tensor:
        """Grade every pair.

        Args:
            instruction: (n,) texts.
            answer: (n,) texts.
            progress: called as ``progress("judging", done, total)``.

        Returns:
            (n,) float32 in [0, 100], NaN where there is no grade; `usage` says why.

        Raises:
            RunError: the endpoint refuses (no key, no such model), is down, or the cap is reached; or the cost was not
                confirmed. All replies until then are in the cache.
        """
        self.usage = Usage()
        grades = torch.full((len(answer),), torch.nan)
        keys = [cache_key("judge", self.made_by, a, b) for a, b in zip(instruction, answer, strict=True)]
        replies = self.cache.texts(keys)
        positions: dict[bytes, list[int]] = {}  # equal pairs are asked about once
        for i, key in enumerate(keys):
            if answer[i].strip():
                positions.setdefault(key, []).append(i)
            else:
                self.usage.add_failure(i, JudgeError("empty answer to grade"))
        prompts: dict[bytes, str] = {}
        for key, index in positions.items():
            if key in replies and self._parse(grades, index, replies[key], is_final=not self.limits.ask_again):
                self.usage.cached += len(index)
            elif key not in replies or self.limits.ask_again:
                prompts[key] = judge_prompt.prompt_for(instruction[index[0]], answer[index[0]])
        if prompts:
            self._confirm_cost(prompts)
            self._ask_all(prompts, positions, grades, progress)
        return grades

    def _parse(self, grades: Tensor, index: list[int], reply: str, *, is_final: bool = True) -> bool:
        """Write the grade in a reply to ``grades`` at ``index``; returns whether it could be parsed."""
        parse = judge_prompt.parse_strict if self.limits.parse == "strict" else judge_prompt.parse_published
        try:
            grades[index] = parse(reply)
        except JudgeError as error:
            for i in index if is_final else []:
                self.usage.add_failure(i, error)
            return False
        return True

    def _max_cost(self, prompt: str) -> float:
        # 10 tokens for what a chat format adds around a message.
        return self.limits.cost(estimate_tokens(prompt) + 10, self.endpoint.max_tokens)

    def _confirm_cost(self, prompts: dict[bytes, str]) -> None:
        if self.limits.is_free:
            return
        estimate = CostEstimate(len(prompts), self.usage.cached, sum(map(self._max_cost, prompts.values())))
        if self.confirm is None or not self.confirm(estimate):
            raise RunError(
                f"nothing was asked: {estimate.questions:,} questions would cost up to {estimate.cost:.2f}, and that "
                "was not confirmed (`yes=True`)"
            )

    def _ask_all(
        self,
        prompts: dict[bytes, str],
        positions: dict[bytes, list[int]],
        grades: Tensor,
        progress: Progress | None,
    ) -> None:
        """Ask in worker threads; this thread alone touches the cache and the grades."""
        import_extra("openai", "judge", "the judge")
        stop, pace, jitter = threading.Event(), _Pace(self.limits.per_minute), random.Random(0)
        queue, running = list(prompts), dict[Future[Reply], bytes]()
        total, consecutive_failures, usage_lock = len(queue), 0, threading.Lock()

        def ask(prompt: str) -> Reply:
            pace.wait(stop)
            if stop.is_set():
                raise JudgeError("stopped", retry=False)
            try:
                return self.endpoint.ask(prompt)
            except JudgeError as error:
                if error.tokens is not None:  # a useless reply is paid for as well
                    with usage_lock:
                        self.usage.cost += self.limits.cost(*error.tokens)
                raise

        def ask_with_retries(prompt: str) -> Reply:
            return retry_with_backoff(
                lambda: ask(prompt),
                tries=self.limits.tries,
                initial_backoff=self.limits.initial_backoff,
                max_backoff=self.limits.max_backoff,
                jitter=jitter.random,
                sleep=lambda seconds: (stop.wait(seconds), None)[1],
            )

        pool = ThreadPoolExecutor(self.limits.workers, "datawinnow-judge")
        try:
            while queue or running:
                while queue and len(running) < self.limits.workers and self._is_affordable(prompts, queue[0], running):
                    key = queue.pop(0)
                    running[pool.submit(ask_with_retries, prompts[key])] = key
                if not running:
                    raise RunError(
                        f"the cap of {self.limits.cap:g} is reached: {self.usage.cost:.4g} were spent, {len(queue):,} "
                        f"questions are left; the {self.usage.answered:,} answers until then are kept: raise `cap=` "
                        "and run the same command again"
                    )
                # After every reply: what it cost decides whether another question is affordable.
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    key = running.pop(future)
                    if self._finish(future, key, prompts[key], positions[key], grades):
                        consecutive_failures = 0
                    else:
                        consecutive_failures += 1
                    if progress is not None:
                        progress("judging", total - len(queue) - len(running), total)
                if consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
                    kind = next(reversed(self.usage.failures))
                    raise RunError(
                        f"the endpoint failed {consecutive_failures} times in a row ({kind}: "
                        f"{self.usage.details[kind]}); the {self.usage.answered:,} answers until then are kept: run "
                        "the same command again to continue"
                    )
        finally:
            stop.set()
            for future in running:
                future.cancel()
            pool.shutdown(wait=True)
            for future, key in running.items():  # replies that came meanwhile are paid for: store them
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._store(key, future.result(), prompts[key])

    def _is_affordable(self, prompts: dict[bytes, str], key: bytes, running: dict[Future[Reply], bytes]) -> bool:
        """Whether one more question fits under the cap, if it and those that are running cost the most they can."""
        if self.limits.cap is None:
            return True
        # Requests under way may still cost their maximum, so the cap holds even if all of them do.
        reserved = sum(self._max_cost(prompts[other]) for other in running.values())
        return self.usage.cost + reserved + self._max_cost(prompts[key]) <= self.limits.cap

    def _store(self, key: bytes, reply: Reply, prompt: str) -> None:
        self.cache.put_text("judge", key, reply.text)
        self.usage.answered += 1
        # An endpoint that counts nothing is charged by estimate, which is rather too high.
        tokens = reply.tokens or (estimate_tokens(prompt), estimate_tokens(reply.text))
        self.usage.cost += self.limits.cost(*tokens)

    def _finish(self, future: Future[Reply], key: bytes, prompt: str, index: list[int], grades: Tensor) -> bool:
        """Store a reply, or count its failure; returns whether there was a reply."""
        try:
            reply = future.result()
        except JudgeError as error:
            for i in index:
                self.usage.add_failure(i, error)
            if not error.retry and error.kind.startswith("HTTP"):
                raise RunError(
                    f"the endpoint refuses ({error.kind}: {error}); the {self.usage.answered:,} answers until then are "
                    "kept"
                ) from None
            return False
        self._store(key, reply, prompt)
        self._parse(grades, index, reply.text)
        return True


@card(
    "score",
    "Judge",
    "Wei et al. 2023, InstructionGPT-4, arXiv 2308.12067, section 3.1 (GPT score); Chen et al. 2023, AlpaGasus, arXiv "
    "2307.08701",
    cost="time O(n) requests, memory O(n); money",
    end="high",
)
def judge(
    instruction: Sequence[str], answer: Sequence[str], *, scorer: Judge, progress: Progress | None = None
) -> Tensor:
    """A language model's grade of each answer, from 0 to 100, by its text alone.

    Args:
        instruction: (n,) texts.
        answer: (n,) texts.
        scorer: the judge; its ``usage`` then says what failed and what was paid.
        progress: called as ``progress("judging", done, total)``.

    Returns:
        (n,) float32; NaN where there is no grade.

    Raises:
        ArgumentError: values that are not texts, or different numbers of instructions and answers.
        RunError: the endpoint refuses or is down, the cap is reached, or the cost was not confirmed.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.1; Chen et al. 2023, arXiv 2307.08701.
    """
    instructions, answers = check_pair_texts(instruction, answer)
    return scorer.grades(instructions, answers, progress)
