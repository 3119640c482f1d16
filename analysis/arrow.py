"""NumPy's arrays as Arrow's, without copies, and without pandas: pyarrow's own conversion would import it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]
KINDS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
TYPES = {np.dtype(kind): pa.from_numpy_dtype(np.dtype(kind)) for kind in KINDS}


def numbers(values: Array, known: Array | None = None) -> pa.Array:
    """Give numbers, or truths; null where they are not known."""
    values = np.ascontiguousarray(values)
    if values.dtype == np.bool_:
        return pa.Array.from_buffers(pa.bool_(), len(values), [_bits(known), _bits(values)])
    return pa.Array.from_buffers(TYPES[values.dtype], len(values), [_bits(known), pa.py_buffer(values)])


def _bits(truths: Array | None) -> pa.Buffer | None:
    return None if truths is None else pa.py_buffer(np.packbits(truths, bitorder="little"))


def whole_numbers(values: Array | pa.ChunkedArray) -> Array:
    """Give Arrow's numbers, none of them null, as NumPy's; NumPy's as they are."""
    if isinstance(values, np.ndarray):
        return values
    whole = values.combine_chunks()
    kind = np.dtype(whole.type.to_pandas_dtype())
    return np.frombuffer(whole.buffers()[1], kind)[whole.offset :][: len(whole)]


def strings(values: Array) -> pa.Array:
    """Give texts of ASCII, which NumPy pads with zero bytes, as Arrow's strings."""
    width = values.dtype.itemsize
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), width)
    written = rows != 0
    lengths = np.where(written.any(axis=1), width - written[:, ::-1].argmax(axis=1), 0)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    kept = rows[np.arange(width) < lengths[:, None]]
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(kept)))


def words(texts: tuple[str, ...], codes: Array) -> pa.Array:
    """Give for each code the text at its place."""
    encoded = np.array([text.encode(errors="backslashreplace") for text in texts], "S")
    return strings(encoded).take(numbers(codes))


def without_empty(texts: pa.Array) -> pa.Array:
    """Give strings with null where there was an empty one."""
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    texts = texts if texts.type == pa.string() else texts.cast(pa.string())
    _, ends, data = texts.buffers()
    known = np.diff(np.frombuffer(ends, np.int32)[texts.offset :][: len(texts) + 1]) > 0
    return pa.StringArray.from_buffers(len(texts), ends, data, _bits(known), offset=texts.offset)
