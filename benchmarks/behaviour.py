"""Freezes behaviour: everything that must stay equal when the code is rearranged, in one JSON file, and compares two.

    python benchmarks/behaviour.py --out before.json                      # about two minutes of one core
    python benchmarks/behaviour.py --out after.json                       # after the change
    python benchmarks/behaviour.py --compare before.json after.json       # prints what differs and exits 1, or "equal"

Every verb runs on the embedded digits, on a folder of pictures by class, and on labelled texts; every score, selector,
policy, scenario and batch selector on seeded arrays. Kept are ids in their order, weights, reasons, columns of scores,
losses and accuracies of every epoch, tensors of the networks, rows of results and what ``--out`` writes: short arrays
as they are, long ones as a hash with the first numbers. Left out are seconds, bytes of memory, dates, versions, paths
and the wording of sentences. The commands stand in the tables below, where an option that is renamed is one edit; the
names in the JSON come from the labels there, and stay. The same number of threads (here 1) and the same torch on the
same kind of processor give the same numbers; others need not.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import Tensor
from typer.testing import CliRunner

import datawinnow as dw
from datawinnow.cli import app
from datawinnow.core.arrays import TABLE
from datawinnow.core.card import card_of
from datawinnow.methods import METHODS
from datawinnow.methods.method import random_array

# --- what runs on the command line --------------------------------------------------------------------------------

EXACT = "--threads 1 --precision fp32 --device cpu"
"""Arithmetic that is the same each time: nothing is measured to choose it."""
SMALL = f"--model mlp --batch 32 {EXACT}"
DIGITS = f"digits --limit 300 {SMALL}"
FEW = f"digits --limit 200 {SMALL}"
PER_CLASS = ("dual_beta", "el2n", "aum", "random", "ccs", "moderate", "tdds")
PROBED = ("grand_last", "grand_full", "moderate", "prototypes", "deepfool", "curvature", "least_confidence")
MORE = {"tdds": "--option window=5"}
"""What a method cannot do without in so short a recording."""
POLICIES = (
    ("random", "--policy random --keep 0.5"),
    ("epsilon greedy", "--policy epsilon_greedy --keep 0.5 --policy-option period=2"),
    ("ucb", "--policy ucb --keep 0.5 --policy-option period=1"),
    ("rs2", "--policy rs2 --keep 0.3"),
    ("info batch", "--policy info_batch"),
    ("seta", "--policy seta"),
    ("order dp", "--policy order_dp --keep 0.5"),
    ("loss power", "--policy loss_power --keep 0.5"),
    ("example swap", "--policy example_swap --keep 0.8 --policy-option period=2"),
    ("warmed up", "--policy ucb --keep 0.5 --wrap warm_up=2"),
    ("every other", "--policy loss_power --keep 0.5 --wrap every=2"),
    ("rescaled", "--policy random --keep 0.5 --wrap rescaled"),
    ("annealed", "--policy ucb --keep 0.4 --wrap annealed=full"),
    ("partly annealed", "--policy info_batch --wrap annealed=partial"),
    ("shrinking", "--policy ucb --keep 0.5 --policy-option period=1 --wrap shrinking=0.3"),
    ("guarded", "--policy random --keep 1.0 --wrap guarded"),
)

# label, command (after `datawinnow`), files and folders that are read afterwards; they stand in the JSON by these names
Row = tuple[str, str, str]

RECORDING: list[Row] = [
    (
        "record",
        f"record {DIGITS} --epochs 12 --schedule-epochs 20 --signals kl_step --seed 1 --run recorded",
        "recorded",
    ),
    ("record default network", f"record digits --limit 150 --batch 64 {EXACT} --epochs 3 --run wide", "wide"),
    (
        "record otherwise",
        f"record digits --limit 150 --split-seed 3 --holdout 0.3 --flip --model convnet --model-option width=8 {EXACT} "
        "--batch 50 --optimizer adamw --lr 0.01 --schedule one_cycle --weight-decay 0.001 --label-smoothing 0.1 "
        "--epochs 3 --run otherwise",
        "otherwise",
    ),
    ("record until stable", f"record {FEW} --epochs 40 --until-stable --run stable", "stable"),
    ("score all", "score recorded --score all", "recorded/scores.parquet"),
    ("score probed", "score recorded " + " ".join(f"--score {key}" for key in PROBED), "recorded/scores.parquet"),
    ("score memorization", "score recorded --score memorization --subset-runs 3", "recorded/scores.parquet"),
    ("score a window", "score recorded --score dual --option window=5", "recorded/scores.parquet"),
    ("score a mode", "score recorded --score curvature --option mode=rademacher", "recorded/scores.parquet"),
    ("score early epochs", "score recorded --score el2n --score aum --epochs 6", "recorded/scores.parquet"),
    *(
        (
            f"select {key}",
            f"select recorded --keep 0.3 --method {key} {MORE.get(key, '')} --out chosen/{key}.parquet",
            f"chosen/{key}.parquet",
        )
        for key in METHODS
    ),
    *(
        (
            f"select per class {key}",
            f"select recorded --keep 0.2 --method {key} --per-class --seed 2 --out equal/{key}.parquet",
            f"equal/{key}.parquet",
        )
        for key in PER_CLASS
    ),
    ("select el2n coverage", "select recorded --keep 0.3 --score el2n --select coverage --out a.parquet", "a.parquet"),
    ("select aum bottom", "select recorded --keep 0.1 --score aum --select bottom --out b.parquet", "b.parquet"),
    ("select dual middle", "select recorded --keep 0.5 --score dual --select middle --out c.parquet", "c.parquet"),
    ("select a c_d", "select recorded --keep 0.2 --option c_d=2 --option window=6 --out d.parquet", "d.parquet"),
    ("select early epochs", "select recorded --keep 0.3 --method aum --epochs 5 --out e.parquet", "e.parquet"),
    ("select here", "select recorded --keep 0.3 --seed 4", "recorded"),
    ("report of a run", "report recorded --out page.html", "page.html"),
]
PRUNING: list[Row] = [
    ("prune", f"prune {DIGITS} --keep 0.3 --epochs 12 --check --check-seeds 2 --out kept --run pruned", "pruned kept"),
    (
        "prune for a short training",
        f"prune {DIGITS} --keep 0.2 --epochs 10 --schedule-epochs 30 --train-epochs 8 --check --run short",
        "short",
    ),
    ("prune default network", f"prune digits --limit 150 {EXACT} --keep 0.3 --epochs 10 --run wide", "wide"),
    ("prune until stable", f"prune {FEW} --keep 0.3 --epochs 30 --until-stable --no-report --run stable", "stable"),
    (
        "prune el2n coverage per class",
        f"prune {FEW} --keep 0.3 --epochs 10 --score el2n --select coverage --per-class --no-report --run coverage",
        "coverage/selection.parquet coverage/scores.parquet",
    ),
    *(
        (
            f"prune {key}",
            f"prune {FEW} --keep 0.25 --epochs 6 --method {key} {MORE.get(key, '')} --seed 3 --no-report "
            f"--run by-{key}",
            f"by-{key}/selection.parquet by-{key}/run.json",
        )
        for key in ("k_center", "grand_last", "moderate", "slo_curves", "random", "d2", "tdds", "glister")
    ),
]
TRAINING: list[Row] = [
    ("a recording to select from", f"prune {DIGITS} --keep 0.3 --epochs 10 --no-report --run pruned", ""),
    ("train on all", f"train {DIGITS} --epochs 4 --run full", "full"),
    ("train on a selection", f"train {DIGITS} --epochs 4 --select pruned --seed 1 --run selected", "selected"),
    ("train a default network", f"train digits --limit 150 --batch 50 {EXACT} --epochs 2 --run wide", "wide"),
    *(
        (f"train by {label}", f"train {FEW} {words} --epochs 8 --run by-{n}", f"by-{n}")
        for n, (label, words) in enumerate(POLICIES)
    ),
    (
        "train for a budget",
        f"train {DIGITS} --policy ucb --keep 0.5 --passes 4 --record-plan plan.safetensors --run budget",
        "budget plan.safetensors",
    ),
    (
        "train by a replayed plan",
        f"train {DIGITS} --policy replay --plan plan.safetensors --model-option width=24 --seed 2 --run replayed",
        "replayed",
    ),
    (
        "train by a plan again",
        f"train {DIGITS} --policy replay --plan plan.safetensors --epochs 9 --policy-option after=cycle --run again",
        "again",
    ),
    ("train by auto", f"train {FEW} --policy auto --passes 5 --run auto", "auto"),
    ("train by auto, noisy", f"train {FEW} --policy auto --passes 30 --policy-option noisy=true --run noisy", "noisy"),
    (
        "train a policy on a selection",
        f"train {DIGITS} --select pruned --policy random --keep 0.5 --epochs 3 --run both",
        "both",
    ),
    *(
        (
            f"train levels {label}",
            f"train digits --limit 150 --model vit --model-option depth=4 --model-option width=32 --batch 50 {EXACT} "
            f"--optimizer adamw --epochs 2 {words} --run vit-{n}",
            f"vit-{n}",
        )
        for n, (label, words) in enumerate(
            (
                ("none", ""),
                ("all", "--levels examples,tokens,attention --sparse-at 1,2"),
                ("tokens", "--levels tokens --keep-tokens 0.5 --sparse-at 1,3"),
                ("attention", "--levels attention --keep-attention 0.5 --attention-form gathered --sparse-at 1"),
            )
        )
    ),
]
PICTURES: list[Row] = [
    (
        "pictures prune",
        f"prune pictures --keep 0.4 --epochs 10 --check --batch 16 {EXACT} --out kept --run pruned",
        "pruned kept",
    ),
    (
        "pictures prune resized",
        f"prune pictures --keep 0.4 --epochs 10 --size 12 --holdout 0.25 --no-flip {SMALL} --no-report --run resized",
        "resized",
    ),
    (
        "pictures with a test split",
        f"prune split --keep 0.4 --epochs 10 --check --batch 16 {EXACT} --out kept-split --run with-test",
        "with-test kept-split",
    ),
    ("pictures record", f"record split --epochs 6 {SMALL} --run recorded", "recorded"),
    (
        "pictures score",
        "score recorded --score el2n --score grand_last --score moderate --score curvature",
        "recorded/scores.parquet",
    ),
    *(
        (f"pictures select {key}", f"select recorded --keep 0.3 --method {key} --out {key}.parquet", f"{key}.parquet")
        for key in ("aum", "k_center", "craig", "herding", "facility_location", "grad_match")
    ),
    (
        "pictures train on a selection",
        f"train split --select k_center.parquet --epochs 4 --batch 16 {EXACT} --run trained",
        "trained",
    ),
    (
        "pictures train by ucb",
        f"train split --policy ucb --keep 0.5 --passes 4 --batch 16 {EXACT} --run by-ucb",
        "by-ucb",
    ),
    (
        "vectors prune",
        f"prune vectors.npz --keep 0.5 --epochs 10 {SMALL} --out kept-vectors --run vectors",
        "vectors kept-vectors",
    ),
    (
        "a table prune",
        f"prune table.parquet --keep 0.5 --epochs 10 {SMALL} --image img --label label --out kept-table --run table",
        "table kept-table",
    ),
]
TEXTS: list[Row] = [
    (
        "texts prune",
        f"prune reviews.csv --keep 0.4 --epochs 10 --check --batch 16 {EXACT} --out kept --run pruned",
        "pruned kept",
    ),
    (
        "texts record",
        f"record reviews.csv --text text --label label --length 8 --model text_cnn --model-option width=16 --batch 16 "
        f"{EXACT} --epochs 6 --run recorded",
        "recorded",
    ),
    ("texts score", "score recorded --score el2n --score grand_last --score prototypes", "recorded/scores.parquet"),
    *(
        (f"texts select {key}", f"select recorded --keep 0.3 --method {key} --out {key}.parquet", f"{key}.parquet")
        for key in ("forgetting", "herding", "k_center", "cal", "random")
    ),
    (
        "texts train on a selection",
        f"train reviews.csv --select herding.parquet --epochs 3 --model bag_of_embeddings --batch 16 {EXACT} "
        "--run trained",
        "trained",
    ),
    (
        "texts train by loss power",
        f"train reviews.csv --policy loss_power --keep 0.5 --epochs 4 --model bag_of_embeddings --batch 16 {EXACT} "
        "--run by-loss",
        "by-loss",
    ),
]
CONDENSING: list[Row] = [
    (
        f"condense {key}",
        f"condense digits --limit 200 --method {key} --per-class 2 --iterations {iterations} --threads 1 --device cpu "
        f"--networks 1 --snapshots 2 --judge-epochs 3 --option real_batch=16 {words} --run {key}",
        key,
    )
    for key, iterations, words in (
        ("dm", 5, ""),
        ("dc", 2, "--option outer=2 --option inner=2 --no-report"),
        ("dsa", 2, "--option outer=2 --option inner=2 --no-report"),
        ("cafe", 2, "--option query=4 --option outer_most=3 --option inner_most=3 --no-report"),
        ("idm", 3, "--option steps=2 --option net_batch=8 --no-report --augment color_crop"),
    )
]
INSTRUCT: list[Row] = [
    (
        "instruct paper",
        "instruct pairs.jsonl --subsets subsets.npz --mode paper --keep 12 --out kept.jsonl --run paper",
        "paper kept.jsonl",
    ),
    ("instruct mended", "instruct pairs.jsonl --subsets subsets.npz --keep 0.3 --no-report --run mended", "mended"),
    (
        "instruct ridge",
        "instruct pairs.jsonl --subsets subsets.npz --keep 10 --score ridge --no-check --no-report --run ridge",
        "ridge",
    ),
    (
        "instruct mean",
        "instruct pairs.jsonl --keep 0.25 --clusters kmeans --num-clusters 4 --no-report --run mean",
        "mean",
    ),
    (
        "instruct reward",
        "instruct pairs.jsonl --keep 8 --score reward --clusters none --duplicates 0.05 --embedding image_features "
        "--no-report --seed 3 --run reward",
        "reward",
    ),
    (
        "instruct k_center",
        "instruct pairs.jsonl --keep 8 --score gpt --select k_center --no-report --run k_center",
        "k_center",
    ),
]
BENCH: list[Row] = [
    ("bench", "bench grid.toml --jobs 1 --threads 1 --out grid", "grid/rows.jsonl grid/report.html"),
    (
        "bench arenas",
        "bench arenas.toml --jobs 1 --threads 1 --out arenas",
        "arenas/easy/rows.jsonl arenas/wrong/rows.jsonl",
    ),
    (
        "race",
        f"race {FEW} --budget 3 --seeds 2 --policy ucb --keep 0.5 --policy-option period=1 --jobs 1 --out race",
        "race/rows.jsonl",
    ),
    ("race auto", f"race {FEW} --budget 3 --policy-option noisy=true --jobs 1 --out auto", "auto/rows.jsonl"),
    ("audit", f"audit {DIGITS} --epochs 10 --run audited", "audited/issues.parquet audited/learning.parquet"),
    ("plan", f"plan {DIGITS} --epochs 8 --folds 2 --max-drop 5 --out plan", "plan/plan.json plan/fold-1/rows.jsonl"),
    ("demo", "demo --jobs 1 --out demo", "demo/rows.jsonl demo/prune/selection.parquet demo/report.html"),
    ("report of a bench", "report grid --out page.html", "page.html"),
]
SHOWING: list[Row] = [
    *(
        (f"methods {kind}", f"methods --kind {kind} --markdown", "second column")
        for kind in ("method", "score", "selector", "policy", "batch-selector", "condenser", "scenario")
    ),
    ("methods one", "methods dual_beta", "first words"),
    ("estimate", f"estimate {DIGITS} --keep 0.3 --epochs 10", "first words"),
    ("estimate a look", f"estimate {DIGITS} --method k_center", "first words"),
]
GRID = """
name = "grid"
methods = ["full", "shorter_full", "random", "dual_beta", "k_center", "ucb_7", "easy"]
keep = [0.4]
seeds = [0, 1]
scenarios = ["clean", "symmetric 0.2"]
[data]
source = "digits"
limit = 120
[train]
model = "mlp"
epochs = 10
batch = 30
precision = "fp32"
[[method]]
name = "ucb_7"
policy = "ucb"
options = { keep = 0.7, period = 1 }
[[method]]
name = "easy"
score = "el2n"
select = "bottom"
score_options = { last = 3 }
per_class = true
epochs = 4
"""
ARENAS = """
name = "arenas"
methods = ["shorter_full", "ucb_7", "smooth", "by_proxy", "replay"]
seeds = [0]
[train]
model = "mlp"
batch = 20
precision = "fp32"
[[method]]
name = "ucb_7"
policy = "ucb"
options = { keep = 0.7, period = 1 }
wrap = ["guarded"]
[[method]]
name = "smooth"
baseline = "shorter_full"
train = { label_smoothing = 0.1 }
[[method]]
name = "by_proxy"
batch = { keep = 0.5, model = "mlp", model_options = { width = 8 } }
[[method]]
name = "replay"
replay = { model = "mlp", model_options = { width = 8 }, policy = "ucb", options = { keep = 0.5 } }
[[setting]]
name = "easy"
passes = [2, 4]
data = { source = "digits", limit = 100 }
train = { lr = 0.1 }
[[setting]]
name = "wrong"
passes = [3]
methods = ["shorter_full", "ucb_7"]
scenarios = ["pair 0.2"]
data = { source = "vectors.npz" }
"""
DEMO = """
name = "demo"
methods = ["full", "shorter_full", "random", "dual_beta"]
keep = [0.3]
seeds = [0]
[data]
source = "digits"
limit = 120
[train]
model = "mlp"
epochs = 10
precision = "fp32"
"""
"""In the place of the demo's own grid, which takes minutes."""
WRONG = (
    ("no such verb", "prunes digits --keep 0.3"),
    ("no such option", "prune digits --keep 0.3 --fraction 0.3"),
    ("no keep", "prune digits"),
    ("keep above 1", "prune digits --keep 1.5"),
    ("no such data", "prune nowhere/ --keep 0.3"),
    ("no such method", "prune digits --keep 0.3 --method best"),
    ("no such option of a method", "prune digits --keep 0.3 --option speed=3"),
    ("fewer epochs than the window", "prune digits --keep 0.3 --epochs 4"),
    ("a method and a score", "prune digits --keep 0.3 --method dual --score el2n"),
    ("no such run", "select nowhere --keep 0.3"),
    ("no such score", "score nowhere --score best"),
    ("no such policy", "train digits --policy best --keep 0.5"),
    ("passes without a policy", "train digits --passes 3"),
    ("keep without a policy", "train digits --keep 0.3"),
    ("no such condenser", "condense digits --method best"),
    ("no such pairs", "instruct nowhere.jsonl --keep 3"),
    ("no such grid", "bench nowhere.toml"),
    ("no such time", "bench nowhere.toml --time-limit soon"),
    ("a race of nothing", "race digits --budget 0"),
    ("no such method to show", "methods best"),
)
"""On purpose: only their exit codes are kept."""


# --- the data ------------------------------------------------------------------------------------------------------


def write_pictures(root: Path, *, split: bool) -> None:
    """Three digits in colours, 40 PNGs each; with ``split`` 40 in ``train/`` and 12 more in ``test/``."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label, name in enumerate(("one", "seven", "nine")):
        images = digits.images[digits.target == int({"one": 1, "seven": 7, "nine": 9}[name])]
        for i, image in enumerate(images[: 52 if split else 40]):
            folder = root / (("train" if i < 40 else "test") if split else "") / name
            folder.mkdir(parents=True, exist_ok=True)
            tint = np.array([1.0, 0.5 + 0.1 * label, 0.3 + 0.01 * i])
            Image.fromarray((image[:, :, None] * 15 * tint).astype(np.uint8)).save(folder / f"{i:02d}.png")


def write_table(file: Path) -> None:
    """The pictures of two classes as a Parquet table of the hub's layout."""
    files = sorted(file.parent.glob("pictures/[os]*/*.png"))
    cells = [{"bytes": f.read_bytes(), "path": f.name} for f in files]
    pq.write_table(pa.table({"img": cells, "label": [f.parent.name for f in files]}), file)


def write_texts(file: Path) -> None:
    """120 made-up sentences of three classes, every eighth with the label of another."""
    draw = random.Random(0)
    words = {"good": ("lovely", "warm", "bright"), "bad": ("dull", "cold", "grim"), "odd": ("strange", "green", "wry")}
    with file.open("w", encoding="utf-8", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(("text", "label"))
        for i in range(120):
            label = list(words)[i % 3]
            thing, other = draw.choice(("film", "song", "story")), draw.choice(("plot", "scene", "end"))
            text = f"the {thing} number {i} was {draw.choice(words[label])}, its {other} {draw.choice(words[label])}"
            table.writerow((text, label if i % 8 else "bad"))


def write_vectors(file: Path) -> None:
    """60 vectors of three overlapping classes."""
    y = np.arange(60) % 3
    x = np.random.default_rng(0).normal(size=(60, 6)) + 2 * np.eye(3, 6)[y]
    np.savez(file, x=x.astype(np.float32), y=y)


def write_pairs(folder: Path) -> None:
    """40 instruction pairs with the published indicators, and five labelled subsets of eight."""
    pairs = []
    for i in range(40):
        draw = np.random.default_rng(i)
        pairs.append(
            {
                "image_id": str(100 + i),
                "caption": f"Caption {i}. It says more.",
                "clip": float(draw.normal(30, 4)),
                "reward": float(draw.normal(4, 2)),
                "length": float(draw.uniform(1, 9)),
                "gpt": int(draw.integers(60, 100)),
                "image_features": draw.normal(size=3).tolist(),
                "text_features": draw.normal(size=3).tolist(),
                "spectral_cluster": i % 3,
            }
        )
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    draw = np.random.default_rng(0)
    members = [draw.permutation(40)[:8] for _ in range(5)]
    names = ("clip", "reward", "length", "gpt", "image_features", "text_features")
    arrays: dict[str, Any] = {
        name: np.array([[pairs[i][name] for i in row] for row in members], np.float32) for name in names
    }
    np.savez(folder / "subsets.npz", labels=30 + np.arange(5, dtype=np.float32) / 10, **arrays)


def write_data(folder: Path) -> None:
    """All that the commands read, relative to ``folder``."""
    write_pictures(folder / "pictures", split=False)
    write_pictures(folder / "split", split=True)
    write_table(folder / "table.parquet")
    write_texts(folder / "reviews.csv")
    write_vectors(folder / "vectors.npz")
    write_pairs(folder)
    for name, text in (("grid", GRID), ("arenas", ARENAS), ("demo", DEMO)):
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")


# --- what is kept of a file -----------------------------------------------------------------------------------------

Frozen = Iterator[tuple[str, Any]]
"""Names and values; a value is a number, a word, or a list or dict of them."""
LEFT_OUT = {
    *("seconds", "planning_seconds", "created", "finished", "commit", "version", "versions", "memory", "machine"),
    *("device", "threads", "workers", "source", "out", "path", "format"),  # of this machine, and of this run
    *("options", "settings", "recipe", "augment", "levels", "load"),  # by names that may change; results tell of them
    *("note", "notes", "verdict", "says", "sentence", "about"),  # wording
    *("files", "checksums"),  # of files that say how long they took; their content is kept itself
}
"""Fields of JSON files and columns of tables that may differ."""
CHOSEN_BY = ("method", "label", "score", "per_class", "keep", "seed", "budget", "n", "epochs", "charge", "fingerprint")
"""What of a selection's own description is kept."""
MOST = 20
"""Numbers of a list, at 20 characters each, that are kept as they are; longer ones become a hash."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def frozen(values: Any) -> Any:
    """An array or a list: shape, hash of its float32 (or int64, or text) bytes, and the first five values."""
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if array.dtype.kind not in "fiub":
        words = [bytes_of(value) for value in array.reshape(-1).tolist()]
        texts = [word.decode() for word in words] if array.dtype.kind == "U" else []
        return {"shape": list(array.shape), "hash": digest(b"\0".join(words)), "first": texts[:5]}
    array = np.ascontiguousarray(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))
    return {"shape": list(array.shape), "hash": digest(array.tobytes()), "first": array.reshape(-1)[:5].tolist()}


def bytes_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def tensors(named: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors by name: how many, and one hash of names, types, shapes and bytes, whatever their order in a file."""
    blocks = []
    for name in sorted(named):
        array = np.ascontiguousarray(named[name])
        blocks.append(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return {"tensors": len(blocks), "hash": digest(b"".join(blocks))}


def json_leaves(value: Any, name: str = "") -> Frozen:
    """The leaves of what a JSON file holds, without `LEFT_OUT`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in LEFT_OUT:
                yield from json_leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for i, inner in enumerate(value):
            yield from json_leaves(inner, f"{name}.{i}")
    elif isinstance(value, list) and len(json.dumps(value)) > MOST * MOST:
        yield name, {"length": len(value), "hash": digest(json.dumps(value).encode()), "first": value[:5]}
    else:
        yield name, value


def from_table(file: Path) -> Frozen:
    """Every column; of a selection also the kept ids in their order and its metadata."""
    table = pq.read_table(file)
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    for name, values in columns.items():
        kind = table.schema.field(name).type
        if pa.types.is_nested(kind):  # lists of unequal lengths
            values = [json.dumps(value, default=repr) for value in values]
        elif pa.types.is_floating(kind) or pa.types.is_integer(kind):
            values = [float("nan") if value is None else value for value in values]
        if name == "note":
            yield "evidence", frozen(np.array(values, object))
        elif name not in LEFT_OUT and "epoch" in columns:  # a history: as it is
            yield f"{name} by epoch", values
        elif name not in LEFT_OUT:
            yield name, frozen(np.array(values, object) if pa.types.is_binary(kind) else values)
    if {"kept", "order"} <= set(columns):
        kept = [i for i, is_kept in enumerate(columns["kept"]) if is_kept]
        ids = [columns["id"][i] for i in sorted(kept, key=lambda i: columns["order"][i])]
        yield "kept ids", {"count": len(ids), "hash": digest("\n".join(map(str, ids)).encode()), "first": ids[:10]}
        about = json.loads((table.schema.metadata or {}).get(b"datawinnow", b"{}"))
        yield "chosen by", {key: about.get(key) for key in CHOSEN_BY}


def from_rows(file: Path) -> Frozen:
    """The rows of a bench by their cell."""
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        cell = f"{row['method']} keep {row['keep']:g} seed {row['seed']} {row['scenario']}"
        yield from json_leaves(row, cell)


def from_page(file: Path) -> Frozen:
    text = file.read_text(encoding="utf-8")
    title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
    yield "title", title[1].strip() if title else None


def from_file(file: Path) -> Frozen:
    """What must stay equal of one file, by its kind."""
    if file.name == "rows.jsonl":
        yield from from_rows(file)
    elif file.suffix == ".parquet":
        yield from from_table(file)
    elif file.suffix == ".safetensors":
        yield "tensors", tensors(load_file(file))
    elif file.suffix == ".npy":
        yield "array", frozen(np.load(file, allow_pickle=False))
    elif file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            for name in sorted(arrays):  # the first number of a cost is its seconds
                yield name, frozen(arrays[name][1:] if name == "cost" else arrays[name])
    elif file.suffix == ".json":
        content = json.loads(file.read_text(encoding="utf-8"))
        yield from json_leaves(content)
        chosen = content.get("options", {}).get("select") if isinstance(content, dict) else None
        if isinstance(chosen, dict):
            yield "chosen by", {key: chosen.get(key) for key in CHOSEN_BY}
    elif file.suffix == ".html":
        yield from from_page(file)
    else:  # as it came: pictures, and lines of texts
        yield "bytes", digest(file.read_bytes())


def from_place(place: Path) -> Frozen:
    """A file, or every file of a folder by its path in it."""
    if not place.is_dir():
        yield from from_file(place)
        return
    for file in sorted(f for f in place.rglob("*") if f.is_file() and "lock" not in f.name):
        inside = file.relative_to(place).as_posix()
        if file.suffix in (".png", ".csv") or file.stat().st_size == 0:
            yield inside, digest(file.read_bytes())
        else:
            yield from ((f"{inside} {name}", value) for name, value in from_file(file))


def from_shown(shown: str, column: str) -> Frozen:
    """Names in column a verb prints: the first word of each line, or the second cell of each line of a table."""
    if column == "first words":
        yield column, [words[0] for line in shown.splitlines() if (words := line.split())]
    else:
        yield column, [cells[2].strip() for line in shown.splitlines() if len(cells := line.split("|")) > 3]


# --- running the command line ---------------------------------------------------------------------------------------


def first_error(message: str) -> str:
    """The first line of what was said, without paths of this run."""
    lines = [line for line in message.strip().splitlines() if line.strip()] or ["nothing was said"]
    errors = [line for line in lines if line.startswith("error:")] or lines[-1:]
    return errors[0].replace(str(Path.cwd()), ".")


def command(label: str, words: str, reads: str) -> Frozen:
    """Run one command and read the files that it wrote; a failing command gives an entry that says so."""
    done = CliRunner().invoke(app, shlex.split(words))
    if done.exit_code:
        why = done.stderr if isinstance(done.exception, SystemExit) else f"{done.exception!r}"
        yield label, {"failed": first_error(why)}
        return
    if reads in ("first words", "second column"):
        yield from ((f"{label} | {name}", value) for name, value in from_shown(done.stdout, reads))
        return
    try:
        for place in reads.split():
            yield from ((f"{label} | {place} | {name}", value) for name, value in from_place(Path(place)))
    except Exception as error:  # the other files are still read
        yield label, {"failed": first_error(f"reading {place}: {error!r}")}


def wrong(label: str, words: str) -> Frozen:
    yield f"wrong: {label}", CliRunner().invoke(app, shlex.split(words)).exit_code


def commands(rows: list[Row]) -> Frozen:
    for label, words, reads in rows:
        yield from command(label, words, reads)


def bench() -> Frozen:
    """With a small grid in the place of the demo's own."""
    import datawinnow.bench

    grid = datawinnow.bench.read_grid(Path("demo.toml"))
    for row in BENCH:
        small = mock.patch.object(datawinnow.bench, "read_grid", return_value=grid)
        with small if row[0] == "demo" else nullcontext():
            yield from command(*row)


# --- in Python ------------------------------------------------------------------------------------------------------

N, EPOCHS, CLASSES, WIDTH, RUNS = 120, 12, 4, 6, 8
SCORES: dict[str, list[dict[str, Any]]] = {
    "curvature": [{}],
    "dual": [{}, {"window": 3}],
    "dyn_unc": [{}, {"window": 12}],
    "el2n": [{}, {"first": 2, "last": 5}],
    "entropy": [{}, {"epoch": 0}],
    "forgetting": [{}, {"never_learned": "zero"}],
    "loss": [{}, {"epoch": 3}, {"first": 2, "last": 5}],
    "margin": [{}, {"epoch": 0}],
    "moderate": [{}, {"metric": "cosine"}],
    "prototypes": [{}, {"clusters": 3}, {"metric": "euclidean"}],
    "tdds": [{}, {"window": 4, "decay": 0.5}],
}
"""Options of scores beside their defaults; those that are not here run with their defaults alone."""
SELECTORS: dict[str, list[dict[str, Any]]] = {
    "beta": [{}, {"c_d": 2.0, "total": 16.0, "mu_top": 3}],
    "boss": [{}, {"a": 4.0, "b": 1.0, "form": "sparse", "neighbours": 5}],
    "cal": [{}, {"neighbours": 3, "symmetric": True, "end": "low"}],
    "coverage": [{}, {"bins": 7, "end": "high"}],
    "craig": [{}, {"weights": False, "form": "sparse", "neighbours": 4}],
    "d2": [{}, {"neighbours": 3, "gamma": 1.0, "power": 2}],
    "facility_location": [{}, {"form": "sparse", "neighbours": 5, "similarity": "rbf"}, {"greedy": "naive"}],
    "glister": [{}, {"refresh": 1, "step": 0.5}, {"reduce": "mean"}],
    "grad_match": [{}, {"lam": 0.0}, {"weights": False}],
    "graph_cut": [{}, {"lam": 2.0, "form": "sparse", "neighbours": 5}],
    "herding": [{}, {"normalise": True}],
    "k_center": [{}, {"outliers": 4}],
    "log_det": [{}, {"ridge": 1.0, "greedy": "naive"}],
    "middle": [{}, {"centre": 0.2}],
    "top": [{}, {"end": "low"}, {"end": "middle"}],
}
"""And of selectors."""
PLANNED: dict[str, list[dict[str, Any]]] = {
    "epsilon_greedy": [{}, {"epsilon": 0.5, "period": 1}, {"first": "random", "period": 3}],
    "example_swap": [{"period": 2}, {"period": 1, "swap": 0.2, "keep": 0.5}],
    "info_batch": [{}, {"form": "percentile"}, {"drop": 0.3, "delta": 1.0}],
    "loss_power": [{}, {"weighted": True}, {"a": 2.0, "first": "random"}],
    "order_dp": [{}, {"pool": 1.0}, {"first": "all"}],
    "repeated_subset": [{}, {"replacement": True}],
    "replay": [{}, {"after": "cycle"}],
    "seta": [{}, {"groups": 3, "drop": 0.2}],
    "ucb": [{}, {"period": 1}, {"first": "random", "period": 3}],
}
"""And of policies."""


def arrays(n: int = N) -> dict[str, Tensor]:
    """Every array that a score, a selector or a batch selector may need, from one seed."""
    g = dw.stream(0, "behaviour", n)
    p = torch.rand(EPOCHS, n, generator=g)
    labels = torch.randint(0, CLASSES, (n,), generator=g)
    score = torch.rand(n, generator=g)
    margin = torch.rand(EPOCHS, n, generator=g) * 2 - 1
    sizes = {"epochs": EPOCHS, "n": n, "d": WIDTH, "c": CLASSES, "v": 9, "runs": RUNS, "k": 3}
    return {name: random_array(name, sizes, dw.stream(0, "behaviour", name, n)) for name in TABLE} | {
        "labels": labels,
        "p_label": p,
        "correct": p > 0.5,
        "loss": -p.log(),
        "seen": torch.ones(EPOCHS, n, dtype=torch.bool),
        "score": score,
        "dual": score * 0.3,
        "margin": torch.randn(EPOCHS, n, generator=g) * 3,
        "margin_softmax": margin,
        "margin_top2": margin.abs(),
        "error_norm": torch.rand(EPOCHS, n, generator=g) * 1.4,
        "entropy": torch.rand(EPOCHS, n, generator=g),
        "kl_step": torch.rand(EPOCHS - 1, n, generator=g),
        "features": torch.randn(n, WIDTH, generator=g) + torch.eye(CLASSES, WIDTH)[labels],
        "probs": torch.randn(n, CLASSES, generator=g).softmax(1),
        "grad_norm": torch.rand(n, generator=g) * 5,
        "curvature": torch.rand(n, generator=g) * 2,
        "boundary_distance": torch.rand(n, generator=g),
        "val_features": torch.randn(9, WIDTH, generator=g),
        "val_probs": torch.randn(9, CLASSES, generator=g).softmax(1),
        "val_labels": torch.arange(9) % CLASSES,
        "subset_mask": (torch.arange(n) + torch.arange(RUNS)[:, None] * 3) % RUNS < 5,
        "subset_correct": torch.rand(RUNS, n, generator=g) < 0.6,
    }


def spelled(name: str, options: Mapping[str, Any], at: int) -> str:
    """A name and its options' place in the list above: options may be renamed."""
    return f"{name} ({at})" if options else name


def kept(selection: Any) -> dict[str, Any]:
    """A selection: ids in their order, weights, and reasons."""
    values = {"ids": frozen(selection.index), "weights": frozen(selection.weight)}
    return values | ({} if selection.reason is None else {"reasons": frozen(selection.reason)})


def scores() -> Frozen:
    """Every score by its card."""
    inputs = arrays()
    for key, score in dw.scores.METHODS.items():
        for at, options in enumerate(SCORES.get(key, [{}])):
            yield (
                f"score {spelled(key, options, at)}",
                frozen(score(*[inputs[need] for need in card_of(score).needs], **options)),
            )
    runs = [arrays(N)["error_norm"], arrays(N)["error_norm"].flip(0)]
    for by in ("score", "rank"):
        yield f"score el2n over runs by {by}", frozen(dw.scores.over_runs(dw.scores.el2n, by=by)(runs))


def selectors() -> Frozen:
    """Every selector by its card, alone and in every class."""
    inputs = arrays()
    for key, selector in dw.select.METHODS.items():
        needed = [inputs[need] for need in card_of(selector).needs]
        for at, options in enumerate(SELECTORS.get(key, [{}])):
            for budget, in_class in ((30, False), (41, True)):
                kwargs = {
                    **options,
                    **({"generator": dw.stream(1, key)} if "generator" in card_of(selector).takes else {}),
                }
                if in_class:
                    chosen = dw.select.per_class(selector)(*needed, labels=inputs["labels"], budget=budget, **kwargs)
                else:
                    chosen = selector(*needed, budget=budget, **kwargs)
                label = f"selector {spelled(key, options, at)}{' per class' if in_class else ''}"
                yield from ((f"{label} | {name}", value) for name, value in kept(chosen).items())
    cut = dw.select.drop_tail(dw.select.top, fraction=0.2, by="aum")
    aum = dw.scores.aum(inputs["margin"])
    yield "selector top without a tail", kept(cut(inputs["score"], aum=aum, budget=30))
    yield "c_d of short trainings", [dw.select.fitted_c_d(epochs) for epochs in (5, 15, 30, 60, 100, 200, 400)]


def losses(index: Tensor, epoch: int) -> Tensor:
    """What a network would say: some are hard, and all get easier."""
    return ((index * 7919 % 1009).float() / 250 + 0.1) * 0.9**epoch


def policies(n: int = 90) -> Iterator[tuple[str, Any]]:
    """(label, policy), each by its card, and wrapped."""
    half = dw.Selection(torch.arange(0, n, 2), 1 + torch.arange(0, n, 2) / n)
    draws = [torch.randperm(n, generator=dw.stream(0, "log", epoch))[: n // 3] for epoch in range(4)]
    log = dw.dynamic.SelectionHistory.of([dw.Selection(draw, 1 + draw.float() / n) for draw in draws], n)
    required = {"keep": 0.4, "epochs": 8, "selection": half, "history": log}
    for key, make in dw.dynamic.POLICIES.items():
        for at, options in enumerate(PLANNED.get(key, [{}])):
            if key == "replay" and not options:
                options = {"after": "cycle"}  # the plan has four epochs, and eight are asked for
            yield (
                spelled(key, options, at),
                make(**{**{name: required[name] for name in card_of(make).takes}, **options}),
            )
    ucb, info = dw.dynamic.UCB(keep=0.4, period=1), dw.dynamic.InfoBatch(epochs=8)
    yield "warm up", dw.dynamic.warm_up(ucb, 2)
    yield "every", dw.dynamic.every(ucb, 3)
    yield "annealed", dw.dynamic.annealed(info, 8, share=0.6)
    yield "partly annealed", dw.dynamic.annealed(ucb, 8, share=0.6, mode="partial")
    yield "rescaled", dw.dynamic.rescaled(dw.dynamic.RandomPruning(keep=0.4))
    yield "shrinking", dw.dynamic.shrinking(ucb, 8, end=0.2)
    yield "guarded", dw.dynamic.guarded(ucb, first=2, period=2, separation=0.0, look=3)
    for passes, classes, noisy in ((15, 10, False), (30, 10, True), (30, 100, False)):
        advice = dw.dynamic.recommend(10_000, passes=passes, classes=classes, noisy=noisy)
        yield f"advised for {passes} passes of {classes} classes{', noisy' if noisy else ''}", advice.policy


def plans(n: int = 90, epochs: int = 8) -> Frozen:
    """The plans of every policy in a training loop written by hand."""
    for label, policy in policies(n):
        if policy is None:
            yield f"policy {label}", None
            continue
        sampler = dw.PolicySampler(policy, n=n, seed=3, epochs=epochs)
        planned = []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            planned.append((torch.tensor(list(sampler)), sampler.plan.weight))
            for index in planned[-1][0].split(16):
                loss = losses(index, epoch)
                correct = ((index * 7 + epoch * 3) % 5 < 3).float()
                sampler.observe(index, loss, correct=correct, p_label=torch.exp(-loss))
        yield f"policy {label} | sizes", [len(index) for index, _ in planned]
        yield f"policy {label} | ids", frozen(torch.cat([index for index, _ in planned]))
        yield f"policy {label} | weights", frozen(torch.cat([weight for _, weight in planned]))
    for rank in (0, 1):
        deal = dw.PolicySampler(dw.dynamic.RandomPruning(keep=0.5), n=n, num_replicas=2, rank=rank, batch=8, steps=5)
        deal.set_epoch(1)
        yield f"policy dealt to process {rank}", list(deal)


def batches() -> Frozen:
    """Every batch selector."""
    inputs = {**arrays(40), "loss": arrays(40)["loss"][0], "irreducible_loss": arrays(40)["entropy"][0]}
    for key, choose in dw.dynamic.BATCH_SELECTORS.items():
        needed = [inputs[need] for need in card_of(choose).needs]
        chosen, weight = choose(*needed, budget=13, generator=dw.stream(2, key), state={})
        yield f"batch selector {key}", {"positions": chosen.tolist(), "weights": frozen(weight)}


def scenarios() -> Frozen:
    """Every scenario on small pictures."""
    g = dw.stream(0, "pictures")
    x, y = torch.randint(0, 256, (40, 3, 8, 8), generator=g).to(torch.uint8), torch.arange(40) % 4
    for key, change in dw.scenarios.METHODS.items():
        changed = change(x, y, rate=0.3, generator=dw.stream(1, key))
        names = ("pictures", "labels", "changed")
        yield f"scenario {key}", {name: frozen(value) for name, value in zip(names, changed, strict=True)}


def training() -> Frozen:
    """`load`, `prune`, `fit` and the networks."""
    exact = dw.Recipe(batch=32, precision="fp32", device="cpu")
    train, test = dw.load("digits", limit=200)
    loaded: dict[str, tuple[Any, Any]] = {
        "digits": (train, test),
        "pictures": dw.load("pictures", size=10, limit=90),
        "split": dw.load("split"),
        "texts": dw.load("reviews.csv", length=9),
        "vectors": dw.load("vectors.npz", holdout=0.3, seed=2),
        "a table": dw.load("table.parquet"),
    }
    for name, (examples, held_out) in loaded.items():
        for split, data in (("train", examples), ("test", held_out)):
            content = {"x": frozen(data.x), "labels": frozen(data.labels), "ids": frozen(np.array(data.ids, str))}
            yield f"load {name} | {split}", content | {"classes": list(data.classes), "fingerprint": data.fingerprint}

    def network(seed: int = 0, **options: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return dw.models.mlp(classes=10, channels=1, size=8, **options)

    def network_and_history(label: str, model: Any, history: Any) -> Frozen:
        yield f"{label} | weights", tensors({k: v.detach().numpy() for k, v in model.state_dict().items()})
        yield (
            f"{label} | history",
            [[row[k] for k in ("loss", "accuracy", "examples", "test_loss")] for row in history.rows],
        )

    for method in (None, "k_center", "el2n", "random"):
        chosen = dw.prune(train, keep=0.3, method=method, epochs=10, model="mlp", recipe=exact, seed=1)
        yield f"prune in Python {method or 'by default'}", kept(chosen.selection)
    fitted = dw.prune(
        train, keep=0.3, epochs=10, schedule_epochs=40, train_epochs=12, model="mlp", recipe=exact, test=test
    )
    yield "prune in Python for a short training", kept(fitted.selection)
    yield from network_and_history("fit kept", *dw.fit(network(), fitted, epochs=3, test=test, recipe=exact))
    recorder = dw.Recorder(n=len(train), epochs=3)
    yield from network_and_history(
        "fit recorded",
        *dw.fit(network(), train, epochs=3, schedule_epochs=9, test=test, recipe=exact, recorder=recorder),
    )
    yield "fit recorded | columns", {name: frozen(recorder[name]) for name in ("p_label", "loss", "margin", "correct")}
    variants: dict[str, dict[str, Any]] = {
        "a fraction": {"epochs": 2.5, "seed": 2},
        "ucb": {"passes": 3, "policy": dw.dynamic.UCB(keep=0.5, period=1)},
        "a proxy": {"passes": 3, "in_batch": dw.dynamic.InBatch(keep=0.5, proxy=network(1, width=8))},
        "itself": {"epochs": 2, "in_batch": dw.dynamic.InBatch(keep=0.5, selector="drawn")},
        "focal": {"epochs": 2, "focal": 1.0},
        "curvature": {"epochs": 2, "curvature": 0.1},
    }
    for name, kwargs in variants.items():
        yield from network_and_history(f"fit by {name}", *dw.fit(network(), train, test=test, recipe=exact, **kwargs))
    for name, options in {
        "mlp": {}, "convnet": {"width": 8}, "resnet8": {}, "resnet20": {}, "resnet18": {"width": 8},
        "vit": {"depth": 2}, "lenet": {}, "vgg11": {"width": 8}, "alexnet": {"width": 16},
    }.items():  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(dw.models, name)(classes=5, channels=3, size=32, **options).eval()
        with torch.no_grad():
            logits = model(torch.randn(2, 3, 32, 32, generator=dw.stream(0, "x")))
        weights = tensors({k: v.detach().numpy() for k, v in model.state_dict().items()})
        yield f"network {name}", {"weights": weights, "logits": frozen(logits)}


def in_python() -> Frozen:
    for group in (scores, selectors, plans, batches, scenarios, training):
        try:
            yield from group()
        except Exception as error:  # the other groups still run
            yield f"in Python: {group.__name__}", {"failed": first_error(repr(error))}


# --- all of it ------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], Frozen]] = {
    "record, score, select": lambda: commands(RECORDING),
    "prune": lambda: commands(PRUNING),
    "train": lambda: commands(TRAINING),
    "pictures": lambda: commands(PICTURES),
    "texts": lambda: commands(TEXTS),
    "condense": lambda: commands(CONDENSING),
    "instruct": lambda: commands(INSTRUCT),
    "bench": bench,
    "show": lambda: commands(SHOWING),
    "wrong": lambda: (value for row in WRONG for value in wrong(*row)),
    "python": in_python,
}


@contextmanager
def own_folder() -> Iterator[None]:
    """A working directory with the data in it, and a cache of its own; both are gone afterwards."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="behaviour-") as folder, mock.patch.dict(os.environ):
        os.environ |= {"DATAWINNOW_CACHE": f"{folder}/cache", "NO_COLOR": "1", "TERMINAL_WIDTH": "200"}
        for name in ("FORCE_COLOR", "DATAWINNOW_TRACEBACK", "DATAWINNOW_CACHE_GB"):
            os.environ.pop(name, None)
        os.chdir(folder)
        try:
            write_data(Path(folder))
            yield
        finally:
            os.chdir(before)


def freeze(names: list[str]) -> dict[str, Any]:
    """Run the parts of these names, each in a folder of its own, and gather what they gave.

    Raises:
        SystemExit: two values have one name.
    """
    torch.set_num_threads(1)
    values: dict[str, Any] = {}
    for group in names:
        start, before = time.perf_counter(), len(values)
        with own_folder():
            for name, value in PARTS[group]():
                if name in values:
                    raise SystemExit(f"two values are called {name!r}")
                values[name] = value
        print(
            f"{group}: {len(values) - before:,} values, {time.perf_counter() - start:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return values


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A line or two for each value that is not the same in both; NaN equals itself."""
    lines = []
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = (json.dumps(side[name], sort_keys=True) if name in side else None for side in (before, after))
        if new is None:
            lines.append(f"only before: {name}")
        elif old is None:
            lines.append(f"only after: {name}")
        elif old != new:
            lines.append(f"differs: {name}\n  before {old}\n  after  {new}")
    return lines


def compare(files: list[Path], without: list[str]) -> int:
    """Print what differs between two files, and how much is equal; the exit code."""
    sides = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    sides = [{name: v for name, v in side.items() if not any(word in name for word in without)} for side in sides]
    lines = differences(*sides)
    print("\n".join(lines) if lines else f"equal: {len(sides[0]):,} values")
    if lines:
        print(f"{len(lines):,} differ, of {len(sides[0] | sides[1]):,} values")
    return int(bool(lines))


def main(argv: list[str] | None = None) -> int:
    """Freeze, or compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--out", type=Path, metavar="FILE", help="run everything and write what must stay equal")
    todo.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="print what differs")
    parser.add_argument("--only", action="append", choices=PARTS, help="with --out: this part (repeatable)")
    parser.add_argument(
        "--without", action="append", default=[], metavar="WORD", help="with --compare: leave out names that contain it"
    )
    arguments = parser.parse_args(argv)
    if arguments.compare:
        return compare(arguments.compare, arguments.without)
    start, out = time.perf_counter(), arguments.out.resolve()
    values = freeze(arguments.only or list(PARTS))
    out.write_text(json.dumps(values, indent=0) + "\n", encoding="utf-8")
    failed = {name: value["failed"] for name, value in values.items() if isinstance(value, dict) and "failed" in value}
    print(f"{len(values):,} values in {time.perf_counter() - start:.0f} s, written to {out}; {len(failed)} failed")
    for name, why in failed.items():
        print(f"  {name}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
