"""The policies in a Hugging Face Trainer: ids that survive, steps counted once, losses observed, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.dynamic import UCB, PolicySampler
from datawinnow.integrations.files import SAMPLER_FILE_NAME
from tests.integrations.models import BATCH, EPOCHS, Classifier, N, PolicyTrainer, data, policy_sampler

STEPS = N // BATCH // 2


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    plain = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "logging_strategy": "no"}
    counts = {"per_device_train_batch_size": BATCH, "num_train_epochs": EPOCHS, "save_steps": 4}
    return TrainingArguments(str(folder), **{**plain, **counts, "learning_rate": 0.1, **options})


def table() -> datasets.Dataset:
    x, y = data().tensors
    columns = {"note": ["not for the model"] * N, "x": x.tolist(), "labels": y.tolist()}
    return datasets.Dataset.from_dict(columns).with_format("torch", columns=["x", "labels"], output_all_columns=True)


def rows() -> list[dict[str, Any]]:
    return [{"x": x, "labels": y, "note": "not for the model"} for x, y in data()]


def run(folder: Path, dataset: Any = None, resume: Any = None, **options: Any) -> PolicyTrainer:
    trainer = PolicyTrainer(
        model=Classifier(),
        args=arguments(folder, **options),
        train_dataset=table() if dataset is None else dataset,
        sampler=policy_sampler(steps=STEPS),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("make", [table, rows], ids=["hugging face dataset", "other dataset"])
def test_ids_survive_the_removal_of_columns_and_the_schedule_ends(make: Any, tmp_path: Path) -> None:
    trainer = run(tmp_path, make(), save_strategy="no")
    assert trainer.state.global_step == trainer.state.max_steps == EPOCHS * STEPS
    assert trainer.lr_scheduler.get_last_lr() == [0.0] * len(trainer.lr_scheduler.get_last_lr())
    assert [epoch for epoch, _ in trainer.visited] == [e for e in range(EPOCHS) for _ in range(STEPS)]
    assert trainer.policy_sampler.realised == [0.5] * EPOCHS
    # what was observed in the last epoch are the losses of these very examples
    index, signals = trainer.policy_sampler.observations.read()
    x, y = data().tensors
    assert sorted(index.tolist()) == sorted(i for e, ids in trainer.visited if e == EPOCHS - 1 for i in ids)
    last = torch.tensor(trainer.visited[-1][1])
    near = F.cross_entropy(trainer.model.net(x[last]), y[last], reduction="none").detach()
    order = torch.searchsorted(index, last)
    assert float((signals["loss"][order] - near).abs().max()) < 0.2
    assert float((signals["loss"][order].flip(0) - near).abs().max()) > 0.2


def test_the_trainer_observes_the_signal_of_the_policy(tmp_path: Path) -> None:
    sampler = PolicySampler(UCB(keep=0.5, signal="error_norm"), n=N, epochs=1, batch=BATCH, steps=STEPS)
    trainer = PolicyTrainer(
        model=Classifier(),
        args=arguments(tmp_path, save_strategy="no", learning_rate=0.0),
        train_dataset=table(),
        sampler=sampler,
    )
    trainer.train()
    index, signals = sampler.observations.read()
    x, y = data().tensors
    p = trainer.model.net(x[index]).softmax(1).detach()
    expected = (p - F.one_hot(y[index], p.shape[1])).norm(dim=1)
    assert set(signals) == {"error_norm"}
    assert len(index) > 0
    torch.testing.assert_close(signals["error_norm"], expected)


def test_accumulated_micro_batches_make_the_same_steps_as_whole_batches(tmp_path: Path) -> None:
    in_batches = run(tmp_path / "whole", save_strategy="no", optim="sgd", lr_scheduler_type="constant", max_grad_norm=0)
    in_micro_batches = PolicyTrainer(
        model=Classifier(),
        args=arguments(
            tmp_path / "parts",
            per_device_train_batch_size=BATCH // 2,
            gradient_accumulation_steps=2,
            save_strategy="no",
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0,
        ),
        train_dataset=table(),
        sampler=policy_sampler(steps=2 * STEPS, batch=BATCH // 2),
    )
    in_micro_batches.train()
    assert in_micro_batches.state.global_step == in_batches.state.global_step == EPOCHS * STEPS
    torch.testing.assert_close(in_micro_batches.model.net.weight, in_batches.model.net.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_checkpoint_resumes_in_mid_epoch_and_at_its_end(workers: int, tmp_path: Path) -> None:
    unbroken = run(tmp_path / "whole", save_steps=3 if workers else 2)
    for step in (3, 6) if workers else (4, 6):
        saved = tmp_path / "whole" / f"checkpoint-{step}"
        again = run(tmp_path / "again", resume=str(saved), dataloader_num_workers=workers)
        assert again.visited == unbroken.visited[step:]
    torch.testing.assert_close(again.model.net.weight, unbroken.model.net.weight)
    assert (tmp_path / "again" / "checkpoint-12" / SAMPLER_FILE_NAME).exists()


def test_resume_true_finds_the_last_checkpoint_and_one_without_a_sampler_is_refused(tmp_path: Path) -> None:
    run(tmp_path, max_steps=4)
    again = run(tmp_path, resume=True)
    assert len(again.visited) == EPOCHS * STEPS - 4
    (tmp_path / "checkpoint-4" / SAMPLER_FILE_NAME).unlink()
    with pytest.raises(RunError, match="was not written by a trainer with a PolicySampler"):
        run(tmp_path, resume=str(tmp_path / "checkpoint-4"))


def test_evaluation_is_the_trainers_own(tmp_path: Path) -> None:
    trainer = run(tmp_path, save_strategy="no")
    before = len(trainer.visited)
    x, y = data().tensors
    loss = trainer.evaluate(table())["eval_loss"]
    assert loss == pytest.approx(float(F.cross_entropy(trainer.model.net(x), y).detach()), abs=1e-4)
    assert len(trainer.visited) == before


def test_tokens_are_shifted_masked_and_reduced_to_one_loss_an_example(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    ids = torch.randint(11, (N, 6))
    labels = ids.clone()
    labels[:, 4:] = -100
    trainer = PolicyTrainer(
        model=model,
        args=arguments(tmp_path, save_strategy="no"),
        train_dataset=[{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)],
        sampler=policy_sampler(steps=STEPS),
    )
    model.eval()
    logits = model(input_ids=ids[:5]).logits
    expected = torch.stack([F.cross_entropy(logits[i, :3], ids[i, 1:4]) for i in range(5)])
    torch.testing.assert_close(trainer.example_loss({"logits": logits}, labels[:5]), expected)
    with pytest.raises(ArgumentError, match=r"class ids of shape \(5, 5\), got labels of \(5, 2\)"):
        trainer.example_loss({"logits": logits}, labels[:5, :3])
    trainer.train()
    assert trainer.state.global_step == EPOCHS * STEPS


def test_a_sampler_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    def make_trainer(sampler: Any, **options: Any) -> PolicyTrainer:
        kept = {"train_dataset": table(), **options}
        return PolicyTrainer(model=Classifier(), args=arguments(tmp_path), sampler=sampler, **kept)

    with pytest.raises(ArgumentError, match=r"counts its steps once.*steps=3, batch=8"):
        make_trainer(policy_sampler())
    with pytest.raises(ArgumentError, match="for n=48 examples, train_dataset is of 40"):
        make_trainer(policy_sampler(steps=3), train_dataset=table().select(range(40)))
    with pytest.raises(ArgumentError, match='must be "mean" or "self_normalised"'):
        make_trainer(policy_sampler(steps=3), reduction="none")
    with pytest.raises(ArgumentError, match=r"override example_loss\(outputs, labels\)"):
        make_trainer(policy_sampler(steps=3), compute_loss_func=lambda *_, **__: None)
    with pytest.raises(ArgumentError, match="num_replicas=2, and accelerate would shard"):
        make_trainer(policy_sampler(steps=3, num_replicas=2, rank=0))
