"""Small problems that every test of condensing shares."""

import torch

from datawinnow import condense, models
from datawinnow.condense.matching import MatchingContext, MatchingStep
from datawinnow.condense.pixels import LearnedPixels
from datawinnow.condense.real_images import RealImages
from datawinnow.core.rng import stream

CLASSES = 3
QUICK = {
    "dc": {"outer": 2, "inner": 2},
    "dsa": {"outer": 2, "inner": 2},
    "dm": {},
    "cafe": {"window": 2, "query": 4, "outer_most": 3, "inner_most": 3},
    "idm": {"push_every": 2, "steps": 2, "net_batch": 8, "most": 4, "ce_weight": 0.5},
}
"""Options with which a method takes a fraction of a second an iteration."""


def make_images(n=36, channels=1, side=8, classes=CLASSES, seed=0):
    """(n, channels, side, side) uint8 images whose class shows, and labels."""
    g = stream(seed, "pictures")
    y = torch.arange(n) % classes
    x = torch.randint(0, 90, (n, channels, side, side), generator=g)
    for c in range(classes):
        x[y == c, :, c::classes] += 120
    return x.to(torch.uint8), y


def build(channels=1, side=8, classes=CLASSES, width=4, **options):
    return lambda: models.convnet(classes=classes, channels=channels, size=side, depth=2, width=width, **options)


def run_condenser(method, *, seed=0, iterations=2, per_class=1, **options):
    x, y = options.pop("data", None) or make_images()
    kwargs = {"real_batch": 8, **QUICK[method], **options}
    network = kwargs.pop("build", build())
    return getattr(condense, method)(
        x, y, per_class=per_class, build=network, generator=stream(seed, "made"), iterations=iterations, **kwargs
    )


def make_step(net, *, per_class=2, factor=1, augment=None, dtype=torch.float64, percent=0.0, real_batch=5, **kwargs):
    """One step in double precision, with a network of the caller's."""
    x, y = make_images()
    real = RealImages(x, y)
    start = torch.randn(CLASSES * per_class, 1, 8, 8, generator=stream(0, "start")).to(dtype)
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    context = MatchingContext(real, LearnedPixels(start, CLASSES, 0.5), labels, build(), 0, factor, augment, **kwargs)
    images, classes = real.take(real.draw_per_class(real_batch, stream(0, "real")))
    draw = None if augment is None else augment.draw(CLASSES, stream(0, "augment"))
    leaf = start.clone().requires_grad_()
    return MatchingStep(context, net.to(dtype), percent, images.to(dtype), classes, leaf, draw)


def network(seed=0, **options):
    """A fresh small ConvNet, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(**options)()
