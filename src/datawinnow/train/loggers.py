"""Metrics of each epoch to the loggers of lightning-fabric and Lightning: CSV files, TensorBoard, W&B, MLflow."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.core.errors import ArgumentError
from datawinnow.train.history import History

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger


def loggers_of(logger: Logger | Sequence[Logger] | None, log_dir: Path | str | None, name: str) -> list[Logger]:
    """The loggers of a run.

    Args:
        logger: of lightning-fabric or Lightning (``CSVLogger``, ``TensorBoardLogger``, ``WandbLogger``,
            ``MLFlowLogger``), or several.
        log_dir: folder for a CSV file of metrics, and for TensorBoard where it is installed.
        name: of the folder in ``log_dir``.

    Raises:
        ArgumentError: what is no logger.
    """
    loggers: list[Any] = [] if logger is None else list(logger) if isinstance(logger, (list, tuple)) else [logger]
    for each in loggers:
        if not callable(getattr(each, "log_metrics", None)):
            raise ArgumentError(
                f"logger must be a logger of lightning-fabric, as CSVLogger('logs'), got {type(each).__name__}"
            )
    if log_dir is not None:
        # here, since lightning-fabric takes seconds to import
        from lightning_fabric.loggers.csv_logs import CSVLogger

        loggers.append(CSVLogger(log_dir, name=name, version="csv"))
        if any(importlib.util.find_spec(module) for module in ("tensorboard", "tensorboardX")):
            from lightning_fabric.loggers.tensorboard import TensorBoardLogger

            loggers.append(TensorBoardLogger(log_dir, name=name, version="tensorboard"))
    return loggers


def with_loggers(
    on_epoch: Callable[[int, History], None] | None, loggers: Sequence[Logger]
) -> Callable[[int, History], None] | None:
    """``on_epoch`` and the metrics of the epoch to each logger; after a resume those of the epochs before as well."""
    if not loggers:
        return on_epoch
    num_logged = 0

    def log(epoch: int, history: History) -> None:
        nonlocal num_logged
        if on_epoch is not None:
            on_epoch(epoch, history)
        for row in history.rows[num_logged:]:
            metrics: dict[str, Any] = {k: v for k, v in row.items() if k != "epoch" and math.isfinite(v)}
            for logger in loggers:
                logger.log_metrics(metrics, step=int(row["epoch"]))
        num_logged = len(history.rows)
        for logger in loggers:
            logger.save()

    return log
