"""`Recorder`: what is written at an id is read at that id, from memory and from disk."""

import errno
import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest
import torch

from datawinnow.core.arrays import RECORDED
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.record import Recorder, files, kl_step, open_epoch, read_column, signals

ALL = (*RECORDED, "kl_step")


def visits(n, epochs, *, classes=3, batch=4, seed=0, share=1.0):
    """(epoch, index, logits, labels) of every batch; an epoch sees ``share`` of the examples in an order of its own."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=g)
    for epoch in range(epochs):
        order = torch.randperm(n, generator=g)[: round(share * n)]
        for index in order.split(batch):
            yield epoch, index, torch.randn(len(index), classes, generator=g), labels[index]


def filled(n=10, epochs=3, *, path=None, signals=ALL, flush=True, **options):
    recorder = Recorder(n, epochs, signals=signals, path=path)
    for visit in visits(n, epochs, **options):
        recorder.write(*visit)
    if flush:
        recorder.flush()
    return recorder


def literal_columns(n, epochs, **options):
    """Columns put together an example at a time."""
    columns = {name: np.full((epochs, n), np.nan) for name in ALL} | {"seen": np.zeros((epochs, n), dtype=bool)}
    last = {}
    for epoch, index, logits, labels in visits(n, epochs, **options):
        for i, z, y in zip(index.tolist(), logits, labels, strict=True):
            for name, value in signals(z[None], y[None]).items():
                columns[name][epoch, i] = float(value)
            p = z[None].softmax(1)
            if i in last:
                columns["kl_step"][epoch, i] = float(kl_step(last[i], p))
            last[i] = p
            columns["seen"][epoch, i] = True
    if columns["seen"].all():
        columns["correct"] = columns["correct"].astype(bool)
    columns["kl_step"] = columns["kl_step"][1:]
    return columns


def same(recorder, expected):
    for name, values in expected.items():
        result = recorder[name]
        assert result.dtype is (torch.bool if values.dtype == bool else torch.float32), name
        np.testing.assert_allclose(
            result.numpy().astype(float), values.astype(float), rtol=1e-5, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("where", ["memory", "disk", "consolidated", "reopened", "reopened whole"])
@pytest.mark.parametrize("share", [1.0, 0.6], ids=["all seen", "some unseen"])
def test_columns_hold_what_was_written_at_each_id(tmp_path, where, share):
    recorder = filled(path=None if where == "memory" else tmp_path, share=share)
    if where in ("consolidated", "reopened whole"):
        recorder.consolidate()
    if where.startswith("reopened"):
        labels = recorder.labels
        recorder = Recorder(10, 3, signals=ALL, path=tmp_path)
        assert recorder.finished == 3
        assert recorder.consolidated is (where == "reopened whole")
        if not recorder.consolidated:
            assert torch.equal(recorder.labels, labels)
    same(recorder, literal_columns(10, 3, share=share))


def test_unseen_is_nan_and_not_seen():
    recorder = Recorder(4, 2, signals=ALL)
    recorder.write(0, torch.tensor([2]), torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    for name in ("loss", "p_label", "margin", "error_norm", "entropy", "margin_softmax", "margin_top2"):
        assert torch.isnan(recorder[name]).tolist() == [[True, True, False, True], [True] * 4], name
    assert recorder["seen"].tolist() == [[False, False, True, False], [False] * 4]
    correct = recorder["correct"]
    assert correct.isnan().tolist() == [[True, True, False, True], [True] * 4]
    assert float(correct[0, 2]) == 1
    assert recorder["kl_step"].isnan().all()  # nobody was seen twice
    assert recorder.arrays().keys() == set(recorder.columns)


def test_labels_are_those_seen():
    recorder = filled(n=6, epochs=1, share=0.5)
    expected = torch.full((6,), -1)
    for _, index, _, labels in visits(6, 1, share=0.5):
        expected[index] = labels
    assert torch.equal(recorder.labels, expected)
    assert int((expected == -1).sum()) == 3


def test_ids_beyond_65536_with_bf16_logits():
    # in half precision 65537 is 65536, in bf16 even 257 is 256
    n = 70_000
    ids = torch.tensor([256, 257, 4096, 4097, 65_535, 65_536, 65_537, 69_999])
    logits = torch.stack([torch.arange(8.0), torch.zeros(8)], dim=1).bfloat16()
    recorder = Recorder(n, 1, signals=("margin",))
    recorder.write(0, ids, logits, torch.zeros(8, dtype=torch.int64))
    assert torch.nonzero(recorder["seen"][0]).flatten().tolist() == ids.tolist()
    assert recorder["margin"][0, ids].tolist() == list(range(8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32, torch.uint8], ids=str)
def test_ids_of_another_dtype_are_refused(dtype):
    recorder = Recorder(4, 1)
    with pytest.raises(ArgumentError, match=rf"index must be int64 of shape \(2,\), got {dtype}"):
        recorder.write(0, torch.tensor([0, 1]).to(dtype), torch.zeros(2, 2), torch.zeros(2).long())
    assert not recorder["seen"].any()


@pytest.mark.parametrize(
    ("epoch", "index", "match"),
    [
        (1, [0, 1], r"epoch must be in \[0, 1\), got 1"),
        (-1, [0, 1], r"epoch must be in \[0, 1\), got -1"),
        (0, [0, 4], r"ids in \[0, 4\), got 0 to 4"),
        (0, [-1, 0], r"ids in \[0, 4\), got -1 to 0"),
        (0, [0, 1, 2], r"index must be int64 of shape \(2,\)"),
    ],
    ids=["epoch", "epoch under", "id over", "id under", "length"],
)
def test_bad_writes_are_named(epoch, index, match):
    with pytest.raises(ArgumentError, match=match):
        Recorder(4, 1).write(epoch, torch.tensor(index), torch.zeros(2, 2), torch.zeros(2).long())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 0}, "n must be a whole number"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"signals": ("p_lable",)}, "no signal is called 'p_lable'"),
    ],
    ids=["n", "epochs", "signals"],
)
def test_bad_recorders_are_named(options, match):
    with pytest.raises(ArgumentError, match=match):
        Recorder(**{"n": 4, "epochs": 1, **options})


def test_what_is_not_recorded_is_named(tmp_path):
    recorder = Recorder(4, 1)
    assert "kl_step" not in recorder
    assert "loss" in recorder
    with pytest.raises(MissingArrayError, match=r"'kl_step' is not recorded.*make it with signals="):
        recorder["kl_step"]
    with pytest.raises(MissingArrayError, match=r"'kl_step' is not in .*signals='kl_step'"):
        read_column(tmp_path, "kl_step")


def test_reading_leaves_the_open_epoch_open(tmp_path):
    recorder = Recorder(4, 1, path=tmp_path)
    zero = torch.zeros(2).long()
    recorder.write(0, torch.tensor([0, 1]), torch.zeros(2, 2), zero)
    assert recorder["seen"].tolist() == [[True, True, False, False]]
    assert recorder.finished == 0
    recorder.write(0, torch.tensor([2, 3]), torch.zeros(2, 2), zero)
    recorder.flush()
    assert recorder["seen"].all()
    assert not recorder["p_label"].isnan().any()


def test_what_was_read_does_not_change_with_later_writes():
    recorder = Recorder(2, 2)
    zero = torch.zeros(2).long()
    recorder.write(0, torch.tensor([0, 1]), torch.zeros(2, 2), zero)
    early = recorder["p_label"]
    recorder.write(0, torch.tensor([0, 1]), torch.tensor([[5.0, 0.0]] * 2), zero)
    assert early[0].tolist() == [0.5, 0.5]


def test_a_discarded_epoch_is_as_if_never_written():
    recorder = Recorder(2, 3, signals=ALL)
    zero, both = torch.zeros(2).long(), torch.tensor([0, 1])
    recorder.write(0, both, torch.zeros(2, 2), zero)
    recorder.write(1, both, torch.ones(2, 2), zero)
    recorder.discard()
    assert recorder.finished == 1
    assert recorder["seen"].tolist() == [[True, True], [False, False], [False, False]]
    recorder.flush()
    assert recorder.finished == 1


@pytest.mark.parametrize("options", ["discard", "again"])
def test_kl_step_of_a_repeated_epoch_goes_from_the_epoch_before(tmp_path, options):
    unbroken = filled(path=tmp_path / "whole")
    recorder = Recorder(10, 3, signals=ALL, path=tmp_path / "repeated")
    for visit in visits(10, 2):
        recorder.write(*visit)
    assert recorder["seen"][1].any()  # asking works out what has come in: the class probabilities are those after it
    if options == "discard":
        recorder.discard()
    else:
        recorder.flush()
    assert recorder.finished == (1 if options == "discard" else 2)
    for visit in visits(10, 3):
        if visit[0] >= 1:
            recorder.write(*visit)
    assert torch.equal(recorder["kl_step"], unbroken["kl_step"])


def test_consolidated_columns_are_memory_mapped(tmp_path):
    recorder = filled(n=5000, epochs=2, path=tmp_path, batch=1000)
    recorder.consolidate()
    columns = sorted(f"{name}.npy" for name in recorder.columns)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["about.json", *columns]
    result = recorder["p_label"]
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        assert str(tmp_path / "p_label.npy") in maps.read()
    before = (tmp_path / "p_label.npy").read_bytes()
    result += 1
    assert (tmp_path / "p_label.npy").read_bytes() == before  # nothing written to it reaches the file
    plain = np.load(tmp_path / "kl_step.npy", allow_pickle=False)
    assert plain.dtype == np.float32
    assert plain.shape == (1, 5000)
    assert np.load(tmp_path / "correct.npy", allow_pickle=False).dtype == bool


def test_a_recorder_on_disk_holds_one_epoch_in_memory(tmp_path):
    n, epochs = 20_000, 12
    g = torch.Generator().manual_seed(0)
    zero, index = torch.zeros(n, dtype=torch.int64), torch.arange(n)
    recorder = Recorder(n, epochs, path=tmp_path)
    tracemalloc.start()
    try:
        for epoch in range(epochs):
            recorder.write(epoch, index, torch.randn(n, 2, generator=g), zero)
        recorder.flush()
        kept, _ = tracemalloc.get_traced_memory()
        recorder.consolidate()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    one_epoch = 4 * n * len(recorder.columns)
    assert kept < 0.5 * one_epoch  # all epochs would be 12
    assert peak < 4 * one_epoch


def test_a_finished_recording_is_not_written_over_by_mistake(tmp_path):
    recorder = filled(path=tmp_path)
    recorder.consolidate()
    recorder.consolidate()  # once more changes nothing
    with pytest.raises(RunError, match=r"is finished: give another path, or resume\(0\)"):
        recorder.write(0, torch.tensor([0]), torch.zeros(1, 3), torch.tensor([0]))
    recorder.resume(3)
    assert recorder.finished == 3
    with pytest.raises(RunError, match="cannot resume at epoch 1: it is consolidated"):
        recorder.resume(1)
    recorder.resume(0)
    assert recorder.finished == 0
    assert not recorder["seen"].any()


def test_consolidate_needs_a_path_and_every_epoch(tmp_path):
    with pytest.raises(RunError, match="give path= when making it"):
        Recorder(4, 1).consolidate()
    recorder = Recorder(10, 3, path=tmp_path)
    for visit in visits(10, 2):
        recorder.write(*visit)
    with pytest.raises(RunError, match="only 2 of 3 epochs recorded in"):
        recorder.consolidate()


@pytest.mark.parametrize(("epoch", "names"), [(0, ALL), (2, ALL), (3, ALL), (1, RECORDED)], ids=str)
def test_resume_forgets_what_comes_after(tmp_path, epoch, names):
    unbroken = filled(path=tmp_path / "whole", signals=names)
    recorder = filled(path=tmp_path / "resumed", signals=names)
    recorder.resume(epoch)
    assert recorder.finished == epoch
    assert len(list((tmp_path / "resumed").glob("epoch-*.npz"))) == epoch
    for visit in visits(10, 3):
        if visit[0] >= epoch:
            recorder.write(*visit)
    recorder.flush()
    for name in recorder.columns:
        assert torch.equal(recorder[name].nan_to_num(-1), unbroken[name].nan_to_num(-1)), name


def test_resume_refuses_a_gap_and_kl_step_in_memory():
    recorder = Recorder(10, 3, signals=ALL)
    with pytest.raises(RunError, match="cannot resume at epoch 1: only 0 epochs are recorded in memory"):
        recorder.resume(1)
    for visit in visits(10, 2):
        recorder.write(*visit)
    with pytest.raises(RunError, match="kl_step cannot be resumed in memory: give the recorder a path"):
        recorder.resume(1)


def test_only_the_last_two_softmax_files_stay(tmp_path):
    recorder = Recorder(10, 5, signals=ALL, path=tmp_path)
    for visit in visits(10, 5):
        recorder.write(*visit)
    recorder.flush()
    # two, since the last epoch may have to be repeated until its checkpoint is written
    assert sorted(p.name for p in tmp_path.glob("softmax-*")) == ["softmax-0003.npy", "softmax-0004.npy"]
    recorder.resume(4)
    (tmp_path / "softmax-0002.npy").unlink(missing_ok=True)
    with pytest.raises(RunError, match=r"softmax-0002.npy; kl_step cannot continue after epoch 2"):
        recorder.resume(3)
    recorder.resume(0)  # from the start nothing is needed


def test_without_kl_step_no_softmax_is_kept(tmp_path):
    filled(path=tmp_path, signals=RECORDED)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["about.json", *(f"epoch-000{e}.npz" for e in range(3))]


def truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def rubbish(file):
    file.write_bytes(b"not an archive" * 100)


@pytest.mark.parametrize("damage", [truncated, empty, rubbish])
def test_a_damaged_epoch_file_says_what_to_do(tmp_path, damage):
    filled(path=tmp_path)
    damage(tmp_path / "epoch-0001.npz")
    with pytest.raises(RunError, match=r"epoch-0001.npz is truncated or damaged.*remove it, and the checkpoint"):
        Recorder(10, 3, signals=ALL, path=tmp_path)
    (tmp_path / "epoch-0001.npz").unlink()
    assert Recorder(10, 3, signals=ALL, path=tmp_path).finished == 1


def test_a_bit_that_flipped_is_found_when_it_is_read(tmp_path):
    recorder = filled(n=1000, batch=1000, path=tmp_path)
    file = tmp_path / "epoch-0001.npz"
    data = bytearray(file.read_bytes())
    at = data.find(b"p_label.npy") + 300
    data[at] ^= 0xFF
    file.write_bytes(bytes(data))
    with pytest.raises(RunError, match=r"epoch-0001.npz is truncated or damaged"):
        recorder["p_label"]


def test_a_recording_of_other_examples_or_signals_is_refused(tmp_path):
    filled(path=tmp_path, signals=("loss",))
    with pytest.raises(
        RunError, match=r"holds 10 examples, but this recording has n=12: it belongs to a different dataset"
    ):
        Recorder(12, 3, signals=("loss",), path=tmp_path)
    with pytest.raises(RunError, match=r"has no 'p_label': it is of a recording of other signals \(loss, seen\)"):
        Recorder(10, 3, signals=("loss", "p_label"), path=tmp_path)
    recorder = Recorder(10, 3, signals=("loss",), path=tmp_path)
    recorder.consolidate()
    with pytest.raises(RunError, match=r"finished recording of 3 epochs and 10 examples, not of 4 and 10"):
        Recorder(10, 4, signals=("loss",), path=tmp_path)


def test_a_truncated_column_is_refused(tmp_path):
    filled(path=tmp_path).consolidate()
    truncated(tmp_path / "p_label.npy")
    with pytest.raises(RunError, match=r"p_label.npy is truncated or damaged.*record again"):
        read_column(tmp_path, "p_label")


def test_too_little_space_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(RunError, match=r"the disk is full: .* needs 0.2 MB and has 0.0 MB"):
        Recorder(1000, 3, path=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_already_needs_no_space_again(tmp_path, monkeypatch):
    filled(n=1000, batch=500, path=tmp_path)
    usage = shutil.disk_usage(tmp_path)
    row = 4 * 1000 * len((*ALL, "seen"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * row + 10))
    assert Recorder(1000, 3, signals=ALL, path=tmp_path).finished == 3  # the columns are still to come
    (tmp_path / "epoch-0002.npz").unlink()
    with pytest.raises(RunError, match="the disk is full"):
        Recorder(1000, 3, signals=ALL, path=tmp_path)


def test_a_disk_that_fills_up_keeps_the_epochs_before_and_goes_on(tmp_path, monkeypatch):
    unbroken = filled(path=tmp_path / "whole")
    path = tmp_path / "full"
    recorder = Recorder(10, 3, signals=ALL, path=path)
    for visit in visits(10, 2):
        recorder.write(*visit)
    before = {p.name: p.read_bytes() for p in path.iterdir()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(RunError, match=r"the disk is full: could not write .*epoch-0001.npz"):
            recorder.flush()
    assert before.items() <= {p.name: p.read_bytes() for p in path.iterdir()}.items()
    assert Recorder(10, 3, signals=ALL, path=path).finished == 1
    recorder.flush()  # space was made: nothing is lost
    for visit in visits(10, 3):
        if visit[0] == 2:
            recorder.write(*visit)
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(path)
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
        with pytest.raises(RunError, match="the disk is full"):
            recorder.consolidate()
    again = Recorder(10, 3, signals=ALL, path=path)
    again.consolidate()
    for name in again.columns:
        assert torch.equal(again[name].nan_to_num(-1), unbroken[name].nan_to_num(-1)), name


def test_leftovers_of_a_kill_are_removed(tmp_path):
    (tmp_path / ".epoch-0000.npz.abc.part").write_bytes(b"half")
    (tmp_path / ".softmax-0000.npy.abc.part").write_bytes(b"half")
    (tmp_path / ".seen.npy.abc.part").write_bytes(b"half")
    (tmp_path / ".about.json.abc.part").write_bytes(b"half")
    Recorder(4, 1, path=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["about.json"]


def test_a_kill_while_epochs_are_removed_leaves_a_finished_recording(tmp_path):
    recorded = filled(path=tmp_path)
    expected = recorded["loss"]
    last = (tmp_path / "epoch-0002.npz").read_bytes()
    recorded.consolidate()
    (tmp_path / "epoch-0002.npz").write_bytes(last)  # they go from the first to the last
    again = Recorder(10, 3, signals=ALL, path=tmp_path)
    assert again.consolidated
    assert torch.equal(again["loss"], expected)


def test_a_users_own_fabric_loop_in_half_precision_records_at_the_right_ids():
    from lightning_fabric import Fabric
    from torch.utils.data import DataLoader

    from datawinnow.data.indexed import indexed

    n = 600  # ids above 256 are not bf16 numbers
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-true")
    data = [(torch.tensor([float(i % 7), 1.0]), i % 2) for i in range(n)]
    loader = fabric.setup_dataloaders(DataLoader(indexed(data), batch_size=50, shuffle=True))
    model = fabric.setup(torch.nn.Linear(2, 2))
    recorder = Recorder(n, 1, signals=("p_label",))
    for index, x, y in loader:
        recorder.write(0, index, model(x), y)
    assert recorder["seen"].all()
    assert recorder.labels.tolist() == [i % 2 for i in range(n)]
    p = recorder["p_label"][0]
    assert torch.equal(p[:14].repeat(42)[:588], p[:588])  # the same x and y give the same answer


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_write_does_not_wait_for_the_device():
    recorder = Recorder(100, 1, signals=ALL)
    logits, labels = torch.randn(50, 3, device="cuda"), torch.randint(3, (50,), device="cuda")
    recorder.write(0, torch.arange(50), logits, labels)
    try:
        torch.cuda.set_sync_debug_mode("error")
        recorder.write(0, torch.arange(50, 100, device="cuda"), logits, labels)
        recorder.write(0, torch.arange(50), logits, labels.cpu())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert recorder["seen"].all()


def about(folder):
    return json.loads((folder / "about.json").read_text(encoding="utf-8"))


def test_what_the_columns_are_about_stands_beside_them(tmp_path):
    recorder = Recorder(10, 3, signals=("loss", "kl_step"), path=tmp_path, fingerprint="aaaa")
    expected = {"kind": "signals", "fingerprint": "aaaa", "n": 10, "epochs": 3, "columns": ["loss", "kl_step", "seen"]}
    assert about(tmp_path) == {"format": 1, **expected}  # before any epoch is
    for visit in visits(10, 3):
        recorder.write(*visit)
    recorder.consolidate()
    assert about(tmp_path) == {"format": 1, **expected}
    assert Recorder(10, 3)["seen"].shape == (3, 10)  # in memory it is about nothing on disk
    Recorder(10, 3, path=tmp_path / "plain")
    assert about(tmp_path / "plain")["fingerprint"] is None


@pytest.mark.parametrize("state", ["begun", "half", "finished"])
def test_a_recording_of_another_dataset_is_refused_by_both_names(tmp_path, state):
    recorder = Recorder(10, 3, signals=("loss",), path=tmp_path, fingerprint="aaaa")
    for visit in visits(10, {"begun": 0, "half": 2, "finished": 3}[state]):
        recorder.write(*visit)
    recorder.flush()
    if state == "finished":
        recorder.consolidate()
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(RunError, match=r"recorded on another dataset \(fingerprint aaaa\).*\(fingerprint bbbb\)"):
        Recorder(10, 3, signals=("loss",), path=tmp_path, fingerprint="bbbb")
    for recorded_fingerprint in ("aaaa", None):  # who does not know it is not asked, and takes nothing away
        assert (
            Recorder(10, 3, signals=("loss",), path=tmp_path, fingerprint=recorded_fingerprint).finished
            == recorder.finished
        )
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_column_of_another_dataset_is_refused_when_asked(tmp_path):
    Recorder(10, 3, path=tmp_path, fingerprint="aaaa")
    filled(path=tmp_path, signals=("loss",)).consolidate()
    loss = read_column(tmp_path, "loss", fingerprint="aaaa")
    assert torch.equal(read_column(tmp_path, "loss"), loss)
    with pytest.raises(RunError, match=r"another dataset \(fingerprint aaaa\), not on this one \(fingerprint bbbb\)"):
        read_column(tmp_path, "loss", fingerprint="bbbb")
    (tmp_path / "about.json").unlink()  # of an older version
    assert torch.equal(read_column(tmp_path, "loss", fingerprint="bbbb"), loss)


def test_what_an_unfinished_recording_is_about_follows_the_recorder(tmp_path):
    Recorder(10, 3, signals=("loss", "margin"), path=tmp_path)
    filled(10, 5, path=tmp_path, signals=("loss",))
    assert (about(tmp_path)["epochs"], about(tmp_path)["columns"]) == (5, ["loss", "seen"])
    Recorder(10, 5, signals=("loss",), path=tmp_path, fingerprint="aaaa")
    assert about(tmp_path)["fingerprint"] == "aaaa"


def test_a_finished_recording_opened_for_fewer_signals_stays_as_it_is(tmp_path):
    filled(path=tmp_path, signals=("loss", "margin")).consolidate()
    recorder = Recorder(10, 3, signals=("loss",), path=tmp_path, fingerprint="aaaa")
    assert about(tmp_path)["columns"] == ["loss", "margin", "seen"]
    recorder.resume(0)
    assert about(tmp_path)["columns"] == ["loss", "seen"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"format": 1, "kind": "sig', "about.json is truncated or not JSON"),
        ('{"format": 1, "kind": "scores"}', "about.json does not describe recorded signals"),
        ('{"format": 1, "kind": "signals", "fingerprint": 7}', r"about.json is damaged \(fingerprint: "),
        ('{"format": 99, "kind": "signals"}', "written by a newer datawinnow"),
    ],
    ids=["truncated", "kind", "fingerprint", "newer"],
)
def test_a_damaged_about_is_named(tmp_path, text, match):
    (tmp_path / "about.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=match):
        Recorder(10, 3, path=tmp_path)


@pytest.mark.parametrize("names", [RECORDED, ALL], ids=["usual", "all"])
@pytest.mark.parametrize("staged", [1, 40, 10_000], ids=["at once", "a few", "all together"])
def test_when_the_signals_are_worked_out_changes_no_bit(names, staged, monkeypatch):
    monkeypatch.setattr(open_epoch, "MAX_STAGED_LOGITS", staged)
    recorder, g = Recorder(30, 2, signals=names), torch.Generator().manual_seed(0)
    literal = {name: torch.full((2, 30), torch.nan) for name in RECORDED}
    for epoch in range(2):
        for _ in range(7):  # ids come again within an epoch: the last visit counts
            index = torch.randperm(30, generator=g)[:6]
            logits, labels = 9 * torch.randn(6, 4, generator=g), index % 4
            recorder.write(epoch, index, logits, labels)
            for name, values in signals(logits, labels).items():
                literal[name][epoch, index] = values.float()
            logits.zero_()  # in place, after the step
            index.zero_()
    for name in RECORDED:
        torch.testing.assert_close(recorder[name].float(), literal[name], rtol=0, atol=0, equal_nan=True)


def test_a_recording_that_is_cut_has_the_epochs_there_are(tmp_path):
    unbroken, recorder = filled(10, 2, path=tmp_path / "two"), Recorder(10, 5, signals=ALL, path=tmp_path / "cut")
    for visit in visits(10, 2):
        recorder.write(*visit)
    recorder.flush()
    recorder.cut()
    assert (recorder.epochs, recorder.finished) == (2, 2)
    assert (about(tmp_path / "cut")["epochs"], about(tmp_path / "cut")["planned"]) == (2, 5)
    unbroken.consolidate()
    recorder.consolidate()
    for name in unbroken.columns:
        assert (tmp_path / "cut" / f"{name}.npy").read_bytes() == (tmp_path / "two" / f"{name}.npy").read_bytes()
    assert about(tmp_path / "cut")["planned"] == 5
    assert "planned" not in about(tmp_path / "two")
    again = Recorder(10, 5, signals=ALL, path=tmp_path / "cut")  # as a killed run makes it anew
    assert (again.consolidated, again.epochs) == (True, 2)
    with pytest.raises(RunError, match="finished recording of 2 epochs and 10 examples, not of 6 and 10"):
        Recorder(10, 6, signals=ALL, path=tmp_path / "cut")
    with pytest.raises(RunError, match="finished recording of 2 epochs and 10 examples, not of 5 and 10"):
        Recorder(10, 5, signals=ALL, path=tmp_path / "two")


def test_a_recording_that_was_cut_and_not_consolidated_goes_on_as_planned(tmp_path):
    recorder = Recorder(10, 5, signals=("loss",), path=tmp_path)
    for visit in visits(10, 2):
        recorder.write(*visit)
    recorder.flush()
    recorder.cut()
    again = Recorder(10, 5, signals=("loss",), path=tmp_path)
    assert (again.epochs, again.finished, about(tmp_path)["epochs"]) == (5, 2, 5)
    assert "planned" not in about(tmp_path)


def test_nothing_recorded_cannot_be_cut():
    with pytest.raises(RunError, match="nothing is recorded in memory"):
        Recorder(10, 5).cut()
    gap = Recorder(10, 5, signals=("loss",))
    for visit in visits(10, 4):
        if visit[0] in (0, 3):
            gap.write(*visit)
    gap.flush()
    with pytest.raises(RunError, match=r"epochs \[0, 3\] are recorded in memory: the recording cannot end early"):
        gap.cut()
    assert gap.epochs == 5


def test_an_open_epoch_is_dropped_by_a_cut():
    recorder = Recorder(10, 5, signals=("loss",))
    for visit in visits(10, 2):
        recorder.write(*visit)
    recorder.cut()  # the second epoch was never closed
    assert recorder.epochs == 1
    assert recorder["loss"].shape == (1, 10)
    assert recorder["seen"].all()


@pytest.mark.parametrize("where", ["memory", "disk", "consolidated"])
def test_rows_are_those_of_the_column_and_no_more_is_read(tmp_path, where, monkeypatch):
    recorder = filled(10, 3, path=None if where == "memory" else tmp_path)
    recorder.flush()
    expected = recorder["p_label"].clone()
    if where == "consolidated":
        recorder.consolidate()
    if where == "disk":
        (tmp_path / "epoch-0000.npz").write_bytes(b"not to be read")
    assert torch.equal(recorder.rows("p_label", 1, 3), expected[1:3])
    with pytest.raises(RunError, match="epochs 2 to 3 are not all recorded"):
        recorder.rows("p_label", 2, 4)
    with pytest.raises(MissingArrayError, match="no rows of 'kl_step' by epoch"):
        recorder.rows("kl_step", 1, 2)


def test_rows_stand_beside_the_columns(tmp_path):
    rows = torch.tensor([3, 0, 8])
    Recorder(3, 1, path=tmp_path, rows=rows)
    assert torch.equal(files.read_source_rows(tmp_path, 3), rows)
    written = (tmp_path / "row.npy").stat().st_mtime_ns
    Recorder(3, 1, path=tmp_path, rows=rows)
    assert (tmp_path / "row.npy").stat().st_mtime_ns == written
    Recorder(3, 1, path=tmp_path, rows=rows + 1)
    assert torch.equal(files.read_source_rows(tmp_path, 3), rows + 1)
    for wrong in (rows[:2], rows.int(), -rows):
        with pytest.raises(ArgumentError, match=r"rows must be \(3,\) int64"):
            Recorder(3, 1, rows=wrong)
