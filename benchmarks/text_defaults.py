"""Networks for texts by recipe, against a linear model, on SST-2 and on docstrings by library."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import os
import re
import statistics
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import torch
from measuring import say
from torch import Tensor

import datawinnow as dw
from datawinnow.core.interval import interval
from datawinnow.data.texts import Texts
from datawinnow.data.tokens import Vocabulary
from datawinnow.runs.linear_baseline import linear_accuracy
from datawinnow.train import Recipe, fit

DATA = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parents[2] / "shared" / "data"))
LIBRARIES = ("torch", "scipy", "pandas", "sklearn", "transformers", "matplotlib")
"""Classes of the topics: a paragraph of prose in a docstring, without the names that would give the library away."""
GIVEAWAYS = re.compile("|".join((*LIBRARIES, "pytorch", "scikit", "hugging", "dataframe", "---")), re.IGNORECASE)
PER_CLASS, TOPICS_TEST, HELD_OUT = 2200, 2000, 1400
"""Paragraphs of a library; texts of the topics' test split; texts of a train split on which settings are chosen."""

Setting = tuple[str, dict[str, Any]]
ARMS: dict[str, Setting] = {
    "cnn_sgd": ("text_cnn", {}),
    "cnn_adamw": ("text_cnn", {"optimizer": "adamw"}),
    "bag_adamw": ("bag_of_embeddings", {"optimizer": "adamw", "lr": 5e-3}),
    "bag_adamw_decay": ("bag_of_embeddings", {"optimizer": "adamw", "lr": 5e-3, "weight_decay": 10.0}),
}
"""Network and recipe; ``linear``, TF-IDF and a logistic regression, runs beside them."""


def paragraphs(library: str) -> list[str]:
    """Paragraphs of prose, 8 to 60 words, in the docstrings of an installed library, sorted."""
    spec = importlib.util.find_spec(library)
    assert spec is not None
    assert spec.origin is not None
    texts: set[str] = set()
    for file in Path(spec.origin).parent.rglob("*.py"):
        if "tests" in file.parts:  # most of the files, and little prose
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                texts |= {" ".join(text.split()) for text in re.split(r"\n\s*\n", ast.get_docstring(node) or "")}
    return sorted(text for text in texts if _is_prose(text) and not GIVEAWAYS.search(text))


def _is_prose(text: str) -> bool:
    words = text.split()
    return (
        8 <= len(words) <= 60
        and ">>>" not in text
        and "::" not in text
        and sum(word.isalpha() for word in words) >= 0.6 * len(words)
    )


def topics() -> tuple[list[str], Tensor]:
    """Texts and class ids, shuffled by a fixed seed."""
    rows = []
    for label, library in enumerate(LIBRARIES):
        texts = paragraphs(library)
        rows += [(texts[i], label) for i in _shuffled(len(texts), label)[:PER_CLASS]]
    count = Counter(text for text, _ in rows)
    rows = [row for row in rows if count[row[0]] == 1]
    order = _shuffled(len(rows), 100)
    return [rows[i][0] for i in order], torch.tensor([rows[i][1] for i in order])


def _shuffled(n: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


@cache
def pool_and_test(name: str) -> tuple[list[str], Tensor, list[str], Tensor]:
    """Texts and labels of the train and the test split of ``"sst2"`` or ``"topics"``."""
    if name == "topics":
        texts, labels = topics()
        return texts[TOPICS_TEST:], labels[TOPICS_TEST:], texts[:TOPICS_TEST], labels[:TOPICS_TEST]
    train, test = dw.load(DATA / "sst2")
    assert isinstance(train, Texts)
    assert isinstance(test, Texts)
    return list(train.texts), train.labels, list(test.texts), test.labels


def splits(name: str, n: int, seed: int, *, on_test: bool) -> tuple[Texts, Texts]:
    """``n`` texts to train on, drawn by the seed, and those to evaluate on: held-out training texts, or the test."""
    texts, labels, test_texts, test_labels = pool_and_test(name)
    order = _shuffled(len(texts), seed)
    chosen, rest = order[HELD_OUT:][:n], order[:HELD_OUT]
    if on_test:
        chosen = order[:n]
    else:
        test_texts, test_labels = [texts[i] for i in rest], labels[rest]
    train_texts = [texts[i] for i in chosen]
    vocabulary, x, _ = Vocabulary.fit(train_texts)
    classes = tuple(str(label) for label in range(int(labels.max()) + 1))

    def dataset(x: Tensor, y: Tensor, texts: list[str], split: str) -> Texts:
        size = len(vocabulary)
        return Texts(x, y, classes, name, split, texts=texts, vocabulary=vocabulary, vocabulary_size=size)

    return (
        dataset(x, labels[chosen], train_texts, "train"),
        dataset(vocabulary.encode(test_texts), test_labels, test_texts, "test"),
    )


def accuracy(arm: str, train: Texts, test: Texts, epochs: int, seed: int) -> float:
    """Accuracy in [0, 1] of an arm."""
    if arm == "linear":
        return linear_accuracy(train, test, seed)
    network, options = ARMS[arm]
    recipe = Recipe(precision="fp32", **options)
    return fit(network, train, test=test, epochs=epochs, seed=seed, recipe=recipe)[1].test_accuracy


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--test", action="store_true", help="evaluate on the test split; else on held-out training texts"
    )
    parser.add_argument("--sets", nargs="+", default=["sst2", "topics"], choices=["sst2", "topics"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[2000, 5500], help="texts that are trained on")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--arms", nargs="+", default=["linear", *ARMS], choices=["linear", *ARMS])
    parser.add_argument("--out", type=Path, default=Path("results") / "text_defaults.jsonl")
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    for name in args.sets:
        for n in args.sizes:
            for seed in args.seeds:
                about = {"set": name, "n": n, "seed": seed, "test": args.test, "epochs": args.epochs}
                missing = [
                    arm for arm in args.arms if not any({**about, "arm": arm}.items() <= r.items() for r in rows)
                ]
                train, test = splits(name, n, seed, on_test=args.test) if missing else (None, None)
                for arm in missing:
                    assert train is not None
                    assert test is not None
                    row = {**about, "arm": arm, "accuracy": accuracy(arm, train, test, args.epochs, seed)}
                    rows.append(row)
                    with args.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            table(rows, {"set": name, "n": n, "test": args.test, "epochs": args.epochs}, args.arms)


def table(rows: list[dict[str, Any]], about: dict[str, Any], arms: list[str]) -> None:
    """Print the mean accuracy of each arm in a setting, and its difference from the first network by seed."""
    by_arm = {
        arm: {r["seed"]: r["accuracy"] for r in rows if {**about, "arm": arm}.items() <= r.items()} for arm in arms
    }
    say(", ".join(f"{key} {value}" for key, value in about.items()))
    base = by_arm.get("cnn_sgd", {})
    for arm, values in by_arm.items():
        line = f"  {arm:16s} {100 * statistics.fmean(values.values()):5.1f}" if values else f"  {arm:16s} -"
        differences = [100 * (values[seed] - base[seed]) for seed in values if seed in base]
        if arm != "cnn_sgd" and len(differences) > 1:
            difference = interval(differences)
            line += f"   {difference.mean:+.1f} ± {difference.half:.1f} against cnn_sgd ({len(differences)} seeds)"
        say(line)


if __name__ == "__main__":
    main()
