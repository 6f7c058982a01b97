"""Several settings side by side: gains by hand, what the reference would need, and what may be claimed."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from datawinnow import report
from datawinnow.core.errors import RunError
from datawinnow.report import comparison
from datawinnow.report.svg import standalone
from tests.report import fixtures

SEEDS = range(5)


def row(method: str, keep: float, seed: int, accuracy: float, scenario: str = "clean") -> dict:
    row_of_full = next(r for r in fixtures.grid() if r["method"] == "shorter_full")
    new = {"method": method, "label": method, "keep": keep, "seed": seed, "accuracy": accuracy, "scenario": scenario}
    passes = keep * 60 * row_of_full["n"]
    return {**row_of_full, "changed_kept": None, "epochs": 60, "passes": passes, "total_passes": passes, **new}


def write(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One setting where `ucb` gains 1 to 1.4 points at 30 passes and nothing at 60; a noisy one with two seeds."""
    rows = []
    for seed in SEEDS:
        of = ((0.25, 0.70, 0.02), (0.5, 0.75, 0.01 + seed / 1000), (1.0, 0.80, 0.001 * (-1) ** seed))
        for keep, base, gain in of:
            rows.append(row("shorter_full", keep, seed, base + seed / 100))
            rows.append(row("ucb", keep, seed, base + seed / 100 + gain))
    write(tmp_path / "c" / "cifar", rows)
    noisy = []
    for seed in (0, 1):
        noisy.append(row("shorter_full", 1.0, seed, 0.6, "symmetric 0.2"))
        noisy.append(row("ucb", 1.0, seed, 0.7 + seed / 100, "symmetric 0.2"))
    write(tmp_path / "c" / "noisy", noisy)
    return tmp_path / "c"


def test_gains_are_paired_and_the_reference_has_none(folder: Path) -> None:
    arms = {(a.setting, a.budget, a.method): a for a in comparison.read_runs(folder)}
    assert {key[:2] for key in arms} == {("cifar", 15), ("cifar", 30), ("cifar", 60), ("noisy, symmetric 0.2", 60)}
    arm = arms["cifar", 30, "ucb"]
    assert arm.gain is not None
    assert arm.gain.interval.mean == pytest.approx(0.012)
    assert arm.gain.interval.half == pytest.approx(2.776 * 0.0015811 / math.sqrt(5), rel=1e-3)
    assert arm.seeds == tuple(SEEDS)
    assert arms["cifar", 30, "shorter_full"].gain is None


def test_what_the_reference_needs_lies_between_its_budgets(folder: Path) -> None:
    arms = {(a.budget, a.method): a for a in comparison.read_runs(folder) if a.setting == "cifar"}
    # 0.782 between 0.77 at 30 and 0.82 at 60 passes
    expected = 30 * 2 ** ((0.782 - 0.77) / 0.05)
    assert arms[30, "ucb"].needs == pytest.approx(expected, rel=1e-5)
    assert arms[30, "ucb"].saves == pytest.approx(expected / 30, rel=1e-5)
    assert arms[60, "ucb"].needs is None  # better than all that was run: nobody knows
    assert arms[30, "shorter_full"].needs is None
    assert {a.upper_bound_epochs for a in arms.values()} == {None}  # at 60 passes there is nothing longer


def test_the_factor_is_paired_by_seed(folder: Path) -> None:
    arms = {(a.budget, a.method): a for a in comparison.read_runs(folder) if a.setting == "cifar"}
    # a gain of 0.010 to 0.014 on a curve that rises by 0.05 from 30 to 60 passes
    logs = [math.log(2) * (0.01 + seed / 1000) / 0.05 for seed in SEEDS]
    factor = arms[30, "ucb"].factor
    assert factor is not None
    assert factor.mean == pytest.approx(sum(logs) / 5)
    assert factor.half == pytest.approx(2.776 * math.log(2) * 0.0015811 / 0.05 / math.sqrt(5), rel=1e-3)
    assert arms[60, "ucb"].factor is None


@pytest.mark.parametrize(
    ("settings", "is_shared"),
    [({"train": {"lr": 0.4, "epochs": 60}}, True), ({"train": {"lr": 0.8, "epochs": 60}}, False), (None, False)],
    ids=["the same but for the length", "another rate", "no settings"],
)
def test_budgets_in_folders_of_their_own_share_their_reference(tmp_path: Path, settings, is_shared) -> None:
    short = [row("shorter_full", 1.0, seed, 0.70 + seed / 100) for seed in SEEDS]
    short += [row("ucb", 1.0, seed, 0.75 + seed / 100) for seed in SEEDS]
    longer = [row("shorter_full", 1.0, seed, 0.80 + seed / 100) for seed in SEEDS]
    write(tmp_path / "at_30", [{**r, "epochs": 30, "passes": r["passes"] / 2} for r in short])
    write(tmp_path / "at_60", longer)
    for name, of in (("at_30", {"train": {"lr": 0.4, "epochs": 30}}), ("at_60", settings)):
        if of is not None:
            (tmp_path / name / "grid.json").write_text(json.dumps({"format": 1, "kind": "grid", "settings": of}))
    [arm] = [a for a in comparison.read_runs(tmp_path) if a.method == "ucb"]
    assert arm.gain is not None
    assert (arm.against, arm.gain.difference) == (30, pytest.approx(0.05))
    assert arm.needs == (pytest.approx(30 * math.sqrt(2)) if is_shared else None)


def falling(folder: Path) -> list[comparison.MethodRun]:
    """Wrong labels: all the data get worse with their passes, 70, 69 and 60%, and what is guarded does not."""
    rows = []
    for seed in SEEDS:
        for keep, base in ((0.25, 0.70), (0.5, 0.69), (1.0, 0.60)):
            rows.append(row("shorter_full", keep, seed, base + seed / 100))
        rows.append(row("guarded", 0.25, seed, 0.701 + seed / 100 + 0.01 * (-1) ** seed))  # ahead, within noise
        rows.append(row("guarded", 0.5, seed, 0.75 + seed / 100 + 0.001 * (-1) ** seed))
        rows.append(row("guarded", 1.0, seed, 0.69 + seed / 100 + 0.001 * (-1) ** seed))  # above 60%, below 70%
        rows.append(row("below", 0.5, seed, 0.68 + seed / 100))
    for each in rows:
        each["trained_epochs"] = 43 if each["method"] != "shorter_full" else each["keep"] * 60
    write(folder / "noisy", rows)
    return comparison.read_runs(folder)


def test_the_gain_is_over_the_best_run_of_no_more_passes(tmp_path: Path) -> None:
    arms = {(a.budget, a.method): a for a in falling(tmp_path)}
    gains = {key: (a.against, round(100 * a.gain.difference, 2), a.gain.outcome) for key, a in arms.items() if a.gain}
    assert gains == {
        (15, "guarded"): (15, 0.3, "ties"),
        (30, "guarded"): (15, 5.02, "wins"),
        (30, "below"): (15, -2.0, "loses"),
        (60, "guarded"): (15, -0.98, "loses"),  # 9 points over as many passes, which is no way to train
    }
    text = comparison.comparison_markdown(tmp_path)
    assert "| +5.0 ± 0.1 against 15 passes better |" in text
    assert "| -1.0 ± 0.1 against 15 passes LOSES |" in text
    assert "against 15 passes" in report.write(tmp_path).read_text()


def test_what_no_length_reaches_is_said_so_and_not_sold_as_half_the_passes(tmp_path: Path) -> None:
    arms = falling(tmp_path)
    savings = {(a.budget, a.method): (a.needs, a.upper_bound_epochs, a.saves) for a in arms if a.gain}
    assert savings == {
        (15, "guarded"): (None, None, None),  # better in the mean than each, and not beyond noise
        (30, "guarded"): (None, 60, 2),
        (30, "below"): (None, None, None),  # 15 passes are more than enough
        (60, "guarded"): (None, None, None),
    }
    summary = comparison.summary(arms)
    never = "No length of all the data reaches it in noisy (guarded, 30 passes; all the data up to 60 were tried)."
    assert never in summary
    assert "Half the passes" not in summary
    assert "| more than 60 passes (over 2.00x) |" in comparison.comparison_markdown(tmp_path)
    assert comparison.comparison_markdown(tmp_path).count("more than") == 1


def test_half_the_passes_are_enough_where_more_of_them_help_all_the_data(tmp_path: Path) -> None:
    rows = []
    for seed in SEEDS:
        for keep, base in ((0.25, 0.70), (0.5, 0.75), (1.0, 0.80)):
            rows.append({**row("shorter_full", keep, seed, base + seed / 100), "trained_epochs": keep * 60})
        rows.append({**row("ucb", 0.25, seed, 0.76 + seed / 100), "trained_epochs": 21})
        rows.append({**row("ucb", 0.5, seed, 0.82 + seed / 100), "trained_epochs": 43})
        noisy = 0.76 + seed / 100 + 0.1 * (-1) ** seed
        rows.append({**row("lucky", 0.25, seed, noisy), "trained_epochs": 21})
    write(tmp_path / "c", rows)
    arms = comparison.read_runs(tmp_path)
    savings = {(a.budget, a.method): (a.saves, comparison.needed_words(a)) for a in arms if a.gain}
    expected = 30 * 2 ** ((0.78 - 0.77) / 0.05)
    assert savings[15, "ucb"] == (pytest.approx(expected / 15), f"{expected:.1f} passes (2.30x, 95%: 2.30 to 2.30)")
    assert savings[30, "ucb"] == (2, "more than 60 passes (over 2.00x)")
    assert savings[15, "lucky"][1] == "-"  # as much in the mean, but nobody knows
    assert "Half the passes or fewer are enough in c (ucb, 15 passes: all the data need 34.5 passes)" in (
        comparison.summary(arms)
    )
    assert "No length" not in comparison.summary(arms)


def test_a_plan_paid_beforehand_pays_back_after_the_runs_that_save_it(folder: Path) -> None:
    rows = (folder / "cifar" / "rows.jsonl").read_text().splitlines()
    again = []
    for seed in SEEDS:
        for keep, accuracy in ((0.5, 0.782), (0.25, 0.72)):
            repeated = row("again", keep, seed, accuracy + (seed - 2) / 100)
            again.append(json.dumps({**repeated, "total_passes": repeated["passes"] + 6 * repeated["n"]}))
    (folder / "cifar" / "rows.jsonl").write_text("\n".join(rows + again) + "\n")
    arms = {(a.budget, a.method): a for a in comparison.read_runs(folder) if a.setting == "cifar"}
    needs = 30 * 2 ** ((0.782 - 0.77) / 0.05)
    assert arms[30, "again"].upfront_cost == pytest.approx(6, rel=1e-6)
    assert arms[30, "again"].pays_back == pytest.approx(6 / (needs - 30), rel=1e-5)
    assert arms[15, "again"].pays_back == math.inf  # 0.72 is what the reference has at 15 passes
    assert arms[30, "ucb"].pays_back is None
    text = comparison.comparison_markdown(folder)
    assert f"6.0 paid upfront: pays back after {6 / (needs - 30):.1f} runs" in text
    assert "6.0 paid upfront: never pays back" in text
    noise = [{**r, "accuracy": r["accuracy"] + 0.1 * (-1) ** r["seed"]} for r in map(json.loads, again)]
    (folder / "cifar" / "rows.jsonl").write_text("\n".join(rows + [json.dumps(r) for r in noise]) + "\n")
    markdown = comparison.comparison_markdown(folder)
    assert "-; 6.0 paid upfront |" in markdown  # as much in the mean, and nobody knows whether it saves anything
    assert "pays back after" not in markdown


def test_only_five_seeds_make_a_claim(folder: Path) -> None:
    summary = comparison.summary(comparison.read_runs(folder))
    assert "cifar at 15 passes (ucb, +2.0" in summary
    assert "cifar at 30 passes (ucb, +1.2 ± 0.2 points)" in summary
    assert "Nothing beats it in cifar at 60 passes." in summary
    assert "Not settled (fewer than 5 seeds): noisy, symmetric 0.2 at 60 passes." in summary


def test_a_control_what_was_paid_beforehand_and_a_setting_that_tunes_win_nothing(tmp_path: Path) -> None:
    """Their gains stand in the tables, and the verdict is about choosing at equal cost."""
    rows = []
    for seed in SEEDS:
        base, extra = 0.7 + seed / 100, {"trained_epochs": 30}
        rows.append({**row("shorter_full", 0.5, seed, base), **extra})
        rows.append({**row("focal", 0.5, seed, base + 0.05), **extra})
        short = row("smooth", 0.5, seed, base + 0.05)  # the last half of a batch was left out, which is no choice
        rows.append({**short, "trained_epochs": 30.014})
        again = row("again", 0.5, seed, base + 0.06)
        rows.append({**again, "trained_epochs": 43, "total_passes": again["passes"] * 1.2})
        rows.append({**row("ucb", 0.5, seed, base + 0.01), "trained_epochs": 43})
    write(tmp_path / "c" / "cifar", rows)
    write(tmp_path / "c" / "cifar_tuning", rows)
    arms = {(a.setting, a.method): a for a in comparison.read_runs(tmp_path / "c")}
    assert {key[1] for key, arm in arms.items() if arm.fair} == {"ucb"}
    assert not arms["cifar", "focal"].chooses
    assert not arms["cifar", "smooth"].chooses
    assert not arms["cifar", "shorter_full"].chooses
    assert arms["cifar", "again"].chooses
    summary = comparison.summary(list(arms.values()))
    assert summary == "Choosing beats all the data for fewer epochs in cifar at 30 passes (ucb, +1.0 ± 0.0 points)."
    assert "Half the passes" not in summary
    longer_rows = [{**row("other", 0.5, s, 0.7 + s / 100), "trained_epochs": 43} for s in SEEDS]
    write(tmp_path / "d" / "cifar", rows + longer_rows)
    summary = comparison.summary(comparison.read_runs(tmp_path / "d"))
    assert "in cifar at 30 passes (ucb, +1.0 ± 0.0 points, the best of 2)." in summary
    table = report.comparison_markdown(tmp_path / "c")
    assert "| 30 | focal | 5 |" in table
    assert "| 30 | again | 5 |" in table
    drawn = str(comparison.gain_map(list(arms.values())))
    assert ">cifar<" in drawn
    assert "tuning" not in drawn


def test_the_best_of_many_must_win_by_more(tmp_path: Path) -> None:
    rows = []
    for seed in SEEDS:
        rows.append({**row("shorter_full", 1.0, seed, 0.7), "trained_epochs": 60})
        for i in range(5):
            gain = 0.01 + 0.004 * (seed - 2) if i == 0 else 0.0  # +1.0 ± 0.8 points, and nothing
            rows.append({**row(f"arm{i}", 1.0, seed, 0.7 + gain), "trained_epochs": 86})
    write(tmp_path / "many" / "a", rows)
    write(tmp_path / "one" / "a", [r for r in rows if r["method"] in ("shorter_full", "arm0")])
    assert comparison.summary(comparison.read_runs(tmp_path / "one")).startswith(
        "Choosing beats all the data for fewer epochs in a"
    )
    assert comparison.summary(comparison.read_runs(tmp_path / "many")) == "Nothing beats it in a at 60 passes."
    few = [r for r in rows if r["method"] in ("shorter_full", "arm0") or r["seed"] < 4]  # four seeds are no rival
    write(tmp_path / "few" / "a", few)
    assert "arm0, +1.0 ± 0.8 points)" in comparison.summary(comparison.read_runs(tmp_path / "few"))


def test_the_map_alone_is_a_whole_file_with_its_own_colours(folder: Path) -> None:
    text = standalone(comparison.gain_map(comparison.read_runs(folder)), "Gains & losses")
    root = ElementTree.fromstring(text)
    assert root[0].text == "Gains & losses"
    used = set(re.findall(r"var\((--\w+)\)", text))
    assert "--ink" in used
    for theme in text.split("@media")[:2]:
        assert [name for name in sorted(used) if f"{name}:#" not in theme] == []
    with pytest.raises(ValueError, match="must be a result of to_svg, got 'a page'"):
        standalone("a page", "x")


def test_the_page_and_the_markdown_say_the_same(folder: Path) -> None:
    page = report.write(folder)
    assert page == folder / "report.html"
    text = page.read_text()
    for snippet in ("When does choosing pay?", "<h2>cifar</h2>", "noisy, symmetric 0.2", "+1.2 ± 0.2", "<svg"):
        assert snippet in text, snippet
    table = report.comparison_markdown(folder)
    assert (
        "| 30 | ucb | 5 | 78.2 ± 2.2 | +1.2 ± 0.2 better | 35.4 passes (1.18x, 95%: 1.15 to 1.21) | 1.5 GFLOPs | 15 s |"
        in table
    )
    assert "| 60 | shorter_full | 5 |" in table


def test_a_folder_without_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no settings at .* datawinnow bench benchmarks/comparison\.toml"):
        comparison.read_runs(tmp_path)
    with pytest.raises(RunError, match="there is no run and there are no results"):
        report.write(tmp_path)


def test_a_folder_of_results_without_a_shorter_full_run_has_no_page(tmp_path: Path) -> None:
    for setting in ("a", "b"):
        (tmp_path / setting).mkdir()
        rows = [fixtures.row(method, 0.3, 0, 0.6) for method in ("random", "dual")]
        fixtures.write_rows(tmp_path / setting / "rows.jsonl", rows)
    with pytest.raises(RunError, match=r"hold a run beside all the data for fewer epochs \(a, b\).* report .*/a$"):
        report.write(tmp_path)
    assert not (tmp_path / "report.html").exists()
    fixtures.write_rows(tmp_path / "b" / "rows.jsonl", [*rows, fixtures.row("shorter_full", 0.3, 0, 0.6)])
    assert report.write(tmp_path).exists()
