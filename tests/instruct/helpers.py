"""Small instruction data with known faults, and tiny models saved as transformers saves them."""

import json

import numpy as np
import torch

WORDS = (
    *("the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "what", "where", "is", "it"),
    *("answer", "question", "red", "blue", "big", "small"),
)

INSTRUCTIONS = ["what is it ?", "where is the cat ?", "what", "the question", "what is the big red tree under it ?"]
ANSWERS = ["a cat sat on the mat .", "under the tree .", "dog", "", "the small blue dog ran . the cat sat ."]


def record(i, **fields):
    """A pair with the published indicators; every number is a function of ``i``."""
    draws = np.random.default_rng(i)
    return {
        "image_id": str(100 + i),
        "caption": f"Caption {i}. It says more.",
        "clip": float(draws.normal(30, 4)),
        "reward": float(draws.normal(4, 2)),
        "length": float(draws.uniform(1, 9)),
        "gpt": int(draws.integers(60, 100)),
        "image_features": draws.normal(size=3).tolist(),
        "text_features": draws.normal(size=3).tolist(),
        "spectral_cluster": i % 3,
        **fields,
    }


def write_lines(path, rows):
    """JSON lines; a row that is bytes is written as it is."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def write_subsets(path, rows, sets=5, size=8, seed=0):
    """Subsets as the published file has them: indicators of their members, and a label a subset."""
    draws = np.random.default_rng(seed)
    member = np.stack([draws.permutation(len(rows))[:size] for _ in range(sets)])
    arrays = {name: np.array([[rows[i][name] for i in row] for row in member], np.float32)
              for name in ("clip", "reward", "length", "gpt", "image_features", "text_features")}  # fmt: skip
    labels = 30 + np.arange(sets, dtype=np.float32) / 10
    np.savez(path, labels=labels, **arrays)
    return path, member


def tokenizer(folder, *, bos=True):
    """A tokenizer of whole words, saved where a model is."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<unk>", "<s>", "</s>", *WORDS, ".", "?"]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>"} if bos else {}
    fast_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", eos_token="</s>", model_max_length=32, **special
    )
    fast_tokenizer.save_pretrained(folder)
    return fast_tokenizer


def language_model(folder, *, bos=True, seed=0):
    """A GPT-2 of two layers with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    words = tokenizer(folder, bos=bos)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=len(words), n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5
        )
        GPT2LMHeadModel(config).eval().save_pretrained(folder)
    return folder


def reward_model(folder, *, labels=1):
    """A sequence classifier of one layer with random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    words = tokenizer(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=16, max_position_embeddings=40, num_labels=labels,
                            initializer_range=0.5, pad_token_id=0)  # fmt: skip
        BertForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


def clip_model(folder):
    """A CLIP of one layer each with random weights."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    words = tokenizer(folder)
    text = {"vocab_size": len(words), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 3}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 16, "patch_size": 8}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
        for parameter in model.parameters():  # larger than CLIP begins with, so that images differ
            parameter.data.normal_(0, 0.3)
        model.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    return folder
