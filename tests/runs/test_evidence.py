"""What was seen of each example: sentences, the axes of the data map, and who is shown in the gallery."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from datawinnow import api
from datawinnow.api import prune
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data import load
from datawinnow.runs.evidence import groups, moments, notes
from datawinnow.runs.gallery import png
from datawinnow.runs.select import select_run

from .conftest import FAST, make_images

NAN = float("nan")


class TestMoments:
    @pytest.mark.parametrize("n", [7, 70_000], ids=["small", "more than a chunk"])
    @pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:Degrees of freedom")
    def test_they_are_those_of_numpy(self, n):
        values = np.random.default_rng(0).random((5, n)).astype(np.float32)
        values[np.random.default_rng(1).random((5, n)) < 0.2] = np.nan
        values[:, 3] = np.nan
        mean, std = moments(torch.from_numpy(values))
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(mean.numpy(), np.nanmean(values.astype(np.float64), axis=0), rtol=1e-6)
            np.testing.assert_allclose(std.numpy(), np.nanstd(values.astype(np.float64), axis=0), rtol=1e-5, atol=1e-7)
        assert bool(mean[3].isnan())
        assert mean.dtype == std.dtype == torch.float32

    def test_a_large_mean_does_not_eat_the_spread(self):
        _, std = moments(torch.tensor([[0.99999], [0.99998]]))
        assert float(std) == pytest.approx(5e-6, rel=0.01)


class TestNotes:
    @pytest.mark.parametrize(
        ("right", "seen", "sentence"),
        [
            ("0000", "1111", "p(label) 0.25 ± 0.10, never learned"),
            ("1111", "1111", "p(label) 0.25 ± 0.10, first correct in epoch 1, never forgotten"),
            ("0011", "1111", "p(label) 0.25 ± 0.10, first correct in epoch 3, never forgotten"),
            ("0101", "1111", "p(label) 0.25 ± 0.10, first correct in epoch 2, forgotten once"),
            ("1010", "1111", "p(label) 0.25 ± 0.10, first correct in epoch 1, forgotten twice"),
            ("101010", "111111", "p(label) 0.25 ± 0.10, first correct in epoch 1, forgotten 3 times"),
            ("0000", "0000", "never seen while recording"),
            ("1001", "1001", "p(label) 0.25 ± 0.10, first correct in epoch 1, never forgotten"),
            ("1000", "1001", "p(label) 0.25 ± 0.10, first correct in epoch 1, forgotten once"),
        ],
    )
    def test_each_is_literally(self, right, seen, sentence):
        def column(text):
            return torch.tensor([[c == "1"] for c in text])

        arrays = {"correct": column(right), "seen": column(seen)}
        assert notes(arrays, torch.tensor([0.25]), torch.tensor([0.1])) == [sentence]

    def test_without_what_was_right(self):
        assert notes({}, torch.tensor([0.25, NAN]), torch.tensor([0.104, NAN])) == [
            "p(label) 0.25 ± 0.10",
            "p(label) unknown",
        ]

    def test_memory_maps_of_numbers_are_read_as_bits(self):
        arrays = {"correct": torch.tensor([[1], [0]], dtype=torch.uint8), "seen": torch.ones(2, 1, dtype=torch.uint8)}
        assert notes(arrays, torch.tensor([1.0]), torch.tensor([0.0])) == [
            "p(label) 1.00 ± 0.00, first correct in epoch 1, forgotten once"
        ]


class TestGroups:
    def test_who_is_shown(self):
        p_mean = torch.tensor([0.9, 0.1, 0.5, 0.05, NAN, 0.8])
        learned = torch.tensor([True, True, True, False, False, True])
        margin = torch.tensor([3.0, 1.0, 2.0, -5.0, NAN, -1.0])
        selection = Selection.of(torch.tensor([5, 0]), 6)
        shown = groups(selection, p_mean, learned, margin, each=2, generator=stream(0, "gallery"))
        assert sorted(shown["kept"].tolist()) == [0, 5]
        assert set(shown["dropped"].tolist()) < {1, 2, 3, 4}
        assert shown["hardest"].tolist() == [1, 2]  # 3 was never learned
        assert shown["doubtful"].tolist() == [3, 5]  # 4 was never seen

    def test_nobody_dropped(self):
        shown = groups(
            Selection.everything(3),
            torch.rand(3),
            torch.ones(3).bool(),
            torch.rand(3),
            each=2,
            generator=stream(0, "gallery"),
        )
        assert shown["dropped"].tolist() == []
        assert len(shown["kept"]) == 2


class TestGallery:
    def planted(self):
        """Example 5 has the wrong label; example 8 is faint, but right."""
        data = make_images(48)
        data.labels[5] = 1 - data.labels[5]
        data.x[8] = (data.x[8].float() * 0.3).byte()
        return data

    def run(self, tmp_path, data, **options):
        prune(data, keep=0.5, epochs=12, recipe=FAST, model="mlp", score="el2n", run=tmp_path / "run", **options)
        return pq.read_table(tmp_path / "run" / "gallery.parquet").to_pylist()

    def test_planted_examples_are_found(self, tmp_path, monkeypatch):
        monkeypatch.setattr("datawinnow.runs.gallery.EACH", 3)
        data = self.planted()
        rows = self.run(tmp_path, data)
        by_group = {g: [r for r in rows if r["group"] == g] for g in ("kept", "dropped", "hardest", "doubtful")}
        assert {g: len(ids) for g, ids in by_group.items()} == dict.fromkeys(by_group, 3)
        doubtful = by_group["doubtful"][0]
        assert doubtful["id"] == "5.png"
        # the label as trained on, and what the network says instead: the truth
        true = data.classes[1 - int(data.labels[5])]
        assert (doubtful["label_name"], doubtful["guess"]) == (data.classes[int(data.labels[5])], true)
        assert "never learned" in doubtful["note"] or "forgotten" in doubtful["note"]
        assert "8.png" in [r["id"] for r in by_group["hardest"]]
        assert "5.png" not in [r["id"] for r in by_group["hardest"]]
        assert all(r["reason"] == "ranked" for r in by_group["kept"])
        assert all(r["reason"] == "below_cut" for r in by_group["dropped"])
        faint = next(r for r in by_group["hardest"] if r["id"] == "8.png")
        assert faint["guess"] == ""  # the network agrees with the label
        image = np.asarray(Image.open(io.BytesIO(faint["png"])))
        assert np.array_equal(image, data.x[8, 0].numpy())

    def test_a_network_of_ones_own_cannot_be_asked_and_stops_nothing(self, tmp_path, images):
        def network(*, classes):
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))

        folder = api.record(images, run=tmp_path / "run", epochs=2, recipe=FAST, model=network)
        select_run(folder, images, keep=0.5, method="el2n")
        rows = pq.read_table(tmp_path / "run" / "gallery.parquet").to_pylist()
        assert {r["guess"] for r in rows} == {""}
        assert {r["group"] for r in rows} == {"kept", "dropped", "hardest", "doubtful"}

    def test_a_dataset_that_only_gives_items(self, tmp_path, images):
        items = [((x.float() / 255).numpy(), y) for x, y in images]
        rows = self.run(tmp_path, items)
        assert {r["label_name"] for r in rows} == {"0", "1"}
        assert {r["guess"] for r in rows} <= {"", "0", "1"}
        assert Image.open(io.BytesIO(rows[0]["png"])).size == (8, 8)

    def test_vectors_have_no_gallery(self, tmp_path, blobs):
        prune(blobs, keep=0.5, epochs=2, recipe=FAST, score="el2n", run=tmp_path / "run")
        assert not (tmp_path / "run" / "gallery.parquet").exists()

    @pytest.mark.parametrize(
        ("x", "pixel"),
        [
            (torch.full((3, 4, 4), 7, dtype=torch.uint8), (7, 7, 7)),
            (torch.full((4, 4, 4), 7, dtype=torch.uint8), (7, 7, 7)),
            (torch.full((2, 4, 4), 7, dtype=torch.uint8), 7),
            (torch.cat([torch.full((1, 2, 4), -3.0), torch.full((1, 2, 4), 5.0)], dim=1), 0),
            (torch.full((1, 4, 4), NAN), 0),
        ],
        ids=["colour", "alpha", "two channels", "numbers", "NaN"],
    )
    def test_images_of_every_kind(self, x, pixel):
        image = Image.open(io.BytesIO(png(x)))
        assert image.getpixel((0, 0)) == pixel

    def test_photos_are_shown_as_they_are_and_not_as_the_network_has_them(self, tmp_path):
        for i in range(8):
            path = tmp_path / "in" / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((100, 200, 3), 30 * i, dtype=np.uint8)).save(path)
        rows = self.run(tmp_path, load(tmp_path / "in", size=8, holdout=0.25)[0])
        for row in rows:
            image = Image.open(io.BytesIO(row["png"]))
            assert image.size == (128, 64)
            assert image.getpixel((0, 0)) == (30 * int(row["id"][2]),) * 3

    def test_large_images_are_shown_small(self):
        assert Image.open(io.BytesIO(png(torch.zeros(3, 400, 200, dtype=torch.uint8)))).size == (64, 128)
