"""No test that cannot fail: the tests' own source is read."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
COMPARING = {"allclose", "isclose", "equal", "array_equal", "is_close", "eq", "ne", "isfinite", "isnan"}
"""Calls that only answer; dropped, the answer checks nothing."""
CHECKING = {"raises", "warns", "fail", "deprecated_call"}
"""Calls of pytest that can fail a test; so can any call whose name starts with assert or check."""


def called(node: ast.Call) -> str:
    """The last part of what is called: ``allclose`` of ``torch.allclose(...)``."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def constant_truth(node: ast.expr) -> bool:
    """Whether an asserted expression is true whatever the code does."""
    if isinstance(node, ast.Constant | ast.JoinedStr | ast.Lambda):
        return True
    if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
        return True  # `assert (a == b, "message")` is always true
    if isinstance(node, ast.UnaryOp):
        return constant_truth(node.operand)
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        return any(constant_truth(value) for value in node.values)
    if isinstance(node, ast.BoolOp):
        return all(constant_truth(value) for value in node.values)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        literal = all(isinstance(side, ast.Constant) for side in sides)
        itself = len({ast.dump(side) for side in sides}) == 1 and not any(
            isinstance(inner, ast.Call) for side in sides for inner in ast.walk(side)
        )
        nan_check = itself and all(isinstance(op, ast.NotEq) for op in node.ops)
        return literal or (itself and not nan_check)
    return False


def can_fail(function: ast.AST) -> bool:
    """Whether a test holds an assert, a `pytest.raises` or a call that checks."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = called(node).lstrip("_")
            if name in CHECKING or name.startswith(("assert", "check")):
                return True
    return False


def vacuous(source: str, name: str = "source") -> list[str]:
    """One line for each place in a test file that checks nothing."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        line = f"{name}:{getattr(node, 'lineno', 0)}"
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test")
            and not can_fail(node)
        ):
            wrong.append(f"{line}: {node.name} has no assert, no pytest.raises and no call that checks")
        if isinstance(node, ast.Assert) and constant_truth(node.test):
            wrong.append(f"{line}: asserts a constant")
        if isinstance(node, ast.Expr):
            value = node.value
            if isinstance(value, ast.Compare):
                wrong.append(f"{line}: the answer of a comparison is dropped")
            if isinstance(value, ast.Call) and called(value) in COMPARING:
                wrong.append(f"{line}: the answer of {called(value)} is dropped")
        if isinstance(node, ast.Call) and called(node) in ("abs", "absolute", "fabs"):
            inner = list(node.args)
            if isinstance(node.func, ast.Attribute):
                inner.append(node.func.value)  # (a - b < eps).abs()
            if any(isinstance(arg, ast.Compare) for arg in inner):
                wrong.append(f"{line}: the absolute value of a comparison; the bracket closes too late")
    return wrong


def drops_in_raises(source: str) -> set[int]:
    """Lines of bare comparisons inside ``with pytest.raises``: there, evaluating is the test."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.With) and any(
            isinstance(item.context_expr, ast.Call) and called(item.context_expr) in CHECKING for item in node.items
        ):
            lines |= {inner.lineno for inner in ast.walk(node) if isinstance(inner, ast.Expr)}
    return lines


FILES = sorted(p for p in TESTS.rglob("*.py") if p.name.startswith("test_") or p.name == "conftest.py")


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(TESTS)) for f in FILES])
def test_every_test_can_fail(file):
    source = file.read_text(encoding="utf-8")
    allowed = drops_in_raises(source)
    wrong = vacuous(source, str(file.relative_to(TESTS)))
    wrong = [w for w in wrong if not ("dropped" in w and int(w.split(":")[1]) in allowed)]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("def test_a():\n    f()", "test_a has no assert"),
        ("async def test_a():\n    pass", "test_a has no assert"),
        ("class TestA:\n    def test_b(self):\n        f()", "test_b has no assert"),
        ("def test_a():\n    assert True", "asserts a constant"),
        ("def test_a():\n    assert 1 == 1", "asserts a constant"),
        ("def test_a():\n    assert x == x", "asserts a constant"),
        ("def test_a():\n    assert not False", "asserts a constant"),
        ("def test_a():\n    assert (f() == 3, 'message')", "asserts a constant"),
        ("def test_a():\n    assert f() == 3 or True", "asserts a constant"),
        ("def test_a():\n    assert 'message'", "asserts a constant"),
        ("def test_a():\n    assert x\n    torch.allclose(a, b)", "the answer of allclose is dropped"),
        ("def test_a():\n    assert x\n    a.equal(b)", "the answer of equal is dropped"),
        ("def test_a():\n    assert x\n    f() == 3", "the answer of a comparison is dropped"),
        ("def test_a():\n    assert abs(a - b < 1e-6)", "the absolute value of a comparison"),
        ("def test_a():\n    assert torch.abs(a - b < 1e-6).all()", "the absolute value of a comparison"),
        ("def test_a():\n    assert (a - b < 1e-6).abs().all()", "the absolute value of a comparison"),
        ("def helper():\n    assert True", "asserts a constant"),
    ],
)
def test_planted_bad_tests_are_found(source, wrong):
    bad_tests = vacuous(source)
    assert len(bad_tests) == 1
    assert wrong in bad_tests[0]


@pytest.mark.parametrize(
    "source",
    [
        "def test_a():\n    assert f() == 3",
        "def test_a():\n    with pytest.raises(ValueError):\n        f()",
        "def test_a():\n    torch.testing.assert_close(a, b)",
        "def test_a():\n    check_everything(a)",
        "def test_a():\n    assert abs(a - b) < 1e-6",
        "def test_a():\n    assert (a - b).abs().max() < 1e-6",
        "def test_a():\n    assert x != x",
        "def test_a():\n    assert f(1) == f(1)",
        "def test_a():\n    assert torch.allclose(a, b)",
        "def test_a():\n    assert x or y",
        "def helper():\n    f()",
    ],
)
def test_good_tests_pass(source):
    assert vacuous(source) == []


def test_a_comparison_inside_raises_is_no_dropped_answer():
    source = "def test_a():\n    with pytest.raises(TypeError):\n        a == b\n    a == c"
    assert drops_in_raises(source) == {3}
    assert len(vacuous(source)) == 2
