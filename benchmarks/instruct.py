"""InstructionGPT-4's selector on its real data: the choice, the error of 30 labels, seconds and memory.

The literal form scores 114 copies of every pair at once, which needs about 20 GB of attention weights; one copy gives
the same scores. Real data are found through ``DATAWINNOW_DATA``; ``--smoke`` makes small data of the same layout.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import arguments, finish, in_child, ratio, say
from torch import nn

from datawinnow.instruct.choose import choose_pairs, make_clusters
from datawinnow.instruct.features import PUBLISHED_SCALE, Standardiser, feature_matrix, layout_of
from datawinnow.instruct.leave_one_out import seed_agreement
from datawinnow.instruct.options import ChoiceOptions
from datawinnow.instruct.pairs import read_pairs
from datawinnow.instruct.scoring import leave_out_subsets, pool_of, score_pairs
from datawinnow.instruct.selector import recipe_of, score_pool, train_selectors
from datawinnow.instruct.subsets import read_subsets

COPIES = {"smoke": 6, "default": 2, "full": 4}
"""Copies of every pair in the literal form: 114 as published, of which each takes as much memory again."""
SCORERS = ("ridge", "paper", "default")


def write_synthetic_data(folder: Path, n: int = 80, sets: int = 6, size: int = 10) -> Path:
    """Small data of the published layout."""
    draws = np.random.default_rng(0)
    rows = [
        {"image_id": str(i), "caption": f"caption {i}", "clip": float(draws.normal(30, 4)),
         "reward": float(draws.normal(4, 2)), "length": float(draws.uniform(1, 9)), "gpt": int(draws.integers(60, 100)),
         "image_features": draws.normal(size=6).tolist(), "text_features": draws.normal(size=6).tolist(),
         "spectral_cluster": i % 4}
        for i in range(n)
    ]  # fmt: skip
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = np.stack([draws.permutation(n)[:size] for _ in range(sets)])
    names = ("clip", "reward", "length", "gpt", "image_features", "text_features")
    arrays: dict[str, Any] = {
        name: np.array([[rows[i][name] for i in row] for row in index], np.float32) for name in names
    }
    np.savez(folder / "subsets.npz", labels=30 + draws.normal(size=sets).astype(np.float32), **arrays)
    return folder


def chosen(folder: str, mode: str, keep: int) -> dict[str, Any]:
    """Train, score and choose, with five seeds; seconds of the first alone."""
    pairs = read_pairs(Path(folder) / "pairs.jsonl")
    pool = pool_of(pairs)
    subsets = read_subsets(Path(folder) / "subsets.npz", pairs, pool.layout)
    pool = type(pool)(pairs, pool.layout, pool.raw, pool.usable, subsets)
    choice = ChoiceOptions().resolve("paper" if mode == "paper" else "default")
    clusters = make_clusters(pairs, choice, paper=mode == "paper")
    start = time.perf_counter()
    if mode == "ridge":
        scored = score_pairs(pool, mode)
    else:
        scored = score_pairs(pool, mode, num_seeds=1)
    selection = choose_pairs(scored.score, pairs, clusters, keep=keep, choice=choice)
    seconds = time.perf_counter() - start
    many = scored if mode == "ridge" else score_pairs(pool, mode, num_seeds=5)

    def again(score: torch.Tensor) -> torch.Tensor:
        return choose_pairs(score, pairs, clusters, keep=keep, choice=choice).index

    between = seed_agreement(many.seed_scores, again)
    floats = choose_pairs(scored.score, pairs, clusters, keep=keep, choice=ChoiceOptions(select="cluster_quotas"))
    label, by_cluster = clusters.label, []
    if label is not None:
        by_cluster = [int((label[selection.index] == c).sum()) for c in dict.fromkeys(label.tolist())]
    kept = selection.index.numpy()
    metadata = {
        "kept": len(kept),
        "by_cluster": by_cluster,
        "seconds": seconds,
        "loss": scored.loss,
        "parameters": scored.details.get("parameters"),
        "score": {"mean": float(scored.score.mean()), "std": float(scored.score.std())},
        "same_by_float_sort": len(set(kept.tolist()) & set(floats.index.tolist())),
        "chosen": {name: float(pairs.numbers[name][kept].mean()) for name in pool.layout.indicators},
        "pool": {name: float(pairs.numbers[name].mean()) for name in pool.layout.indicators},
    }
    return metadata | {key: between.get(f"{key}_between") for key in ("correlation", "overlap")}


def real_subsets(folder: str) -> dict[str, Any]:
    """Errors on subsets left out, of every scorer."""
    pairs = read_pairs(Path(folder) / "pairs.jsonl")
    pool = pool_of(pairs)
    subsets = read_subsets(Path(folder) / "subsets.npz", pairs, pool.layout)
    start = time.perf_counter()
    left_out = leave_out_subsets(type(pool)(pairs, pool.layout, pool.raw, pool.usable, subsets), SCORERS)
    rows = {
        scorer.name: {
            "error": scorer.error.mean,
            "half": scorer.error.half,
            "difference": scorer.difference and scorer.difference.mean,
            "difference_half": scorer.difference and scorer.difference.half,
            "outcome": scorer.outcome,
            "correlation": None if scorer.correlation != scorer.correlation else scorer.correlation,
        }
        for scorer in left_out
    }
    return {"labels": len(subsets), "seconds": time.perf_counter() - start, "scorers": rows}


def everything(folder: str, keep: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """All ways of choosing, and what is known of them, in one process."""
    return {mode: chosen(folder, mode, keep) for mode in ("paper", "default", "ridge")}, real_subsets(folder)


class Literal(nn.Module):
    """The network as published: attention over the first axis, with the weights of all its attention made."""

    def __init__(self, nets: Any) -> None:
        super().__init__()
        d, heads = nets.shape.width, nets.shape.heads
        attentions = [nn.MultiheadAttention(d, heads) for _ in nets.layers]
        linears = [nn.Linear(d, d) for _ in nets.layers]
        self.attentions, self.linears, self.head = nn.ModuleList(attentions), nn.ModuleList(linears), nn.Linear(d, 1)
        for layer, attention, linear in zip(nets.layers, attentions, linears, strict=True):
            leaves = (attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight,
                   attention.out_proj.bias, linear.weight, linear.bias)  # fmt: skip
            for parameter, value in zip(leaves, layer, strict=True):
                parameter.data.copy_(value[0])
        self.head.weight.data.copy_(nets.head[0])
        self.head.bias.data.copy_(nets.head_bias[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for attention, linear in zip(self.attentions, self.linears, strict=True):
            x = linear(x + attention(x, x, x)[0])
        scores: torch.Tensor = self.head(x)
        return scores


def pooled(folder: str, copies: int, rounds: int) -> dict[str, Any]:
    """Scores of the pool by ours (copies 0) or by the literal form with so many copies, and seconds of each round."""
    pairs = read_pairs(Path(folder) / "pairs.jsonl")
    layout = layout_of(pairs)
    x = feature_matrix(layout, pairs.numbers, pairs.vectors, scale=PUBLISHED_SCALE)
    subsets = read_subsets(Path(folder) / "subsets.npz", pairs, layout)
    recipe = recipe_of("paper")
    # standardised for this comparison alone: unscaled features make softmax nearly a maximum, where rounding shows
    standard = Standardiser.fit(x)
    assert subsets.features is not None  # the published file has them
    trained = train_selectors(standard(subsets.features), subsets.labels, recipe=recipe, seeds=[42])
    items, seconds = standard(x), []
    net = Literal(trained.nets) if copies else None
    for _ in range(rounds):
        start = time.perf_counter()
        with torch.no_grad():
            if net is None:
                score = score_pool(trained, items, recipe=recipe, size=1, seed=0)[0]
            else:
                score = net(items[:, None].repeat(1, copies, 1)).mean(dim=1)[:, 0]
        seconds.append(time.perf_counter() - start)
    return {"score": score.tolist(), "seconds": seconds}


def scoring(folder: str, copies: int, rounds: int) -> dict[str, Any]:
    """Ours against the literal form."""
    ours, mb = in_child(pooled, folder, 0, rounds)
    theirs, their_mb = in_child(pooled, folder, copies, rounds)
    gap = float(np.abs(np.array(ours["score"]) - np.array(theirs["score"])).max())
    return {
        "copies": copies, "largest_difference": gap, "peak_mb": mb, "literal_peak_mb": their_mb,
        "ratio": ratio(theirs["seconds"], ours["seconds"]),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    size = arguments(__doc__ or "", argv)
    with tempfile.TemporaryDirectory() as temporary:
        if size == "smoke":
            folder, keep = str(write_synthetic_data(Path(temporary))), 20
        else:
            root = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parents[2] / "shared" / "data"))
            folder, keep = str(root / "instructiongpt4"), 200
        (modes, left), peak = in_child(everything, folder, keep)
        for mode, row in modes.items():
            say(f"{mode:8} {row['kept']} chosen in {row['seconds']:.2f} s, by cluster {row['by_cluster']}, means "
                f"{row['chosen']} of {row['pool']}")  # fmt: skip
        for name, row in left["scorers"].items():
            say(f"left out: {name:20} {row['error']:.3f} ± {row['half']:.3f} {row['outcome']}")
        say(f"peak {peak:.0f} MB")
        pool = scoring(folder, COPIES[size], 1 if size == "smoke" else 5)
    goal = {"seconds": 60, "peak_mb": 2000}
    finish("instruct", size, {"keep": keep, "modes": modes, "left_out": left, "scoring": pool, "peak_mb": peak,
                              "goal": goal})  # fmt: skip


if __name__ == "__main__":
    main()
