"""Floating-point operations by torch's own counter, which passes over the fused attention of the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def counter() -> FlopCounterMode:
    """What counts the operations, 2 per multiply-add, of all that runs in its context.

    torch 2.13 knows the fused attention kernels of CUDA alone: on a CPU a vision transformer would be counted without
    its attention.
    """
    mapping: dict[Any, Any] = {}
    for name, count in (("", _forward), ("_backward", _backward)):
        fused = getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention_for_cpu{name}", None)
        if fused is not None:
            mapping[fused] = count
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _forward(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]
