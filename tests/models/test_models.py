"""Networks against the literature: parameter counts layer by layer, shapes, and what `build` takes."""

import sys
import types
from itertools import pairwise

import pytest
import torch
from torch import nn

from datawinnow import models
from datawinnow.core.errors import ArgumentError
from datawinnow.core.model_names import IMAGE_MODELS, TEXT_MODELS
from datawinnow.models import MODELS, build, choose


def test_the_names_for_help_texts_are_those_of_the_registry():
    assert {*IMAGE_MODELS, *TEXT_MODELS} == set(MODELS)


def conv(before, after, k=3, bias=False):
    return before * after * k * k + (after if bias else 0)


def residual(before, after, *, project):
    """Two 3x3 convolutions with batch norm, and the 1x1 shortcut with batch norm where the shape changes."""
    both = conv(before, after) + 2 * after + conv(after, after) + 2 * after
    return both + (conv(before, after, 1) + 2 * after if project else 0)


def cifar_resnet(blocks, w=16, classes=10):
    total = conv(3, w) + 2 * w
    before = w
    for stage in range(3):
        for block in range(blocks):
            total += residual(before, w << stage, project=before != w << stage)
            before = w << stage
            assert block < blocks
    return total + before * classes + classes


def vgg16(classes=10):
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    total, before = 0, 3
    for after in widths:
        total += conv(before, after) + 2 * after
        before = after
    return total + 512 * classes + classes


PUBLISHED = {
    # ResNet-20 has 0.27M parameters in the paper (table 6), whose shortcuts are without parameters (option A); the
    # widely used option-A implementations count 269,722, and the two 1x1 shortcuts with their norms add 2,752.
    "resnet20": (269_722 + (16 * 32 + 64) + (32 * 64 + 128), {}),
    # 11,173,962, 21,282,122 and 23,520,842: the usual counts of the CIFAR-stem networks
    "resnet18": (11_173_962, {}),
    "resnet34": (21_282_122, {}),
    "resnet50": (23_520_842, {}),
    # 14,728,266 with a bias on each of the 13 convolutions; here batch norm makes those 4,224 numbers superfluous
    "vgg16_bn": (14_728_266 - (2 * 64 + 2 * 128 + 3 * 256 + 6 * 512), {}),
    # ConvNetD3 of the condensation papers at 32x32: 320,010
    "convnet": (320_010, {}),
    # of the condensation papers' code at 32x32, in colour; VGG-11 with instance norm
    "lenet": (conv(3, 6, 5, True) + conv(6, 16, 5, True) + 400 * 120 + 120 + 120 * 84 + 84 + 84 * 10 + 10, {}),
    "alexnet": (
        conv(3, 128, 5, True)
        + conv(128, 192, 5, True)
        + conv(192, 256, 3, True)
        + conv(256, 192, 3, True)
        + conv(192, 192, 3, True)
        + 192 * 16 * 10
        + 10,
        {},
    ),
    "vgg11": (
        sum(conv(a, b, 3, True) + 2 * b for a, b in pairwise((3, 64, 128, 256, 256, 512, 512, 512, 512))) + 5130,
        {},
    ),
    "resnet8": (cifar_resnet(1), {}),
    # (32-64-128): as in benchmarks of small networks
    "resnet8 wide": (cifar_resnet(1, 32), {"width": 32}),
    "mlp": (3072 * 128 + 128 + 128 * 128 + 128 + 1280 + 10, {}),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_parameter_counts_are_those_of_the_literature(name):
    count, options = PUBLISHED[name]
    with torch.device("meta"):
        network = build(name.split()[0], shape=(3, 32, 32), classes=10, **options)
    assert sum(p.numel() for p in network.parameters()) == count


def test_the_literal_counts_agree_with_the_published_ones():
    assert cifar_resnet(3) == PUBLISHED["resnet20"][0] == 272_474
    assert vgg16() == PUBLISHED["vgg16_bn"][0]


@pytest.mark.parametrize(
    ("name", "layers"),
    [("resnet8", 8), ("resnet20", 20), ("resnet18", 18), ("resnet34", 34), ("resnet50", 50), ("vgg16_bn", 14)],
)
def test_the_number_in_the_name_is_the_number_of_layers(name, layers):
    with torch.device("meta"):
        network = build(name, shape=(3, 32, 32), classes=10)
    weighted = [m for k, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in k]
    assert len(weighted) == layers  # VGG on CIFAR has one linear layer where the paper has three


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (8, 33), (28, 32)], ids=str)
@pytest.mark.parametrize("name", [name for name in MODELS if name not in TEXT_MODELS])
def test_images_that_are_not_square(name, shape):
    options = {"width": 16} if name != "vit_base" else {"width": 64, "depth": 1}
    model = build(name, shape=(3, *shape), classes=4, **options)
    x = torch.randn(2, 3, *shape)
    logits = model.eval()(x)
    assert logits.shape == (2, 4)
    assert not torch.equal(logits[0], logits[1])
    if name not in ("mlp", "resnet8", "resnet18", "resnet20", "resnet34", "resnet50", "vgg11", "vgg16_bn"):
        with pytest.raises((ArgumentError, RuntimeError)):
            model(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize(("name", "shape"), [("convnet", (7, 40)), ("alexnet", (40, 7)), ("lenet", (1, 9))])
def test_images_too_small_for_a_network_are_refused_when_it_is_built(name, shape):
    with pytest.raises(ArgumentError, match=f"{shape[0]}x{shape[1]} pixels are too few"):
        build(name, shape=(3, *shape), classes=4)


@pytest.mark.parametrize("norm", ["layer", "batch", "group"])
def test_norms_of_images_that_are_not_square(norm):
    for network in (MODELS["convnet"], MODELS["vgg11"]):
        assert network(classes=3, size=(12, 20), width=8, norm=norm)(torch.randn(2, 3, 12, 20)).shape == (2, 3)


@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in MODELS if name not in TEXT_MODELS])
def test_logits_of_every_size(name, size, channels):
    narrow = {} if name == "mlp" else {"width": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(name, shape=(channels, size, size), classes=7, **narrow).eval()
        x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        logits = network(x)
        alone = network(x[1:])
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert not torch.allclose(logits[0], logits[1])  # it looks at the image
    torch.testing.assert_close(logits[1:], alone, rtol=1e-3, atol=1e-4)  # and at no other


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("resnet8", 32, 8),
        ("resnet20", 32, 8),
        ("resnet18", 32, 4),
        ("resnet50", 32, 4),
        ("resnet18", 64, 8),
        ("resnet18", 224, 7),
    ],
)
def test_the_last_feature_map_is_as_large_as_in_the_papers(name, size, grid):
    network = build(name, shape=(3, size, size), classes=3, width=4).eval()
    seen = []
    network.features[-2].register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[2:])))
    with torch.no_grad():
        network(torch.randn(1, 3, size, size))
    assert seen == [(grid, grid)]


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "layer", "none"])
@pytest.mark.parametrize("size", [28, 32])
def test_convnet_norms(norm, size):
    network = models.convnet(classes=3, size=size, depth=2, width=8, norm=norm)
    assert network.classifier.in_features == 8 * 8 * 8
    x = torch.randn(4, 3, size, size)
    network(x).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    before = network.features[:2](x)[0, 0]
    if norm == "instance":  # each channel of each image has mean 0 and spread 1
        assert float(before.mean().detach()) == pytest.approx(0, abs=1e-5)
        assert float(before.std(correction=0).detach()) == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(("pool", "side"), [("avg", 4), ("max", 4), ("none", 16)])
@pytest.mark.parametrize("act", ["relu", "leaky_relu", "sigmoid", "silu"])
def test_convnet_activations_and_pools(act, pool, side):
    network = models.convnet(classes=3, size=16, depth=2, width=4, act=act, pool=pool).eval()
    assert network.classifier.in_features == 4 * side * side
    x = torch.randn(2, 3, 16, 16)
    expected = {
        "relu": nn.functional.relu,
        "leaky_relu": lambda z: torch.where(z < 0, 0.01 * z, z),
        "sigmoid": torch.sigmoid,
        "silu": lambda z: z * torch.sigmoid(z),
    }[act](network.features[:2](x))
    if pool != "none":
        expected = (nn.functional.avg_pool2d if pool == "avg" else nn.functional.max_pool2d)(expected, 2)
    torch.testing.assert_close(network.features[:4](x), expected)


def test_convnet_of_an_image_too_small():
    with pytest.raises(ArgumentError, match="depth 4 halves the image 4 times; 8 pixels are too few"):
        models.convnet(classes=2, size=8, depth=4)
    with pytest.raises(ArgumentError, match=r"norm must be 'instance', .* got 'weight'"):
        models.convnet(classes=2, norm="weight")
    with pytest.raises(ArgumentError, match=r"act must be one of 'relu', .* got 'gelu'"):
        models.convnet(classes=2, act="gelu")
    with pytest.raises(ArgumentError, match="stem must be 'cifar' or 'imagenet', got 'patch'"):
        models.resnet18(classes=2, width=4, stem="patch")


@pytest.mark.parametrize(("name", "at"), [("resnet18", 5), ("resnet8", 4)])
def test_a_residual_block_is_what_the_paper_says(name, at):
    block = MODELS[name](classes=2, width=4).eval().features[at]  # the first of the second stage
    x = torch.randn(2, 4, 6, 6)
    f = nn.functional
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):  # a fresh norm changes nothing in evaluation mode
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)

    def norm(bn, z):
        return (z - bn.running_mean.view(1, -1, 1, 1)) / (bn.running_var.view(1, -1, 1, 1) + bn.eps).sqrt()

    with torch.no_grad():
        inner = norm(block.bn1, f.conv2d(x, block.conv1.weight, stride=2, padding=1)).relu()
        inner = norm(block.bn2, f.conv2d(inner, block.conv2.weight, padding=1))
        short = norm(block.shortcut[1], f.conv2d(x, block.shortcut[0].weight, stride=2))
        torch.testing.assert_close(block(x), (inner + short).relu(), rtol=1e-4, atol=1e-5)


def test_convolutions_start_with_variance_two_over_fan_out():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.resnet18(classes=10, width=32)
    weight = network.features[-4].conv1.weight  # (256, 128, 3, 3)
    assert float(weight.std().detach()) == pytest.approx((2 / (9 * weight.shape[0])) ** 0.5, rel=0.01)
    assert float(weight.mean().detach()) == pytest.approx(0, abs=1e-4)


def test_build_by_name_is_forgiving_and_an_unknown_one_is_told():
    with torch.device("meta"):
        assert isinstance(build("ResNet-8".replace("-", ""), shape=(3, 32, 32), classes=2), nn.Module)
        assert isinstance(build("vgg16-bn", shape=(3, 32, 32), classes=2), nn.Module)
    with pytest.raises(
        ArgumentError, match=r"no model is called 'resnet81'. Did you mean 'resnet8'\? There are: alexnet, bag_of"
    ):
        build("resnet81", shape=(3, 32, 32), classes=2)


def test_build_names_options_that_are_not_there():
    with pytest.raises(ArgumentError, match="model 'resnet8' has no option 'depth'; its options are: width"):
        build("resnet8", shape=(3, 32, 32), classes=2, depth=3)
    with pytest.raises(
        ArgumentError, match=r"'resnet8' takes images, but an example has shape \(5,\); use `model='mlp'`"
    ):
        build("resnet8", shape=(5,), classes=2)


def test_build_gives_a_function_what_its_signature_has():
    got = {}

    def mine(classes, size, width=3):
        got.update(classes=classes, size=size, width=width)
        return nn.Linear(1, classes)

    def everything(**metadata):
        got.update(metadata)
        return nn.Linear(1, 1)

    assert build(mine, shape=(3, 16, 16), classes=4, width=9).out_features == 4
    assert got == {"classes": 4, "size": 16, "width": 9}
    got.clear()
    build(everything, shape=(2, 3), classes=5)
    assert got == {"classes": 5, "features": 6}
    with pytest.raises(ArgumentError, match="has no option 'depth'; its options are: width"):
        build(mine, shape=(3, 16, 16), classes=4, depth=1)
    with pytest.raises(ArgumentError, match=r"must return a torch.nn.Module, got int"):
        build(lambda: 3, shape=(3, 8, 8), classes=2)


def test_build_from_a_users_module(monkeypatch):
    module = types.ModuleType("my_networks")
    module.small = lambda classes: nn.Linear(2, classes)
    module.NUMBER = 3
    monkeypatch.setitem(sys.modules, "my_networks", module)
    assert build("my_networks:small", shape=(3, 8, 8), classes=6).out_features == 6
    with pytest.raises(ArgumentError, match="module 'my_networks' has no function 'large'"):
        build("my_networks:large", shape=(3, 8, 8), classes=2)
    with pytest.raises(ArgumentError, match="has no function 'NUMBER'"):
        build("my_networks:NUMBER", shape=(3, 8, 8), classes=2)
    with pytest.raises(ArgumentError, match=r"cannot import module 'no_such_module'.*PYTHONPATH"):
        build("no_such_module:small", shape=(3, 8, 8), classes=2)


@pytest.mark.parametrize(
    ("shape", "accelerator", "name", "why"),
    [
        ((64,), False, "mlp", "vectors"),
        ((4, 5), True, "mlp", "vectors"),
        ((1, 8, 8), True, "resnet8", "8 pixels need no more"),
        ((3, 32, 32), False, "resnet8", "without a GPU"),
        ((3, 32, 32), True, "resnet18", "papers' network, for 32 pixels on a GPU"),
        ((3, 16, 64), True, "resnet18", "64 pixels"),
    ],
)
def test_a_network_is_chosen_by_size_and_machine_and_says_why(shape, accelerator, name, why):
    chosen, sentence = choose(shape, accelerator=accelerator)
    assert chosen == name
    assert why in sentence
    with torch.device("meta"):
        assert isinstance(build(chosen, shape=shape, classes=3), nn.Module)


@pytest.mark.parametrize("name", sorted(set(IMAGE_MODELS) - {"mlp"}))
def test_grey_images_go_into_a_network_made_for_colour(name):
    network = build(name, shape=(3, 32, 32), classes=2, width=8).eval()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(x), network(x.repeat(1, 3, 1, 1)))
    with pytest.raises(ArgumentError, match=r"takes images of 3 channels, but these have 2: build it with channels=2"):
        network(torch.randn(1, 2, 32, 32))
    with pytest.raises(ArgumentError, match=r"got a batch of shape \(4, 9\): use models.mlp for vectors"):
        network(torch.randn(4, 9))
