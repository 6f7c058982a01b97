"""A judge: a language model behind an OpenAI-compatible endpoint grades every answer, each of them paid for once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from urllib.parse import urlsplit

import torch
from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.progress import Progress
from datawinnow.instruct import answers
from datawinnow.instruct.endpoint import Answered, AskError, Endpoint, patiently
from datawinnow.instruct.store import Store, key_of
from datawinnow.instruct.terms import Account, Estimate, Terms, tokens_of
from datawinnow.text.encode import check_texts

STOP_AFTER = 10
"""Failures in a row after which an endpoint is taken for down."""


class _Pace:
    """Lets so many through a minute, evenly."""

    def __init__(self, per_minute: float | None) -> None:
        self.gap = 60.0 / per_minute if per_minute else 0.0
        self.lock, self.next = threading.Lock(), time.monotonic()

    def __call__(self, stop: threading.Event) -> None:
        with self.lock:
            now = time.monotonic()
            at = max(now, self.next)
            self.next = at + self.gap
        stop.wait(at - now)


def _wait(stop: threading.Event, seconds: float) -> None:
    stop.wait(seconds)


class Judge:
    """Asks an endpoint about pairs.

    Args:
        endpoint: where.
        terms: how, and what it may cost.
        store: answers of before; every new one is kept when it comes.
        confirm: asked once with an `Estimate` before the first question, unless nothing is paid or to be asked; it
            returns whether to go on. None does not go on where something is to be paid.

    Attributes:
        account: of the last call.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        terms: Terms | None = None,
        store: Store | None = None,
        confirm: Callable[[Estimate], bool] | None = None,
    ) -> None:
        self.terms = terms = terms or Terms()
        self.endpoint, self.confirm = endpoint, confirm
        self.store = store or Store(None)
        self.account = Account()
        if terms.price_in + terms.price_out > 0 and terms.cap is None:
            raise ArgumentError("a price needs a cap: say with cap= (--cap) what a run may cost at most")
        if terms.cap is None and not endpoint.local:
            raise ArgumentError(
                f"{urlsplit(endpoint.url).hostname} may ask money for its answers: say what a million tokens cost with "
                "price_in= and price_out= (--price-in, --price-out) and what a run may cost at most with cap= (--cap); "
                "where nothing is paid, cap=0 (--cap 0)"
            )
        self.own = {
            "url": endpoint.url.rstrip("/"), "model": endpoint.model, "temperature": endpoint.temperature,
            "prompt": answers.VERSION,
        }  # fmt: skip

    def grades(self, instruction: Sequence[str], answer: Sequence[str], progress: Progress | None = None) -> Tensor:
        """(n,) float32 grades from 0 to 100, NaN where there is none; `account` says why.

        Raises:
            RunError: the endpoint refuses (no key, no such model), is down, or the cap is reached; or asking was not
                confirmed. All answers until then are kept.
        """
        self.account = Account()
        out = torch.full((len(answer),), torch.nan)
        keys = [key_of("judge", self.own, a, b) for a, b in zip(instruction, answer, strict=True)]
        there = self.store.texts(keys)
        places: dict[bytes, list[int]] = {}
        for i, key in enumerate(keys):
            if not answer[i].strip():
                self.account.fail(i, AskError("empty answer to grade"))
            else:
                places.setdefault(key, []).append(i)
        todo = []
        for key, at in places.items():
            if key in there and self._grade(out, at, there[key], last=not self.terms.again):
                self.account.stored += len(at)
            elif key not in there or self.terms.again:
                todo.append(key)
        prompts = {key: answers.prompt_for(instruction[places[key][0]], answer[places[key][0]]) for key in todo}
        if todo:
            self._agree(prompts)
            self._ask_all(prompts, places, out, progress)
        return out

    def _grade(self, out: Tensor, at: list[int], text: str, *, last: bool = True) -> bool:
        """Read an answer into the grades of its pairs; whether it could be read."""
        read = answers.strict if self.terms.parse == "strict" else answers.published
        try:
            out[at] = read(text)
        except AskError as error:
            for i in at if last else []:
                self.account.fail(i, error)
            return False
        return True

    def _worst(self, prompt: str) -> float:
        return self.terms.cost(tokens_of(prompt) + 10, self.endpoint.most)

    def _agree(self, prompts: dict[bytes, str]) -> None:
        money = sum(self._worst(prompt) for prompt in prompts.values())
        if self.terms.price_in + self.terms.price_out == 0:
            return
        found = Estimate(len(prompts), self.account.stored, money)
        if self.confirm is None or not self.confirm(found):
            raise RunError(
                f"nothing was asked: {found.questions:,} questions would cost up to {money:.2f}, and that was not "
                "confirmed (--yes)"
            )

    def _ask_all(
        self, prompts: dict[bytes, str], places: dict[bytes, list[int]], out: Tensor, progress: Progress | None
    ) -> None:
        stop, pace, jitter = threading.Event(), _Pace(self.terms.per_minute), random.Random(0)
        waiting, running = list(prompts), dict[Future[Answered], bytes]()
        total, in_a_row, paying = len(waiting), 0, threading.Lock()

        def one(prompt: str) -> Answered:
            def ask() -> Answered:
                pace(stop)
                if stop.is_set():
                    raise AskError("stopped", again=False)
                try:
                    return self.endpoint.ask(prompt)
                except AskError as error:
                    if error.spent is not None:  # nonsense is paid for as well
                        with paying:
                            self.account.spent += self.terms.cost(*error.spent)
                    raise

            return patiently(
                ask, tries=self.terms.tries, first=self.terms.first, most=self.terms.longest, jitter=jitter.random,
                sleep=lambda seconds: _wait(stop, seconds),
            )  # fmt: skip

        pool = ThreadPoolExecutor(self.terms.workers, "datawinnow-judge")
        try:
            while waiting or running:
                while waiting and len(running) < self.terms.workers and self._affords(prompts, waiting[0], running):
                    key = waiting.pop(0)
                    running[pool.submit(one, prompts[key])] = key
                if not running:
                    raise self._capped(len(waiting))
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    key = running.pop(future)
                    in_a_row = 0 if self._finished(future, key, prompts[key], places[key], out) else in_a_row + 1
                    if progress is not None:
                        progress("judging", total - len(waiting) - len(running), total)
                if in_a_row >= STOP_AFTER:
                    kind = next(reversed(self.account.failed))
                    raise RunError(
                        f"the endpoint failed {in_a_row} times in a row ({kind}: {self.account.details[kind]}); the "
                        f"{self.account.asked:,} answers until then are kept: run the same command again to go on"
                    )
        finally:
            stop.set()
            for future in running:
                future.cancel()
            pool.shutdown(wait=True)
            for future, key in running.items():  # answers that came meanwhile are paid for
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._keep(key, future.result(), prompts[key])

    def _affords(self, prompts: dict[bytes, str], key: bytes, running: dict[Future[Answered], bytes]) -> bool:
        """Whether one more question fits under the cap, with those under way and it as dear as they can be."""
        if self.terms.cap is None:
            return True
        under_way = sum(self._worst(prompts[other]) for other in running.values())
        return self.account.spent + under_way + self._worst(prompts[key]) <= self.terms.cap

    def _capped(self, left: int) -> RunError:
        return RunError(
            f"the cap of {self.terms.cap:g} is reached: {self.account.spent:.4g} were spent, {left:,} questions are "
            f"left; the {self.account.asked:,} answers until then are kept: raise --cap and run the same command again"
        )

    def _keep(self, key: bytes, found: Answered, prompt: str) -> None:
        self.store.put_text("judge", key, found.text)
        self.account.asked += 1
        told = found.spent or (tokens_of(prompt), tokens_of(found.text))
        self.account.spent += self.terms.cost(*told)

    def _finished(self, future: Future[Answered], key: bytes, prompt: str, at: list[int], out: Tensor) -> bool:
        """Keep an answer, or count its failure; whether it was answered at all."""
        try:
            found = future.result()
        except AskError as error:
            for i in at:
                self.account.fail(i, error)
            if not error.again and error.kind.startswith("HTTP"):
                raise RunError(
                    f"the endpoint refuses ({error.kind}: {error}); the {self.account.asked:,} answers until then are "
                    "kept"
                ) from None
            return False
        self._keep(key, found, prompt)
        self._grade(out, at, found.text)
        return True


@card(
    "score",
    "Judge",
    "Wei et al. 2023, InstructionGPT-4, arXiv 2308.12067, section 3.1 (GPT score); Chen et al. 2023, AlpaGasus, arXiv "
    "2307.08701",
    cost="time O(n) requests, memory O(n); money",
    end="high",
)
def judge(instruction: Sequence[str], answer: Sequence[str], *, by: Judge, progress: Progress | None = None) -> Tensor:
    """A language model's grade of each answer, from 0 to 100, by its text alone.

    Args:
        instruction: (n,) texts.
        answer: (n,) texts.
        by: the judge; its ``account`` then names and counts what went wrong.
        progress: called with what is done, how far, of how many.

    Returns:
        (n,) float32; NaN where there is no grade.

    Raises:
        ArgumentError: texts that are none, or not as many of both.
        RunError: the endpoint refuses or is down, the cap is reached, or the cost was not confirmed.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.1; condense.md 1.11; Chen et al. 2023, arXiv 2307.08701.
    """
    asked, found = check_texts("instruction", instruction), check_texts("answer", answer)
    if len(asked) != len(found):
        raise ArgumentError(f"there are {len(asked)} instructions, but {len(found)} answers")
    return by.grades(asked, found, progress)
