"""The judge against an endpoint that stalls, lies, refuses and answers nonsense: named, counted, paid for once."""

from __future__ import annotations

import json
import socket
import sys
import time

import pytest

from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.instruct.endpoint import Endpoint, JudgeError, Reply, retry_with_backoff
from datawinnow.instruct.indicator_cache import IndicatorCache
from datawinnow.instruct.llm_judge import Judge, RequestLimits, judge
from tests.instruct.stub import completion, serving

KEY = "sk-secret-1234567890"
QUICK = {"initial_backoff": 0.001, "max_backoff": 0.05, "workers": 2}


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def judging(server, *, cache=None, confirm=None, timeout=5.0, **limits):
    return Judge(
        Endpoint(server.url, "m", key_env="TEST_KEY", timeout=timeout),
        limits=RequestLimits(**{**QUICK, **limits}),
        cache=cache,
        confirm=confirm,
    )


def graded(scorer, *texts):
    return judge(["q"] * len(texts), list(texts), scorer=scorer).tolist()


def by_answer(replies):
    """A reply for each answer, found in the prompt."""

    def reply(prompt, times):
        answer = next(value for text, value in replies.items() if json.dumps(text) in prompt)
        return answer(times) if callable(answer) and getattr(answer, "by_times", False) else answer

    return reply


def by_times(function):
    function.by_times = True
    return function


def test_grades_come_back_in_order_and_equal_pairs_are_asked_once():
    with serving(by_answer({"a": completion("10"), "b": completion("20"), "c": completion("30")})) as server:
        scorer = judging(server)
        assert graded(scorer, "c", "a", "b", "a") == [30, 10, 20, 10]
        assert len(server.prompts) == 3
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert (scorer.usage.answered, scorer.usage.failures) == (3, {})


def test_only_the_key_of_the_endpoint_is_sent(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-other")
    with serving(lambda *_: completion("10")) as server:
        scorer = Judge(Endpoint(server.url, "m", key_env="NO_SUCH_KEY"))
        assert graded(scorer, "a") == [10]
        assert not any("sk-other" in value for value in server.headers[0].values())
        assert "Authorization" not in server.headers[0]


def test_half_a_letter_in_an_answer_is_sent_as_a_question_mark():
    with serving(lambda *_: completion("10")) as server:
        assert graded(judging(server), "a\ud800") == [10]
        assert 'answer: "a?"' in server.prompts[0]


def test_the_client_is_an_extra_that_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with serving(lambda *_: completion("10")) as server, pytest.raises(ArgumentError, match=r"datawinnow\[judge\]"):
        graded(judging(server), "a")


def test_nothing_is_paid_for_twice_not_even_nonsense(tmp_path):
    with serving(by_answer({"a": completion("10"), "b": completion("dunno")})) as server:
        for num_sent, stored in ((2, 0), (0, 1)):
            with IndicatorCache(tmp_path / "s.sqlite") as cache:
                scorer = judging(server, cache=cache)
                grades = graded(scorer, "a", "b")
            assert grades[0] == 10
            assert grades[1] != grades[1]
            assert (scorer.usage.answered, scorer.usage.cached) == (num_sent, stored)
            assert scorer.usage.failures == {"no number": [1]}
            assert scorer.usage.failure_lines() == ["1 without a grade: no number: pairs 1 (first: 'dunno')"]
        server.reply = by_answer({"b": completion("44")})
        with IndicatorCache(tmp_path / "s.sqlite") as cache:
            scorer = judging(server, cache=cache, ask_again=True)
            assert graded(scorer, "a", "b") == [10, 44]
        assert scorer.usage.failures == {}


def test_what_may_pass_is_asked_again_with_patience():
    replies = [(503, b"busy", {}), (429, b"slow down", {"Retry-After": "0"}), completion("77")]
    with serving(lambda prompt, times: replies[min(times, 3) - 1]) as server:
        assert graded(judging(server), "a") == [77]
        assert len(server.prompts) == 3


def test_waits_double_obey_the_endpoint_and_end():
    waits, left = [], [JudgeError("x"), JudgeError("x"), JudgeError("x", retry_after=7.0), JudgeError("x")]

    def ask():
        if left:
            raise left.pop(0)
        return Reply("1", None)

    options = {"initial_backoff": 1.0, "max_backoff": 8.0, "jitter": lambda: 1.0, "sleep": waits.append}
    assert retry_with_backoff(ask, tries=5, **options).text == "1"
    assert waits == [1.0, 2.0, 7.0, 8.0]
    left[:] = [JudgeError("x", retry_after=9.0)]
    with pytest.raises(JudgeError):
        retry_with_backoff(ask, tries=5, **options)
    left[:] = [JudgeError("x")] * 5
    with pytest.raises(JudgeError):
        retry_with_backoff(ask, tries=5, **options)
    assert left == []


def dribbles(handler):
    """A byte now and then: each within a socket's timeout, all together never."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def dribbles_headers(handler):
    """Likewise, before there is any body."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for i in range(100):
            handler.wfile.write(b"X-Filler-%d: x\r\n" % i)
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def dribbles_a_refusal(handler):
    """Likewise, beside a status that is no success."""
    try:
        handler.send_response(500)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


def hangs_up(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


FAULTS = {
    "stalls": (lambda handler: time.sleep(1.5), "timeout"),
    "dribbles": (dribbles, "timeout"),
    "dribbles headers": (dribbles_headers, "timeout"),
    "dribbles a refusal": (dribbles_a_refusal, "HTTP 500"),
    "hangs up": (hangs_up, "connection broken"),
    "not json": (b"<html>", "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "no choices": (b'{"error": "x"}', "no answer in it"),
    "a list": (b"[]", "no answer in it"),
    "empty": (completion("  "), "empty answer"),
    "lies": (completion("150"), "out of range"),
    "another model": (completion("80", model="cheap"), "another model"),
    "redirect": ((302, b"", {"Location": "http://127.0.0.1:9/"}), "HTTP 302"),
    "too long": (completion("9" * 1_100_000), "too long"),
}


@pytest.mark.parametrize(("reply", "kind"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_has_its_name_and_the_others_are_graded(reply, kind):
    with serving(by_answer({"a": completion("10"), "b": reply})) as server:
        scorer = judging(server, tries=2, timeout=0.4)
        start = time.monotonic()
        if kind == "HTTP 302":
            with pytest.raises(RunError, match=r"refuses .HTTP 302"):
                graded(scorer, "a", "b")
        else:
            grades = graded(scorer, "a", "b")
            assert grades[0] == 10
            assert grades[1] != grades[1]
        assert list(scorer.usage.failures) == [kind]
        assert time.monotonic() - start < 4, "two tries of 0.4 s"


def test_a_version_of_the_model_is_the_model():
    with serving(lambda *_: completion("50", model="m-2026-01-01")) as server:
        assert graded(judging(server), "a") == [50]


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_a_refusal_ends_at_once_and_never_shows_the_key(status, tmp_path):
    body = f'{{"error": "wrong key {KEY}"}}'.encode()
    with (
        serving(by_answer({"a": completion("10"), "b": (status, body, {})})) as server,
        IndicatorCache(tmp_path / "s") as cache,
    ):
        scorer = judging(server, cache=cache, workers=1)
        with pytest.raises(RunError, match=rf"HTTP {status}\b") as error:
            graded(scorer, "a", *["b"] * 3)
        assert len(server.prompts) == 2, "not asked again"
        assert KEY not in str(error.value)
        assert KEY not in " ".join(scorer.usage.failure_lines()) + repr(scorer.endpoint) + repr(scorer.made_by)
        server.reply = lambda *_: completion("20")
        again = judging(server, cache=cache)
        assert graded(again, "a", "b") == [10, 20]
        assert (again.usage.answered, again.usage.cached) == (1, 1)
    assert KEY.encode() not in (tmp_path / "s").read_bytes()


SENT_BACK = {
    "cut in two by what is shown of it": b"x" * 70 + KEY.encode(),
    "as an answer": completion(f"80 {KEY}"),
    "with escapes": completion(KEY).replace(b"sk-", b"\\u0073k-"),
    "as its model": completion("80", model=KEY),
    "beside a refusal, cut in two": (400, b"y" * 190 + KEY.encode(), {}),
}


@pytest.mark.parametrize("reply", SENT_BACK.values(), ids=SENT_BACK.keys())
def test_a_key_that_is_sent_back_is_shown_and_kept_nowhere(reply, tmp_path):
    with serving(lambda *_: reply) as server, IndicatorCache(tmp_path / "s") as cache:
        scorer, message = judging(server, cache=cache, tries=1), ""
        try:
            graded(scorer, "a")
        except RunError as error:
            message = str(error)
        shown = " ".join([*scorer.usage.failure_lines(), message])
        assert scorer.usage.failures
        assert KEY[:6] not in shown
        assert KEY[:6].encode() not in (tmp_path / "s").read_bytes()


def test_a_line_end_behind_the_key_is_not_part_of_it_and_no_key_is_shown_in_an_error(monkeypatch):
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n")
    with serving(lambda *_: completion("50")) as server:
        assert graded(judging(server), "a") == [50]
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        monkeypatch.setenv("TEST_KEY", f"{KEY}\nb")
        with pytest.raises(ArgumentError, match="the key in TEST_KEY holds characters that no key has") as error:
            judging(server)
    assert KEY not in str(error.value)


def test_an_endpoint_that_is_down_is_given_up_on_and_what_came_is_kept(tmp_path):
    with serving(lambda prompt, times: completion("5") if '"t0"' in prompt else (500, b"", {})) as server:
        scorer = judging(server, tries=1, workers=1)
        with pytest.raises(RunError, match=r"failed 10 times in a row .HTTP 500.*the 1 answers until then are kept"):
            graded(scorer, *[f"t{i}" for i in range(30)])
        assert len(server.prompts) == 11
    closed = Endpoint(server.url, "m", key_env="TEST_KEY", timeout=1)
    scorer = Judge(closed, limits=RequestLimits(tries=1, **QUICK))
    assert graded(scorer, "a") != [1]
    assert list(scorer.usage.failures) == ["no connection"]


def test_the_cost_is_asked_for_before_it_starts_and_never_passes_the_cap(tmp_path):
    estimates = []
    with (
        serving(lambda *_: completion("60", usage=(1_000_000, 100_000))) as server,
        IndicatorCache(tmp_path / "s") as cache,
    ):
        prices = {"price_in": 1.0, "price_out": 10.0, "workers": 1}  # 2 a question, whatever was estimated
        no = judging(server, cache=cache, confirm=lambda e: estimates.append(e) or False, cap=100.0, **prices)
        with pytest.raises(RunError, match=r"5 questions would cost up to .* not confirmed"):
            graded(no, *"abcde")
        assert (estimates[0].questions, server.prompts) == (5, [])
        assert estimates[0].cost > 5 * 400 * 10 / 1e6, "at least the longest answers"
        with pytest.raises(RunError, match="not confirmed"):
            graded(judging(server, cache=cache, cap=100.0, **prices), *"abcde")
        capped = judging(server, cache=cache, confirm=lambda _: True, cap=5.0, **prices)
        with pytest.raises(RunError, match=r"cap of 5 is reached: 6 were spent, 2 questions are left; the 3 answers"):
            graded(capped, *"abcde")
        assert len(server.prompts) == 3
        richer = judging(server, cache=cache, confirm=lambda _: True, cap=50.0, **prices)
        assert graded(richer, *"abcde") == [60] * 5
        assert (richer.usage.answered, richer.usage.cached) == (2, 3)
        assert richer.usage.cost == pytest.approx(4.0)
        # nothing left to ask: nobody is asked whether to pay
        assert graded(judging(server, cache=cache, cap=0.0, **prices), *"abcde") == [60] * 5


def test_a_foreign_endpoint_needs_a_cap_even_where_no_price_is_told():
    far = Endpoint("https://far.example/v1", "m", key_env="TEST_KEY")
    with pytest.raises(ArgumentError, match=r"far\.example may charge .*`price_in=`.* `cap=0`"):
        Judge(far)
    assert Judge(far, limits=RequestLimits(cap=0.0)).limits.cap == 0
    assert Judge(Endpoint("http://localhost:1/v1", "m", key_env="TEST_KEY")).limits.cap is None


def test_a_letter_of_chinese_counts_about_a_token():
    """Not a third of one: an estimate that is too low would let a run pass its cap."""
    estimates = []
    for text in ("a" * 700, "\u732b" * 700):
        with serving(lambda *_: completion("1")) as server:
            scorer = judging(server, confirm=lambda e: estimates.append(e.cost) or False, price_in=1e6, cap=1e9)
            with pytest.raises(RunError, match="not confirmed"):
                graded(scorer, text)
    assert estimates[1] - estimates[0] == pytest.approx(400)


def test_nonsense_that_was_paid_for_counts_towards_the_cost():
    with serving(lambda *_: completion("", usage=(1_000_000, 0))) as server:
        scorer = judging(server, confirm=lambda _: True, price_in=1.0, cap=50.0, tries=3)
        graded(scorer, "a")
        assert scorer.usage.cost == pytest.approx(3.0)


def test_requests_keep_the_pace(monkeypatch):
    times = []
    monkeypatch.setattr(Endpoint, "ask", lambda *_: times.append(time.monotonic()) or Reply("1", None))
    endpoint = Endpoint("http://127.0.0.1:1/v1", "m", key_env="TEST_KEY")
    scorer = Judge(endpoint, limits=RequestLimits(per_minute=600, workers=4))
    assert graded(scorer, *"abcdef") == [1] * 6
    assert times[-1] - times[0] > 0.45  # 5 gaps of 0.1 s


def test_a_price_needs_a_cap_and_a_key_never_travels_in_the_open(monkeypatch):
    with pytest.raises(ArgumentError, match="a price needs a cap"):
        Judge(Endpoint("http://127.0.0.1:1", "m"), limits=RequestLimits(price_in=1.0))
    with pytest.raises(ArgumentError, match=r"would go to far\.example unencrypted"):
        Endpoint("http://far.example/v1", "m", key_env="TEST_KEY")
    assert Endpoint("https://far.example/v1", "m", key_env="TEST_KEY").model == "m"
    with pytest.raises(ArgumentError, match="url must be like"):
        Endpoint(f"https://user:{KEY}@far.example", "m")
    with pytest.raises(ArgumentError, match="parse must be one of"):
        RequestLimits(parse="x")


def test_an_interruption_keeps_what_came(tmp_path):
    class Stop(KeyboardInterrupt):
        pass

    def progress(stage, done, total):
        if done == 2:
            raise Stop

    with serving(lambda *_: completion("9")) as server, IndicatorCache(tmp_path / "s") as cache:
        with pytest.raises(Stop):
            judge(["q"] * 5, list("abcde"), scorer=judging(server, cache=cache, workers=1), progress=progress)
        came = len(server.prompts)
        assert came < 5
        scorer = judging(server, cache=cache)
        assert graded(scorer, *"abcde") == [9] * 5
        assert len(server.prompts) <= 6, "at most the one under way was lost"
        assert scorer.usage.cached >= 2
