"""Networks for texts: against loops over the words, blind to padding, and built for the right kind of examples."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.reduce import per_example
from datawinnow.models import build, choose
from datawinnow.models.tokens import INITIAL_RANGE, VECTOR_SCALE
from datawinnow.probe.gradients import gradient_norms, gradient_norms_one_by_one
from tests.data.texts import write_model

NAMES = ("text_cnn", "bag_of_embeddings")
TOKENS = torch.tensor([[2, 3, 4, 5, 6, 0, 0], [7, 0, 0, 0, 0, 0, 0], [2, 8, 1, 0, 0, 0, 0]], dtype=torch.int32)


def build_model(name, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build(name, shape=(7,), classes=3, vocabulary=9, width=6, **options).eval()


def literal_cnn(net, words):
    """Kim's network, window by window over the words of one text."""
    zero = torch.zeros(6)
    vectors = [VECTOR_SCALE * net.embedding.vectors.weight[w] for w in words]
    features = []
    for window, convolution in zip(net.windows, net.convolutions, strict=True):
        answers = []
        for start in range(-(window - 1), len(words)):
            window_vectors = [vectors[i] if 0 <= i < len(words) else zero for i in range(start, start + window)]
            answers.append((convolution.weight * torch.stack(window_vectors, dim=1)).sum(dim=(1, 2)) + convolution.bias)
        features.append(torch.stack(answers).clamp_min(0).max(dim=0).values)
    return net.classifier(torch.cat(features))


def literal_bag(net, words):
    return net.classifier(sum(VECTOR_SCALE * net.embedding.vectors.weight[w] for w in words) / len(words))


@pytest.mark.parametrize(("name", "literal"), [("text_cnn", literal_cnn), ("bag_of_embeddings", literal_bag)])
def test_logits_are_those_of_a_loop_over_the_words(name, literal):
    net = build_model(name)
    expected = torch.stack([literal(net, [w for w in row if w]) for row in TOKENS.tolist()])
    assert torch.allclose(net(TOKENS), expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_padding_has_no_say_and_learns_nothing(name):
    net = build_model(name)
    with torch.no_grad():
        net.embedding.vectors.weight[0] = 1e6  # whatever stands there
    longer = F.pad(TOKENS, (0, 9))
    assert torch.allclose(net(TOKENS), net(longer), atol=1e-5)
    net(TOKENS).square().sum().backward()
    assert bool((net.embedding.vectors.weight.grad[0] == 0).all())
    assert bool((net.embedding.vectors.weight.grad[2] != 0).any())


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_padding_alone_gives_finite_logits(name):
    assert bool(torch.isfinite(build_model(name)(torch.zeros(2, 7, dtype=torch.int32))).all())


def test_the_cnn_sees_the_order_and_the_bag_does_not():
    turned = torch.tensor([[6, 5, 4, 3, 2, 0, 0]], dtype=torch.int32)
    assert not torch.allclose(build_model("text_cnn")(turned), build_model("text_cnn")(TOKENS[:1]), atol=1e-3)
    assert torch.allclose(
        build_model("bag_of_embeddings")(turned), build_model("bag_of_embeddings")(TOKENS[:1]), atol=1e-5
    )


def test_parameter_counts_by_hand():
    with torch.device("meta"):
        cnn = build("text_cnn", shape=(50,), classes=2, vocabulary=1000, width=300)
        bag = build("bag_of_embeddings", shape=(50,), classes=2, vocabulary=1000)
    # Kim's sizes: 300 numbers a word, 100 filters over 3, 4 and 5 words
    assert sum(p.numel() for p in cnn.parameters()) == 300_000 + 100 * 300 * (3 + 4 + 5) + 300 + 300 * 2 + 2
    assert sum(p.numel() for p in bag.parameters()) == 128_000 + 256 + 2


@pytest.mark.parametrize("name", NAMES)
def test_vectors_begin_within_the_spread(name):
    seen = VECTOR_SCALE * build_model(name).embedding.vectors.weight
    assert INITIAL_RANGE / 2 < float(seen.detach().abs().max()) <= INITIAL_RANGE


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_single_examples_can_be_vectorised(name):
    net, y = build_model(name), torch.tensor([0, 1, 2])
    assert torch.allclose(gradient_norms(net, TOKENS, y), gradient_norms_one_by_one(net, TOKENS, y), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kwargs", "match"),
    [
        ("resnet8", {"shape": (7,), "vocabulary": 9}, "does not take texts: use `model='text_cnn'`"),
        ("mlp", {"shape": (7,), "vocabulary": 9}, "does not take texts"),
        ("text_cnn", {"shape": (3, 8, 8)}, "takes texts, but an example has shape"),
        ("bag_of_embeddings", {"shape": (4,)}, "takes texts, but an example has shape"),
        ("text_cnn", {"shape": (7,), "vocabulary": 1}, "vocabulary must be an integer of 2 or above"),
        ("text_cnn", {"shape": (7,), "vocabulary": 9, "windows": []}, "windows must be integers"),
        ("text_cnn", {"shape": (7,), "vocabulary": 9, "depth": 3}, "no option 'depth'; its options are: width, fil"),
        ("hf:x", {"shape": (8,)}, "takes images or texts, but an example has shape"),
        (
            "hf:x",
            {"shape": (7,), "vocabulary": 9},
            "tokenized with the vocabulary of the training texts.*`tokenizer='hf:x'`",
        ),
        ("hf:x", {"shape": (7,), "vocabulary": 9, "tokenizer": "hf:y"}, "tokenized by hf:y"),
    ],
)
def test_a_network_for_other_examples_is_refused(name, kwargs, match):
    with pytest.raises(ArgumentError, match=match):
        build(name, classes=2, **kwargs)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_are_no_ids_are_refused(name):
    with pytest.raises(ArgumentError, match=r"takes token ids.*float32 of shape \(2, 7\)"):
        build_model(name)(torch.rand(2, 7))


def test_texts_get_the_cnn_and_a_function_is_told_what_it_asks_for():
    assert choose((44,), accelerator=True, vocabulary=100)[0] == "text_cnn"
    assert choose((44,), accelerator=True)[0] == "mlp"
    passed = {}

    def mine(vocabulary, length, classes):
        passed.update(vocabulary=vocabulary, length=length, classes=classes)
        return torch.nn.Embedding(vocabulary, classes)

    build(mine, shape=(44,), classes=3, vocabulary=100)
    assert passed == {"vocabulary": 100, "length": 44, "classes": 3}


class TestPretrained:
    def test_it_reads_ids_one_higher_and_masks_the_padding(self, tmp_path):
        from transformers import BertForSequenceClassification

        name = write_model(tmp_path / "tiny")
        net = build(name, shape=(6,), classes=3, vocabulary=40, tokenizer=name).eval()
        theirs = BertForSequenceClassification.from_pretrained(tmp_path / "tiny").eval()
        ids = torch.tensor([[2, 6, 7, 3], [2, 9, 3, 0]])
        mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
        x = F.pad(torch.where(mask == 1, ids + 1, 0), (0, 2)).int()
        with torch.no_grad():
            expected = theirs(input_ids=ids, attention_mask=mask).logits
            assert torch.allclose(net(x), expected, atol=1e-5)

    def test_another_number_of_classes_gives_a_new_head_from_the_seed(self, tmp_path):
        name = write_model(tmp_path / "tiny", labels=3)
        nets = []
        for seed in (0, 0, 1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                nets.append(build(name, shape=(6,), classes=5, vocabulary=40, tokenizer=name))
        heads = [net.network.classifier.weight for net in nets]
        assert heads[0].shape == (5, 16)
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])

    def test_without_transformers_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ArgumentError, match=r"needs transformers: pip install 'datawinnow\[transformers\]'"):
            build("hf:x", shape=(6,), classes=2, vocabulary=40, tokenizer="hf:x")

    @pytest.mark.parametrize(
        ("name", "match"),
        [
            ("hf:./nowhere", r"no such folder; give one that holds config.json"),
            ("hf:package:no_such_package_here", "is not installed"),
            ("hf:package:json", r"holds no config.json beside \*.safetensors"),
        ],
    )
    def test_weights_that_are_not_there(self, name, match):
        with pytest.raises(ArgumentError, match=match):
            build(name, shape=(6,), classes=2, vocabulary=40, tokenizer=name)

    def test_a_pickle_is_not_read(self, tmp_path):
        name = write_model(tmp_path / "tiny")
        (tmp_path / "tiny" / "model.safetensors").unlink()
        torch.save({"x": torch.zeros(1)}, tmp_path / "tiny" / "pytorch_model.bin")
        with pytest.raises(ArgumentError, match=r"cannot load AutoModelForSequenceClassification from .hf:"):
            build(name, shape=(6,), classes=3, vocabulary=40, tokenizer=name)


def test_token_losses_of_a_language_model_become_one_an_example_whatever_the_padding():
    """As a user's own loop has them: cross-entropy a token, -100 where a token is padding."""
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 5, 7, generator=g), torch.randint(0, 7, (3, 5), generator=g)
    sizes = [5, 2, 1]
    for i, size in enumerate(sizes):
        labels[i, size:] = -100
    loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    alone = [F.cross_entropy(logits[i, :size], labels[i, :size]) for i, size in enumerate(sizes)]
    assert torch.allclose(per_example(loss, labels != -100), torch.stack(alone), atol=1e-6)
