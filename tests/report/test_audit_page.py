"""The page of an audit in a real browser: rows paged, sorted, filtered and decided on, and nothing in them runs."""

from __future__ import annotations

import io
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from datawinnow.core.artifacts import write_table
from datawinnow.core.decisions import DECISION_COLUMNS, read_decisions
from datawinnow.core.errors import RunError
from datawinnow.core.issues import ISSUE_EXAMPLES_FILE, LEARNING_FILE, Issue, IssueTable, write_issues
from datawinnow.report import audit_page
from datawinnow.report.audit_page import write_audit_page
from tests.report.conftest import Driver

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u2028<!--"
CLASSES = ["cat", "dog", HOSTILE]


def webp(seed: int, side: int = 8) -> bytes:
    packed = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(packed, format="WEBP")
    return packed.getvalue()


def issue_rows(n: int) -> list[Issue]:
    """N label errors with falling severity, a group of three duplicates, an outlier in test, and issues of classes."""
    rows = [
        Issue(
            "label", i, 1 - i / n, f"p of the label {i / n:.3f}", suggested_label="dog", suggested_probability=0.5,
            action="relabel:dog" if i % 2 else "look",
        )
        for i in range(n)
    ]  # fmt: skip
    rows += [
        Issue("duplicate", i, 1.0, "the pixels of train 2", group=0, action="drop" if i != 2 else "keep")
        for i in (2, 3, 4)
    ]
    rows += [
        Issue("outlier", 1, 0.8, HOSTILE, split="test", action="keep"),
        Issue("confused", -1, 0.4, "cat and dog: 30 times"),
    ]
    return [*rows, Issue("broken", 5, 0.9, 'blank, "quoted"', action="drop")]


def audited(folder: Path, rows: list[Issue], *, n: int, ids: list[str] | None = None, texts: bool = False) -> Path:
    """A folder with the files of an audit."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"train": ids or [f"id{i}" for i in range(n)], "test": ["t0", HOSTILE]}
    labels = {"train": [CLASSES[i % 3] for i in range(n)], "test": ["cat", "dog"]}
    table = IssueTable.of(rows, ids=names, labels=labels)
    metadata = {"dataset": HOSTILE, "fingerprint": "ab" * 8, "n": {"train": n, "test": 2}, "classes": CLASSES}
    write_issues(folder / "issues.parquet", table, metadata)
    shown = [(issue.split, issue.example) for issue in table if issue.example >= 0][:40]
    shown = list(dict.fromkeys(shown))
    content = {"text": [f"text of {i} {HOSTILE}" for _, i in shown]} if texts else {
        "image": [webp(i) for _, i in shown], "side": [8] * len(shown)
    }  # fmt: skip
    examples = pa.table({"split": [s for s, _ in shown], "example": [i for _, i in shown], **content})
    write_table(folder / ISSUE_EXAMPLES_FILE, examples, {"fingerprint": "ab" * 8})
    rng = np.random.default_rng(0)
    learning = pa.table({"p_mean": rng.random(n, dtype=np.float32), "p_std": rng.random(n, dtype=np.float32) / 2})
    write_table(folder / LEARNING_FILE, learning, {"fingerprint": "ab" * 8})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audited(tmp_path_factory.mktemp("audit") / "run", issue_rows(120), n=120)


def opened(browser: Driver, page: Path) -> None:
    browser.ask("POST", "/window/rect", {"width": 1280, "height": 1000})
    browser.ask("POST", "/url", {"url": page.as_uri()})


def run(browser: Driver, script: str) -> Any:
    return browser.ask("POST", "/execute/sync", {"script": script, "args": []})


def shown(browser: Driver) -> list[list[str]]:
    """The cells of the rows that the table shows; of the last one, the chosen action."""
    return run(
        browser,
        "return [...document.querySelectorAll('#rows tr')].map(row => [...row.cells].map((cell, k) => "
        "k === 5 ? cell.querySelector('select').value : cell.innerText))",
    )


def choose(browser: Driver, control: str, value: str) -> None:
    run(
        browser,
        f"const c = document.getElementById({json.dumps(control)}); c.value = {json.dumps(value)}; "
        "c.dispatchEvent(new Event('input')); c.dispatchEvent(new Event('change'))",
    )


def click(browser: Driver, selector: str) -> None:
    run(browser, f"document.querySelector({json.dumps(selector)}).click()")


def test_the_page_is_one_file_whose_only_script_is_ours(folder: Path) -> None:
    text = write_audit_page(folder).read_text()
    assert text.count("<script") == 2
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy.group(1)
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='$", policy.group(1))
    assert "unsafe-inline" not in policy.group(1).split("script-src")[1]
    assert "'owned'</script>" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "Audit of" in text
    assert "Of a group of duplicates the test example is kept" in text
    assert "30 times" in text


@pytest.mark.parametrize("letter", ["<", ">", "&", "\u2028", "\u2029", "\udc80"])
def test_no_letter_of_a_dataset_ends_the_script(letter: str) -> None:
    text = audit_page.script_json({"a": f"x{letter}/script>"})
    assert letter not in text.replace("/script>", "").replace("\\u", "") or letter == ">"
    assert "</" not in text
    assert "<" not in text
    assert json.loads(text)["a"].startswith("x")


def test_a_file_of_another_dataset_is_refused(tmp_path: Path) -> None:
    folder = audited(tmp_path / "run", issue_rows(12), n=12)
    write_table(folder / LEARNING_FILE, pa.table({"p_mean": [0.5], "p_std": [0.1]}), {"fingerprint": "cd" * 8})
    with pytest.raises(RunError, match="fingerprint"):
        write_audit_page(folder)
    (folder / LEARNING_FILE).unlink()
    (folder / ISSUE_EXAMPLES_FILE).unlink()
    assert write_audit_page(folder, tmp_path / "page.html").read_text().count("<tr") > 3


def test_an_audit_without_issues_has_a_page(tmp_path: Path) -> None:
    text = write_audit_page(audited(tmp_path / "run", [], n=3)).read_text()
    assert "No issue was seen" in text
    assert "Of a group of duplicates" not in text
    assert "<script" not in text


@pytest.mark.parametrize("limit", ["MAX_ROW_BYTES", "MAX_PAGE_BYTES"])
def test_what_a_page_cannot_hold_is_told(folder: Path, tmp_path: Path, monkeypatch: Any, limit: str) -> None:
    whole_page = len(write_audit_page(folder, tmp_path / "a.html").read_bytes())
    monkeypatch.setattr(audit_page, limit, 4000 if limit == "MAX_ROW_BYTES" else 12_000)
    text = write_audit_page(folder, tmp_path / "b.html").read_text()
    assert len(text.encode()) < whole_page
    data = json.loads(re.search(r'id="issues-data">(.*?)</script>', text, re.DOTALL).group(1))  # type: ignore[union-attr]
    if limit == "MAX_ROW_BYTES":
        missing = int(re.search(r"(\d+) rows of the least severity", text).group(1))  # type: ignore[union-attr]
        assert missing == 125 - len(data["issue"])
        kinds = {data["kinds"][k] for k in data["issue"]}
        assert kinds == {"label", "duplicate", "outlier", "broken"}  # each has its worst
        severities = [s for s, k in zip(data["severity"], data["issue"], strict=True) if data["kinds"][k] == "label"]
        assert min(severities) > 0.5
    else:
        assert "examples have no image here" in text
        assert 0 < len(data["images"]) < 40


def test_texts_of_markup_fit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_page, "MAX_ROW_BYTES", 100_000)
    rows = [Issue("label", i, 0.5, "<&>" * 100) for i in range(400)]
    page = write_audit_page(audited(tmp_path / "run", rows, n=400))
    data = re.search(r'id="issues-data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert data is not None
    assert 20_000 < len(data.group(1)) < 110_000
    assert "rows of the least severity" in page.read_text()


@pytest.mark.browser
def test_nothing_of_a_dataset_runs_in_the_page(folder: Path, browser: Driver) -> None:
    opened(browser, write_audit_page(folder))
    choose(browser, "kind", "5")  # outliers, whose evidence and id are hostile
    rows = shown(browser)
    assert len(rows) == 1
    assert "onerror" in rows[0][4]
    time.sleep(0.2)
    assert run(browser, "return document.title") != "owned"
    assert run(browser, "return document.querySelectorAll('img[src=x]').length") == 0
    # a script that got in would still be refused by the policy
    injected = (
        "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s);"
    )
    assert run(browser, injected + "return document.title") != "1"
    levels = [line for line in browser.ask("POST", "/se/log", {"type": "browser"}) if line["level"] == "SEVERE"]
    assert all("Content Security Policy" in line["message"] for line in levels)


@pytest.mark.browser
def test_rows_are_paged_and_sorted(folder: Path, browser: Driver) -> None:
    opened(browser, write_audit_page(folder))
    assert run(browser, "return document.getElementById('place').textContent") == "1 to 50 of 125"
    assert len(shown(browser)) == 50
    choose(browser, "kind", "4")
    first = [row[3] for row in shown(browser)]
    assert first[:3] == ["1.00", "0.99", "0.98"]
    click(browser, "#next")
    click(browser, "#next")
    assert run(browser, "return document.getElementById('place').textContent") == "101 to 120 of 120"
    assert len(shown(browser)) == 20
    assert run(browser, "return document.getElementById('next').disabled") is True
    click(browser, "th[data-column=severity] button")
    assert [row[3] for row in shown(browser)][:2] == ["1.00", "0.99"]
    click(browser, "th[data-column=severity] button")
    assert [row[3] for row in shown(browser)][:2] == ["0.01", "0.02"]
    assert run(browser, "return document.querySelector('th[data-column=severity]').ariaSort") == "ascending"
    click(browser, "th[data-column=evidence] button")
    evidence = [row[4] for row in shown(browser)]
    assert evidence == sorted(evidence)
    assert run(browser, "return document.documentElement.scrollWidth <= window.innerWidth")
    console = browser.ask("POST", "/se/log", {"type": "browser"})
    assert [line for line in console if line["level"] == "SEVERE"] == []
    images = run(browser, "return [...document.images].filter(i => i.complete && i.naturalWidth === 8).length")
    assert images >= 5


@pytest.mark.browser
def test_rows_are_filtered_by_each_control(folder: Path, browser: Driver) -> None:
    opened(browser, write_audit_page(folder))
    click(browser, "button[data-kind=duplicate]")
    assert {row[1].split("\n")[0] for row in shown(browser)} == {"duplicate"}
    assert len(shown(browser)) == 3
    choose(browser, "action", "drop")
    assert len(shown(browser)) == 2
    choose(browser, "kind", "")
    assert len(shown(browser)) == 3
    choose(browser, "action", "")
    choose(browser, "split", "1")
    assert len(shown(browser)) == 1
    choose(browser, "split", "")
    choose(browser, "least", "0.95")
    assert {float(row[3]) >= 0.95 for row in shown(browser)} == {True}
    choose(browser, "least", "0")
    choose(browser, "text", 'BLANK, "quoted')
    assert [row[4] for row in shown(browser)] == ['blank, "quoted"']
    choose(browser, "text", "")
    choose(browser, "class", "2")
    assert all("owned" in row[2] for row in shown(browser))
    choose(browser, "class", "")
    click(browser, "#rows .link")
    assert len(shown(browser)) == 3
    click(browser, "#ungroup")
    assert len(shown(browser)) == 50


@pytest.mark.browser
def test_decisions_are_exported_with_one_action_an_example(folder: Path, browser: Driver, tmp_path: Path) -> None:
    page = write_audit_page(folder, tmp_path / "page.html")
    opened(browser, page)
    browser.ask(
        "POST", "/goog/cdp/execute",
        {"cmd": "Browser.setDownloadBehavior", "params": {"behavior": "allow", "downloadPath": str(tmp_path)}},
    )  # fmt: skip
    assert run(browser, "return document.getElementById('export-decided').disabled") is True
    choose(browser, "text", "id7")
    rows = shown(browser)
    assert rows[0][0].strip() == "id7"
    assert rows[0][5] == "relabel:dog"
    decide = "const s = document.querySelector('#rows select'); s.value = 'keep'; s.dispatchEvent(new Event('change'))"
    run(browser, decide)
    choose(browser, "text", "id9")
    run(browser, decide.replace("keep", "look"))  # decides nothing
    choose(browser, "text", "")
    choose(browser, "kind", "2")
    click(browser, "#set")  # all duplicates: keep
    click(browser, "#export-decided")
    assert exported(tmp_path) == {"id7": "keep", "id2": "keep", "id3": "keep", "id4": "keep"}
    click(browser, "#export-all")
    everything = exported(tmp_path)
    # decisions come before suggestions, which are drop before relabel before keep; the test split is not there
    assert everything["id3"] == everything["id7"] == "keep"
    assert everything["id5"] == "drop"
    assert everything["id11"] == "relabel:dog"
    assert "id9" not in everything
    assert "id8" not in everything
    assert HOSTILE not in everything
    assert len(everything) == 59 + 2  # odd ones but 9, and 2 and 4


def exported(folder: Path) -> dict[str, str]:
    """The decisions in the downloaded file, which is removed."""
    file = folder / "decisions.csv"
    for _ in range(100):
        if file.exists() and file.stat().st_size:
            break
        time.sleep(0.05)
    decisions = read_decisions(file)
    header = file.read_text(encoding="utf-8").split("\n")[0]
    file.unlink()
    assert header == ",".join(DECISION_COLUMNS)
    assert decisions.fingerprint == "ab" * 8
    assert {decision.split for decision in decisions.rows} == {"train"}
    return {decision.id: decision.action for decision in decisions.rows}


@pytest.mark.browser
def test_names_with_commas_quotes_and_breaks_come_back_from_the_file(browser: Driver, tmp_path: Path) -> None:
    ids = ['a,"b"', "line\nbreak", "plain", "=1+1", "ünï"]
    rows = [Issue("broken", i, 0.9, "blank", action="drop") for i in range(5)]
    opened(browser, write_audit_page(audited(tmp_path / "run", rows, n=5, ids=ids)))
    browser.ask(
        "POST", "/goog/cdp/execute",
        {"cmd": "Browser.setDownloadBehavior", "params": {"behavior": "allow", "downloadPath": str(tmp_path)}},
    )  # fmt: skip
    click(browser, "#export-all")
    assert exported(tmp_path) == dict.fromkeys(ids, "drop")


@pytest.mark.browser
def test_a_hundred_thousand_rows_are_paged_in_a_page_under_20_mb(browser: Driver, tmp_path: Path) -> None:
    n = 100_000
    rows = [
        Issue(
            "label", i, 1 - i / n, f"mean p of the label 0.{i:06}, 3 of 10 neighbours have the label, learned late",
            suggested_label="dog", suggested_probability=0.75,
        )
        for i in range(n)
    ]  # fmt: skip
    start = time.perf_counter()
    page = write_audit_page(audited(tmp_path / "run", rows, n=n, ids=[f"train/{i:06}.png" for i in range(n)]))
    assert page.stat().st_size < 20e6
    assert time.perf_counter() - start < 60
    opened(browser, page)
    assert run(browser, "return document.getElementById('place').textContent") == "1 to 50 of 100,000"
    start = time.perf_counter()
    click(browser, "#last")
    choose(browser, "text", "0.09999")
    assert len(shown(browser)) == 10
    click(browser, "th[data-column=evidence] button")
    assert time.perf_counter() - start < 10


@pytest.mark.browser
def test_texts_are_shown(browser: Driver, tmp_path: Path) -> None:
    opened(browser, write_audit_page(audited(tmp_path / "run", issue_rows(9), n=9, texts=True)))
    assert any("text of 2 </script>" in row[0] for row in shown(browser))
    choose(browser, "text", "text of 5")
    assert {row[1] for row in shown(browser)} == {"label", "broken"}


def test_severity_and_order_survive(folder: Path) -> None:
    rows = issue_rows(20)
    table = IssueTable.of(rows, ids={"train": [str(i) for i in range(20)], "test": ["a", "b"]})
    examples = IssueTable(tuple(row for row in table if row.example >= 0))
    text, left_out = audit_page.page_data(examples, {"n": {"train": 20}, "classes": CLASSES}, None)
    data = json.loads(text)
    assert left_out == ""
    assert data["severity"] == [round(row.severity, 4) for row in examples]
    assert data["id"] == [row.id for row in examples]
    strange = IssueTable((replace(examples.rows[0], label="no class of the dataset"),))
    data = json.loads(audit_page.page_data(strange, {"n": {"train": 20}, "classes": CLASSES}, None)[0])
    assert data["classes"][data["label"][0]] == "no class of the dataset"
