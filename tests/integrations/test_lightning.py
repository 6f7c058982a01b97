"""The policies in a Lightning Trainer: exact epochs, and resume from every kind of checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.integrations.lightning import PolicyCallback
from tests.integrations.models import BATCH, EPOCHS, Module, data, loader_of, policy_sampler

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def trainer_of(folder: Path, *callbacks: Any, **options: Any) -> L.Trainer:
    plain = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    keep = L.callbacks.ModelCheckpoint
    when = {"every_n_train_steps": options.pop("every", None), "save_on_train_epoch_end": options.pop("late", None)}
    saves = keep(folder, "{epoch}-{step}", save_top_k=-1, **when)
    return L.Trainer(
        max_epochs=EPOCHS,
        callbacks=[*callbacks, saves],
        num_sanity_val_steps=0,
        **{"reload_dataloaders_every_n_epochs": 1, **plain, **options},
    )


def run(
    folder: Path, *, validate: bool = False, workers: int = 0, checkpoint: Path | None = None, **options: Any
) -> tuple[Module, L.Trainer]:
    sampler = policy_sampler()
    module, trainer = Module(sampler), trainer_of(folder, PolicyCallback(sampler), **options)
    seen = torch.utils.data.DataLoader(data(), batch_size=BATCH) if validate else None
    trainer.fit(module, loader_of(sampler, num_workers=workers), seen, ckpt_path=checkpoint)
    return module, trainer


@pytest.mark.parametrize(
    ("validate", "workers"), [(False, 0), (True, 0), (True, 1)], ids=["plain", "validated", "validated, a worker"]
)
def test_epochs_have_the_batches_of_their_plan_and_checkpoints_resume(
    validate: bool, workers: int, tmp_path: Path
) -> None:
    # after validation is before the callback sets the next epoch
    late = {"late": not validate}
    module, trainer = run(tmp_path / "whole", validate=validate, **late)
    sizes = [sum(1 for epoch, _, _ in module.visited if epoch == e) for e in range(EPOCHS)]
    assert sizes == module.counted == [6, 3, 3, 3]
    assert module.sampler.realised == [1.0, 0.5, 0.5, 0.5]
    assert trainer.global_step == 15
    for step, left in ((6, 9), (12, 3)):
        saved = next((tmp_path / "whole").glob(f"*step={step}.ckpt"))
        again, _ = run(tmp_path / "again", validate=validate, workers=workers, checkpoint=saved, **late)
        assert again.visited == module.visited[-left:]
        assert again.counted == module.counted[-len(again.counted) :]
        torch.testing.assert_close(again.net.weight, module.net.weight)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_checkpoint_in_mid_epoch_goes_on_with_the_batch_after_it(workers: int, tmp_path: Path) -> None:
    module, _ = run(tmp_path / "whole", every=4)
    for step in (4, 8):
        saved = next((tmp_path / "whole").glob(f"*step={step}.ckpt"))
        again, _ = run(tmp_path / "again", workers=workers, every=4, checkpoint=saved)
        assert again.visited == module.visited[step:]


def test_a_trainer_that_counts_batches_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"reload_dataloaders_every_n_epochs=1\), got 0"):
        run(tmp_path, reload_dataloaders_every_n_epochs=0)


@pytest.mark.slow
def test_two_processes_share_every_plan(tmp_path: Path) -> None:
    sampler = policy_sampler()
    module = Shared(sampler, tmp_path)
    trainer = trainer_of(tmp_path, PolicyCallback(sampler), strategy="ddp_spawn", devices=2)
    trainer.fit(module, loader_of(sampler))
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert [len(ids) for ids in one] == [len(ids) for ids in two] == [24, 12, 12, 12]
    for left, right in zip(one, two, strict=True):
        assert not set(left) & set(right)
    assert set(one[0] + two[0]) == set(range(48))
    # both periods of one decision train on the same examples, whatever their order
    assert set(one[2] + two[2]) == set(one[3] + two[3])


class Shared(Module):
    """Writes what its process visited."""

    def __init__(self, sampler: Any, folder: Path) -> None:
        super().__init__(sampler)
        self.folder = folder

    def on_train_end(self) -> None:
        epochs = [[i for e, _, ids in self.visited if e == epoch for i in ids] for epoch in range(EPOCHS)]
        torch.save(epochs, self.folder / f"{self.global_rank}.pt")
