"""Weight initialisation that several networks share."""

from __future__ import annotations

from torch import nn


def he_fan_out(network: nn.Module) -> None:
    """Convolutions from N(0, 2 / (k * k * out)), norms at (1, 0), as in the DUAL paper's code (arXiv 2502.06905)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # fan_out keeps the variance of the gradient in the backward pass; torch's default is a uniform fan_in.
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
