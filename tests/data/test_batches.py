"""Batches: augmentation against a literal version an image at a time, and the two sources against each other."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, TensorDataset

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data import batches as module
from datawinnow.data.batches import (
    LoaderBatches,
    ResidentBatches,
    batches_of,
    bytes_on_device,
    draw_augmentation,
    fingerprint_of,
    labels_of,
    split_evenly,
)
from datawinnow.data.examples import Augment, Examples
from datawinnow.data.indexed import indexed
from datawinnow.data.kept import Kept

CPU = torch.device("cpu")


def examples(n=20, channels=3, height=8, width=8, augment=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, channels, height, width), generator=g).to(torch.uint8)
    return Examples(x, torch.arange(n) % 4, ("a", "b", "c", "d"), augment=augment)


def literal_image(x, top, left, flip, augment, mean, std):
    """One image padded, cropped, flipped and normalised with PIL and numpy, in float64."""
    height, width = x.shape[1:]
    planes = []
    for plane, m, s in zip(x.numpy(), mean, std, strict=True):
        image = Image.fromarray(plane, mode="L")
        image = ImageOps.expand(image, border=augment.crop, fill=0)
        image = image.crop((left, top, left + width, top + height))
        if flip and augment.flip:
            image = ImageOps.mirror(image)
        planes.append((np.asarray(image, dtype=np.float64) / 255 - m) / s)
    return np.stack(planes)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("source", ["resident", "loader"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels-last"])
@pytest.mark.parametrize(
    ("shape", "augment"),
    [
        ((3, 8, 8), Augment(crop=2)),
        ((1, 6, 9), Augment(crop=4)),
        ((3, 8, 8), Augment(crop=1, flip=False)),
        ((3, 8, 8), Augment(crop=0)),
    ],
    ids=["colour", "grey, not square", "no flip", "no crop"],
)
def test_augmented_batches_match_the_literal_version(source, channels_last, shape, augment):
    data = examples(20, *shape, augment=augment)
    order = torch.randperm(20, generator=stream(1))[:17]
    if source == "resident":
        batches = ResidentBatches(data, CPU, channels_last=channels_last)
    else:
        batches = LoaderBatches(data, CPU, workers=0, channels_last=channels_last)
    result = list(batches.train(order, 6, stream(7)))
    generator = stream(7)
    if source == "loader":
        torch.randint(1 << 62, (), generator=generator)  # the workers' seed
    assert torch.equal(torch.cat([i for i, _, _ in result]), order)
    moved = 0
    for index, x, y in result:
        assert torch.equal(y, data.labels[index])
        assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        top, left, flip = draw_augmentation(len(index), augment, generator)
        for row, i in enumerate(index.tolist()):
            draw = int(top[row]), int(left[row]), bool(flip[row])
            moved += draw != (augment.crop, augment.crop, False)
            expected = literal_image(data.x[i], *draw, augment, data.mean, data.std)
            np.testing.assert_allclose(x[row].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert moved > 5


def test_every_offset_and_both_flips_occur_equally_often():
    augment, count = Augment(crop=2), 40_000
    top, left, flip = draw_augmentation(count, augment, stream(3))
    for offsets in (top, left):
        assert torch.unique(offsets).tolist() == [0, 1, 2, 3, 4]
    pairs = torch.bincount(5 * top + left, minlength=25).double() / count
    sigma = (1 / 25 * 24 / 25 / count) ** 0.5
    assert (pairs - 1 / 25).abs().max() < 4.5 * sigma
    assert abs(float(flip.double().mean()) - 0.5) < 4 * 0.5 / count**0.5
    both = torch.bincount(2 * (top > 1).long() + flip.long(), minlength=4).double() / count
    assert both.tolist() == pytest.approx([0.2, 0.2, 0.3, 0.3], abs=0.012)  # independent


def test_the_largest_number_drawn_stays_in_the_window(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.full(shape, 1 - 2.0**-24))
    for crop in (1, 4, 28, 1000):
        top, left, flip = draw_augmentation(1, Augment(crop=crop), stream(0))
        assert (int(top), int(left), bool(flip)) == (2 * crop, 2 * crop, False)


def test_without_augmentation_nothing_is_drawn():
    generator = stream(0)
    before = generator.get_state()
    data = examples()
    (_, x, _), *_ = ResidentBatches(data, CPU).train(torch.arange(20), 20, generator)
    assert torch.equal(generator.get_state(), before)
    raw = data.x.double() / 255
    expected = (raw - torch.tensor(data.mean).view(-1, 1, 1)) / torch.tensor(data.std).view(-1, 1, 1)
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-6)


def test_vectors_go_through_as_they_are():
    data = Examples(torch.randn(7, 3, generator=stream(0)), torch.arange(7) % 2, ("a", "b"), augment=Augment())
    for batches in (ResidentBatches(data, CPU, channels_last=True), LoaderBatches(data, CPU, workers=0)):
        index, x, y = next(iter(batches.train(torch.tensor([4, 2, 6]), 3, stream(0))))
        assert torch.equal(x, data.x[[4, 2, 6]])
        assert torch.equal(y, data.labels[[4, 2, 6]])
        assert index.tolist() == [4, 2, 6]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split_name", ["train", "test"])
def test_both_sources_give_the_same_batches(workers, split_name):
    data = examples(23)
    order = torch.randperm(23, generator=stream(2))
    resident, loader = ResidentBatches(data, CPU), LoaderBatches(data, CPU, workers=workers)
    if split_name == "train":
        pairs = zip(resident.train(order, 8, stream(0)), loader.train(order, 8, stream(0)), strict=True)
    else:
        pairs = zip(resident.test(8), loader.test(8), strict=True)
    sizes = []
    for left, right in pairs:
        assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
        assert [t.dtype for t in right] == [torch.int64, torch.float32, torch.int64]
        sizes.append(len(left[0]))
    assert sizes == [8, 8, 7]


def test_a_test_pass_is_in_order_and_not_augmented():
    data = examples(10, augment=Augment(crop=3))
    plain = examples(10)
    for batches in (ResidentBatches(data, CPU), LoaderBatches(data, CPU, workers=0)):
        result = list(batches.test(4))
        assert torch.cat([i for i, _, _ in result]).tolist() == list(range(10))
        expected = torch.cat([x for _, x, _ in ResidentBatches(plain, CPU).test(10)])
        assert torch.equal(torch.cat([x for _, x, _ in result]), expected)


def test_uint8_of_a_dataset_without_statistics_is_scaled_to_one():
    data = [(torch.full((1, 4, 4), 51 * i, dtype=torch.uint8), 0) for i in range(6)]
    (_, x, _), *_ = LoaderBatches(data, CPU, workers=0).test(6)
    assert x[:, 0, 0, 0].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    ("x_dtype", "kind"),
    [(torch.float64, torch.float32), (torch.float16, torch.float32), (torch.bool, torch.float32), (torch.int64,) * 2],
    ids=str,
)
def test_dtypes_of_a_users_dataset(x_dtype, kind):
    data = [(torch.tensor([1, 0]).to(x_dtype), 1)] * 3
    (_, x, _), *_ = LoaderBatches(data, CPU, workers=0).test(3)
    assert x.dtype is kind
    assert x.tolist() == [[1, 0]] * 3


@pytest.mark.parametrize(("m", "batch"), [(10, 4), (128, 128), (129, 128), (1, 128), (7, 1), (50_000, 128)])
def test_split_evenly_keeps_the_order_and_balances(m, batch):
    order = torch.randperm(m, generator=stream(0))
    batch_ids = split_evenly(order, batch)
    assert torch.equal(torch.cat(batch_ids), order)
    sizes = [len(p) for p in batch_ids]
    assert len(sizes) == -(-m // batch)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch
    assert min(sizes) >= min(m, batch / 2)


class Drawing(torch.utils.data.Dataset):
    """Items with a random number in them, as a random transform makes them."""

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return torch.rand(1), 0


def test_random_transforms_in_workers_follow_the_generator():
    def epoch(seed):
        torch.manual_seed(99)
        return torch.cat([x for _, x, _ in LoaderBatches(Drawing(), CPU).train(torch.arange(12), 3, stream(seed))])

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))
    assert epoch(1).unique().numel() == 12


def test_examples_are_resident_and_others_loaded():
    assert isinstance(batches_of(examples(), CPU), ResidentBatches)
    assert isinstance(batches_of([(torch.zeros(1), 0)], CPU), LoaderBatches)


@pytest.mark.parametrize(
    "augment", [None, Augment(), Augment(crop=2, flip=False), Augment(crop=0), Augment(crop=0, flip=False)], ids=str
)
def test_resident_bytes_are_what_lies_on_the_device(augment):
    data = examples(augment=augment)
    batches = ResidentBatches(data, CPU)
    stores = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in (batches.x, batches.sides)}
    assert bytes_on_device(data) == sum(stores.values())


def test_examples_that_do_not_fit_a_gpu_are_loaded(monkeypatch):
    data = examples(augment=Augment())
    for free, kind in ((bytes_on_device(data), LoaderBatches), (2 * bytes_on_device(data), ResidentBatches)):
        monkeypatch.setattr(module, "free_bytes", lambda device, free=free: free)
        assert type(batches_of(data, CPU, workers=0)) is kind


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_indexed_serves_workers_of_any_start_method(start):
    data = TensorDataset(torch.arange(12.0), torch.arange(12) % 3)
    assert pickle.loads(pickle.dumps(indexed(data)))[5] == (5, *data[5])
    loader = DataLoader(indexed(data), batch_size=5, num_workers=1, multiprocessing_context=start)
    index, x, y = (torch.cat(tensors) for tensors in zip(*loader, strict=True))
    assert index.dtype is torch.int64
    assert index.tolist() == list(range(12))
    assert x.tolist() == list(range(12))
    assert torch.equal(y, torch.arange(12) % 3)


def test_indexed_gives_the_whole_datasets_ids_under_a_sampler():
    result = [indexed([("a", 0), ["b", 1]])[i] for i in (1, 0, torch.tensor(1))]
    assert result == [(1, "b", 1), (0, "a", 0), (1, "b", 1)]
    assert {type(index) for index, _, _ in result} == {int}
    assert len(indexed([1, 2, 3])) == 3


def test_indexed_refuses_streams_and_other_items():
    with pytest.raises(ArgumentError, match=r"needs a map-style dataset .* got list_iterator"):
        indexed(iter([]))
    with pytest.raises(ArgumentError, match=r"must be \(x, y\), got dict of length 2"):
        indexed([{"x": 1, "y": 2}])[0]
    with pytest.raises(ArgumentError, match=r"must be \(x, y\), got int;"):
        indexed([3])[0]


def test_images_that_were_never_made_tensors_are_told():
    data = [(Image.new("L", (4, 4)), 0)] * 3
    with pytest.raises(DataError, match=r"cannot be put into a batch .*Image.*add a transform such as ToTensor"):
        list(LoaderBatches(data, CPU, workers=0).test(2))


def test_a_fingerprint_changes_with_a_label_and_with_a_pixel():
    data = examples()
    same = examples()
    assert fingerprint_of(data) == fingerprint_of(same)
    labels = data.labels.clone()
    labels[7] = (labels[7] + 1) % 4
    x = data.x.clone()
    x[19, 2, 7, 7] ^= 1
    variants = [data.with_labels(labels), Examples(x, data.labels, data.classes), data.subset(torch.arange(19))]
    result = {fingerprint_of(d) for d in (data, *variants)}
    assert len(result) == 4


class Told(list):
    """A dataset that tells its labels."""

    def __init__(self, labels):
        super().__init__((torch.zeros(1), y) for y in labels)
        self.targets = labels


class Told2(Told):
    pass


def test_a_fingerprint_of_a_users_dataset():
    labels = [0, 1] * 500
    changed = [*labels[:501], 0, *labels[502:]]  # not among 256 evenly spaced ones
    assert labels != changed
    result = {
        fingerprint_of(d)
        for d in (Told(labels), Told(list(labels)), Told(changed), Told2(labels), Told(labels[:-1]), list(Told(labels)))
    }
    assert len(result) == 5
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert fingerprint_of(Drawing()) == fingerprint_of(Drawing())
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ArgumentError, match=r"must be map-style .* a stream cannot be indexed"):
        fingerprint_of(iter([]))


def test_labels_are_those_told():
    assert labels_of(Told([2, 0, 1])).tolist() == [2, 0, 1]
    assert labels_of([(0, 1)]) is None
    with pytest.raises(ArgumentError, match="targets must be integer class ids"):
        labels_of(Told([0.5, 1.0]))


def test_kept_is_a_dataset_of_the_kept_in_the_order_chosen():
    data = examples()
    kept = Kept(data, Selection.of(torch.tensor([9, 2, 14]), 20))
    assert len(kept) == 3
    assert torch.equal(kept[0][0], data.x[9])
    assert [y for _, y in (kept[i] for i in range(3))] == data.labels[[9, 2, 14]].tolist()
    alone = kept.alone()
    assert torch.equal(alone.x, data.x[[9, 2, 14]])
    assert alone.mean == data.mean
    outside = Kept([(1, 0), (2, 1)], Selection.of(torch.tensor([1]), 2))
    assert outside.alone() is outside
    assert list(outside) == [(2, 1)]
