"""Readers and writers against those of `datasets`: time, peak memory, and what is left in a cache."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

_HOME = tempfile.mkdtemp(prefix="readers-")  # before `datasets` is imported: what it keeps lands here and is counted
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(
    HF_HOME=_HOME,
    HF_DATASETS_CACHE=f"{_HOME}/datasets",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    DATAWINNOW_CACHE="",
)

import ctypes  # noqa: E402
import gc  # noqa: E402
import io  # noqa: E402

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from measuring import arguments, finish, interleaved, ratio, say  # noqa: E402

import datawinnow as dw  # noqa: E402
from datawinnow.data import folder, hub, parquet, text_files  # noqa: E402
from datawinnow.data.assemble import ReadOptions, Split, assemble, hold_out  # noqa: E402
from datawinnow.data.examples import Origin  # noqa: E402
from datawinnow.data.images import Encoded, decode_all, make_plan  # noqa: E402
from datawinnow.data.labels import label_of, read_labels  # noqa: E402
from datawinnow.data.texts import RawTexts, assemble_texts, text_of  # noqa: E402
from datawinnow.data.write import write_kept  # noqa: E402

DATA = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parent / "../../shared/data"))
SIZES = {"smoke": (200, 60, 500, 1), "default": (5000, 1000, 50_000, 5), "full": (10_000, 2000, 500_000, 7)}
"""Images of 32x32, JPEG photographs of mixed sizes, lines of text, rounds."""
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OPTIONS = ReadOptions(None, 0, 0.2, None, None, "raise", None, None, None).checked()
GOAL = 1.5

# the data


def make(root: Path, images: int, photographs: int, lines: int) -> None:
    """Every layout below ``root``: of CIFAR-10's test split and SST-2 where they are, else of noise."""
    shard, tsv, draws = DATA / "cifar10/test-00000-of-00001.parquet", DATA / "sst2/train.tsv", np.random.default_rng(0)
    if shard.is_file():
        table = pq.read_table(shard).slice(0, images)
    else:
        cells = [{"bytes": _png(draws.integers(0, 256, (32, 32, 3)).astype(np.uint8)), "path": None}] * images
        table = pa.table({"img": cells, "label": [i % 10 for i in range(images)]})
    (root / "hub").mkdir()
    half = len(table) // 2
    for k, record_batch in enumerate((table.slice(0, half), table.slice(half))):
        pq.write_table(record_batch, root / f"hub/train-0000{k}-of-00002.parquet")
    for i, (cell, label) in enumerate(zip(*(table.column(c).to_pylist() for c in ("img", "label")), strict=True)):
        image = Image.open(io.BytesIO(cell["bytes"])).convert("RGB")
        where = root / "png" / CLASSES[label]
        where.mkdir(parents=True, exist_ok=True)
        image.save(where / f"{i:05d}.png")
        if i < photographs:
            where = root / "jpg" / CLASSES[label]
            where.mkdir(parents=True, exist_ok=True)
            image.resize(tuple(draws.integers(160, 480, 2).tolist())).save(where / f"{i:05d}.jpg", quality=90)
    if tsv.is_file():
        rows = [line.split("\t") for line in tsv.read_text().splitlines()]
    else:
        rows = [[f"some words number {i}", str(i % 2)] for i in range(1000)]
    rows = [rows[i % len(rows)] for i in range(lines)]
    (root / "t.tsv").write_text("".join(f"{t}\t{y}\n" for t, y in rows))
    (root / "t.csv").write_text("text,label\n" + "".join(f'"{t}",{y}\n' for t, y in rows))
    (root / "t.jsonl").write_text("".join(json.dumps({"text": t, "label": int(y)}) + "\n" for t, y in rows))
    pq.write_table(pa.table({"text": [t for t, _ in rows], "label": [int(y) for _, y in rows]}), root / "t.parquet")


def _png(pixels: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


# images

Listed = tuple[list[Any], list[int]]
"""Encoded images (bytes, or the path of a file) and labels."""


def folder_ours(root: str) -> Listed:
    base = Path(root)
    split = folder._read_image_split(folder.scan_folder(base), "", None, OPTIONS, [])
    split = folder._encoded(base, split, folder._folder_class_ids(split, None)[1], {})
    return split.images.files(), split.labels.tolist()


def _folder(rows: Any) -> Listed:
    cells = [(row["image"]["path"], row["label"]) for row in rows]
    return [path for path, _ in cells], [label for _, label in cells]


def folder_stream(root: str) -> Listed:
    import datasets

    return _folder(datasets.load_dataset("imagefolder", data_dir=root, streaming=True, split="train").decode(False))


def folder_one_glob(root: str) -> Listed:
    import datasets

    files = {"train": f"{root}/**"}  # without its search for the splits' names
    dataset = datasets.load_dataset("imagefolder", data_files=files, streaming=True, split="train", drop_labels=False)
    return _folder(dataset.decode(False))


def folder_cached(root: str) -> Listed:
    import datasets

    with CountedCache() as cache:
        dataset = datasets.load_dataset("imagefolder", data_dir=root, cache_dir=cache, split="train")
        return _folder(dataset.cast_column("image", datasets.Image(decode=False)))


def parquet_ours(root: str) -> Listed:
    files = parquet.find_parquet(Path(root))["train"]
    source = parquet.TableSource("parquet", root, "data")
    table = parquet._ImageTable.read(files, source, OPTIONS)
    split = table.split(torch.from_numpy(np.asarray(table.values)), source)
    return [raw for block in split.images.blocks() for raw in block], split.labels.tolist()


def _shards(root: str) -> list[str]:
    return sorted(map(str, Path(root).glob("*.parquet")))


def _rows(rows: Any) -> Listed:
    cells = [(row["img"]["bytes"], row["label"]) for row in rows]
    return [raw for raw, _ in cells], [label for _, label in cells]


def parquet_stream(root: str) -> Listed:
    import datasets

    return _rows(datasets.IterableDataset.from_parquet(_shards(root)).decode(False))


def parquet_batches(root: str) -> Listed:
    import datasets

    raws: list[Any] = []
    labels: list[int] = []
    for batch in datasets.IterableDataset.from_parquet(_shards(root)).with_format("arrow").iter(1000):
        raws += [cell["bytes"] for cell in batch.column("img").to_pylist()]
        labels += batch.column("label").to_pylist()
    return raws, labels


def parquet_memory(root: str) -> Listed:
    import datasets

    dataset = datasets.Dataset(pq.read_table(_shards(root)))
    return _rows(dataset.cast_column("img", datasets.Image(decode=False)))


def parquet_cached(root: str) -> Listed:
    import datasets

    with CountedCache() as cache:
        dataset = datasets.Dataset.from_parquet(_shards(root), cache_dir=cache)
        return _rows(dataset.cast_column("img", datasets.Image(decode=False)))


class EncodedList(Encoded):
    """Encoded images that another reader gave."""

    def __init__(self, raws: Sequence[Any]) -> None:
        self.raws = raws

    def __len__(self) -> int:
        return len(self.raws)

    def raw(self, i: int) -> Any:
        return self.raws[i] if isinstance(self.raws[i], bytes) else Path(self.raws[i])

    def where(self, i: int) -> str:
        return f"image {i}"

    def take(self, index: Any) -> Encoded:
        return EncodedList([self.raws[i] for i in index.tolist()])

    def files(self) -> list[str]:
        return []

    def chosen(self) -> bytes:
        return b""


def load_ours(root: str) -> Any:
    return dw.load(root)


def load_by(read: Callable[[str], Listed]) -> Callable[[str], Any]:
    """`load` with that reader: the rest (decoding, splitting, statistics) is ours in both."""

    def load(root: str) -> Any:
        raws, labels = read(root)
        split = Split(EncodedList(raws), torch.tensor(labels), Origin("none", root, (), torch.arange(len(raws))))
        return assemble(split, None, CLASSES, "data", OPTIONS, ())

    return load


def decode_ours(root: str) -> Any:
    images = EncodedList(folder_ours(root)[0])
    return decode_all(images, make_plan(images, None)).x


def decode_theirs(root: str) -> Any:
    import datasets

    raws, feature = folder_ours(root)[0], datasets.Image()
    plan = make_plan(EncodedList(raws), None)
    x = np.empty((len(raws), *plan.shape), np.uint8)
    for i, path in enumerate(raws):
        image = feature.decode_example({"path": path, "bytes": None}).convert("RGB")
        if image.size != (plan.width, plan.height):
            image = image.resize((plan.width, plan.height), Image.Resampling.BICUBIC)
        x[i] = np.asarray(image).transpose(2, 0, 1)
    return x


# texts

Texts = tuple[list[str], list[Any]]


def texts_ours(path: str) -> Texts:
    raw, _, _ = text_files._read_split([Path(path)], path, "train", OPTIONS, None)
    return raw.texts, list(raw.values)


def _csv_settings(path: str) -> dict[str, Any]:
    """Every cell as the text that it is; columns are dataset afterwards, by our rules."""
    import datasets

    tabs = path.endswith(".tsv")
    strings = datasets.Features({str(i): datasets.Value("string") for i in range(2)})
    return {
        "sep": "\t" if tabs else ",",
        "header": None,
        "features": strings,
        "na_filter": False,
        "names": ["0", "1"],
        "keep_in_memory": True,
    }


def texts_stream(path: str) -> Texts:
    """Row by row, all cells texts."""
    cells = list(_their_texts(path))
    return _checked([row[0] for row in cells], [row[1] for row in cells], path)


def _checked(texts: Sequence[Any], labels: Sequence[Any], path: str) -> Texts:
    """What ours looks for in every cell is looked for in theirs too: nothing is compared with less work done."""
    first = int(path.endswith(".csv"))  # the line of names
    results_by_reader = [(text_of(t), label_of(y)) for t, y in zip(texts[first:], labels[first:], strict=True)]
    faults = [a[1] or b[1] for a, b in results_by_reader if a[1] or b[1]]
    assert not faults, faults[0]
    return [a[0] for a, _ in results_by_reader], list(read_labels([b[0] for _, b in results_by_reader])[0])


def _their_texts(path: str) -> Iterator[tuple[str, Any]]:
    import datasets

    if path.endswith(".jsonl"):
        for row in datasets.IterableDataset.from_json(path):
            yield row["text"], row["label"]
        return
    settings = {k: v for k, v in _csv_settings(path).items() if k != "keep_in_memory"}
    for row in datasets.IterableDataset.from_csv(path, **settings):
        yield row["0"], row["1"]


def texts_batches(path: str) -> Texts:
    import datasets

    if path.endswith(".jsonl"):
        dataset = datasets.IterableDataset.from_json(path)
    elif path.endswith(".parquet"):
        dataset = datasets.IterableDataset.from_parquet(path)
    else:
        settings = {k: v for k, v in _csv_settings(path).items() if k != "keep_in_memory"}
        dataset = datasets.IterableDataset.from_csv(path, **settings)
    texts: list[str] = []
    labels: list[Any] = []
    for batch in dataset.with_format("arrow").iter(10_000):
        texts += batch.column(0).to_pylist()
        labels += batch.column(1).to_pylist()
    return _checked(texts, labels, path)


def texts_cached(path: str) -> Texts:
    import datasets

    with CountedCache() as cache:
        if path.endswith(".jsonl"):
            dataset = datasets.Dataset.from_json(path, cache_dir=cache)
        elif path.endswith(".parquet"):
            dataset = datasets.Dataset.from_parquet(path, cache_dir=cache)
        else:
            dataset = datasets.Dataset.from_csv(path, cache_dir=cache, **_csv_settings(path))
        first, second = dataset.column_names
        texts, labels = list(dataset[first]), list(dataset[second])
    return _checked(texts, labels, path)


def table_ours(path: str) -> Texts:
    source = parquet.TableSource("parquet", path, "data")
    raw, _ = parquet._read_text_table([Path(path)], source, "train", OPTIONS)
    return raw.texts, list(raw.values)


def load_texts_by(read: Callable[[str], Texts]) -> Callable[[str], Any]:
    """`load` with that reader: vocabulary, token ids and the split are ours in both."""

    def load(path: str) -> Any:
        texts, labels = read(path)
        ids = [f"{Path(path).name}:{i}" for i in range(len(texts))]
        origin = Origin("text", path, (path,), torch.arange(len(texts)))
        values = np.asarray(labels, dtype=np.int64)
        return assemble_texts(RawTexts(texts, values, str, origin, ids), None, "data", OPTIONS, ())

    return load


# a folder as the hub lays it out: which file is of which split


def splits_ours(root: str) -> Any:
    return {name: [p.name for p in files] for name, files in parquet.find_parquet(Path(root)).items()}


def splits_theirs(root: str) -> Any:
    import datasets

    dataset = datasets.load_dataset_builder(root).config.data_files
    return {str(name): [Path(f).name for f in files] for name, files in dataset.items()}


def hub_ours(root: str) -> Any:
    """``hf:``: `load_dataset_builder` lists the files, our reader reads them. A folder stands for the hub."""
    before = Path.cwd()
    os.chdir(Path(root).parent.parent)
    shutil.rmtree(f"{_HOME}/datasets", ignore_errors=True)
    try:
        return hub.load_hub(Path("hf:" + "/".join(Path(root).parts[-2:])), OPTIONS)
    finally:
        os.chdir(before)


def hub_converted(root: str) -> Any:
    """`load_dataset` without streaming, whose Arrow copy is read."""
    import datasets

    shutil.rmtree(f"{_HOME}/datasets", ignore_errors=True)
    converted = datasets.load_dataset(root)
    train = hub._arrow_files(converted["train"], root)
    return parquet.load_tables({"train": train}, parquet.TableSource("hf", root, "data"), OPTIONS)


# writers


def _half(n: int) -> torch.Tensor:
    return torch.arange(0, n, 2)


def write_ours(train: Any, _source: str) -> Path:
    out = Path(tempfile.mkdtemp(prefix="out-"), "kept")
    write_kept(train, _half(len(train)), out)
    return next(p for p in sorted(out.iterdir()))


def write_theirs(train: Any, source: str) -> Path:
    """Read again as `datasets` reads and write through it: rows of the source, not of the split."""
    import datasets

    rows = train.origin.rows[_half(len(train))].tolist()
    out = Path(tempfile.mkdtemp(prefix="out-"), "kept")
    if Path(source).is_dir():
        out = out.with_suffix(".parquet")
        datasets.Dataset(pq.read_table(_shards(source))).select(rows).to_parquet(out)
        return out
    out = out.with_suffix(Path(source).suffix)
    if source.endswith(".parquet"):
        datasets.Dataset(pq.read_table(source)).select(rows).to_parquet(out)
    elif source.endswith(".jsonl"):
        _held(datasets.IterableDataset.from_json(source)).select(rows).to_json(out, lines=True, force_ascii=False)
    else:
        settings = {k: v for k, v in _csv_settings(source).items() if k != "keep_in_memory"}
        if source.endswith(".csv"):
            settings |= {"header": 0}
        held = _held(datasets.IterableDataset.from_csv(source, **settings))
        if source.endswith(".csv"):
            held = held.rename_columns({"0": "text", "1": "label"})
        held.select(rows).to_csv(out, sep=settings["sep"], header=source.endswith(".csv"), index=False)
    return out


def _held(dataset: Any) -> Any:
    import datasets

    return datasets.Dataset(pa.concat_tables(list(dataset.with_format("arrow").iter(10_000))))


# the stratified split


def split_ours(labels: Any) -> Any:
    return hold_out(labels, 0.2, 0)[:2]


def split_theirs(labels: Any) -> Any:
    import datasets

    feature = datasets.Features({"label": datasets.ClassLabel(names=list(CLASSES))})
    dataset = datasets.Dataset.from_dict({"label": labels.numpy()}, features=feature)
    dataset = dataset.add_column("row", np.arange(len(labels)))
    splits = dataset.train_test_split(test_size=0.2, stratify_by_column="label", seed=0, keep_in_memory=True)
    return tuple(torch.from_numpy(np.asarray(splits[p].with_format("numpy")["row"])).sort().values for p in splits)


def split_sklearn(labels: Any) -> Any:
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    return train_test_split(rows, test_size=0.2, stratify=labels.numpy(), random_state=0)


# measuring


class CountedCache(tempfile.TemporaryDirectory[str]):
    """A cache of its own for one reading; what was written into it is counted before it goes."""

    written = 0

    def __exit__(self, *raised: Any) -> None:
        CountedCache.written = _size(self.name)
        super().__exit__(*raised)


def _size(folder: str) -> int:
    return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def once(action: Callable[[], Any]) -> tuple[Any, int, float | None]:
    """What an action gives, the bytes that it leaves in caches (locks apart), and `peak_of` it."""
    shutil.rmtree(f"{_HOME}/datasets", ignore_errors=True)
    CountedCache.written = 0
    results: list[Any] = []
    peak = peak_of(lambda: results.append(action()))
    return results[0], CountedCache.written + _size(_HOME), peak


def alike(one: Any, two: Any) -> bool | None:
    """Whether two readers gave the same; None where that is not compared."""
    if isinstance(one, np.ndarray):
        return bool(one.shape == two.shape and float(np.abs(one.astype(int) - two.astype(int)).mean()) < 0.5)
    if isinstance(one, tuple) and isinstance(one[0], list):
        return sorted(zip(map(str, one[0]), one[1], strict=True)) == sorted(zip(map(str, two[0]), two[1], strict=True))
    if isinstance(one, tuple):  # of loaded splits
        return [len(split) for split in one] == [len(split) for split in two]
    return bool(one == two)


def peak_of(action: Callable[[], Any]) -> float | None:
    """Peak memory of an action in MB, above what is held before it; None outside Linux."""
    status, gauge = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not gauge.exists():
        return None
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    gauge.write_text("5")  # the high-water mark begins anew
    before = _kilobytes(status.read_text(), "VmRSS")
    action()
    return max(0, _kilobytes(status.read_text(), "VmHWM") - before) / 1e3


def _kilobytes(status: str, key: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(key))


READERS: dict[str, dict[str, Callable[[str], Any]]] = {
    "folder: list (png)": {
        "ours": folder_ours,
        "stream": folder_stream,
        "one glob": folder_one_glob,
        "map-style": folder_cached,
    },
    "folder: load (png)": {"ours": load_ours, "stream": load_by(folder_stream), "one glob": load_by(folder_one_glob)},
    "folder: load (jpg)": {"ours": load_ours, "stream": load_by(folder_stream), "one glob": load_by(folder_one_glob)},
    "decode (png)": {"ours": decode_ours, "Image.decode_example": decode_theirs},
    "decode (jpg)": {"ours": decode_ours, "Image.decode_example": decode_theirs},
    "parquet images: read (hub)": {
        "ours": parquet_ours,
        "stream": parquet_stream,
        "stream, arrow": parquet_batches,
        "in memory": parquet_memory,
        "map-style": parquet_cached,
    },
    "parquet images: load (hub)": {
        "ours": load_ours,
        "stream": load_by(parquet_stream),
        "stream, arrow": load_by(parquet_batches),
        "in memory": load_by(parquet_memory),
    },
    "parquet texts: read (t.parquet)": {"ours": table_ours, "stream, arrow": texts_batches, "map-style": texts_cached},
    "csv: read (t.csv)": {
        "ours": texts_ours,
        "stream": texts_stream,
        "stream, arrow": texts_batches,
        "map-style": texts_cached,
    },
    "tsv: read (t.tsv)": {
        "ours": texts_ours,
        "stream": texts_stream,
        "stream, arrow": texts_batches,
        "map-style": texts_cached,
    },
    "jsonl: read (t.jsonl)": {
        "ours": texts_ours,
        "stream": texts_stream,
        "stream, arrow": texts_batches,
        "map-style": texts_cached,
    },
    "csv: load (t.csv)": {"ours": load_ours, "stream, arrow": load_texts_by(texts_batches)},
    "tsv: load (t.tsv)": {"ours": load_ours, "stream, arrow": load_texts_by(texts_batches)},
    "jsonl: load (t.jsonl)": {"ours": load_ours, "stream, arrow": load_texts_by(texts_batches)},
    "hub: splits (hub)": {"ours": splits_ours, "load_dataset_builder": splits_theirs},
    "hub: load (hub)": {"ours": hub_ours, "Arrow copy": hub_converted},
}
"""What is read (from where) -> by whom."""


def main(argv: list[str] | None = None) -> None:
    import datasets

    warnings.filterwarnings("ignore")
    datasets.utils.logging.set_verbosity_error()
    chosen = arguments(__doc__ or "", argv)
    images, photographs, lines, rounds = SIZES[chosen]
    result: dict[str, Any] = {"images": images, "photographs": photographs, "lines": lines, "rounds": rounds}
    result |= {"goal": {"ratio": GOAL, "cached": 0}, "datasets": datasets.__version__, "readers": {}, "writers": {}}
    with tempfile.TemporaryDirectory(prefix="readers-data-") as tmp:
        root, tempfile.tempdir = Path(tmp), tmp  # what is written goes with it
        make(root, images, photographs, lines)
        say(f"{images:,} images of 32x32, {photographs:,} JPEGs, {lines:,} lines of text; {rounds} rounds")
        only = os.environ.get("ONLY", "")
        for name, readers in READERS.items():
            if only and not name.startswith(only):
                continue
            source = str(root / name.split("(")[1].rstrip(")"))
            actions = {who: partial(read, source) for who, read in readers.items()}
            row = measure_case(actions, rounds, alike)
            result["readers"][name] = row
            report(name, row)
        for name in ("hub", "t.parquet", "t.csv", "t.tsv", "t.jsonl"):
            if only and not "writers".startswith(only):
                continue
            source = str(root / name)
            train = dw.load(source)[0]
            writers = {"ours": partial(write_ours, train, source), "datasets": partial(write_theirs, train, source)}
            row = measure_case(writers, rounds, _written_alike)
            result["writers"][name] = row
            report(f"write {name}", row)
    tempfile.tempdir = None
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (10 * images,), generator=draws)
    splitters = {"ours": split_ours, "datasets": split_theirs, "scikit-learn": split_sklearn}
    wall, _ = interleaved({who: lambda f=f: f(labels) for who, f in splitters.items()}, rounds)
    counts = {who: np.bincount(labels.numpy()[np.asarray(f(labels)[1])]).tolist() for who, f in splitters.items()}
    result["split"] = {
        "counts": counts,
        "ratio": {w: ratio(wall[w], wall["ours"]) for w in splitters if w != "ours"},
        "seconds": {w: float(np.median(s)) for w, s in wall.items()},
        "deterministic": all(
            torch.equal(*(torch.as_tensor(f(labels)[1]) for _ in range(2))) for f in splitters.values()
        ),
    }
    say(f"stratified split of {len(labels):,}: {result['split']}")
    finish("readers", chosen, result)


def measure_case(actions: dict[str, Callable[[], Any]], rounds: int, same: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """One kind of reading or writing by everybody; "ours" is the first."""
    results_by_reader = {who: once(action) for who, action in actions.items()}
    row: dict[str, Any] = {
        "same": {who: same(results_by_reader["ours"][0], result) for who, (result, _, _) in results_by_reader.items()}
    }
    row |= {
        "cached": {who: m[1] for who, m in results_by_reader.items()},
        "peak_mb": {who: m[2] for who, m in results_by_reader.items()},
    }
    del results_by_reader
    wall, cpu = interleaved(actions, rounds)
    row["seconds"] = {who: float(np.median(s)) for who, s in wall.items()}
    row["ratio"] = {who: ratio(wall[who], wall["ours"]) for who in actions if who != "ours"}
    row["cpu"] = {who: ratio(cpu[who], cpu["ours"])["median"] for who in actions if who != "ours"}
    return row


def _written_alike(one: Path, two: Path) -> dict[str, Any]:
    same: dict[str, Any] = {"bytes": one.read_bytes() == two.read_bytes(), "size": two.stat().st_size}
    if one.suffix == ".parquet":
        first, second = pq.read_table(one), pq.read_table(two)
        same |= {"rows": first.equals(second), "schema": first.schema.equals(second.schema, check_metadata=True)}
    return same


def report(name: str, row: dict[str, Any]) -> None:
    seconds, cached = row["seconds"], row["cached"]
    say(f"{name}: ours {seconds['ours']:.3f} s, cached {cached['ours']:,} B, peak {row['peak_mb']['ours'] or 0:.0f} MB")
    for who, interval in row["ratio"].items():
        verdict = "within" if interval["median"] <= GOAL else "above"
        say(
            f"  {who}: {interval['median']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}] ({verdict} {GOAL}), "
            f"CPU {row['cpu'][who]:.2f}, cached {cached[who]:,} B, peak {row['peak_mb'][who] or 0:.0f} MB, "
            f"the same: {row['same'][who]}"
        )


if __name__ == "__main__":
    main()
