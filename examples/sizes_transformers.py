"""Short texts first in a Hugging Face Trainer: three lines. Ids and mask are cut alike; images have `pixel_values`."""

import tempfile

import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainingArguments

import datawinnow as dw


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head, self.lengths = nn.Embedding(100, 16, padding_idx=0), nn.Linear(16, 2), list[int]()

    def forward(self, input_ids, attention_mask, labels=None):
        self.lengths.append(input_ids.shape[1])
        logits = self.head(self.embedding(input_ids).sum(1) / attention_mask.sum(1, keepdim=True))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class SizeTrainer(Trainer):
    sizes = dw.SizeSchedule(start=8, view="start")  # 1

    def compute_loss(self, model, inputs, **kwargs):
        done = self.state.global_step / self.state.max_steps  # 2
        inputs = {key: self.sizes(x, done) if x.ndim == 2 else x for key, x in inputs.items()}  # 3
        return super().compute_loss(model, inputs, **kwargs)


if __name__ == "__main__":
    mask = (torch.arange(24) < torch.randint(4, 25, (640, 1), generator=torch.Generator().manual_seed(0))).long()
    ids = torch.randint(1, 100, (640, 24)) * mask
    data = Dataset.from_dict({"input_ids": ids.tolist(), "attention_mask": mask.tolist(), "labels": [0, 1] * 320})
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(folder, per_device_train_batch_size=64, num_train_epochs=2, use_cpu=True, report_to=[])
        SizeTrainer(model=(net := Net()), args=args, train_dataset=data).train()
    print("steps by length:", {n: net.lengths.count(n) for n in (8, 12, 16, 20, 24)})
