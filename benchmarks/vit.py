"""Seconds and operations of a training step of a sparse vision transformer, level by level, against the dense one.

And of attention under a mask of keys in each form, against attention without one: from where on leaving keys out pays.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from measuring import arguments, finish, interleaved, ratio, say
from torch import Tensor, nn

from datawinnow import vit
from datawinnow.core.rng import forked
from datawinnow.models import build
from datawinnow.vit.masked_attention import Keys

RATES = {"tokens": (0.7, 1.0), "attention": (1.0, 0.3), "tokens and attention": (0.7, 0.3)}
NETWORKS = {
    "smoke": (("vit", 32, 4, 2),),
    "default": (("vit", 32, 64, 8), ("vit_tiny", 224, 4, 8)),
    "full": (("vit", 32, 128, 21), ("vit_small", 32, 64, 15), ("vit_tiny", 224, 16, 15)),
}
"""(Network, pixels, batch, rounds)."""
ATTENTION = {
    "smoke": ((64, 0.3, 1),),
    "default": ((64, 0.3, 6), (196, 0.3, 4), (196, 0.1, 4)),
    "full": (
        (64, 0.3, 9),
        (196, 0.3, 7),
        (196, 0.1, 7),
        (1024, 0.02, 5),
        (1024, 0.005, 5),
        (4096, 0.01, 3),
        (4096, 0.0025, 3),
    ),
}
"""(Patches, share of the keys kept, rounds); a batch has about 800 patches, 3 heads of 64."""
GOALS = {"token_saving_shown": 0.8, "attention_over_none": 1.02}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Forward and backward."""
    F.cross_entropy(model(x), y).backward()
    model.zero_grad(set_to_none=True)
    if x.is_cuda:
        torch.cuda.synchronize()


def network(name: str, size: int, batch: int, rounds: int, device: str) -> dict[str, Any]:
    """A step of a network at each level, in turns with the dense one."""
    with forked(0, "benchmark"):
        model = build(name, shape=(3, size, size), classes=10).to(device).train()
        x, y = torch.randn(batch, 3, size, size, device=device), torch.randint(10, (batch,), device=device)
    vit.sparsify(model, schedule=None)
    sparsity = vit.sparsity_of(model)
    flops = {row.level: row.flops_ratio for row in vit.level_costs(model, x)}

    def at(tokens: float, attention: float, form: str = "auto") -> Callable[[], object]:
        def run() -> None:
            sparsity.form = form
            with sparsity.fixed_rates(vit.Rates(tokens, attention)):
                step(model, x, y)

        return run

    levels = {level: at(*rates) for level, rates in RATES.items()}
    paying = at(*RATES["tokens and attention"], form="paying")
    seconds, cpu = interleaved({"dense": at(1, 1), **levels, "paying": paying}, rounds)
    used = cpu if device == "cpu" else seconds
    result: dict[str, Any] = {"network": name, "size": size, "batch": batch, "device": device, "rounds": rounds}
    result["dense_ms"] = 1e3 * statistics.median(used["dense"])
    for level in RATES:
        took = ratio(used[level], used["dense"])
        shown = (1 - took["median"]) / (1 - flops[level]) if flops[level] < 0.99 else None
        result[level] = {
            "flops_ratio": flops[level],
            "ratio": took,
            "wall_ratio": ratio(seconds[level], seconds["dense"]),
        }
        result[level]["shown"] = shown
    result["attention_over_none"] = {
        "alone": result["attention"]["ratio"],
        "with tokens": ratio(used["tokens and attention"], used["tokens"]),
        "with tokens, paying": ratio(used["paying"], used["tokens"]),
    }
    return result


def forms(patches: int, keep: float, rounds: int, device: str) -> dict[str, Any]:
    """Attention and its gradient under a mask in each form, over attention without a mask."""
    b, heads, d = max(1, 800 // patches), 3, 64
    with forked(0, "benchmark"):
        q, k, v = (torch.randn(b, heads, patches + 1, d, device=device, requires_grad=True) for _ in range(3))
        index = torch.rand(b, patches, patches).topk(max(1, round(keep * patches))).indices.to(device)
    keys, scale = Keys(index, patches, 1), d**-0.5
    chosen = [name for name in vit.FORMS if name not in ("auto", "paying") and (name != "flex" or device == "cuda")]

    def run(name: str | None) -> Callable[[], object]:
        def once() -> None:
            if name is None:
                out = F.scaled_dot_product_attention(q, k, v)
            else:
                out = vit.FORMS[name](q, k, v, keys, scale, 0.0)
            out.sum().backward()
            if q.is_cuda:
                torch.cuda.synchronize()

        return once

    wall, cpu = interleaved({"none": run(None), **{name: run(name) for name in chosen}}, rounds)
    used = cpu if device == "cpu" else wall
    result: dict[str, Any] = {"patches": patches, "keep": keep, "batch": b, "device": device, "rounds": rounds}
    result["none_ms"] = 1e3 * statistics.median(used["none"])
    return {**result, **{name: ratio(used[name], used["none"]) for name in chosen}}


def print_row(row: dict[str, Any]) -> None:
    """Lines on a network."""
    say(
        f"{row['network']} at {row['size']} pixels, batch {row['batch']}, {row['device']}: a dense step takes "
        f"{row['dense_ms']:.0f} ms; {row['rounds']} rounds in turns"
    )
    for level in RATES:
        each = row[level]
        line = f"  {level:22} {each['ratio']['median']:.3f} [{each['ratio']['low']:.3f}, {each['ratio']['high']:.3f}]"
        line += f" of its time, {each['flops_ratio']:.3f} of its operations"
        say(line + (f"; {each['shown']:.0%} of the saving shows" if each["shown"] is not None else ""))
    for case, words in (("with tokens", "as asked"), ("with tokens, paying", 'form="paying"')):
        over = row["attention_over_none"][case]
        say(
            f"  the attention level on top of the token level, {words}: {over['median']:.3f} "
            f"[{over['low']:.3f}, {over['high']:.3f}] times (goal {GOALS['attention_over_none']})"
        )


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    networks, attention = [], []
    for device in DEVICES:
        for each in NETWORKS[chosen]:
            networks.append(network(*each, device))
            print_row(networks[-1])
        for case in ATTENTION[chosen]:
            row = forms(*case, device)
            attention.append(row)
            ratios = ", ".join(f"{name} {row[name]['median']:.2f}" for name in vit.FORMS if name in row)
            say(f"{row['patches']} patches, {row['keep']:g} of the keys, {device}: over no mask {ratios}")
    finish("vit", chosen, {"goal": GOALS, "networks": networks, "attention": attention})


if __name__ == "__main__":
    main()
