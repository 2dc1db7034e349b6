"""What lies in the wrong direction comes out in rows, whatever the parts, and through a file as through memory."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from swarmcell.cells.readers import ReadOptions, open_source, tenx_mtx, turned
from swarmcell.errors import InputError, OutputError


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 60), st.integers(1, 9), st.integers(0, 2**31 - 1))
def test_blocks_are_the_rows_of_the_matrix(n_rows: int, n_columns: int, n_values: int, n_parts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(n_rows, size=n_values), rng.integers(n_columns, size=n_values)
    values = rng.integers(1, 1000, n_values).astype(np.float64)
    parts = [(rows[n::n_parts], columns[n::n_parts], values[n::n_parts]) for n in range(n_parts)]
    expected = sparse.csr_matrix((values, (rows, columns)), shape=(n_rows, n_columns))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turned, "BUCKET_ROWS", 7)
        patch.setattr(turned, "IN_MEMORY_BYTES", 100)
        blocks = list(turned.by_rows(iter(parts), n_rows, n_columns))
    assert [block.shape[0] for block in blocks[:-1]] == [7] * (len(blocks) - 1)
    np.testing.assert_array_equal(sparse.vstack(blocks).toarray(), expected.toarray())


def test_no_room_for_the_temporary_file_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turned, "IN_MEMORY_BYTES", 10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # a file may not be longer
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        part = (np.arange(10_000), np.zeros(10_000, int), np.ones(10_000))
        with pytest.raises(OutputError, match="TMPDIR"):
            list(turned.by_rows(iter([part]), 10_000, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_mtx_that_loses_its_order_midway_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenx_mtx, "BLOCK_VALUES", 16)
    lines = [f"1 {cell} 1" for cell in [*range(1, 13), 2, 3]]
    (tmp_path / "matrix.mtx").write_text(
        "\n".join(["%%MatrixMarket matrix coordinate integer general", "2 12 14", *lines])
    )
    (tmp_path / "barcodes.tsv").write_text("".join(f"B{n}\n" for n in range(12)))
    (tmp_path / "genes.tsv").write_text("g1\tg1\ng2\tg2\n")
    with pytest.raises(InputError, match=r"in order up to cell .*Export it again"):
        list(open_source(tmp_path, ReadOptions()).blocks())
