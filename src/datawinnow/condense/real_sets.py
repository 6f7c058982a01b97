"""Sets of real images, the baselines of condensers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datawinnow.condense.augment import Augmentation, to_augmentation
from datawinnow.condense.features import NetworkOutput, forward_with_features
from datawinnow.condense.real_images import RealImages
from datawinnow.condense.training import accuracy, build_fresh_network, check_network, resolve_device, sgd, train_epoch
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.rng import derive, stream
from datawinnow.core.selection import Selection
from datawinnow.core.synthetic import Synthetic
from datawinnow.scores.forgetting import forgetting
from datawinnow.select.herding import herding
from datawinnow.select.k_center import k_center
from datawinnow.select.top import top

RealSetName = Literal["random", "herding", "k_center", "forgetting"]
REAL: tuple[RealSetName, ...] = ("random", "herding", "k_center", "forgetting")


def real_set(
    name: RealSetName,
    images: Any,
    labels: Any,
    *,
    per_class: int,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    epochs: int = 30,
    augment: Augmentation | str | None = None,
    lr: float = 0.01,
    batch: int = 256,
    mean: Any = None,
    std: Any = None,
    classes: tuple[str, ...] = (),
    device: str = "auto",
) -> Synthetic:
    """Choose ``per_class`` real images of every class, the baselines of the condensation papers.

    ``random`` draws; ``herding`` (nearest to the mean, doi:10.1145/1553374.1553517) and ``k_center`` (first the image
    nearest the class mean, arXiv 1708.00489) compare features of a network trained on all images; ``forgetting`` keeps
    the images forgotten most often in that training (arXiv 1812.05159). All choose class by class.

    Args:
        name: ``"random"``, ``"herding"``, ``"k_center"`` or ``"forgetting"``.
        images: (n, channels, height, width) uint8, or floating-point images that are already normalised.
        labels: (n,) int class ids from 0, every class with an image.
        per_class: images of every class.
        build: a function without arguments that returns a fresh network.
        generator: CPU `torch.Generator`; one number is drawn from it.
        epochs: epochs of the training on all images; unused by ``random``.
        augment: augmentation of that training.
        lr: learning rate of that training; momentum 0.9, weight decay 5e-4.
        batch: images in a step of that training.
        mean: mean per channel of pixels in [0, 1]; None measures it on uint8 images.
        std: standard deviation per channel; as ``mean``.
        classes: names of the classes, for files.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.

    Returns:
        `Synthetic` of factor 1 with real images, class by class, in the order of choice; ``about["positions"]``
        has their positions in ``images``, without what was held out when they were loaded; ids and rows of the source
        are in ``real_examples.parquet`` of a run folder.

    Raises:
        ArgumentError: an unknown name, or a class with fewer images than ``per_class``.
    """
    check.one_of("name", name, REAL)
    check.number("per_class", per_class, 1, 1 << 30, integer=True)
    seed = int(torch.randint(1 << 62, (), generator=check.generator(generator)))
    real = RealImages(images, labels, mean, std, resolve_device(device))
    if min(real.counts) < per_class:
        smallest = min(range(real.classes), key=real.counts.__getitem__)
        raise ArgumentError(
            f"`per_class={per_class}` needs as many real images of every class, but class {smallest} has "
            f"{real.counts[smallest]}"
        )
    about: dict[str, Any] = {"method": name, "per_class": per_class, "seed": seed}
    if name == "random":
        ids = real.draw_per_class(per_class, stream(seed, "random"))
    else:
        check.number("epochs", epochs, 1, 1 << 30, integer=True)
        augmentation = to_augmentation(augment)
        net = build_fresh_network(build, seed, "network").to(real.device)
        check_network(net, real)
        optimizer = sgd(net, lr, 0.9, 5e-4)
        x, y = real.take(torch.arange(len(real)))
        correct = torch.zeros(epochs, len(real), dtype=torch.bool)
        for epoch in range(epochs):
            draws = stream(seed, "epoch", epoch)
            train_epoch(net, optimizer, x, y, batch=batch, augment=augmentation, generator=draws)
            output = _forward_in_batches(net, x)
            correct[epoch] = (output.logits.argmax(1) == y).cpu()
        tie_seed = derive(seed, "ties")
        score = forgetting(correct) if name == "forgetting" else None

        def choose(members: Tensor) -> Selection:
            if score is not None:
                return top(score[members], budget=per_class, end="high", tie_seed=tie_seed)
            features = output.features[members.to(x.device)].cpu()
            if name == "herding":
                return herding(features, budget=per_class, tie_seed=tie_seed)
            return k_center(features, budget=per_class, first="mean", generator=stream(seed, "k_center"))

        ids = torch.cat([members[choose(members).index] for members in real.ids_by_class])
        about |= {"epochs": epochs, "accuracy": accuracy(net, x, y)}
    x, y = real.take(ids)
    about["positions"] = ids.tolist()
    return Synthetic(x.float().cpu(), y.cpu(), 1, real.mean, real.std, tuple(classes), about)


@torch.no_grad()
def _forward_in_batches(net: nn.Module, x: Tensor) -> NetworkOutput:
    with restore_mode(net):
        net.eval()
        outputs = [forward_with_features(net, images) for images in torch.split(x, 512)]
    return NetworkOutput(torch.cat([o.logits for o in outputs]), torch.cat([o.features for o in outputs]))
