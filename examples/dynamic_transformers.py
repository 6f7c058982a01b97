"""Dynamic pruning in a Hugging Face Trainer: three lines. It counts its steps once, so their number is fixed."""

import sys
import tempfile

from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainingArguments

import datawinnow as dw
from datawinnow.dynamic import UCB, PolicySampler
from datawinnow.integrations.transformers import PolicyTrainerMixin


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pixels, labels=None):
        return {"logits": self.net(pixels)}


class PolicyTrainer(PolicyTrainerMixin, Trainer): ...  # 1


if __name__ == "__main__":
    epochs = int(*sys.argv[1:] or ["20"])
    images, _ = dw.load("digits")
    pixels = (images.x.float() / 255).flatten(1).tolist()
    dataset = Dataset.from_dict({"id": range(len(pixels)), "pixels": pixels, "labels": images.labels.tolist()})
    sampler = PolicySampler(UCB(keep=0.5, period=1), n=len(dataset), batch=64, steps=len(dataset) // 128)  # 2
    plain = {"use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True}
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(folder, per_device_train_batch_size=64, num_train_epochs=epochs, **plain)
        trainer = PolicyTrainer(model=Net(), args=args, train_dataset=dataset, sampler=sampler)  # 3
        trainer.train()
    print(f"passed {sum(sampler.realised) / epochs:.0%} of the examples an epoch, in {trainer.state.global_step} steps")
