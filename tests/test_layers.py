"""Imports point one way: every module under src is held to the table of layers."""

import ast
import re
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "datawinnow"

SCORING = {"record", "scores", "select", "scenarios"}
TRAINING = {"data", "models", "record", "train"}
PIPELINE = SCORING | TRAINING | {"core", "probe", "text"}
ALL = PIPELINE | {
    "audit",
    "dynamic",
    "condense",
    "vit",
    "instruct",
    "methods",
    "runs",
    "bench",
    "plan",
    "report",
    "integrations",
}
LAYERS: dict[str, set[str]] = {
    "core": set(),
    "text": {"core"},
    "scores": {"core"},
    "select": {"core"},
    "scenarios": {"core"},
    "data": {"core", "text"},
    "models": {"core", "text"},
    "record": {"core"},
    "dynamic": {"core"},
    "audit": {"core", "data", "scores"},  # pure functions on arrays, images and texts
    "condense": {"core", "scores", "select"},  # its baselines are selections of real images
    "vit": {"core"},
    "instruct": {"core", "select", "text"},
    "train": {"core", "data", "models", "record", "dynamic", "text", "vit"},
    "probe": {"core", "data", "models", "text"},
    "methods": SCORING | {"core", "probe", "text"},
    "runs": PIPELINE | {"audit", "dynamic", "methods", "vit"},
    "bench": PIPELINE | {"dynamic", "condense", "methods", "runs", "vit"},
    "plan": PIPELINE | {"bench"},
    "report": {"core"},
    "integrations": {"core", "data", "record", "dynamic"},
    "api": ALL,
    "cli": ALL | {"api"},
}
"""What each part may import, beside itself."""
EXEMPT = {"__init__", "__main__"}
"""Modules at the top, which offer everything to the user."""
FREE_NAMES = {"__version__"}
"""Names that any part may take from the top."""


def module_of(file: Path, root: Path) -> tuple[str, ...]:
    """``("scores", "dual")`` of a file; a package's ``__init__`` is the package."""
    names = file.relative_to(root).with_suffix("").parts
    return names[:-1] if len(names) > 1 and names[-1] == "__init__" else names


def imports(file: Path, root: Path) -> list[tuple[int, tuple[str, ...]]]:
    """(line, dotted parts from ``datawinnow`` or the outside package on) of each import, lazy ones too."""
    module = ("datawinnow", *module_of(file, root))
    package = module if file.name == "__init__.py" else module[:-1]
    imported = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [(node.lineno, tuple(alias.name.split("."))) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            imported += [(node.lineno, (*base, alias.name)) for alias in node.names]
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            imported.append((node.lineno, tuple(str(node.args[0].value).split("."))))
    return imported


def violations(root: Path) -> list[str]:
    """One line for each import that the table does not allow."""
    wrong = []
    for file in sorted(root.rglob("*.py")):
        module = module_of(file, root)
        folder = module[0]
        if len(file.relative_to(root).parts) == 1 and folder in EXEMPT:
            continue
        if folder not in LAYERS:
            wrong.append(f"{file.name}: {folder} is not in the table of layers (tests/test_layers.py)")
            continue
        for line, target in imports(file, root):
            if target[0] != "datawinnow":
                continue
            other = target[1] if len(target) > 1 else ""
            if other == folder or other in LAYERS[folder] or other in FREE_NAMES:
                continue
            if other not in LAYERS and folder in ("cli", "integrations"):
                continue  # these stand where a user stands
            wrong.append(f"{'/'.join(module)}.py:{line}: {folder} must not import {'.'.join(target)}")
    return wrong


def reaches(root: Path, start: str, outside: str) -> list[str]:
    """Modules among those that ``start`` imports, directly or not, that import the package ``outside``."""
    files = {module_of(f, root): f for f in root.rglob("*.py")}
    todo = [m for m in files if m[0] == start]
    done, wrong = set(todo), []
    while todo:
        module = todo.pop()
        for _, target in imports(files[module], root):
            if target[0] == outside:
                wrong.append("/".join(module))
            if target[0] != "datawinnow":
                continue
            inner = target[1:]
            # importing a.b.c runs a and a.b too; the last part may be a name rather than a module
            for upto in range(1, len(inner) + 1):
                if inner[:upto] in files and inner[:upto] not in done:
                    done.add(inner[:upto])
                    todo.append(inner[:upto])
    return sorted(set(wrong))


def import_graph(root: Path) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Module -> the modules that it imports, anywhere in its file; ``from package import module`` is the module."""
    files = {module_of(f, root): f for f in root.rglob("*.py")}
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for module, file in files.items():
        graph[module] = set()
        for _, target in imports(file, root):
            names = target[1:] if target[0] == "datawinnow" else ()
            longest = next((names[:end] for end in range(len(names), 0, -1) if names[:end] in files), None)
            if longest is not None and longest != module:
                graph[module].add(longest)
    return graph


def circles(graph: dict[tuple[str, ...], set[tuple[str, ...]]]) -> list[list[str]]:
    """The modules in import circles (and between two circles), in one list; empty without a circle."""
    remaining = dict(graph)
    while True:  # drop what is in no circle: modules that import nothing left, or that nothing left imports
        imported = {target for targets in remaining.values() for target in targets}
        kept = {
            module: targets & set(remaining)
            for module, targets in remaining.items()
            if module in imported and targets & set(remaining)
        }
        if kept == remaining:
            return [sorted("/".join(module) for module in remaining)] if remaining else []
        remaining = kept


def test_no_import_goes_round_in_a_circle():
    assert circles(import_graph(ROOT)) == []


@pytest.mark.parametrize(
    ("sources", "expected_circles"),
    [
        ({"a": "from datawinnow.x import b", "b": "from datawinnow.x.c import f", "c": ""}, []),
        ({"a": "from datawinnow.x import b", "b": "def f():\n    from datawinnow.x import a"}, [["x/a", "x/b"]]),
        (
            {"a": "if TYPE_CHECKING:\n    from .b import T", "b": "from . import a", "c": "import datawinnow.x.a"},
            [["x/a", "x/b"]],
        ),
        ({"__init__": "from .a import f", "a": "from datawinnow.x import g"}, [["x", "x/a"]]),
    ],
    ids=["none", "lazy", "types", "package"],
)
def test_planted_circles_are_found(tmp_path, sources, expected_circles):
    (tmp_path / "x").mkdir()
    for name, source in sources.items():
        (tmp_path / "x" / f"{name}.py").write_text(source)
    assert circles(import_graph(tmp_path)) == expected_circles


PRIVATE = re.compile(r"_[A-Za-z]\w*")
NOT_OURS = {"torch.utils._python_dispatch", "_exit", "_forward_hooks", "_replace", "_reset_state", "_shared_state"}
"""Private names of the standard library, torch and accelerate that are used."""
BENCH_INTERNALS = {"_busy", "_load_splits", "_measure", "_receive"}
"""Of `bench.workers`, `bench.cell` and `runs.estimate`: in tests a pipe, a cache and a stopwatch are replaced."""


def private_uses(source: str) -> list[str]:
    """``line: name`` of the modules and names with a leading underscore that a file imports, reads or replaces."""
    used = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) and node.module else ""
            names = [] if module in NOT_OURS else [*module.split("."), *(alias.name for alias in node.names)]
            names = ".".join(names).split(".")
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") not in ("self", "cls"):
            names = [node.attr]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "setattr",
            "getattr",
            "delattr",
        ):
            strings = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            names = ".".join(strings).split(".")
        used += [f"{node.lineno}: {name}" for name in names if PRIVATE.fullmatch(name) and name not in NOT_OURS]
    return used


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_only_src_uses_private_names(folder):
    root = Path(__file__).parents[1]
    files = sorted((root / folder).rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(root)}:{use}"
        for file in files
        for use in private_uses(file.read_text(encoding="utf-8"))
        if folder != "tests" or use.split(": ")[1] not in BENCH_INTERNALS
    ]
    assert wrong == []


def test_planted_private_names_are_seen():
    planted = """
        from datawinnow.select import _greedy, top
        from datawinnow.select._nnls import nonnegative
        import datawinnow.condense._loop as loop
        from torch.utils._python_dispatch import TorchDispatchMode
        assert sampler._table is self._kept
        patch.setattr("datawinnow.scores._inputs.LIMIT", 1)
        patch.setattr(cache, "_held", {})
        usage._replace(free=0).__name__
    """
    uses = private_uses(textwrap.dedent(planted))
    assert sorted(uses) == ["2: _greedy", "3: _nnls", "4: _loop", "6: _table", "7: _inputs", "8: _held"]


MAX_PARAMETERS = 9
"""Of a function below the public ones; with more, a frozen dataclass is missing."""
PUBLIC_FOLDERS = ("", "condense", "dynamic", "models", "probe", "scores", "select", "vit")
"""Their ``__all__`` is the flat interface that users call: its parameters are the options of a method."""
LONG_SIGNATURES = {
    "models/vit.py:VisionTransformer": "the options of `models.vit`, which a user names",
    "runs/select.py": "the parameters of `api.select`, which choosing in memory shares",
    "runs/score.py:score_run": "the parameters of `api.score`",
    "runs/estimate.py:estimate_run": "the parameters of `api.estimate`",
    "runs/record.py:fit_recorded": "the parameters of `fit` that a recording sets",
    "bench/check.py": "`check` takes the parameters of its function in api",
    "bench/runner.py:run_grid": "the parameters of `api.bench`",
}
"""Functions, files and folders that may take more, and why."""


def public_names(root: Path) -> set[str]:
    """Names in the ``__all__`` of the public packages, read from their source."""
    names: set[str] = set()
    for folder in PUBLIC_FOLDERS:
        file = root / folder / "__init__.py"
        if not file.exists():
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names |= {
            alias.asname or alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names
        }
    return names


def long_signatures(root: Path) -> list[str]:
    """``file:name`` of the functions and classes below the public ones that take more than `MAX_PARAMETERS`."""
    public, long = public_names(root), []
    for file in sorted(root.rglob("*.py")):
        short = str(file.relative_to(root))
        if short.split("/")[0] in ("api", "cli"):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        classes = {f: c.name for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for f in c.body}
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            name = classes[node] if node.name == "__init__" and node in classes else node.name
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            number = sum(parameter.arg not in ("self", "cls") for parameter in parameters)
            if number > MAX_PARAMETERS and name not in public:
                long.append(f"{short}:{name}")
    return long


def test_functions_below_the_public_ones_take_few_parameters():
    long = long_signatures(ROOT)
    assert [name for name in long if not name.startswith(tuple(LONG_SIGNATURES))] == []
    stale = [prefix for prefix in LONG_SIGNATURES if not any(name.startswith(prefix) for name in long)]
    assert stale == []


def test_planted_long_signatures_are_seen(tmp_path):
    ten = ", ".join(f"p{i}" for i in range(10))
    (tmp_path / "select").mkdir()
    (tmp_path / "select" / "__init__.py").write_text("from datawinnow.select.top import top")
    (tmp_path / "select" / "top.py").write_text(
        f"def top({ten}): pass\ndef rank({ten}): pass\ndef cut({ten[:-4]}): pass"
    )
    (tmp_path / "select" / "parts.py").write_text(f"class Part:\n    def __init__(self, *, {ten}): pass")
    assert long_signatures(tmp_path) == ["select/parts.py:Part", "select/top.py:rank"]


DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "lightning_fabric": "lightning-fabric"}
"""Package that is imported -> distribution that brings it, where the names differ."""


def test_what_is_imported_is_declared_and_what_is_declared_imported():
    project = tomllib.loads((ROOT.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[>=<;! ]", requirement)[0].lower() for requirement in requirements}

    always = names(project["dependencies"])
    optional = set().union(*(names(v) for k, v in project["optional-dependencies"].items() if k != "dev"))
    imported: dict[str, set[str]] = {}
    for file in ROOT.rglob("*.py"):
        for _, target in imports(file, ROOT):
            if target[:1] and target[0] not in {"datawinnow", *sys.stdlib_module_names}:
                name = DISTRIBUTIONS.get(target[0], target[0]).lower()
                imported.setdefault(name, set()).add(str(file.relative_to(ROOT)))
    assert set(imported) - always - optional == set(), imported
    assert always - set(imported) == set()


def test_every_import_is_allowed_by_the_table():
    assert violations(ROOT) == []


ARTIFACTS = "core/artifacts.py"
FILES_OF_USERS = {
    "data/arrow.py",
    "data/npz.py",
    "data/write.py",
    "instruct/pair_files.py",
    "instruct/subsets.py",
}
"""Modules that read and write the files of users' own datasets, which are no artefacts."""
FILE_MODULES = ("safetensors", "pickle", "joblib", "pyarrow.parquet", "pyarrow.feather")
FILE_CALLS = {
    *(f"np.{name}" for name in ("load", "save", "savez", "savez_compressed", "memmap", "fromfile", "lib.format")),
    *("torch.load", "torch.save"),
}


def file_accesses(root: Path) -> list[str]:
    """One line for each use of a library that reads or writes files of arrays or tables, outside the artefact layer."""
    uses = []
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root).as_posix()
        if name == ARTIFACTS or name in FILES_OF_USERS:
            continue
        targets = [(line, ".".join(target)) for line, target in imports(file, root)]
        uses += [
            f"{name}:{line}: {target}"
            for line, target in targets
            if any(f"{target}.".startswith(f"{module}.") for module in FILE_MODULES)
        ]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                called = ast.unparse(node).replace("numpy.", "np.")
                uses += [f"{name}:{node.lineno}: {called}"] if called in FILE_CALLS else []
    return uses


def test_files_of_arrays_and_tables_are_read_and_written_in_one_place():
    assert file_accesses(ROOT) == []
    assert not [name for name in (ARTIFACTS, *FILES_OF_USERS) if not (ROOT / name).is_file()]


@pytest.mark.parametrize(
    ("source", "use"),
    [
        ("import numpy as np\nnp.load('a.npy')", "np.load"),
        ("import numpy\nnumpy.savez('a.npz')", "np.savez"),
        ("def f():\n    import pyarrow.parquet as pq", "pyarrow.parquet"),
        ("from pyarrow import parquet", "pyarrow.parquet"),
        ("from safetensors.torch import load_file", "safetensors.torch.load_file"),
        ("import torch\ntorch.load('a.pt')", "torch.load"),
        ("import numpy as np\nnp.zeros(3)", None),
    ],
)
def test_planted_file_accesses_are_found(tmp_path, source, use):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a.py").write_text(source)
    assert [line.split(": ")[1] for line in file_accesses(tmp_path)] == ([] if use is None else [use])


def test_scores_and_the_trainer_never_import_each_other():
    assert reaches(ROOT, "scores", "torch"), "the walk must see something"
    for one, other in (("scores", "train"), ("train", "scores")):
        crossing = [
            f"{file.name}:{line}"
            for file in (ROOT / one).rglob("*.py")
            for line, target in imports(file, ROOT)
            if target[:2] == ("datawinnow", other)
        ]
        assert crossing == []
        assert other not in LAYERS[one]


def test_the_report_never_reaches_torch():
    assert reaches(ROOT, "report", "torch") == []


def test_core_files_and_errors_do_without_torch():
    for name in ("files", "errors", "reason"):
        assert not [t for _, t in imports(ROOT / "core" / f"{name}.py", ROOT) if t[0] == "torch"]


def test_the_table_itself_has_no_cycle():
    order: list[str] = []
    while len(order) < len(LAYERS):
        ready = [folder for folder, below in LAYERS.items() if folder not in order and below <= set(order)]
        assert ready, f"a cycle among {sorted(set(LAYERS) - set(order))}"
        order += ready
    assert order[0] == "core"


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("scores/a.py", "from datawinnow.core.card import card", None),
        ("scores/a.py", "from datawinnow.train.fit import fit", "scores must not import datawinnow.train.fit.fit"),
        ("scores/a.py", "import datawinnow.train", "scores must not import datawinnow.train"),
        ("scores/a.py", "from datawinnow import train", "scores must not import datawinnow.train"),
        ("scores/a.py", "from datawinnow import fit", "scores must not import datawinnow.fit"),
        ("scores/a.py", "import datawinnow", "scores must not import datawinnow"),
        ("scores/a.py", "from datawinnow import __version__", None),
        ("scores/a.py", "from ..select import top", "scores must not import datawinnow.select.top"),
        ("scores/a.py", "from . import b", None),
        ("scores/__init__.py", "from .. import select", "scores must not import datawinnow.select"),
        ("scores/__init__.py", "from .a import a", None),
        ("core/a.py", "def f():\n    from datawinnow.data import load", "core must not import datawinnow.data.load"),
        ("core/a.py", "import importlib\nimportlib.import_module('datawinnow.cli')", "core must not import datawinnow"),
        ("train/a.py", "if TYPE_CHECKING:\n    from datawinnow.scores import dual", "train must not import datawinnow"),
        ("train/deep/a.py", "from ...scores import dual", "train must not import datawinnow.scores.dual"),
        ("cli/a.py", "from datawinnow import prune", None),
        ("strange/a.py", "import os", "strange is not in the table of layers"),
        ("__init__.py", "from datawinnow import scores, cli", None),
        ("runs.py", "from datawinnow.cli import main", "runs must not import datawinnow.cli.main"),
    ],
)
def test_planted_imports_are_found(tmp_path, path, source, wrong):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    planted = violations(tmp_path)
    if wrong is None:
        assert planted == []
    else:
        assert len(planted) == 1
        assert wrong in planted[0]


def test_planted_detours_to_torch_are_found(tmp_path):
    for path, source in {
        "report/page.py": "from datawinnow.core import files",
        "core/__init__.py": "",
        "core/files.py": "from datawinnow.core.deep import name",
        "core/deep.py": "def f():\n    import torch.nn",
        "core/other.py": "import torch",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(source)
    assert reaches(tmp_path, "report", "torch") == ["core/deep"]


SLOW_PACKAGES = {
    "datasets",
    "lightning",
    "lightning_fabric",
    "matplotlib",
    "openai",
    "pandas",
    "scipy",
    "sklearn",
    "transformers",
}
"""Packages that take about a second or more to import: a verb imports them when it uses them."""


def slow_imports(root: Path) -> list[str]:
    """``file: package`` of each slow package that is imported along with a module."""
    slow = []
    for file in sorted(root.rglob("*.py")):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for node in body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            slow += [f"{file.relative_to(root)}: {name}" for name in names if name.split(".")[0] in SLOW_PACKAGES]
    return slow


def test_slow_packages_are_imported_where_they_are_used():
    users = [line for line in slow_imports(ROOT) if not line.startswith(("integrations/", "report/"))]
    assert users == []


def test_planted_slow_imports_are_seen(tmp_path):
    (tmp_path / "a.py").write_text("from scipy.stats import t\nimport sklearn\ndef f():\n    import pandas\n")
    assert slow_imports(tmp_path) == ["a.py: scipy.stats", "a.py: sklearn"]
