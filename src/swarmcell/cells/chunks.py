"""One-dimensional HDF5 arrays by their stored chunks: gzip is undone and done by ISA-L, which is faster than zlib.

Rules: the bytes on disk are plain HDF5 (gzip, with or without shuffle), which every other program reads. What is stored
in another way is left to h5py. Nothing here starts a thread: readers run in one (`background`), writers are given one.

References
----------
HDF5 user guide, "Filters": the order of a chunk's filters, and the mask that says which were skipped.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

CHUNK_VALUES = 2**17  # values per HDF5 chunk: 512 KiB, within HDF5's cache; chosen
PENDING_MAX = 8  # chunks that wait for the compressor: 4 MiB; chosen
_DAMAGED: Any = (isal_zlib.IsalError, EOFError)  # its stubs take the class for an instance
LEVEL = 1  # of ISA-L's 0 to 3; measured: twice as fast as 3 for 5 % of the size
Array = npt.NDArray[Any]


def opened(stored: Any) -> Any:  # noqa: ANN401 (an HDF5 or zarr array)
    """Return `stored`, or, if it is a gzipped HDF5 array, one that reads slices `[low:high]` by its chunks."""
    if _is_gzipped(stored):
        return StoredChunks(stored)
    return stored


def _is_gzipped(stored: Any) -> bool:  # noqa: ANN401
    if getattr(stored, "compression", None) != "gzip" or not hasattr(stored, "id") or len(stored.shape) != 1:
        return False
    filters = stored.id.get_create_plist().get_nfilters()
    return bool(stored.dtype.kind in "iuf" and filters == 1 + bool(stored.shuffle) and not stored.fletcher32)


class StoredChunks:
    """Reads a gzipped one-dimensional HDF5 array; the last chunk is kept, since slices end within one."""

    def __init__(self, stored: Any) -> None:  # noqa: ANN401
        self._stored, self.dtype = stored, stored.dtype
        self._size, self._length = int(stored.chunks[0]), int(stored.shape[0])
        self._held: tuple[int, Array] = (-1, np.empty(0, stored.dtype))

    def __getitem__(self, places: slice) -> Array:
        """Return the values of a slice without a step.

        Raises
        ------
        ValueError
            If a chunk does not hold what was stored.
        """
        low, high, _ = places.indices(self._length)
        values = np.empty(max(high - low, 0), self.dtype)
        for number in range(low // self._size, -(-high // self._size)):
            chunk, start = self._chunk(number), number * self._size
            inside = chunk[max(low - start, 0) : high - start]
            values[max(start - low, 0) :][: len(inside)] = inside
        return values

    def _chunk(self, number: int) -> Array:
        if self._held[0] != number:
            self._held = (number, self._read(number * self._size))
        return self._held[1]

    def _read(self, start: int) -> Array:
        try:
            mask, packed = self._stored.id.read_direct_chunk((start,))
        except (OSError, RuntimeError, ValueError):  # never written, or damaged: h5py tells which
            return np.asarray(self._stored[start : start + self._size])
        if mask:
            return np.asarray(self._stored[start : start + self._size])
        raw = _inflated(packed, self._size * self.dtype.itemsize)
        if self._stored.shuffle:
            raw = np.frombuffer(raw, np.uint8).reshape(self.dtype.itemsize, self._size).T.tobytes()
        return np.frombuffer(raw, self.dtype)[: self._length - start]


def _inflated(packed: bytes, n_bytes: int) -> bytes:
    try:
        raw = isal_zlib.decompress(packed, bufsize=n_bytes)
    except _DAMAGED as error:
        msg = f"a gzipped chunk is damaged: {error}"
        raise ValueError(msg) from error
    if len(raw) != n_bytes:
        msg = f"a chunk holds {len(raw)} bytes, expected {n_bytes}"
        raise ValueError(msg)
    return raw


def packed(values: Array, *, shuffle: bool) -> bytes:
    """Return one whole chunk as HDF5's gzip filter stores it."""
    whole = values if len(values) == CHUNK_VALUES else np.pad(values, (0, CHUNK_VALUES - len(values)))
    raw = whole.tobytes()
    if shuffle:
        raw = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(-1, whole.dtype.itemsize).T).tobytes()
    return bytes(isal_zlib.compress(raw, LEVEL))


class Whole:
    """Gathers values, and passes them on in pieces of `size`; what is left goes with `finish`."""

    def __init__(self, size: int, dtype: type, put: Callable[[Array], None]) -> None:
        self._size, self._dtype, self._put = size, np.dtype(dtype), put
        self._parts: list[Array] = []
        self._n_held = 0

    def append(self, values: Array) -> None:
        """Append values, and pass on what is whole."""
        self._parts.append(values.astype(self._dtype, copy=False))
        self._n_held += len(values)
        if self._n_held >= self._size:
            held = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
            whole = self._n_held - self._n_held % self._size
            for start in range(0, whole, self._size):
                self._put(held[start : start + self._size])
            self._parts, self._n_held = [held[whole:].copy()], self._n_held - whole

    def finish(self) -> None:
        """Pass on what is left."""
        if self._n_held:
            self._put(np.concatenate(self._parts))
            self._parts, self._n_held = [], 0


class GrowingArray:
    """Appends to an array that compresses by itself: HDF5 with a plug-in, or zarr."""

    def __init__(self, stored: Any, size: int, dtype: type) -> None:  # noqa: ANN401 (an HDF5 or zarr array)
        self._stored, self._n_stored = stored, 0
        self._whole = Whole(size, dtype, self._put)
        self.append, self.finish = self._whole.append, self._whole.finish

    def _put(self, values: Array) -> None:
        stop = self._n_stored + len(values)
        self._stored.resize((stop,))
        self._stored[self._n_stored : stop] = values
        self._n_stored = stop


class GrowingChunks:
    """Appends to a gzipped HDF5 array: chunks are compressed by `pool`, and stored in order by whoever appends.

    Parameters
    ----------
    shuffle
        Whether bytes are grouped by their place in a value first: half the size for integers, and twice the size for
        log-normalised values, of which there are few different ones in a cell (measured).
    """

    def __init__(self, group: Any, name: str, dtype: type, *, shuffle: bool, pool: ThreadPoolExecutor) -> None:  # noqa: ANN401
        self._stored = group.create_dataset(
            name, shape=(0,), maxshape=(None,), chunks=(CHUNK_VALUES,), dtype=dtype,
            compression="gzip", compression_opts=LEVEL, shuffle=shuffle,
        )  # fmt: skip
        self._pool, self._shuffle, self._n_stored = pool, shuffle, 0
        self._pending: deque[tuple[int, Future[bytes]]] = deque()
        self._whole = Whole(CHUNK_VALUES, dtype, self._submit)
        self.append = self._whole.append

    def finish(self) -> None:
        """Store what is left."""
        self._whole.finish()
        self._store(keep=0)

    def _submit(self, values: Array) -> None:
        self._pending.append((len(values), self._pool.submit(packed, values, shuffle=self._shuffle)))
        self._store(keep=PENDING_MAX)

    def _store(self, *, keep: int) -> None:
        while len(self._pending) > keep:
            n_values, chunk = self._pending.popleft()
            self._stored.resize((self._n_stored + n_values,))
            self._stored.id.write_direct_chunk((self._n_stored,), chunk.result())
            self._n_stored += n_values
