"""Readers and writers against those of `datasets`: time, peak memory, and what is left in a cache."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
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
from datawinnow.data.assemble import ReadOptions, Split, assemble, hold_out  # noqa: E402
from datawinnow.data.examples import Origin  # noqa: E402
from datawinnow.data.folder import FolderImages, load_folder, scan_folder  # noqa: E402
from datawinnow.data.hub import load_hub  # noqa: E402
from datawinnow.data.images import Encoded, Index, decode_all, make_plan  # noqa: E402
from datawinnow.data.labels import LabelColumn, label_of, label_splits  # noqa: E402
from datawinnow.data.parquet import TableSource, find_parquet, load_parquet, load_tables  # noqa: E402
from datawinnow.data.text_files import load_text_files  # noqa: E402
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
    for k, shard_rows in enumerate((table.slice(0, half), table.slice(half))):
        pq.write_table(shard_rows, root / f"hub/train-0000{k}-of-00002.parquet")
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

Listed = tuple[Encoded, list[int]]
"""Encoded images and labels."""


def load_images_by(read: Callable[[Path], Listed]) -> Callable[[Path], Any]:
    """The load with that reader: class ids, the split, decoding and statistics are ours in both."""

    def load(root: Path) -> Any:
        images, labels = read(root)
        classes, ids, _, notes = label_splits(LabelColumn(labels, str), None, CLASSES)
        split = Split(images, ids, Origin("none", str(root), num_rows=len(labels)))
        return assemble(split, None, classes.names, "data", OPTIONS, notes)

    return load


def _folder(root: Path, rows: Any) -> Listed:
    cells = [(row["image"]["path"], row["label"]) for row in rows]
    return FolderImages(str(root), tuple(os.path.relpath(path, root) for path, _ in cells)), [y for _, y in cells]


def folder_stream(root: Path) -> Listed:
    import datasets

    dataset = datasets.load_dataset("imagefolder", data_dir=str(root), streaming=True, split="train")
    return _folder(root, dataset.decode(False))


def folder_one_glob(root: Path) -> Listed:
    import datasets

    files = {"train": f"{root}/**"}  # without its search for the splits' names
    dataset = datasets.load_dataset("imagefolder", data_files=files, streaming=True, split="train", drop_labels=False)
    return _folder(root, dataset.decode(False))


def folder_cached(root: Path) -> Listed:
    import datasets

    with CountedCache() as cache:
        dataset = datasets.load_dataset("imagefolder", data_dir=str(root), cache_dir=cache, split="train")
        return _folder(root, dataset.cast_column("image", datasets.Image(decode=False)))


class EncodedList(Encoded):
    """Encoded images that another reader gave, all in memory, and the files that they are of."""

    def __init__(self, raws: Sequence[bytes], paths: list[str]) -> None:
        self.raws, self.paths = raws, paths

    def __len__(self) -> int:
        return len(self.raws)

    def raw(self, i: int) -> bytes:
        return self.raws[i]

    def where(self, i: int) -> str:
        return f"image {i}"

    def take(self, index: Index) -> Encoded:
        return EncodedList([self.raws[i] for i in index.tolist()], self.paths)

    def files(self) -> list[str]:
        return self.paths

    def chosen(self) -> bytes:
        return b""


def _shards(root: Path) -> list[str]:
    return sorted(map(str, root.glob("*.parquet")))


def _rows(root: Path, rows: Any) -> Listed:
    cells = [(row["img"]["bytes"], row["label"]) for row in rows]
    return EncodedList([raw for raw, _ in cells], _shards(root)), [y for _, y in cells]


def parquet_stream(root: Path) -> Listed:
    import datasets

    return _rows(root, datasets.IterableDataset.from_parquet(_shards(root)).decode(False))


def parquet_batches(root: Path) -> Listed:
    import datasets

    raws: list[bytes] = []
    labels: list[int] = []
    for batch in datasets.IterableDataset.from_parquet(_shards(root)).with_format("arrow").iter(1000):
        raws += [cell["bytes"] for cell in batch.column("img").to_pylist()]
        labels += batch.column("label").to_pylist()
    return EncodedList(raws, _shards(root)), labels


def parquet_memory(root: Path) -> Listed:
    import datasets

    dataset = datasets.Dataset(pq.read_table(_shards(root)))
    return _rows(root, dataset.cast_column("img", datasets.Image(decode=False)))


def parquet_cached(root: Path) -> Listed:
    import datasets

    with CountedCache() as cache:
        dataset = datasets.Dataset.from_parquet(_shards(root), cache_dir=cache)
        return _rows(root, dataset.cast_column("img", datasets.Image(decode=False)))


def _listed(root: Path) -> FolderImages:
    return FolderImages(str(root), tuple(scan_folder(root).image_paths()))


def decode_ours(root: Path) -> Any:
    images = _listed(root)
    return decode_all(images, make_plan((images,), None)).x


def decode_theirs(root: Path) -> Any:
    import datasets

    images, feature = _listed(root), datasets.Image()
    plan = make_plan((images,), None)
    x = np.empty((len(images), *plan.shape), np.uint8)
    for i, path in enumerate(images.files()):
        image = feature.decode_example({"path": path, "bytes": None}).convert("RGB")
        if image.size != (plan.width, plan.height):
            image = image.resize((plan.width, plan.height), Image.Resampling.BICUBIC)
        x[i] = np.asarray(image).transpose(2, 0, 1)
    return x


# texts

Texts = tuple[Sequence[Any], Sequence[Any]]
"""Cells of texts and of labels."""


def load_texts_by(read: Callable[[Path], Texts]) -> Callable[[Path], Any]:
    """The load with that reader: class ids, vocabulary, token ids and the split are ours in both.

    What ours looks for in every cell is looked for in theirs too: nothing is compared with less work done.
    """

    def load(path: Path) -> Any:
        texts, labels = read(path)
        faults = [text_of(t)[1] or label_of(y)[1] for t, y in zip(texts, labels, strict=True)]
        assert not any(faults), next(filter(None, faults))
        ids = [f"{path.name}:{i}" for i in range(len(texts))]
        origin = Origin("text", str(path), (str(path),), torch.arange(len(texts)), num_rows=len(texts))
        return assemble_texts(RawTexts(list(texts), LabelColumn(labels, str), origin, ids), None, "data", OPTIONS, ())

    return load


def _table(kind: Any, path: Path, **settings: Any) -> Any:
    """A file as a ``datasets.Dataset`` or ``IterableDataset``: every cell of CSV and TSV as the text that it is.

    Columns and header are given, which ours finds.
    """
    import datasets

    if path.suffix == ".jsonl":
        return kind.from_json(str(path), **settings)
    if path.suffix == ".parquet":
        return kind.from_parquet(str(path), **settings)
    strings = datasets.Features({name: datasets.Value("string") for name in ("text", "label")})
    separator, header = ("\t", None) if path.suffix == ".tsv" else (",", 0)
    layout = {"sep": separator, "header": header, "names": list(strings), "features": strings, "na_filter": False}
    return kind.from_csv(str(path), **layout, **settings)


def texts_stream(path: Path) -> Texts:
    import datasets

    cells = [(row["text"], row["label"]) for row in _table(datasets.IterableDataset, path)]
    return [text for text, _ in cells], [label for _, label in cells]


def texts_batches(path: Path) -> Texts:
    import datasets

    texts: list[Any] = []
    labels: list[Any] = []
    for batch in _table(datasets.IterableDataset, path).with_format("arrow").iter(10_000):
        texts += batch.column("text").to_pylist()
        labels += batch.column("label").to_pylist()
    return texts, labels


def texts_cached(path: Path) -> Texts:
    import datasets

    with CountedCache() as cache:
        dataset = _table(datasets.Dataset, path, cache_dir=cache)
        return list(dataset["text"]), list(dataset["label"])


# a folder as the hub lays it out: which file is of which split


def splits_ours(root: Path) -> Any:
    return {name: [p.name for p in files] for name, files in find_parquet(root).items()}


def splits_theirs(root: Path) -> Any:
    import datasets

    splits = datasets.load_dataset_builder(str(root)).config.data_files
    return {str(name): [Path(f).name for f in files] for name, files in splits.items()}


def hub_ours(root: Path) -> Any:
    """``hf:``: `load_dataset_builder` lists the files, our reader reads them. A folder stands for the hub."""
    before = Path.cwd()
    os.chdir(root.parent.parent)
    shutil.rmtree(f"{_HOME}/datasets", ignore_errors=True)
    try:
        return load_hub(Path("hf:" + "/".join(root.parts[-2:])), OPTIONS)
    finally:
        os.chdir(before)


def hub_converted(root: Path) -> Any:
    """`load_dataset` without streaming, whose Arrow copy is read."""
    import datasets

    shutil.rmtree(f"{_HOME}/datasets", ignore_errors=True)
    converted = datasets.load_dataset(str(root))["train"]
    train = [Path(file["filename"]) for file in converted.cache_files]
    return load_tables({"train": train}, TableSource("hf", str(root), "data"), OPTIONS)


# writers


def _half(n: int) -> torch.Tensor:
    return torch.arange(0, n, 2)


def write_ours(train: Any, _source: Path) -> Path:
    out = Path(tempfile.mkdtemp(prefix="out-"), "kept")
    write_kept(train, _half(len(train)), out)
    (written,) = out.glob("train*")  # beside the mark of its writer
    return written


def write_theirs(train: Any, source: Path) -> Path:
    """Read again as `datasets` reads and write through it: rows of the source, not of the split."""
    import datasets

    rows = train.origin.rows[_half(len(train))].tolist()
    suffix = source.suffix or ".parquet"
    out = Path(tempfile.mkdtemp(prefix="out-"), f"kept{suffix}")
    if suffix == ".parquet":
        files = _shards(source) if source.is_dir() else source
        datasets.Dataset(pq.read_table(files)).select(rows).to_parquet(out)
        return out
    blocks = _table(datasets.IterableDataset, source).with_format("arrow").iter(10_000)
    kept = datasets.Dataset(pa.concat_tables(list(blocks))).select(rows)
    if suffix == ".jsonl":
        kept.to_json(out, lines=True, force_ascii=False)
    else:
        kept.to_csv(out, sep="\t" if suffix == ".tsv" else ",", header=suffix == ".csv", index=False)
    return out


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

Readers = dict[str, Callable[[Any], Any]]
"""Who reads -> how, given where."""


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


def alike(one: Any, two: Any) -> bool:
    """Whether two readers gave the same: pixels or token ids, and labels, of both splits; decoders may round apart."""
    if isinstance(one, np.ndarray):
        return bool(one.shape == two.shape and float(np.abs(one.astype(int) - two.astype(int)).mean()) < 0.5)
    if isinstance(one, tuple):  # of loaded splits
        splits = zip(one, two, strict=True)
        return all(torch.equal(a.x, b.x) and torch.equal(a.labels, b.labels) for a, b in splits)
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


FOLDER: Readers = {
    "ours": partial(load_folder, options=OPTIONS),
    "stream": load_images_by(folder_stream),
    "one glob": load_images_by(folder_one_glob),
    "map-style": load_images_by(folder_cached),
}
PARQUET: Readers = {
    "ours": partial(load_parquet, options=OPTIONS),
    "stream": load_images_by(parquet_stream),
    "stream, arrow": load_images_by(parquet_batches),
    "in memory": load_images_by(parquet_memory),
    "map-style": load_images_by(parquet_cached),
}
TEXTS: Readers = {
    "stream": load_texts_by(texts_stream),
    "stream, arrow": load_texts_by(texts_batches),
    "map-style": load_texts_by(texts_cached),
}
TEXT_FILE: Readers = {"ours": partial(load_text_files, options=OPTIONS), **TEXTS}
DECODERS: Readers = {"ours": decode_ours, "Image.decode_example": decode_theirs}
READERS: dict[str, Readers] = {
    "folder: load (png)": FOLDER,
    "folder: load (jpg)": FOLDER,
    "decode (png)": DECODERS,
    "decode (jpg)": DECODERS,
    "parquet images: load (hub)": PARQUET,
    "parquet texts: load (t.parquet)": {"ours": PARQUET["ours"], **TEXTS},
    "csv: load (t.csv)": TEXT_FILE,
    "tsv: load (t.tsv)": TEXT_FILE,
    "jsonl: load (t.jsonl)": TEXT_FILE,
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
        for name, readers in READERS.items():
            source = root / name.split("(")[1].rstrip(")")
            result["readers"][name] = measure_case({k: partial(read, source) for k, read in readers.items()}, rounds)
            report(name, result["readers"][name])
        for name in ("hub", "t.parquet", "t.csv", "t.tsv", "t.jsonl"):
            source = root / name
            train = dw.load(source)[0]
            writers = {"ours": partial(write_ours, train, source), "datasets": partial(write_theirs, train, source)}
            result["writers"][name] = measure_case(writers, rounds, _written_alike)
            report(f"write {name}", result["writers"][name])
    tempfile.tempdir = None
    result["split"] = measure_splits(10 * images, rounds)
    say(f"stratified split of {10 * images:,}: {result['split']}")
    finish("readers", chosen, result)


def measure_splits(n: int, rounds: int) -> dict[str, Any]:
    """The stratified split of ``n`` labels by everybody."""
    labels = torch.randint(10, (n,), generator=torch.Generator().manual_seed(0))
    splitters: Readers = {"ours": split_ours, "datasets": split_theirs, "scikit-learn": split_sklearn}
    tested = {who: [torch.as_tensor(split(labels)[1]) for _ in range(2)] for who, split in splitters.items()}
    wall, _ = interleaved({who: partial(split, labels) for who, split in splitters.items()}, rounds)
    return {
        "counts": {who: torch.bincount(labels[index]).tolist() for who, (index, _) in tested.items()},
        "ratio": {who: ratio(wall[who], wall["ours"]) for who in splitters if who != "ours"},
        "seconds": {who: float(np.median(seconds)) for who, seconds in wall.items()},
        "deterministic": all(torch.equal(one, two) for one, two in tested.values()),
    }


def measure_case(
    actions: Mapping[str, Callable[[], Any]], rounds: int, same: Callable[[Any, Any], Any] = alike
) -> dict[str, Any]:
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
    if one.suffix != ".parquet":
        return {**same, "rows": alike(dw.load(one), dw.load(two))}
    first, second = pq.read_table(one), pq.read_table(two)
    return {**same, "rows": first.equals(second), "schema": first.schema.equals(second.schema, check_metadata=True)}


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
