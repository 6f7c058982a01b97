"""Plans and observations of the policies: seconds, state and memory, against forms written as in published code.

And what a `PolicySampler` adds to a step of training a ResNet-8, `observe` and the weights, against the loop without.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measuring import arguments, finish, in_child, interleaved, ratio, say
from torch import Tensor

from datawinnow.core.rng import forked, stream
from datawinnow.dynamic import (
    UCB,
    EpsilonGreedy,
    ExampleSwap,
    InfoBatch,
    OrderDP,
    PolicySampler,
    RandomPruning,
    RepeatedSubset,
    SeTa,
    rescaled,
)
from datawinnow.dynamic.policy import Policy, State
from datawinnow.models import build

SIZES = {"smoke": ((20_000, 1),), "default": ((200_000, 5),), "full": ((1_280_000, 7), (10_000_000, 5))}
"""(Examples, rounds) of each table."""
STEPS = {"smoke": (2_000, 2), "default": (50_000, 100), "full": (1_280_000, 300)}
"""Examples of the sampler whose overhead is measured, and pairs of steps."""
KEEP, BATCH = 0.5, 128
POLICIES: dict[str, Policy] = {
    "random": RandomPruning(KEEP),
    "random, rescaled": rescaled(RandomPruning(KEEP)),
    "rs2": RepeatedSubset(KEEP),
    "epsilon_greedy": EpsilonGreedy(KEEP, period=1),
    "ucb": UCB(KEEP, period=1),
    "info_batch": InfoBatch(epochs=100),
    "info_batch, percentile": InfoBatch(epochs=100, form="percentile"),
    "seta": SeTa(epochs=100),
    "order_dp": OrderDP(KEEP),
    "example_swap": ExampleSwap(KEEP, period=1),
}
GOALS = {
    "random": 60,
    "epsilon_greedy": 60,
    "ucb": 60,
    "info_batch": 100,
    "info_batch, percentile": 100,
}
"""Milliseconds a plan at 1.28M examples; at 10M ten times as many."""

Draws = np.random.Generator


def literal_random(score: np.ndarray, draws: Draws) -> object:
    """A choice without replacement, as a list."""
    return draws.choice(score.size, int(KEEP * score.size), replace=False).tolist()


def literal_rs2(score: np.ndarray, draws: Draws) -> object:
    """A shuffled list, of which a chunk."""
    order = np.arange(score.size)
    draws.shuffle(order)
    return order[: int(KEEP * score.size)].tolist()


def literal_ranked(score: np.ndarray, draws: Draws, random: float = 0.0) -> object:
    """A sort of all, the highest and some of the rest, shuffled."""
    k = int(KEEP * score.size)
    drawn = int(random * k)
    order = np.argsort(-score, kind="stable")
    chosen = np.concatenate([order[: k - drawn], draws.choice(order[k - drawn :], drawn, replace=False)])
    draws.shuffle(chosen)
    return chosen.tolist()


def literal_info_batch(score: np.ndarray, draws: Draws) -> object:
    """Masks and lists of ids, extended and shuffled, with a weight for every example."""
    easy = score < score.mean()
    ids = np.flatnonzero(easy)
    kept = draws.choice(ids, int(0.5 * ids.size), replace=False)
    weight = np.ones(score.size)
    weight[kept] = 2.0
    chosen = np.flatnonzero(~easy).tolist()
    chosen.extend(kept.tolist())
    return draws.permutation(chosen).tolist(), weight


def literal_percentile(score: np.ndarray, draws: Draws) -> object:
    """The same with two percentiles."""
    low, high = np.percentile(score, [20, 85])
    weight, chosen = np.ones(score.size), np.flatnonzero(score >= high).tolist()
    for group, share in ((score < low, 0.25), ((score >= low) & (score < high), 0.5)):
        ids = np.flatnonzero(group)
        kept = draws.choice(ids, int(share * ids.size), replace=False)
        weight[kept] = 1 / share
        chosen.extend(kept.tolist())
    return draws.permutation(chosen).tolist(), weight


def literal_seta(score: np.ndarray, draws: Draws) -> object:
    """scikit-learn's k-means on a column, and the groups under the window."""
    from sklearn.cluster import KMeans

    fitted = KMeans(10, n_init=1, random_state=int(draws.integers(1000))).fit(score[:, None])
    window = np.argsort(fitted.cluster_centers_[:, 0])[1:6]
    return draws.permutation(np.flatnonzero(np.isin(fitted.labels_, window))).tolist()


def literal_order_dp(score: np.ndarray, draws: Draws) -> object:
    """A choice, sorted."""
    pool = draws.choice(score.size, int(0.75 * score.size), replace=False)
    chosen = pool[np.argsort(-score[pool])][: int(KEEP * score.size)]
    return draws.permutation(chosen).tolist()


LITERAL: dict[str, Callable[[np.ndarray, Draws], object]] = {
    "random": literal_random,
    "rs2": literal_rs2,
    "epsilon_greedy": lambda score, draws: literal_ranked(score, draws, 0.1),
    "ucb": literal_ranked,
    "info_batch": literal_info_batch,
    "info_batch, percentile": literal_percentile,
    "seta": literal_seta,
    "order_dp": literal_order_dp,
}


def scattered(index: Tensor, loss: Tensor, alpha: float = 0.8) -> object:
    """UCB's mean and variance in float64, a gather and a scatter for every batch, as published code does it."""
    mean, variance = np.zeros(index.numel()), np.zeros(index.numel())
    for ids, x in zip(index.split(BATCH), loss.split(BATCH), strict=True):
        at, value = ids.numpy(), x.numpy()
        variance[at] = (1 - alpha) * variance[at] + alpha * (value - mean[at]) ** 2
        mean[at] = (1 - alpha) * mean[at] + alpha * value
    return mean, variance


def observe_all(policy: Policy, state: State, order: Tensor, loss: Tensor) -> State:
    """An epoch's losses in one call; they are gathered as a loop would."""
    return policy.observe(state, order, loss=loss[order])


def measure(n: int, rounds: int) -> dict[str, Any]:
    """Every policy's plan and observation, each against its literal form where there is one, in turns."""
    loss = torch.empty(n).exponential_(generator=stream(0, "benchmark", "loss"))
    order = torch.randperm(n, generator=stream(0, "benchmark", "order"))
    states: dict[str, State] = {}
    for name, policy in POLICIES.items():
        first, state = policy.plan(0, policy.init(n), partial(stream, 0))
        ids = first.index
        states[name] = policy.observe(state, ids, loss=loss[ids], correct=(loss[ids] < 1).float())
    actions: dict[str, Callable[[], object]] = {}
    for name, policy in POLICIES.items():
        actions[f"{name} plan"] = partial(policy.plan, 1, states[name], partial(stream, 0))
        if policy.needs == ("loss",):
            actions[f"{name} observe"] = partial(observe_all, policy, states[name], order, loss)
        if name in LITERAL:
            actions[f"{name} literal"] = partial(LITERAL[name], loss.numpy(), np.random.default_rng(0))
    actions["a scatter a step"] = lambda: scattered(order, loss)
    wall, cpu = interleaved(actions, rounds)
    return {name: row(name, states[name], n, wall, cpu) for name in POLICIES}


def row(name: str, state: State, n: int, wall: dict[str, list[float]], cpu: dict[str, list[float]]) -> dict[str, Any]:
    """Milliseconds and ratios of one policy."""
    plan, literal, observe = f"{name} plan", f"{name} literal", f"{name} observe"
    result: dict[str, Any] = {
        "plan_ms": 1e3 * statistics.median(wall[plan]),
        "plan_cpu_ms": 1e3 * statistics.median(cpu[plan]),
        "state_bytes": sum(value.nbytes for value in state.values() if isinstance(value, Tensor)) / n,
    }
    if name in GOALS:
        result["goal_ms"] = GOALS[name] * (10 if n > 2_000_000 else 1)
    if literal in wall:
        result["literal_ms"] = 1e3 * statistics.median(wall[literal])
        result["ratio"], result["cpu_ratio"] = ratio(wall[literal], wall[plan]), ratio(cpu[literal], cpu[plan])
    if observe in wall:
        result["observe_ms"] = 1e3 * statistics.median(wall[observe])
        result["observe_ratio"] = ratio(cpu["a scatter a step"], cpu[observe])
    return result


def overhead(n: int, pairs: int) -> dict[str, Any]:
    """A step of ResNet-8 on images of 32 x 32 with and without a sampler of ``n`` examples, in turns."""
    with forked(0, "benchmark"):
        model = build("resnet8", shape=(3, 32, 32), classes=10)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
        y = torch.randint(10, (BATCH,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    sampler = PolicySampler(InfoBatch(epochs=100), n)
    order = torch.tensor(list(sampler))[: n // BATCH * BATCH].split(BATCH)
    at = iter(range(2**40))

    def call(losses: Tensor) -> Tensor:
        index = order[next(at) % len(order)]
        sampler.observe(index, losses)
        return sampler.weight[index]

    def step(chosen: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x).float()
        losses = F.cross_entropy(logits, y, reduction="none")
        (losses * call(losses) if chosen else losses).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    alone = torch.rand(BATCH)
    actions: dict[str, Callable[[], object]] = {"off": lambda: step(False), "on": lambda: step(True)}
    wall, cpu = interleaved(actions, pairs, warm=3)
    _, calls = interleaved({"call": lambda: [call(alone) for _ in range(512)]}, max(3, pairs // 20))
    took = statistics.median(calls["call"]) / 512
    return {
        "n": n,
        "pairs": pairs,
        "step_ms": 1e3 * statistics.median(cpu["off"]),
        "call_us": 1e6 * took,
        "share": took / statistics.median(cpu["off"]),
        "ratio": ratio(wall["on"], wall["off"]),
        "cpu_ratio": ratio(cpu["on"], cpu["off"]),
    }


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    tables = []
    for n, rounds in SIZES[chosen]:
        say(f"a plan of {n:,} examples, keep {KEEP}; {rounds} rounds in turns; literal forms are numpy and lists")
        result, peak = in_child(measure, n, rounds)
        for name, each in result.items():
            line = f"{name:23} {each['plan_ms']:8.1f} ms ({each['plan_cpu_ms']:.1f} of CPU)"
            if "goal_ms" in each:
                line += f", goal {each['goal_ms']:.0f}"
            if "ratio" in each:
                line += f"; literal {each['literal_ms']:.0f} ms, {each['cpu_ratio']['median']:.1f}x its CPU seconds"
            if "observe_ms" in each:
                line += (
                    f"; observe {each['observe_ms']:.1f} ms, a scatter a step {each['observe_ratio']['median']:.0f}x"
                )
            say(f"{line}; state {each['state_bytes']:.0f} bytes an example")
        tables.append({"n": n, "rounds": rounds, "peak_mb": peak, "policies": result})
    step, _ = in_child(overhead, *STEPS[chosen])
    say(
        f"a step of ResNet-8, batch {BATCH}: {step['step_ms']:.1f} ms of CPU; observe and weight "
        f"{step['call_us']:.0f} us = {step['share']:.2%} of it (goal 1%); with over without "
        f"{step['cpu_ratio']['median']:.4f} "
        f"[{step['cpu_ratio']['low']:.4f}, {step['cpu_ratio']['high']:.4f}] over {step['pairs']} pairs"
    )
    goal = {"plan_ms": GOALS, "state_bytes": 16, "share_of_a_step": 0.01}
    finish("dynamic", chosen, {"keep": KEEP, "goal": goal, "tables": tables, "step": step})


if __name__ == "__main__":
    main()
