"""Artefacts: the JSON, safetensors, Parquet and numpy files of run folders, with strict readers.

Every artefact is written atomically (`datawinnow.core.files`), says which version of the format it has, and often
which ``kind`` it is. Nothing is unpickled. Whatever is checked of every artefact is checked in `check_header`. Files of
numpy arrays have no place for metadata: the JSON file beside them has it.

pyarrow and safetensors are imported when a file is read or written. The report reads without torch, which this module
therefore does not name.
"""

from __future__ import annotations

import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Required, TypedDict, Unpack

from datawinnow.core.counts import with_article
from datawinnow.core.errors import RunError
from datawinnow.core.files import atomic_write, require_file, write_bytes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from pydantic import BaseModel

FORMAT_VERSION = 1
"""Version of every file layout that datawinnow writes; a file with a higher one is refused."""
HEADER_KEY = "datawinnow"
"""Key under which safetensors and Parquet files keep their metadata, as JSON."""
SEAL, NO_SEAL = "checksum", "0" * 8
"""Key of the checksum in the metadata, and what stands for it while it is computed."""
NPY_SEAL = b"crc32:"
"""Before the checksum that follows the array in a .npy file; eight hex digits of all bytes before."""
REMEDY = "remove it and run the command that writes it again"
MAX_DEPTH = 50
"""Levels of a JSON artefact; a damaged one may have thousands, on which Python's own functions fail."""
MAX_DIGITS = 40
"""Digits of an integer in a JSON artefact."""


def check_header(
    header: object,
    path: Path,
    *,
    kind: str | None = None,
    required: Collection[str] = (),
    remedy: str = REMEDY,
) -> dict[str, Any]:
    """The metadata of an artefact, if they are valid: the one place where artefacts are validated.

    Args:
        header: what the file holds as its metadata.
        path: the file, for errors.
        kind: the value that ``kind`` must have; not checked by default.
        required: keys that must be present.
        remedy: what to do about a file that is not valid, for errors.

    Raises:
        RunError: not a JSON object, no format version, a newer one, another kind, or a key is missing.
    """
    if not isinstance(header, dict):
        raise RunError(f"{path} is not a JSON object written by datawinnow; {remedy}")
    check_format(header.get("format"), path)
    if kind is not None and header.get("kind") != kind:
        raise RunError(
            f"{path} does not hold {with_article(kind)}, but {header.get('kind') or 'something else'}; {remedy}"
        )
    missing = sorted(set(required) - set(header))
    if missing:
        raise RunError(f"{path} is damaged (it lacks {', '.join(missing)}); {remedy}")
    return header


def check_format(version: object, path: Path | str) -> None:
    """Refuse a file without a format version, or with a newer one.

    Raises:
        RunError: naming the file and its version.
    """
    if not isinstance(version, int) or version < 1:
        raise RunError(f"{path} has no format version: it was not written by datawinnow, or is damaged")
    if version > FORMAT_VERSION:
        raise RunError(
            f"{path} was written by a newer datawinnow (format {version}, this one reads up to {FORMAT_VERSION}); "
            "upgrade with: pip install -U datawinnow"
        )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, with the format version in it.

    Raises:
        RunError: the disk is full.
    """
    # NaN and Infinity are not JSON: a browser or jq would refuse the whole file
    text = json.dumps({"format": FORMAT_VERSION, **value}, indent=1, allow_nan=False, default=str)
    write_bytes(path, text.encode() + b"\n")


def read_json(
    path: Path,
    *,
    kind: str | None = None,
    required: Collection[str] = (),
    schema: type[BaseModel] | None = None,
    remedy: str = REMEDY,
) -> dict[str, Any]:
    """Read a JSON object written by `write_json`.

    Args:
        path: the file.
        kind: the value that ``kind`` must have; not checked by default.
        required: keys that must be present.
        schema: what it must hold (`datawinnow.core.artifact_schemas`); not checked by default.
        remedy: what to do about a file that cannot be read, for errors.

    Raises:
        RunError: no such file, truncated, of a newer version, of another kind, a key is missing, or a value is not what
            ``schema`` says.
    """
    require_file(path)
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"no such file: {path}") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is truncated or not JSON ({error}); {remedy}") from None
    content = check_header(value, path, kind=kind, required=required, remedy=remedy)
    return content if schema is None else check_content(content, schema, path, remedy=remedy)


def check_content(
    content: dict[str, Any], schema: type[BaseModel], path: Path | str, *, remedy: str = REMEDY
) -> dict[str, Any]:
    """``content`` itself, if it is what ``schema`` says.

    Raises:
        RunError: naming file and field of the first value that is not.
    """
    from pydantic import ValidationError

    try:
        schema.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise RunError(f"{path} lacks {field}: it is damaged, or was not written by datawinnow; {remedy}") from None
        value = repr(first["input"])
        value = value if len(value) <= 40 else f"{value[:40]}..."
        problem = first["msg"][:1].lower() + first["msg"][1:]
        raise RunError(f"{path} is damaged ({field}: {problem}, got {value}); {remedy}") from None
    return content


def parse_json(text: str | bytes, *, allow_nan: bool = False) -> Any:
    """The value of a JSON text, if it is what an artefact can hold.

    Args:
        text: to parse.
        allow_nan: whether NaN and Infinity, which are not JSON, are numbers, as in the header of a binary file.

    Raises:
        ValueError: not JSON, or numbers or levels beyond those of an artefact.
        RecursionError: thousands of levels.
    """
    if allow_nan:
        value = json.loads(text, parse_int=_integer)
    else:
        value = json.loads(text, parse_constant=_no_number, parse_int=_integer, parse_float=_finite)
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")
        containers = [inner for inner in level if isinstance(inner, (dict, list))]
        level = [inner for outer in containers for inner in (outer.values() if isinstance(outer, dict) else outer)]
        depth += 1
    return value


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:MAX_DIGITS]} is too large a number")
    return value


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, Any], *, kind: str) -> None:
    """Write tensors, or numpy arrays, and JSON metadata as one safetensors file, atomically.

    Args:
        path: the file; replaced once the new one is complete.
        tensors: by name, on any device; all of them tensors, or all of them arrays.
        metadata: anything that JSON holds, without ``format`` and ``kind``.
        kind: of artefact, which `read_tensors` checks.

    Raises:
        RunError: the disk is full.
    """
    import numpy as np
    import safetensors.numpy

    # last, where `_write_sealed` replaces it
    content = {key: value for key, value in metadata.items() if key != SEAL}
    header = {HEADER_KEY: json.dumps({"format": FORMAT_VERSION, "kind": kind, **content, SEAL: NO_SEAL})}
    # serialised in memory first: the file writer of safetensors reports a full disk as an error of its format
    if all(isinstance(array, np.ndarray) for array in tensors.values()):
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        _write_sealed(path, safetensors.numpy.save(arrays, metadata=header))
        return
    import safetensors.torch

    # cloned, since safetensors refuses tensors that share memory
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    _write_sealed(path, safetensors.torch.save(copies, metadata=header))


def _write_sealed(path: Path, content: bytes) -> None:
    """Write a safetensors file with a checksum of its bytes in place of `NO_SEAL` in its header."""
    end = 8 + int.from_bytes(content[:8], "little")
    head, data = content[:end], memoryview(content)[end:]
    checksum = f"{zlib.crc32(data, zlib.crc32(head)):08x}"
    before, _, after = head.rpartition(_seal_in_header(NO_SEAL))
    write_bytes(path, b"".join((before, _seal_in_header(checksum), after, data)))


def _seal_in_header(checksum: str) -> bytes:
    """The last entry of the metadata, which are JSON in JSON."""
    return json.dumps(json.dumps({SEAL: checksum})[1:])[1:-1].encode()


def _check_sealed(path: Path, checksum: object, remedy: str) -> None:
    """Compare the bytes of a safetensors file with the checksum in it.

    Raises:
        RunError: they do not fit.
    """
    with path.open("rb") as file:
        head = file.read(8)
        head += file.read(int.from_bytes(head, "little"))
        before, seal, after = head.rpartition(_seal_in_header(str(checksum)))
        computed = zlib.crc32(before + _seal_in_header(NO_SEAL) + after) if seal else -1
        while seal and (chunk := file.read(1 << 20)):
            computed = zlib.crc32(chunk, computed)
    if f"{computed:08x}" != checksum:
        raise RunError(f"{path} is damaged (it does not fit its checksum); {remedy}")


class Expected(TypedDict, total=False):
    """What the readers of safetensors files are given beside the path.

    Attributes:
        kind: that the file must be of.
        required: names of tensors that it must hold.
        schema: what its metadata must hold (`datawinnow.core.artifact_schemas`); not checked by default.
        missing: how the file is made, for the error if there is none.
        remedy: what to do about a file that cannot be read, for errors.
    """

    kind: Required[str]
    required: Collection[str]
    schema: type[BaseModel] | None
    missing: str
    remedy: str


def read_tensors(path: Path, **expected: Unpack[Expected]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors (`torch.Tensor`, on the CPU) and metadata of a file that `write_tensors` wrote.

    Args:
        path: the file.
        expected: as of `Expected`.

    Raises:
        RunError: no such file, truncated or damaged, of a newer version, of another kind, or a tensor is missing.
    """
    tensors, metadata = _read_safetensors(path, "pt", **expected)
    return {name: tensor.clone() for name, tensor in tensors.items()}, metadata  # else they are views of the file


def read_arrays(path: Path, **expected: Unpack[Expected]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """`read_tensors` as numpy arrays, without importing torch."""
    return _read_safetensors(path, "np", **expected)


def read_tensor_metadata(path: Path, **expected: Unpack[Expected]) -> dict[str, Any]:
    """The metadata of a file that `write_tensors` wrote; its tensors are not read.

    Raises:
        RunError: as of `read_tensors`.
    """
    return _read_safetensors(path, None, **expected)[1]


def _read_safetensors(
    path: Path, framework: Literal["np", "pt"] | None, **expected: Unpack[Expected]
) -> tuple[dict[str, Any], dict[str, Any]]:
    kind, required, schema = expected["kind"], expected.get("required", ()), expected.get("schema")
    missing, remedy = expected.get("missing", ""), expected.get("remedy", REMEDY)
    require_file(path)
    # asked first: safetensors reports a missing file as an error of its own type
    if not path.is_file():
        raise RunError(f"no such file: {path}{f'; {missing}' if missing else ''}")
    header, tensors = _open_safetensors(path, framework, remedy)
    if header is None:
        raise RunError(f"{path} does not hold {with_article(kind)}: it was not written by datawinnow; {remedy}")
    metadata = dict(check_header(header, path, kind=kind, remedy=remedy))
    checksum = metadata.pop(SEAL, None)
    if framework and checksum is not None:
        _check_sealed(path, checksum, remedy)
    if schema is not None:
        check_content(metadata, schema, path, remedy=remedy)
    if framework and not set(required) <= set(tensors):
        lacks = ", ".join(sorted(set(required) - set(tensors)))
        raise RunError(f"{path} is damaged (it lacks the tensors {lacks}); {remedy}")
    return tensors, metadata


def _open_safetensors(path: Path, framework: Literal["np", "pt"] | None, remedy: str) -> tuple[Any, dict[str, Any]]:
    """What a file says of itself, None where it says nothing; and its tensors, where a framework is named."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework or "np") as file:
            header = parse_json((file.metadata() or {}).get(HEADER_KEY, "null"), allow_nan=True)
            tensors = {name: file.get_tensor(name) for name in file.keys()} if framework else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is truncated or damaged ({error}); {remedy}") from None
    return header, tensors


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, Any]) -> None:
    """Write a Parquet file atomically, with ``metadata`` and the format version in its schema.

    Raises:
        RunError: the disk is full.
    """
    import pyarrow.parquet as pq

    text = json.dumps(_sealed({"format": FORMAT_VERSION, **metadata}))
    # replaces all metadata of the schema, so what others (pandas) stored there is passed on
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), HEADER_KEY.encode(): text.encode()})
    with atomic_write(path) as partial_path:
        pq.write_table(table, partial_path, compression="zstd", write_page_checksum=True)


def read_table(path: Path, command: str) -> tuple[pa.Table, dict[str, Any]]:
    """Table and metadata of a file that `write_table` wrote.

    Args:
        path: the file.
        command: that makes the file, for errors.

    Raises:
        RunError: no such file, truncated or damaged, not written by datawinnow, or of a newer version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise RunError(f"no such file: {path}; make it with: {command}")
    require_file(path)
    try:
        # not read_table: it would read columns into a path such as "keep=0.3/"
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        header = parse_json((table.schema.metadata or {}).get(HEADER_KEY.encode(), b"{}"), allow_nan=True)
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path} is truncated or damaged ({str(error).strip()}); remove it and make it again with: {command}"
        ) from None
    remedy = f"make it again with: {command}"
    return table, _unsealed(check_header(header, path, remedy=remedy), path, remedy)


def _sealed(header: Mapping[str, Any]) -> dict[str, Any]:
    """``header`` with a checksum of itself."""
    content = {key: value for key, value in header.items() if key != SEAL}
    return {**content, SEAL: _header_checksum(content)}


def _unsealed(header: Mapping[str, Any], path: Path, remedy: str) -> dict[str, Any]:
    """``header`` without its checksum.

    Raises:
        RunError: they do not fit.
    """
    content = {key: value for key, value in header.items() if key != SEAL}
    if SEAL in header and header[SEAL] != _header_checksum(content):
        raise RunError(f"{path} is damaged (its metadata do not fit their checksum); {remedy}")
    return content


def _header_checksum(content: Mapping[str, Any]) -> str:
    # through JSON, as it is read back: keys are text, tuples lists
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


def write_json_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line; the file is replaced as a whole.

    Raises:
        RunError: the disk is full.
    """
    write_bytes(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values).encode())


def read_json_lines(path: Path, *, remedy: str = REMEDY) -> list[dict[str, Any]]:
    """The JSON objects, one a line, of a file that `write_json_lines` wrote.

    Args:
        path: the file.
        remedy: what to do about a line that is not valid, for errors.

    Raises:
        RunError: no such file, or naming the first line that is truncated, no JSON object, or without a format version
            or of a newer one.
    """
    require_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(f"no such file: {path}") from None
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: it is not text ({error}); move it away to start anew") from None
    # splitlines() would also break at U+2028 in a string
    lines = text.removesuffix("\n").split("\n") if text else []
    values = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            value = parse_json(line)
        except (ValueError, RecursionError) as error:
            # a process that was killed can only leave the last line unfinished
            problem = "truncated" if number == len(lines) else "not JSON"
            raise RunError(f"{where}: {problem} ({error}); {remedy}") from None
        if not isinstance(value, dict):
            raise RunError(f"{where}: not a JSON object, but {line[:40]!r}; {remedy}")
        check_format(value.get("format"), where)
        values.append(value)
    return values


_ARRAY_ERRORS = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise for files that are truncated, overwritten or something else."""


def _array_error(error: Exception, path: Path, remedy: str) -> RunError:
    if isinstance(error, FileNotFoundError):
        return RunError(f"no such file: {path}; {remedy}")
    # numpy takes any file that is not its own for a pickle, and says how to load it unsafely
    problem = "it does not hold arrays" if "pickle" in str(error) else str(error)
    return RunError(f"{path} is truncated or damaged ({problem}); {remedy}")


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write one array as a .npy file with a checksum after it, atomically.

    Raises:
        RunError: the disk is full.
    """
    import numpy as np

    # an open file: given a path, numpy would add its suffix to the temporary name
    with atomic_write(path) as partial_path, partial_path.open("wb") as file:
        rows = NpyWriter(file)
        np.save(rows, array, allow_pickle=False)
        file.write(rows.seal)


@contextmanager
def open_npy(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[NpyWriter]:
    """A .npy file open for the bytes of its rows, in order, which appears when all are written.

    Not a memory map: writing to one on a full disk kills the process (SIGBUS).

    Args:
        path: the file.
        shape: of the array.
        dtype: of the array.

    Raises:
        RunError: the disk is full.
    """
    import numpy as np

    with atomic_write(path) as partial_path, partial_path.open("wb") as file:
        rows = NpyWriter(file)
        np.lib.format.write_array_header_1_0(rows, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        yield rows
        file.write(rows.seal)


class NpyWriter:
    """Writes to a .npy file and computes the checksum that ends it, which readers of .npy files pass over.

    Args:
        file: open for writing, at its begin.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._checksum = file, 0

    def write(self, data: bytes) -> int:
        """Write some bytes."""
        self._checksum = zlib.crc32(data, self._checksum)
        return self._file.write(data)

    @property
    def seal(self) -> bytes:
        """The end of the file."""
        return NPY_SEAL + f"{self._checksum:08x}".encode()


_INTACT: set[tuple[object, ...]] = set()
"""Files whose checksum was right, by name, inode, size and times: a column is not summed again until it changes."""


def _check_npy(path: Path, remedy: str) -> bool:
    """Compare a .npy file with the checksum at its end, once for each state of the file.

    Returns:
        Whether it has one: files of older versions and of others have none.

    Raises:
        RunError: they do not fit.
    """
    status = path.stat()
    state = (str(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if state in _INTACT:
        return True
    seal = _npy_seal(path)
    if not seal.startswith(NPY_SEAL):
        return False
    left, checksum = status.st_size - len(seal), 0
    with path.open("rb") as file:
        while left and (chunk := file.read(min(left, 1 << 20))):
            checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
    if seal != NPY_SEAL + f"{checksum:08x}".encode():
        raise RunError(f"{path} is damaged (it does not fit its checksum); {remedy}")
    _INTACT.add(state)
    return True


def _npy_seal(path: Path) -> bytes:
    """The last bytes of a .npy file, as many as its checksum has."""
    length = len(NPY_SEAL) + 8
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - length))
        return file.read(length)


def file_checksum(path: Path) -> str | None:
    """The checksum that a .npy or safetensors file of this package carries; None for a file without one.

    It is read, not computed, so a large file costs nothing; readers of the content compare the two.

    Raises:
        RunError: no such file, or damaged.
    """
    require_file(path)
    if not path.is_file():
        raise RunError(f"no such file: {path}")
    if path.suffix == ".npy":
        seal = _npy_seal(path)
        is_text = seal.startswith(NPY_SEAL) and seal.isascii()
        return seal.removeprefix(NPY_SEAL).decode() if is_text else None
    header, _ = _open_safetensors(path, None, REMEDY)
    checksum = header.get(SEAL) if isinstance(header, dict) else None
    return None if checksum is None else str(checksum)


def check_file_checksum(path: Path, checksum: str | None, *, remedy: str = REMEDY) -> None:
    """Refuse another file than the one of which ``checksum`` was written down, though it may be valid by itself.

    Raises:
        RunError: the file carries another checksum, or none; None for ``checksum`` accepts any file.
    """
    if checksum is not None and file_checksum(path) != checksum:
        raise RunError(f"{path} is not the file that was written here (its checksum is another); {remedy}")


def _size_of_npy(path: Path, array: np.ndarray) -> int:
    """Bytes of a .npy file up to the end of its array."""
    with path.open("rb") as file:
        start = file.read(12)
    # version 1 has two bytes for the length of its header, later ones four
    header = 10 + int.from_bytes(start[8:10], "little") if start[6] == 1 else 12 + int.from_bytes(start[8:12], "little")
    return int(header + array.nbytes)


def read_npy(path: Path, *, mapped: bool = False, remedy: str = REMEDY) -> np.ndarray:
    """The array of a .npy file.

    Args:
        path: the file.
        mapped: memory-mapped copy-on-write (writing to the array does not change the file) instead of read.
        remedy: what to do about a file that is missing or damaged, for errors.

    Raises:
        RunError: no such file, truncated, or damaged: one that was written here has a checksum.
    """
    import numpy as np

    require_file(path)
    if not path.exists():
        raise RunError(f"no such file: {path}; {remedy}")
    is_sealed = _check_npy(path, remedy)
    try:
        # copy-on-write rather than read-only, of which torch warns
        array: np.ndarray = np.load(path, mmap_mode="c" if mapped else None, allow_pickle=False)
        if not is_sealed and path.stat().st_size != _size_of_npy(path, array):
            raise ValueError("there is more than its array")
    except _ARRAY_ERRORS as error:
        raise _array_error(error, path, remedy) from None
    return array


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as one .npz file, atomically.

    Raises:
        RunError: the disk is full.
    """
    import numpy as np

    with atomic_write(path) as partial_path, partial_path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_npz_arrays(path: Path, names: Collection[str] = (), *, remedy: str = REMEDY) -> dict[str, np.ndarray]:
    """Arrays of a .npz file by name; the others are not read.

    Args:
        path: the file.
        names: of the arrays, which it must hold; by default all that it holds.
        remedy: what to do about a file that is missing or damaged, for errors.

    Raises:
        RunError: no such file, truncated or damaged, or an array is missing.
    """
    import numpy as np

    require_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names or file.files}
    except _ARRAY_ERRORS as error:
        raise _array_error(error, path, remedy) from None


def npz_names(path: Path, *, remedy: str = REMEDY) -> set[str]:
    """Names of the arrays in a .npz file; none of them is read.

    Raises:
        RunError: as of `read_npz_arrays`.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as file:
            return {member.removesuffix(".npy") for member in file.namelist()}
    except _ARRAY_ERRORS as error:
        raise _array_error(error, path, remedy) from None


def require_same(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    where: Path | str,
    *,
    ignore: Collection[str] = (),
    texts: Mapping[str, Callable[[Any], str]] | None = None,
    remedy: str = "use another `run=` folder, or the same options as before",
) -> None:
    """Refuse to continue with other settings than an artefact was made with.

    Both are compared as by `settings_difference`.

    Args:
        before: settings that the artefact was made with.
        now: settings of this call.
        where: the artefact, for the error.
        ignore: as in `settings_difference`.
        texts: as in `settings_difference`.
        remedy: what to do, for the error.

    Raises:
        RunError: naming the first option that differs, with both values.
    """
    difference = settings_difference(before, now, ignore=ignore, texts=texts)
    if difference is not None:
        raise RunError(f"{where} was started with {difference}: {remedy}")


def settings_difference(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    ignore: Collection[str] = (),
    texts: Mapping[str, Callable[[Any], str]] | None = None,
) -> str | None:
    """The first setting that differs, as ``"epochs=2, now it is 3"``; None where all are the same.

    Both are compared as JSON holds them (a tuple is a list), mappings in them key by key; a key that is absent equals
    None.

    Args:
        before: settings that an artefact was made with.
        now: settings of this call, whose order decides which difference is the first.
        ignore: keys that may differ, at any depth.
        texts: how the values of a key are shown; a mapping that has such a text is compared as one value. By default a
            value is shown by its repr, and one in a mapping as ``mapping.key``.
    """
    texts = texts or {}
    difference = first_difference(before, now, ignore=ignore, single=texts)
    if difference is None:
        return None
    key, old, new = difference
    show = texts.get(key, repr)
    return f"{key}={show(old)}, now it is {show(new)}"


def first_difference(
    before: Mapping[str, Any], now: Mapping[str, Any], *, ignore: Collection[str] = (), single: Collection[str] = ()
) -> tuple[str, Any, Any] | None:
    """The key of the first setting that differs, with both values; as of `settings_difference`.

    ``single`` has the keys of mappings that are compared as one value.
    """
    return _first_difference(as_json(before), as_json(now), frozenset(ignore), frozenset(single))


def as_json(value: Mapping[str, Any]) -> Any:
    """``value`` as it is read back from a JSON file."""
    # `before` comes from a file, where tuples are lists, paths are strings and keys are text
    return json.loads(json.dumps(value, default=str))


def _first_difference(
    before: Mapping[str, Any], now: Mapping[str, Any], ignore: frozenset[str], single: frozenset[str]
) -> tuple[str, Any, Any] | None:
    for key in [*now, *(key for key in before if key not in now)]:
        old, new = before.get(key), now.get(key)
        if key in ignore or old == new:
            continue
        if key not in single and isinstance(old, dict) and isinstance(new, dict):
            inner = _first_difference(old, new, ignore, single)
            # None where only ignored keys differ: the next key is compared
            if inner is not None:
                return f"{key}.{inner[0]}", *inner[1:]
        else:
            return key, old, new
    return None
