"""Little labelled texts on disk, made up, in every layout that `load` reads; and a tiny model of transformers."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import torch

GOOD = ("good", "lovely", "warm", "bright")
BAD = ("bad", "dull", "cold", "grim")
THINGS = ("film", "song", "story", "plot", "scene")


def sentences(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) of ``n`` sentences, every other one praise; no two alike."""
    draw = random.Random(seed)
    sentences_made = []
    for i in range(n):
        words = GOOD if i % 2 else BAD
        text = f"the {draw.choice(THINGS)} number {i} was {draw.choice(words)}, and its {draw.choice(THINGS)} too"
        sentences_made.append((text, "praise" if i % 2 else "blame"))
    return sentences_made


def written(rows: list[tuple[str, ...]], kind: str, names: tuple[str, ...] | None = ("text", "label")) -> str:
    """Rows as a file of a kind; without ``names`` a table has no line of names."""
    if kind == "jsonl":
        assert names is not None
        return "".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
    lines = [*([names] if names else []), *rows]
    if kind == "tsv":
        return "".join("\t".join(map(str, line)) + "\n" for line in lines)
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def write_texts(path: Path, n: int = 40, seed: int = 0, **options) -> list[tuple[str, str]]:
    """``path`` with ``n`` sentences, and what stands in it."""
    rows = sentences(n, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written(rows, path.suffix[1:], **options), encoding="utf-8")
    return rows


def write_model(folder: Path, *, labels: int = 3, kind: str = "bert") -> str:
    """A model of a few thousand weights as ``save_pretrained`` leaves one; its name for ``--model``."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = ["the", "number", "was", "and", "its", "too", ",", *THINGS, *GOOD, *BAD, *"0123456789"]
    words += [f"##{digit}" for digit in range(10)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(tokens))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokens), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=40, num_labels=labels,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(folder)
    return f"hf:{folder}"
