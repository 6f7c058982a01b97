"""torch's counter of floating-point operations, with the fused attention of the CPU, which torch leaves out."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def flop_counter() -> FlopCounterMode:
    """A context that counts the operations run in it, 2 per multiply-add; read ``get_total_flops()`` at its end.

    torch 2.13 counts only CUDA's fused attention kernels: on a CPU a vision transformer would be counted without its
    attention.
    """
    mapping: dict[Any, Any] = {}
    for suffix, count in (("", _attention_flops), ("_backward", _attention_backward_flops)):
        # a private operator, absent from some builds of torch
        fused = getattr(torch.ops.aten, f"_scaled_dot_product_flash_attention_for_cpu{suffix}", None)
        if fused is not None:
            mapping[fused] = count
    return FlopCounterMode(display=False, custom_mapping=mapping)


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(
    grad: Any, query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))
