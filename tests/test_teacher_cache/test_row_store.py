# Copyright (c) sdd_mm contributors. All rights reserved.
"""A row is what was written or absent, never anything between."""
import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from sdd_mm.teacher_cache import RowStore, RowStoreError, row_store

SHAPE = 3, 5  # 30 bytes in float16: not a whole number of words


def store(root=None, num_rows=40, shape=SHAPE, dtype='float16', **key):
    return RowStore(dict(key), num_rows, shape, dtype, root and str(root))


def rows_of(index, shape=SHAPE, dtype='float16'):
    rng = [np.random.default_rng(int(i)) for i in index]
    return np.stack([r.normal(size=shape) for r in rng]).astype(dtype)


@pytest.fixture(params=['memory', 'file'])
def root(request, tmp_path):
    return tmp_path if request.param == 'file' else None


@pytest.mark.parametrize('dtype', ['float16', 'float32'])
def test_rows_come_back(root, dtype):
    kept = store(root, dtype=dtype)
    index = np.array([7, 0, 39])
    assert not kept.read(index)[1].any()
    kept.write(index, rows_of(index, dtype=dtype))
    wanted = np.array([39, 1, 0, 7, 7])
    rows, found = kept.read(wanted)
    assert found.tolist() == [True, False, True, True, True]
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows[found],
                                  rows_of(wanted[found], dtype=dtype))
    assert kept.count() == 3


def test_rows_of_zeros_are_rows(root):
    kept = store(root)
    kept.write(np.array([4]), np.zeros((1, *SHAPE), 'float16'))
    assert kept.read(np.array([3, 4]))[1].tolist() == [False, True]


def test_read_rows_may_be_written_into(root):
    kept = store(root)
    index = np.arange(4)
    kept.write(index, rows_of(index))
    rows, _ = kept.read(index)
    rows[:] = 0
    np.testing.assert_array_equal(kept.read(index)[0], rows_of(index))


def test_another_process_reads_them(tmp_path):
    index = np.arange(10)
    first, second = store(tmp_path), store(tmp_path)
    first.write(index, rows_of(index))
    np.testing.assert_array_equal(second.read(index)[0], rows_of(index))
    first.close()
    np.testing.assert_array_equal(
        store(tmp_path).read(index)[0], rows_of(index))


@pytest.mark.parametrize('change', [
    dict(teacher='b'),
    dict(dtype='float32'),
    dict(num_rows=41),
    dict(shape=(5, 3)),
])
def test_other_keys_never_read_them(tmp_path, change):
    index = np.arange(10)
    store(tmp_path, teacher='a').write(index, rows_of(index))
    other = store(tmp_path, **{'teacher': 'a', **change})
    assert not other.read(index)[1].any()
    assert store(tmp_path, teacher='a').read(index)[1].all()


def test_key_is_written_down_and_compared(tmp_path):
    kept = store(tmp_path, teacher='a', scales=[1, 2, 4])
    path = Path(kept.folder) / row_store.KEY
    assert json.loads(path.read_text())['scales'] == [1, 2, 4]
    path.write_text('{}')
    with pytest.raises(RowStoreError, match='is not the key'):
        store(tmp_path, teacher='a', scales=[1, 2, 4])


@pytest.mark.parametrize('name', [row_store.ROWS, row_store.SUMS])
def test_files_of_another_size_are_refused(tmp_path, name):
    kept = store(tmp_path)
    with open(Path(kept.folder) / name, 'ab') as file:
        file.write(b'more')
    with pytest.raises(RowStoreError, match='not a file of this store'):
        store(tmp_path)


@pytest.mark.parametrize('name', [row_store.ROWS, row_store.SUMS])
def test_shortened_files_lose_rows_only(tmp_path, name):
    kept, index = store(tmp_path), np.arange(40)
    kept.write(index, rows_of(index))
    path = Path(kept.folder) / name
    os.truncate(path, path.stat().st_size // 2 + 3)
    rows, found = store(tmp_path).read(index)
    assert 0 < found.sum() < 40
    np.testing.assert_array_equal(rows[found], rows_of(index[found]))


def test_every_damaged_byte_is_found(tmp_path):
    kept, index = store(tmp_path, num_rows=2), np.arange(2)
    kept.write(index, rows_of(index))
    path = Path(kept.folder) / row_store.ROWS
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (1, 128):
            broken = bytearray(whole)
            broken[place] ^= bit
            path.write_bytes(bytes(broken))
            _, found = store(tmp_path, num_rows=2).read(index)
            assert found.tolist() == [place >= 32, place < 32]


def test_two_flipped_signs_do_not_cancel(tmp_path):
    kept = store(tmp_path, num_rows=1, shape=(8, ))
    kept.write(np.array([0]), rows_of([0], (8, )))
    path = Path(kept.folder) / row_store.ROWS
    broken = bytearray(path.read_bytes())
    broken[7] ^= 128
    broken[15] ^= 128
    path.write_bytes(bytes(broken))
    again = store(tmp_path, num_rows=1, shape=(8, ))
    assert not again.read(np.array([0]))[1].any()


def test_a_root_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(RowStoreError, match='cannot be used'):
        store(tmp_path / 'file')


def test_rows_in_the_wrong_place_are_absent(tmp_path):
    kept = store(tmp_path, num_rows=2)
    kept.write(np.array([0]), rows_of([0]))
    for name in (row_store.ROWS, row_store.SUMS):
        path = Path(kept.folder) / name
        whole = path.read_bytes()
        half = len(whole) // 2
        path.write_bytes(whole[half:] + whole[:half])
    again = store(tmp_path, num_rows=2)
    assert not again.read(np.arange(2))[1].any()


@pytest.mark.parametrize('first', [row_store.ROWS, row_store.SUMS])
def test_half_written_rows_are_absent(tmp_path, monkeypatch, first):
    """Whichever file reached the disk first."""
    kept, put = store(tmp_path), RowStore._put

    def cut(descriptor, data, offset):
        rows = len(data) > 8
        if (first == row_store.ROWS) == rows:
            put(descriptor, data, offset)
        elif rows:
            put(descriptor, data[:12], offset)

    monkeypatch.setattr(RowStore, '_put', staticmethod(cut))
    kept.write(np.arange(5), rows_of(range(5)))
    assert not store(tmp_path).read(np.arange(5))[1].any()


def test_survives_kills(tmp_path):
    """Killed while it writes: every row that is there is whole."""
    shape, num_rows = (64, 64), 10**5
    for _ in range(5):
        ready, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                kept = store(tmp_path, num_rows, shape)
                rows = rows_of(range(7), shape)
                for i in range(num_rows):
                    kept.write(np.array([i]), rows[i % 7:i % 7 + 1])
                    if i == 20:
                        os.write(write, b'!')
            finally:
                os._exit(1)
        assert os.read(ready, 1) == b'!'
        time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        os.close(ready)
        os.close(write)
    kept = store(tmp_path, num_rows, shape)
    count = kept.count()
    assert 20 < count < num_rows
    rows, found = kept.read(np.arange(count + 2))
    assert found.sum() in (count - 1, count)  # the last may be half there
    np.testing.assert_array_equal(rows[found],
                                  rows_of(np.flatnonzero(found) % 7, shape))


def test_takes_no_space_before_it_is_filled(tmp_path):
    kept = store(tmp_path, num_rows=10**6, shape=(16, 100))
    assert kept.num_bytes > 3.2e9
    kept.write(np.array([123456]), rows_of([0], shape=(16, 100)))
    taken = sum(path.stat().st_blocks * 512
                for path in Path(kept.folder).iterdir())
    assert taken < 10**6


def test_a_full_disk_ends_the_writing(tmp_path):
    """A file size limit stands for the disk: the same system error path."""
    kept = store(tmp_path, num_rows=4, shape=(64, 64))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, old[1]))
        kept.write(np.arange(4), rows_of(range(4), shape=(64, 64)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert 'too large' in str(kept.failure)
    rows, found = kept.read(np.arange(4))
    assert found.tolist() == [True, False, False, False]
    kept.write(np.arange(4), rows_of(range(4), shape=(64, 64)))
    assert kept.count() == 1


def test_more_than_the_memory_is_refused():
    with pytest.raises(
            RowStoreError, match='of memory is free: set cache_dir'):
        store(num_rows=10**9, shape=(16, 1000))
