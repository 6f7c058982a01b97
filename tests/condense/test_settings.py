"""Settings: the papers' as defaults, and what is refused."""

import dataclasses

import pytest
import torch
from torch import nn

from datawinnow import condense
from datawinnow.condense.options import SharedKeywords, SharedOptions
from datawinnow.condense.published_settings import GRADIENT_LOOPS, dm_lr, idm_settings, nearest_setting
from datawinnow.core.errors import ArgumentError
from tests.condense.helpers import build, make_images, run_condenser

IDM_KEYS = ("real_batch", "ce_weight", "push_every", "steps", "reset_every", "net_batch", "most", "factor")
IDM = {  # images a class, classes, pixels
    (1, 10, 32): (5000, 0.5, 5, 10, 100, 256, 100, 2),
    (10, 10, 32): (256, 0.5, 30, 10, 100, 256, 100, 2),
    (50, 10, 32): (256, 0.1, 30, 10, 500, 256, 100, 2),
    (1, 100, 32): (5000, 0.5, 5, 10, 100, 256, 100, 2),
    (10, 100, 32): (256, 0.1, 30, 50, 100, 256, 100, 2),
    (50, 100, 32): (256, 0.1, 30, 10, 500, 256, 100, 2),
    (1, 200, 64): (256, 0.5, 30, 10, 100, 256, 100, 2),
    (10, 200, 64): (256, 0.5, 30, 10, 500, 256, 100, 2),
    (50, 200, 64): (256, 0.8, 30, 50, 1000, 256, 100, 2),
    (1, 100, 224): (128, 3.0, 50, 10, 200, 128, 50, 2),
    (10, 100, 224): (128, 3.0, 50, 10, 1000, 128, 50, 2),
    (50, 100, 224): (128, 3.0, 50, 10, 500, 128, 100, 1),
}


def test_settings_are_the_papers_by_images_a_class():
    loops = [nearest_setting(n, GRADIENT_LOOPS) for n in (1, 10, 20, 30, 40, 50)]
    assert loops == [(1, 1), (10, 50), (20, 25), (30, 20), (40, 15), (50, 10)]
    assert [dm_lr(n, 10) for n in (1, 10, 50, 100, 1250)] == [1, 1, 1, 10, 10]
    assert dm_lr(125, 100) == 1
    for where, expected in IDM.items():
        assert dataclasses.asdict(idm_settings(*where)) == dict(zip(IDM_KEYS, expected, strict=True)), where
    about = run_condenser("idm", ce_weight=0.0, steps=None, iterations=1).about  # 0 is a value, None the paper's
    assert (about["objective"]["ce_weight"], about["networks"]["steps"]) == (0, 10)
    assert about["networks"]["reset_every"] == 100
    assert run_condenser("idm", reset_every=7, iterations=1).about["networks"]["reset_every"] == 7
    defaults = {name: dict(m.card.options) for name, m in condense.METHODS.items()}
    assert {name: d["iterations"] for name, d in defaults.items()} == {
        "dc": 1000, "dsa": 1000, "dm": 20_000, "cafe": 2000, "idm": 20_000,
    }  # fmt: skip
    assert {name: d["lr"] for name, d in defaults.items()} == {
        "dc": 0.1, "dsa": 0.1, "dm": None, "cafe": 0.1, "idm": 0.2,
    }  # fmt: skip
    assert {name: d["init"] for name, d in defaults.items()} == {
        "dc": "noise", "dsa": "real", "dm": "real", "cafe": "noise", "idm": "real",
    }  # fmt: skip
    assert {name for name, d in defaults.items() if d["augment"] is None} == {"dc", "cafe"}
    assert {name for name, d in defaults.items() if d["momentum"] != 0.5 or d["real_batch"] not in (256, None)} == set()
    for name in ("dc", "dsa"):
        assert (defaults[name]["net_lr"], defaults[name]["net_batch"], defaults[name]["metric"]) == (0.01, 256, "rows")
    assert {k: defaults["cafe"][k] for k in ("shallow", "discriminate", "query")} == {
        "shallow": 0.1, "discriminate": 0.01, "query": 128,
    }  # fmt: skip
    assert {k: defaults["idm"][k] for k in ("first", "trained", "net_lr", "net_momentum", "weight_decay")} == {
        "first": 3, "trained": 2, "net_lr": 0.01, "net_momentum": 0.9, "weight_decay": 5e-4,
    }  # fmt: skip
    assert (defaults["cafe"]["still"], defaults["cafe"]["moves"], defaults["cafe"]["window"]) == (0.04, 0.03, 10)


BAD = {
    "fewer images than asked for": ({"per_class": 13}, "begin from 13 real images of every class, but class 0 has 12"),
    "size": ({"build": build(side=16)}, "cannot take images of 1x8x8 .*Build it for that size"),
    "classes": ({"build": build(classes=2)}, r"an output for each of the 3 classes.* gave \(1, 2\)"),
    "no network": ({"build": lambda: 3}, r"build\(\) must return a torch.nn.Module, got int"),
    "a network": ({"build": nn.Linear(1, 1)}, "build must be a function that returns a fresh network, got Linear"),
    "build": ({"build": "convnet"}, "build must be a function that returns a fresh network, got str"),
    "no head": ({"build": lambda: nn.Conv2d(1, 3, 8)}, "returned a Conv2d without a linear layer"),
    "init": ({"init": "zeros"}, "init must be one of 'real', 'noise', got 'zeros'"),
    "iterations": ({"iterations": 0}, r"iterations must be a whole number in .*got 0"),
    "unknown": ({"learning_rate": 1}, "dm has no option 'learning_rate'; its options are: iterations, real_batch, lr"),
    "device": ({"device": "tpu9"}, "device must be 'auto', 'cpu'"),
    "precision": ({"precision": "fp8"}, "precision must be one of 'fp32', 'bf16', got 'fp8'"),
    "augment": ({"augment": "blur"}, "got 'blur'"),
    "names": ({"classes": ("a", "b")}, "classes must name all 3 classes, got 2 names"),
    "mean": ({"mean": (0.1, 0.2), "std": (1, 1)}, r"mean must have one number a channel \(1\), got 2"),
    "std": ({"mean": (0.1,)}, "give both of mean and std, or neither"),
    "momentum": ({"momentum": 1.0}, "momentum must be a number in"),
    "chunk": ({"chunk": 0}, "chunk must be a whole number"),
}


@pytest.mark.parametrize(("kwargs", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_told(kwargs, match):
    with pytest.raises(ArgumentError, match=match):
        run_condenser("dm", **kwargs)


def test_bad_data_are_told():
    x, y = make_images()
    for data, match in (
        ((x[0], y), r"images must have shape \(n, channels, height, width\)"),
        ((x, y[:5]), "must have the same number of examples"),
        ((x, y.float()), "labels must be integer class ids"),
        ((x, torch.where(y == 1, 3, y)), "class 1 has no image"),
        ((x.float() / 0, y), "not finite in image 0"),
    ):
        with pytest.raises(ArgumentError, match=match):
            run_condenser("dm", data=data)
    with pytest.raises(ArgumentError, match="9x9 smaller ones"):
        run_condenser("idm", factor=9)
    with pytest.raises(ArgumentError, match=r"of 2x2 real ones each begin from 16 real .* class 0 has 12"):
        run_condenser("idm", per_class=4)
    with pytest.raises(ArgumentError, match="metric must be one of 'rows', 'mse', 'cos', got 'l2'"):
        run_condenser("dc", metric="l2")
    with pytest.raises(ArgumentError, match="layers names 'conv9', but the network has: features"):
        run_condenser("cafe", layers=["conv9"])


def test_the_keywords_for_type_checkers_are_the_shared_options():
    options = {field.name: field.type for field in dataclasses.fields(SharedOptions)}
    assert {name: annotation.__forward_arg__ for name, annotation in SharedKeywords.__annotations__.items()} == options
