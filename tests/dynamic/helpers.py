"""Policies to run the common tests over, and a training run without a network."""

import typing

import torch

from datawinnow import dynamic
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from tests.conformance.cases import cases, keys_of_files

KEEP, EPOCHS = 0.4, 8


def bound(seed):
    """``stream(*path)`` of one run."""
    return lambda *path: stream(seed, *path)


def static(n):
    """A selection of every second example, with weights."""
    index = torch.arange(0, n, 2)
    return Selection(index, 1.0 + index.float() / n)


def logged(n, epochs=EPOCHS, fraction=KEEP, weighted=True, **about):
    """A recorded plan: another draw in another order every epoch, with weights."""
    plans = []
    for epoch in range(epochs):
        index = torch.randperm(n, generator=stream(0, "logged", epoch))[: max(1, round(fraction * n))]
        plans.append(Selection(index, 1.0 + weighted * index.float() / n))
    return dynamic.SelectionHistory.of(plans, n, **about)


MADE = {"selection": static, "history": logged}
REQUIRED = {"keep": KEEP, "epochs": EPOCHS}
OPTIONS = {
    "easy_to_hard": [{"alpha": 0.3, "signal": "error_norm"}],
    "epsilon_greedy": [{"epsilon": 0.5, "period": 1}, {"first": "random", "period": 3}, {"epsilon": 0.0}],
    "example_swap": [{"period": 2}, {"period": 1, "swap": 0.2, "keep": 0.5}],
    "hide_easy": [{"drop": 0.7, "confidence": 0.1}, {"signal": "error_norm"}],
    "info_batch": [{"drop": 0.3, "delta": 1.0}, {"signal": "entropy"}],
    "loss_mass": [{"mass": 0.5, "min_keep": 0.1}, {"mass": 1.0}],
    "loss_power": [{"a": 2.0, "first": "random"}, {"a": 0.0, "alpha": 0.3}, {"signal": "margin_softmax"}],
    "middle_loss": [{"width": 0.3, "first": "random"}],
    "order_dp": [{"pool": 1.0}],
    "seta": [{"groups": 3, "drop": 0.2}, {"groups": 4, "rounding": "ceil", "delta": 0.0}],
    "stop_mastered": [{"delta": 0.05, "look": 3}, {"delta": 100.0}],
    "ucb": [{"period": 1}, {"first": "random", "period": 3}, {"c": 0.0, "alpha": 1.0}, {"signal": "p_label"}],
}
"""Samples of options. Defaults, and each other value of an option that is a bool or a Literal, are tested without."""


def policy_cases(methods=dynamic.POLICIES, files=frozenset()):
    """(method, options) of policies: defaults, the values that follow from the types, and the samples above."""
    options = {key: [*other_values(method), *OPTIONS.get(key, [])] for key, method in methods.items()}
    return cases(methods, options, files=files)


def other_values(method):
    """Options of a policy, each with one value that is not its default: of those that are a bool or a Literal."""
    hints, out = typing.get_type_hints(method), []
    for name, default in method.card.options.items():
        values = [not default] if hints[name] is bool else typing.get_args(hints[name])
        if hints[name] is bool or typing.get_origin(hints[name]) is typing.Literal:
            out += [{name: value} for value in values if value != default]
    return out


WRAPPERS = {
    "warm_up": lambda policy: dynamic.warm_up(policy, 2),
    "annealed": lambda policy: dynamic.annealed(policy, EPOCHS, share=0.6),
    "partly annealed": lambda policy: dynamic.annealed(policy, EPOCHS, share=0.6, mode="partial"),
    "every": lambda policy: dynamic.every(policy, 3),
    "every of every": lambda policy: dynamic.every(dynamic.every(policy, 2), 4),
    "annealed every": lambda policy: dynamic.annealed(dynamic.every(policy, 3), EPOCHS),
    "recorded": lambda policy: dynamic.recorded(policy),
    # of so few examples nobody is suspected (test_guarded.py has that); what is left are the looks
    "guarded": lambda policy: dynamic.guarded(policy, first=2, period=2, separation=0.0, look=3),
}


def build_policy(method, options, n):
    """The policy for ``n`` examples, with what it must be given."""
    required = {name: MADE[name](n) if name in MADE else REQUIRED[name] for name in method.card.takes}
    return method(**(required | options))


def every_policy(wrapped=True):
    """(make, id): ``make(n)`` gives the policy; of each method with each of its options, and wrapped."""
    import pytest

    out = []
    for case in policy_cases(files=keys_of_files(dynamic, "policy")):
        method, options = case.values
        out.append(pytest.param(lambda n, m=method, o=options: build_policy(m, o, n), id=case.id))
    if not wrapped:
        return out
    inner = {"ucb": {"period": 1}, "info_batch": {}, "random_pruning": {}}
    for word, wrap in WRAPPERS.items():
        for key, options in inner.items():
            method = dynamic.POLICIES[key]
            out.append(
                pytest.param(lambda n, m=method, o=options, w=wrap: w(build_policy(m, o, n)), id=f"{word} {key}")
            )
    for key, options in {"ucb": {"period": 1}, "epsilon_greedy": {"period": 3}, "loss_power": {}}.items():
        method = dynamic.POLICIES[key]
        shrink = lambda n, m=method, o=options: dynamic.shrinking(build_policy(m, o, n), EPOCHS, end=0.3)  # noqa: E731
        out.append(pytest.param(shrink, id=f"shrinking {key}"))
        out.append(pytest.param(lambda n, f=shrink: WRAPPERS["guarded"](f(n)), id=f"guarded shrinking {key}"))
    # epsilon of 1, since of very few examples a smaller one draws none, and rescaled() rightly refuses
    for key, options in {"random_pruning": {}, "repeated_subset": {}, "epsilon_greedy": {"epsilon": 1.0}}.items():
        method = dynamic.POLICIES[key]
        out.append(
            pytest.param(lambda n, m=method, o=options: dynamic.rescaled(build_policy(m, o, n)), id=f"rescaled {key}")
        )
    return out


def quick_first(params):
    """The cases of `every_policy`, for statistical tests: other options and further wrapped policies marked slow."""
    import pytest

    return [
        pytest.param(*case.values, id=case.id, marks=pytest.mark.slow)
        if "-" in case.id or (" " in case.id and not case.id.endswith((" ucb", "rescaled random_pruning")))
        else case
        for case in params
    ]


def hardness(n):
    """(n,) losses that differ by much more than they vary; the last is the hardest."""
    return torch.linspace(0.2, 5.0, n)


def signals(epoch, index, loss):
    """What a network would say about the examples at ``index`` in ``epoch``: ``loss`` less a little every epoch."""
    x = loss[index] * 0.97**epoch
    return of_loss(x) | {"correct": ((index * 7 + epoch * 3) % 5 < 3).float(), "input_size": sizes(index, epoch)}


def of_loss(loss):
    """Signals that follow from a loss (m,), with their signs."""
    p = torch.exp(-loss)
    return {"loss": loss, "p_label": p, "error_norm": 1 - p, "entropy": loss / 2, "margin_softmax": 2 * p - 1}


def sizes(index, epoch):
    """(m,) sizes of the inputs, which grow once in the middle of a run."""
    return torch.full(index.shape, 16.0 if epoch < EPOCHS // 2 else 32.0)


def run(policy, n, *, epochs=EPOCHS, seed=0, loss=None):
    """Plans and states of a run: (plan, state before, state after planning) of every epoch."""
    state, out = policy.init(n), []
    loss = hardness(n) if loss is None else loss
    for epoch in range(epochs):
        plan, planned = policy.plan(epoch, state, bound(seed))
        out.append((plan, state, planned))
        state = policy.observe(planned, plan.index, **signals(epoch, plan.index, loss))
    return out


def copied(state):
    """A copy that shares nothing."""
    return {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()}


def same(a, b):
    """Whether two states are equal, NaN included."""
    return a.keys() == b.keys() and all(
        a[k].nan_to_num(nan=-7.0).equal(b[k].nan_to_num(nan=-7.0)) if isinstance(a[k], torch.Tensor) else a[k] == b[k]
        for k in a
    )


def ids(plan):
    """The ids of a plan as a set."""
    return set(plan.index.tolist())
