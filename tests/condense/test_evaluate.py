"""The evaluation protocol with its quirks, and the real images that it is held against."""

import statistics

import pytest
import torch

from datawinnow import condense, models
from datawinnow.condense import Evaluation, evaluate, pooled, real_set
from datawinnow.condense import evaluation as module
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic
from tests.condense.helpers import CLASSES, build, make_images


def make_set(per_class=2, **kwargs):
    x, y = make_images(n=60)
    return real_set("random", x, y, per_class=per_class, build=build(), generator=stream(0, "set"), **kwargs)


def judged(train, seed=0, **kwargs):
    x, y = make_images(n=30, seed=5)
    evaluate_kwargs = {"build": build(), "networks": 2, "epochs": 20, "batch": 4, **kwargs}
    return evaluate(train, x, y, generator=stream(seed, "judge"), **evaluate_kwargs)


@pytest.fixture
def trained(monkeypatch):
    """(optimiser, learning rate, whether it has momentum yet) of every epoch."""
    epochs = []
    real = module.train_epoch

    def train_epoch(net, optimizer, *args, **kwargs):
        group = optimizer.param_groups[0]
        epochs.append((id(optimizer), group["lr"], bool(optimizer.state)))
        assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4)
        return real(net, optimizer, *args, **kwargs)

    monkeypatch.setattr(module, "train_epoch", train_epoch)
    return epochs


def test_one_more_epoch_and_a_new_optimiser_at_the_drop(trained):
    judged(make_set(), networks=1, epochs=10)
    assert [rate for _, rate, _ in trained] == [0.01] * 7 + [0.001] * 4  # E // 2 + 1 = 6, counted from 0
    assert [has_momentum for *_, has_momentum in trained] == [False] + [True] * 6 + [False] + [True] * 3


def test_without_the_quirks_there_are_e_epochs_and_momentum_is_kept(trained):
    judged(make_set(), networks=1, epochs=10, one_more=False, new_optimizer=False)
    assert [rate for _, rate, _ in trained] == [0.01] * 7 + [0.001] * 3
    assert len({optimizer for optimizer, *_ in trained}) == 1
    trained.clear()
    judged(make_set(), networks=1, epochs=10, drop_at=1)
    assert {rate for _, rate, _ in trained} == {0.01}


def test_it_learns_and_the_same_seed_gives_the_same_accuracies():
    evaluation = judged(make_set(5), networks=3, epochs=40)
    assert len(evaluation.accuracies) == 3
    assert evaluation.mean > 0.9
    assert evaluation.accuracies == judged(make_set(5), networks=3, epochs=40).accuracies
    assert judged(make_set(1), epochs=2).accuracies != judged(make_set(1), epochs=2, seed=1).accuracies


def test_tiles_are_decoded_and_augmentation_is_used():
    plain = make_set(2)
    tiled = Synthetic(plain.images, plain.labels, 2, plain.mean, plain.std)
    decoded = Synthetic(*tiled.decode(), 1, plain.mean, plain.std)
    assert judged(tiled, epochs=3).accuracies == judged(decoded, epochs=3).accuracies
    x, _ = plain.decode()
    seen = []
    network = build()()
    network.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].clone()) if net.training else None)
    judged(plain, build=lambda: network, networks=1, epochs=1, augment="color", batch=6)
    assert not any((x == image).flatten(1).all(1).any() for image in seen[0])


def test_real_images_in_floating_numbers_are_taken_as_normalised():
    plain = make_set(3)
    x, y = make_images(n=30, seed=5)
    normalised = (x.float() / 255 - torch.tensor(plain.mean)) / torch.tensor(plain.std)
    other = evaluate(plain, normalised, y, build=build(), generator=stream(0, "judge"), networks=2, epochs=20, batch=4)
    assert other.accuracies == pytest.approx(judged(plain).accuracies, abs=0.04)


def test_the_pool_of_syntheses_has_population_deviation():
    both = pooled([Evaluation((0.5, 0.6), 1.0), Evaluation((0.9,), 2.0)])
    assert both.accuracies == (0.5, 0.6, 0.9)
    assert both.std == pytest.approx(statistics.pstdev([0.5, 0.6, 0.9]))
    assert (both.seconds, str(both)) == (3.0, "66.7 +- 17.0 % (3 networks)")
    with pytest.raises(ArgumentError, match="at least one Evaluation"):
        pooled([])


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet8", "resnet18", "vgg16_bn"])
def test_other_architectures_judge_as_well(name):
    narrow = {} if name == "mlp" else {"depth": 2} if name == "convnet" else {"width": 4}

    def build_network():
        return models.build(name, shape=(1, 8, 8), classes=CLASSES, **narrow)

    evaluation = judged(make_set(4), build=build_network, networks=1, epochs=30)
    assert evaluation.mean > 0.6  # three classes


def test_what_does_not_fit_is_refused():
    plain = make_set()
    for kwargs, match in (
        ({"networks": 0}, "networks must be a whole number"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"build": build(side=16)}, "cannot take images of 1x8x8"),
        ({"build": build(classes=2)}, "an output for each of the 3 classes"),
    ):
        with pytest.raises(ArgumentError, match=match):
            judged(plain, **kwargs)
    with pytest.raises(ArgumentError, match="the normalisation of the training set is unknown"):
        judged((plain.images, plain.labels))
    with pytest.raises(ArgumentError, match="train holds 6 images and 5 labels"):
        judged((plain.images, plain.labels[:5]))
    with pytest.raises(ArgumentError, match=r"the set has images of shape \(1, 4, 4\), the test images \(1, 8, 8\)"):
        judged(Synthetic(plain.images[:, :, :4, :4].contiguous(), plain.labels, 1, plain.mean, plain.std))


def planted():
    """Class 0: 20 images near one another and one far away; class 1: noise."""
    g = stream(0, "planted")
    x = torch.randint(100, 110, (41, 1, 8, 8), generator=g).to(torch.uint8)
    y = torch.cat([torch.zeros(21), torch.ones(20)]).long()
    x[20] = torch.where(torch.arange(8) % 2 == 0, 255, 0).to(torch.uint8)
    x[21:] = torch.randint(0, 256, (20, 1, 8, 8), generator=g).to(torch.uint8)
    return x, y


def test_herding_takes_the_typical_and_k_center_the_typical_then_the_outlier():
    x, y = planted()
    kwargs = {"build": build(classes=2), "generator": stream(0, "x"), "epochs": 3, "batch": 8}
    herded = real_set("herding", x, y, per_class=1, **kwargs)
    centres = real_set("k_center", x, y, per_class=2, **kwargs)
    assert herded.about["positions"][0] != 20
    assert centres.about["positions"][0] != 20
    assert centres.about["positions"][1] == 20
    assert centres.labels.tolist() == [0, 0, 1, 1]


def test_forgetting_takes_those_never_learned():
    x, y = planted()
    x = x.clone()
    x[21] = x[0]  # of class 1, and cannot be told from class 0
    real = real_set(
        "forgetting", x, y, per_class=1, build=build(classes=2), generator=stream(0, "x"), epochs=8, batch=8
    )
    assert real.about["positions"][1] == 21
    assert real.about["accuracy"] > 0.9


@pytest.mark.parametrize("name", condense.REAL)
def test_sets_are_real_images_of_every_class_and_the_same_each_time(name):
    x, y = make_images(n=60)
    kwargs = {"per_class": 3, "build": build(), "epochs": 2}
    real = real_set(name, x, y, generator=stream(0, "x"), **kwargs)
    assert real.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    ids = torch.tensor(real.about["positions"])
    assert ids.unique().numel() == 9
    assert torch.equal((real.pixels() * 255).round().to(torch.uint8), x[ids])
    assert torch.equal(y[ids], real.labels)
    assert real.about["positions"] == real_set(name, x, y, generator=stream(0, "x"), **kwargs).about["positions"]


def test_more_real_images_than_there_are_and_unknown_names_are_refused():
    x, y = make_images()
    with pytest.raises(ArgumentError, match=r"per_class=13` needs as many real images .* class 0 has 12"):
        real_set("random", x, y, per_class=13, build=build(), generator=stream(0, "x"))
    with pytest.raises(ArgumentError, match="name must be one of 'random', 'herding'"):
        real_set("dual", x, y, per_class=1, build=build(), generator=stream(0, "x"))


def test_one_image_left_over_goes_with_the_batch_before():
    x, y = make_images(n=9)
    net = build(norm="batch")()
    sizes = []
    net.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    module.train_epoch(
        net, module.sgd(net, 0.01), x.float(), y, batch=4, augment=None, generator=stream(0, "epoch")
    )  # fmt: skip
    assert sizes == [4, 5]
