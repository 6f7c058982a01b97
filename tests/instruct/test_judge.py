"""The judge against an endpoint that stalls, lies, refuses and answers nonsense: named, counted, paid for once."""

from __future__ import annotations

import json
import socket
import time

import pytest

from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.instruct.endpoint import Answered, AskError, Endpoint, patiently
from datawinnow.instruct.judge import Judge, judge
from datawinnow.instruct.store import Store
from datawinnow.instruct.terms import Terms
from tests.instruct.stub import said, serving

KEY = "sk-secret-1234567890"
QUICK = {"first": 0.001, "longest": 0.05, "workers": 2}


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def judging(server, *, store=None, confirm=None, timeout=5.0, **terms):
    return Judge(
        Endpoint(server.url, "m", key_env="TEST_KEY", timeout=timeout),
        terms=Terms(**{**QUICK, **terms}),
        store=store,
        confirm=confirm,
    )


def graded(by, *texts):
    return judge(["q"] * len(texts), list(texts), by=by).tolist()


def by_answer(replies):
    """A reply for each answer, found in the prompt."""

    def reply(prompt, times):
        found = next(value for text, value in replies.items() if json.dumps(text) in prompt)
        return found(times) if callable(found) and getattr(found, "by_times", False) else found

    return reply


def by_times(function):
    function.by_times = True
    return function


def test_grades_come_back_in_order_and_equal_pairs_are_asked_once():
    with serving(by_answer({"a": said("10"), "b": said("20"), "c": said("30")})) as server:
        by = judging(server)
        assert graded(by, "c", "a", "b", "a") == [30, 10, 20, 10]
        assert len(server.asked) == 3
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert (by.account.asked, by.account.failed) == (3, {})


def test_nothing_is_paid_for_twice_not_even_nonsense(tmp_path):
    with serving(by_answer({"a": said("10"), "b": said("dunno")})) as server:
        for asked, stored in ((2, 0), (0, 1)):
            with Store(tmp_path / "s.sqlite") as store:
                by = judging(server, store=store)
                found = graded(by, "a", "b")
            assert found[0] == 10
            assert found[1] != found[1]
            assert (by.account.asked, by.account.stored) == (asked, stored)
            assert by.account.failed == {"no number": [1]}
            assert by.account.told() == ["1 without a grade: no number: pairs 1 (first: 'dunno')"]
        server.reply = by_answer({"b": said("44")})
        with Store(tmp_path / "s.sqlite") as store:
            by = judging(server, store=store, again=True)
            assert graded(by, "a", "b") == [10, 44]
        assert by.account.failed == {}


def test_what_may_pass_is_asked_again_with_patience():
    replies = [(503, b"busy", {}), (429, b"slow down", {"Retry-After": "0"}), said("77")]
    with serving(lambda prompt, times: replies[min(times, 3) - 1]) as server:
        assert graded(judging(server), "a") == [77]
        assert len(server.asked) == 3


def test_waits_double_obey_the_endpoint_and_end():
    waits, left = [], [AskError("x"), AskError("x"), AskError("x", after=7.0), AskError("x")]

    def ask():
        if left:
            raise left.pop(0)
        return Answered("1", None)

    options = {"first": 1.0, "most": 8.0, "jitter": lambda: 1.0, "sleep": waits.append}
    assert patiently(ask, tries=5, **options).text == "1"
    assert waits == [1.0, 2.0, 7.0, 8.0]
    left[:] = [AskError("x", after=9.0)]
    with pytest.raises(AskError):
        patiently(ask, tries=5, **options)
    left[:] = [AskError("x")] * 5
    with pytest.raises(AskError):
        patiently(ask, tries=5, **options)
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
    "empty": (said("  "), "empty answer"),
    "lies": (said("150"), "out of range"),
    "another model": (said("80", model="cheap"), "another model"),
    "redirect": ((302, b"", {"Location": "http://127.0.0.1:9/"}), "HTTP 302"),
    "too long": (said("9" * 1_100_000), "too long"),
}


@pytest.mark.parametrize(("reply", "kind"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_has_its_name_and_the_others_are_graded(reply, kind):
    with serving(by_answer({"a": said("10"), "b": reply})) as server:
        by = judging(server, tries=2, timeout=0.4)
        start = time.monotonic()
        if kind == "HTTP 302":
            with pytest.raises(RunError, match=r"refuses .HTTP 302"):
                graded(by, "a", "b")
        else:
            found = graded(by, "a", "b")
            assert found[0] == 10
            assert found[1] != found[1]
        assert list(by.account.failed) == [kind]
        assert time.monotonic() - start < 4, "two tries of 0.4 s"


def test_a_version_of_the_model_is_the_model():
    with serving(lambda *_: said("50", model="m-2026-01-01")) as server:
        assert graded(judging(server), "a") == [50]


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_a_refusal_ends_at_once_and_never_shows_the_key(status, tmp_path):
    body = f'{{"error": "wrong key {KEY}"}}'.encode()
    with serving(by_answer({"a": said("10"), "b": (status, body, {})})) as server, Store(tmp_path / "s") as store:
        by = judging(server, store=store, workers=1)
        with pytest.raises(RunError, match=rf"HTTP {status}\b") as error:
            graded(by, "a", *["b"] * 3)
        assert len(server.asked) == 2, "not asked again"
        assert KEY not in str(error.value)
        assert KEY not in " ".join(by.account.told()) + repr(by.endpoint) + repr(by.own)
        server.reply = lambda *_: said("20")
        again = judging(server, store=store)
        assert graded(again, "a", "b") == [10, 20]
        assert (again.account.asked, again.account.stored) == (1, 1)
    assert KEY.encode() not in (tmp_path / "s").read_bytes()


SENT_BACK = {
    "cut in two by what is shown of it": b"x" * 70 + KEY.encode(),
    "as an answer": said(f"80 {KEY}"),
    "with escapes": said(KEY).replace(b"sk-", b"\\u0073k-"),
    "as its model": said("80", model=KEY),
    "beside a refusal, cut in two": (400, b"y" * 190 + KEY.encode(), {}),
}


@pytest.mark.parametrize("reply", SENT_BACK.values(), ids=SENT_BACK.keys())
def test_a_key_that_is_sent_back_is_shown_and_kept_nowhere(reply, tmp_path):
    with serving(lambda *_: reply) as server, Store(tmp_path / "s") as store:
        by, said_ = judging(server, store=store, tries=1), ""
        try:
            graded(by, "a")
        except RunError as error:
            said_ = str(error)
        shown = " ".join([*by.account.told(), said_])
        assert by.account.failed
        assert KEY[:6] not in shown
        assert KEY[:6].encode() not in (tmp_path / "s").read_bytes()


def test_a_line_end_behind_the_key_is_not_part_of_it_and_no_key_is_shown_in_an_error(monkeypatch):
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n")
    with serving(lambda *_: said("50")) as server:
        assert graded(judging(server), "a") == [50]
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        monkeypatch.setenv("TEST_KEY", f"{KEY}\nb")
        with pytest.raises(ArgumentError, match="the key in TEST_KEY holds letters that no key has") as error:
            judging(server)
    assert KEY not in str(error.value)


def test_an_endpoint_that_is_down_is_given_up_on_and_what_came_is_kept(tmp_path):
    with serving(lambda prompt, times: said("5") if '"t0"' in prompt else (500, b"", {})) as server:
        by = judging(server, tries=1, workers=1)
        with pytest.raises(RunError, match=r"failed 10 times in a row .HTTP 500.*the 1 answers until then are kept"):
            graded(by, *[f"t{i}" for i in range(30)])
        assert len(server.asked) == 11
    closed = Endpoint(server.url, "m", key_env="TEST_KEY", timeout=1)
    by = Judge(closed, terms=Terms(tries=1, **QUICK))
    assert graded(by, "a") != [1]
    assert list(by.account.failed) == ["no connection"]


def test_the_cost_is_asked_for_before_it_starts_and_never_passes_the_cap(tmp_path):
    told = []
    with serving(lambda *_: said("60", usage=(1_000_000, 100_000))) as server, Store(tmp_path / "s") as store:
        prices = {"price_in": 1.0, "price_out": 10.0, "workers": 1}  # 2 a question, whatever was estimated
        no = judging(server, store=store, confirm=lambda e: told.append(e) or False, cap=100.0, **prices)
        with pytest.raises(RunError, match=r"5 questions would cost up to .* not confirmed"):
            graded(no, *"abcde")
        assert (told[0].questions, server.asked) == (5, [])
        assert told[0].money > 5 * 400 * 10 / 1e6, "at least the longest answers"
        with pytest.raises(RunError, match="not confirmed"):
            graded(judging(server, store=store, cap=100.0, **prices), *"abcde")
        capped = judging(server, store=store, confirm=lambda _: True, cap=5.0, **prices)
        with pytest.raises(RunError, match=r"cap of 5 is reached: 6 were spent, 2 questions are left; the 3 answers"):
            graded(capped, *"abcde")
        assert len(server.asked) == 3
        more = judging(server, store=store, confirm=lambda _: True, cap=50.0, **prices)
        assert graded(more, *"abcde") == [60] * 5
        assert (more.account.asked, more.account.stored) == (2, 3)
        assert more.account.spent == pytest.approx(4.0)
        # nothing left to ask: nobody is asked whether to pay
        assert graded(judging(server, store=store, cap=0.0, **prices), *"abcde") == [60] * 5


def test_a_foreign_endpoint_needs_a_cap_even_where_no_price_is_told():
    far = Endpoint("https://far.example/v1", "m", key_env="TEST_KEY")
    with pytest.raises(ArgumentError, match=r"far\.example may ask money .*--price-in.* cap=0 .--cap 0"):
        Judge(far)
    assert Judge(far, terms=Terms(cap=0.0)).terms.cap == 0
    assert Judge(Endpoint("http://localhost:1/v1", "m", key_env="TEST_KEY")).terms.cap is None


def test_a_letter_of_chinese_counts_about_a_token():
    """Not a third of one: an estimate that is too low would let a run pass its cap."""
    told = []
    for text in ("a" * 700, "\u732b" * 700):
        with serving(lambda *_: said("1")) as server:
            by = judging(server, confirm=lambda e: told.append(e.money) or False, price_in=1e6, cap=1e9)
            with pytest.raises(RunError, match="not confirmed"):
                graded(by, text)
    assert told[1] - told[0] == pytest.approx(400)


def test_nonsense_that_was_paid_for_counts_towards_the_cost():
    with serving(lambda *_: said("", usage=(1_000_000, 0))) as server:
        by = judging(server, confirm=lambda _: True, price_in=1.0, cap=50.0, tries=3)
        graded(by, "a")
        assert by.account.spent == pytest.approx(3.0)


def test_requests_keep_the_pace():
    with serving(lambda *_: said("1")) as server:
        graded(judging(server, per_minute=600, workers=4), *"abcdef")
        gaps = [b - a for a, b in zip(server.at, server.at[1:], strict=False)]
        assert server.at[-1] - server.at[0] > 0.45  # 5 gaps of 0.1 s
        assert max(gaps) < 2


def test_a_price_needs_a_cap_and_a_key_never_travels_in_the_open(monkeypatch):
    with pytest.raises(ArgumentError, match="a price needs a cap"):
        Judge(Endpoint("http://127.0.0.1:1", "m"), terms=Terms(price_in=1.0))
    with pytest.raises(ArgumentError, match=r"would go to far\.example unencrypted"):
        Endpoint("http://far.example/v1", "m", key_env="TEST_KEY")
    assert Endpoint("https://far.example/v1", "m", key_env="TEST_KEY").model == "m"
    with pytest.raises(ArgumentError, match="url must be like"):
        Endpoint(f"https://user:{KEY}@far.example", "m")
    with pytest.raises(ArgumentError, match="parse must be one of"):
        Terms(parse="x")


def test_an_interruption_keeps_what_came(tmp_path):
    class Stop(KeyboardInterrupt):
        pass

    def progress(what, done, total):
        if done == 2:
            raise Stop

    with serving(lambda *_: said("9")) as server, Store(tmp_path / "s") as store:
        with pytest.raises(Stop):
            judge(["q"] * 5, list("abcde"), by=judging(server, store=store, workers=1), progress=progress)
        came = len(server.asked)
        assert came < 5
        by = judging(server, store=store)
        assert graded(by, *"abcde") == [9] * 5
        assert len(server.asked) <= 6, "at most the one under way was lost"
        assert by.account.stored >= 2
