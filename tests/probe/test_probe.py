"""One pass: modes put back, the same answers in any chunks and of any dataset, errors that name the example."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from datawinnow import models
from datawinnow.core.curvature import input_curvature
from datawinnow.core.errors import ArgumentError, DataError, MissingArrayError
from datawinnow.core.selection import Selection
from datawinnow.data.examples import Examples
from datawinnow.data.kept import Kept
from datawinnow.probe import ARRAYS, deepfool, held_out, probe
from datawinnow.probe.manifest import model_fingerprint
from tests.probe.helpers import Backwards, build_network, images, mlp, normalised, resnet8, vectors

ALL = {"arrays": ARRAYS}


def assert_same(one, other, **tolerance):
    assert list(one) == list(other)
    for name, array in one.items():
        torch.testing.assert_close(array, other[name], **tolerance, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    ("build", "data"),
    [(resnet8, images()), (lambda: build_network(Backwards), vectors())],
    ids=["resnet8", "dropout and batch norm"],
)
def test_modes_statistics_weights_and_random_state_are_as_before(build, data):
    model = build().train()
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d))
    frozen.eval()  # as one does in fine-tuning: the others train, this one does not
    modes = [m.training for m in model.modules()]
    held = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    first = probe(model, data, **ALL)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, held[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in model.parameters())
    assert_same(probe(model, data, **ALL), first, rtol=0, atol=0)


def test_modes_are_put_back_after_an_error():
    model = mlp().train()
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    with pytest.raises(ArgumentError, match="not finite"):
        probe(model, vectors())
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize(
    "kwargs", [{"mode": "cure"}, {"mode": "rademacher", "repeats": 3, "h": 0.1}], ids=["cure", "drawn"]
)
def test_the_size_of_batches_and_chunks_changes_nothing(kwargs):
    model, data = build_network(Backwards, dtype=torch.float64), vectors()
    full = probe(model, data, **ALL, **kwargs, batch=100, chunk=100)
    for batch, chunk in [(1, 1), (5, 2), (7, 100), (23, 4)]:
        assert_same(probe(model, data, **ALL, **kwargs, batch=batch, chunk=chunk), full, rtol=1e-9, atol=1e-12)


def test_each_array_is_that_of_its_own_function():
    model, data = resnet8().eval(), images()
    x = normalised(data)
    result = probe(model, data, **ALL, batch=4, h=2.0, max_iter=7, overshoot=0.1, candidates=2)
    torch.testing.assert_close(result["curvature"], input_curvature(model, x, data.labels, h=2.0), rtol=1e-3, atol=1e-5)
    walk = deepfool(model, x, max_iter=7, overshoot=0.1, candidates=2)
    torch.testing.assert_close(result["boundary_distance"], walk.distance, rtol=1e-3, atol=1e-5)
    assert torch.equal(result["labels"], data.labels)
    assert result["probs"].sum(dim=1).sub(1).abs().max() < 1e-6
    assert {array.dtype for name, array in result.items() if name != "labels"} == {torch.float32}


def test_images_are_not_augmented():
    model, data = resnet8(), images()
    plain = dataclasses.replace(data, augment=None)
    assert_same(probe(model, data), probe(model, plain), rtol=0, atol=0)


class Mine:
    """A map-style dataset of a user's own."""

    def __init__(self, x, labels):
        self.x, self.targets = x, labels.tolist()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.targets[i]


def test_any_dataset_gives_the_same():
    model, data = mlp(), vectors()
    expected = probe(model, data, **ALL)
    assert_same(probe(model, Mine(data.x.numpy(), data.labels), **ALL), expected, rtol=1e-6, atol=1e-7)
    assert_same(probe(model, Mine(data.x, data.labels), batch=6, **ALL), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Mine(d.x, d.labels)], ids=["Examples", "one's own"])
def test_kept_examples_come_in_the_order_chosen(wrap):
    model, data = mlp(), vectors()
    index = torch.tensor([7, 2, 19, 0])
    result, full = probe(model, Kept(wrap(data), Selection(index, torch.ones(4)))), probe(model, data)
    assert_same(result, {name: array[index] for name, array in full.items()}, rtol=1e-5, atol=1e-6)


def test_held_out_data_has_names_of_its_own():
    model, data = mlp(), vectors(9)
    result, plain = held_out(model, data), probe(model, data)
    assert set(result) == {"val_features", "val_probs", "val_labels"}
    for name, array in plain.items():
        assert torch.equal(result[f"val_{name}"], array)
    with pytest.raises(
        ArgumentError, match="arrays of held-out data must be one of 'features', 'probs', got 'grad_norm'"
    ):
        held_out(model, data, arrays=("features", "grad_norm"))


def test_the_attention_of_a_transformer_is_counted_on_a_cpu_too():
    model, data = models.vit(classes=3, channels=1, size=8, patch=2, width=8, depth=2, heads=2), images()
    with FlopCounterMode(display=False) as without_attention:
        model.eval()(normalised(data)[:1])
    products = 2 * 2 * 2 * 17 * 17 * 8  # in 2 blocks queries with keys and weights with values; 17 tokens of 8 numbers
    assert probe(model, data).cost.flops == len(data) * (without_attention.get_total_flops() + products)


def test_the_cost_counts_examples():
    model, data, n = mlp(), vectors(), 23
    plain = probe(model, data)
    assert (plain.cost.forward, plain.cost.backward) == (n, 0)
    assert plain.cost.seconds > 0
    assert plain.cost.flops == n * 2 * (6 * 16 + 16 * 16 + 16 * 4)
    alone = probe(model, data, arrays="grad_norm").cost
    assert (alone.forward, alone.backward, alone.flops) == (0, n, 3 * plain.cost.flops)
    assert probe(model, data, arrays=("probs", "grad_norm")).cost.backward == n
    assert probe(model, data, arrays="curvature").cost.backward == 2 * n
    assert probe(model, data, arrays="curvature", mode="rademacher").cost.backward == 11 * n
    walk = deepfool(model.eval(), data.x)
    walked = probe(model, data, arrays="boundary_distance").cost
    assert (walked.forward, walked.backward) == (walk.forward, walk.backward)


def test_progress_is_told_to_the_end():
    calls = []
    probe(mlp(), vectors(), batch=10, progress=lambda *call: calls.append(call))
    assert calls == [("probing", 8, 23), ("probing", 16, 23), ("probing", 23, 23)]


def test_a_model_that_works_in_place_does_not_spoil_the_batch():
    model, data = build_network(lambda: nn.Sequential(nn.ELU(inplace=True), nn.Linear(6, 4))), vectors()
    full = probe(model, data, **ALL)
    for name in ARRAYS:
        assert_same(probe(model, data, arrays=name), {key: full[key] for key in (name, "labels")}, rtol=0, atol=0)


def test_half_precision_weights_give_float32():
    result = probe(mlp(torch.bfloat16), vectors())
    assert result["features"].dtype is torch.float32
    assert result["probs"].dtype is torch.float32
    assert (result["probs"].sum(dim=1) - 1).abs().max() < 1e-6  # not rounded to bfloat16 after the softmax


def test_autocast_around_it_changes_nothing():
    model, data = mlp(), vectors()
    expected = probe(model, data, **ALL)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(probe(model, data, **ALL), expected, rtol=0, atol=0)


class Drawing(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(x + torch.randn_like(x))


def test_a_model_that_draws_draws_from_the_seed():
    model, data = build_network(Drawing), vectors()
    random = torch.get_rng_state()
    first = probe(model, data, seed=1)
    assert torch.equal(torch.get_rng_state(), random)
    torch.manual_seed(99)
    assert_same(probe(model, data, seed=1), first, rtol=0, atol=0)
    assert not torch.equal(probe(model, data, seed=2)["features"], first["features"])
    torch.set_rng_state(random)


def test_rademacher_directions_come_from_the_seed():
    model, data = mlp(), vectors()
    one, same_seed, other = (probe(model, data, arrays="curvature", mode="rademacher", seed=s) for s in (1, 1, 2))
    assert torch.equal(one["curvature"], same_seed["curvature"])
    assert not torch.equal(one["curvature"], other["curvature"])


def test_a_mislabelled_example_has_the_largest_gradient():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) + 3
    x[20:] -= 6
    labels = torch.arange(40) // 20
    model = mlp(classes=2)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    labels[7] = 1
    x[30] = 0.02 * x[30]  # near the boundary
    result = probe(model, Examples(x, labels, ("a", "b")), **ALL)
    assert result["grad_norm"].argmax() == 7
    assert result["boundary_distance"].argmin() == 30
    assert result["curvature"].argmax() == 30


def test_where_the_logits_are_flat_the_boundary_is_as_far_as_the_furthest():
    model = build_network(lambda: nn.Sequential(nn.ReLU(), nn.Linear(6, 4)))
    data = vectors()
    x = data.x.clone()
    x[11] = -1
    result = probe(model, dataclasses.replace(data, x=x), arrays="boundary_distance")
    distance = result["boundary_distance"]
    assert distance[11] == distance.max()
    assert (distance == distance.max()).sum() == 2
    assert "at 1 examples, the first of them 11, the logits do not change" in result.notes[0]
    with pytest.raises(ArgumentError, match="logits do not change with its input at any example"):
        probe(model, dataclasses.replace(data, x=-torch.ones(23, 6)), arrays="boundary_distance")


def test_a_way_too_short_is_noted():
    model, data = mlp(), vectors()
    with torch.no_grad():
        model.hidden[1].weight.mul_(10)
    result = probe(model, data, arrays="boundary_distance", max_iter=1)
    assert "did not reach the boundary in max_iter=1 steps" in result.notes[0]


def test_batch_norm_without_statistics_is_no_answer_for_one_example():
    model = build_network(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 4))
    )
    with pytest.raises(ArgumentError, match=r"the layer '1' normalises by the batch.*grad_norm, curvature of a single"):
        probe(model, vectors(), arrays=("features", "grad_norm", "curvature"))
    assert "outputs depend on batch=" in probe(model, vectors()).notes[0]


class Short(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(x)[:7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrays": ("features", "loss")}, "arrays must be one of 'features', 'probs', .* got 'loss'"),
        ({"arrays": ()}, "arrays is empty: name some of features, probs, grad_norm"),
        ({"batch": 0}, "batch must be a whole number .* got 0"),
        ({"chunk": 0}, "chunk must be a whole number .* got 0"),
        ({"prefix": "test_"}, "prefix must be one of '', 'val_', got 'test_'"),
        ({"h": 2.0}, "h=2.0 is not an option of features, probs; it is one of curvature, not among the arrays"),
        ({"arrays": "curvature", "steps": 3}, "steps=3 is not an option of curvature; there are: curvature: h, mode"),
        ({"device": "meta"}, r"is on cpu, but device='meta': move it there with model.to\('meta'\)"),
        ({"device": "gpu"}, "device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got 'gpu'"),
        ({"model": print}, "model must be a torch.nn.Module, got builtin_function_or_method"),
        ({"model": build_network(Short)}, r"logits of shape \(12, classes\) for 12 examples, got \(7, 4\)"),
        (
            {"arrays": "grad_norm", "model": mlp(classes=2)},
            "example [0-9]+ has label [23], but the model has 2 outputs",
        ),
        ({"data": []}, "data holds no examples"),
        ({"data": iter([])}, "map-style"),
    ],
    ids=[
        *("unknown array", "no array", "batch", "chunk", "prefix", "array not asked for", "option", "device"),
        *("no such device", "no model", "rows", "label", "empty", "stream"),
    ],
)
def test_errors_name_the_argument(change, message):
    kwargs = {"model": mlp(), "data": vectors(), "batch": 12, **change}
    with pytest.raises(ArgumentError, match=message):
        probe(kwargs.pop("model"), kwargs.pop("data"), **kwargs)


def test_a_label_beyond_the_outputs_names_its_example():
    data = vectors()
    labels = torch.zeros(23, dtype=torch.int64)
    labels[17] = 3
    with pytest.raises(ArgumentError, match="example 17 has label 3, but the model has 2 outputs"):
        probe(mlp(classes=2), data.with_labels(labels), arrays="curvature", batch=5)


def test_a_model_on_two_devices_is_refused():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 4, device="meta"))
    with pytest.raises(ArgumentError, match="is on several devices, cpu and meta: move it to one"):
        probe(model, vectors())


@pytest.mark.parametrize("array", ARRAYS)
def test_a_number_that_is_none_names_its_example(array):
    data = vectors()
    x = data.x.clone()
    x[17, 2] = torch.nan
    with pytest.raises(DataError, match="x is nan for example 17"):
        dataclasses.replace(data, x=x)
    later = vectors()
    later.x[17, 2] = torch.nan  # after the check of the dataset
    with pytest.raises(DataError, match="example 17 has an x that is not finite"):
        probe(mlp(), later, arrays=array, batch=5)
    big = data.x.clone()
    big[17] = 3e38
    model = mlp()
    with torch.no_grad():
        model.hidden[1].weight.fill_(5)
    with pytest.raises(ArgumentError, match=f"{array} of example 17 is (nan|inf)"):
        probe(model, dataclasses.replace(data, x=big), arrays=array, batch=5)


def test_an_array_that_was_not_made_says_so():
    result = probe(mlp(), vectors())
    with pytest.raises(
        MissingArrayError, match=r"'curvature' was not probed .there are: features, probs, labels.; name it"
    ):
        result["curvature"]
    assert "curvature" not in result
    assert repr(result) == "Probed(features (23, 16), probs (23, 4), labels (23,))"


def test_labels_may_be_beyond_the_outputs_where_no_loss_is_taken():
    result = probe(mlp(classes=2), vectors(), arrays=("features", "probs", "boundary_distance"))
    assert int(result["labels"].max()) == 3
    assert np.isfinite(result["boundary_distance"].numpy()).all()


def test_networks_that_differ_in_statistics_alone_have_another_fingerprint():
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
    before = model_fingerprint(network)
    network[0].running_mean += 1
    assert model_fingerprint(network) != before
