# Copyright (c) sdd_mm contributors. All rights reserved.
"""Rows of numbers in memory or in files that survive a killed process."""
import hashlib
import json
import os
import os.path as osp
from typing import Optional, Tuple
from uuid import uuid4

import numpy as np

from ..errors import SDDError
from ..memory import available_memory, size_text

WORD = np.dtype('<u8')
KEY, ROWS, SUMS = 'key.json', 'rows.bin', 'sums.bin'


class RowStoreError(SDDError, RuntimeError):
    """A store that cannot be opened."""


class RowStore:
    """Rows by number, each written once and read many times.

    A row counts as written only if its checksum matches its bytes and its
    number, so a row that a killed process, a power cut or another process left
    half-written is absent. Several processes may read and write one store,
    since they write the same rows. Rows that were never written take no space
    on disk.

    Args:
        key (dict): What the rows depend on, of JSON types. Stores with
            different keys never share a row.
        num_rows (int): Number of rows.
        row_shape (tuple[int]): Shape of a row.
        dtype (str): NumPy dtype of a row, such as 'float16'.
        root (str, optional): Folder of all stores; the name of a store's own
            folder in it is a hash of its key. Defaults to None, which keeps
            the rows in memory.

    Raises:
        RowStoreError: If the memory is too small, or if the files in the
            folder are not those of this store.

    Examples:
        >>> store = RowStore(dict(name='squares'), 10, (2, ), 'float32')
        >>> store.write(np.array([3]), np.array([[9., 9.]], 'float32'))
        >>> rows, found = store.read(np.array([3, 4]))
        >>> found
        array([ True, False])
    """

    def __init__(self,
                 key: dict,
                 num_rows: int,
                 row_shape: Tuple[int, ...],
                 dtype: str,
                 root: Optional[str] = None) -> None:
        self.key = dict(
            key,
            num_rows=num_rows,
            row_shape=list(row_shape),
            row_dtype=str(dtype))
        self.num_rows = num_rows
        self.row_shape = tuple(row_shape)
        self.dtype = np.dtype(dtype).newbyteorder('<')
        self.length = int(np.prod(row_shape))
        self.words = -(-self.length * self.dtype.itemsize // WORD.itemsize)
        # odd, so that a change of any single word changes the sum
        rng = np.random.default_rng(0)
        self._factors = rng.integers(
            2**63, size=self.words + 1, dtype=WORD.type) * 2 + 1
        self.failure: Optional[OSError] = None
        self.folder = None
        if root is None:
            self._open_memory()
        else:
            try:
                self._open_files(root)
            except OSError as error:
                raise RowStoreError(
                    f'{root} cannot be used as a folder of rows: '
                    f'{error}') from error

    @property
    def num_bytes(self) -> int:
        """Size in bytes with every row written."""
        return self.num_rows * (self.words + 1) * WORD.itemsize

    def _open_memory(self) -> None:
        free = available_memory()
        if self.num_bytes > free:
            raise RowStoreError(
                f'the rows need {size_text(self.num_bytes)}, but only '
                f'{size_text(free)} of memory is free: set cache_dir')
        # pages that are never written take no memory
        self._rows = np.zeros((self.num_rows, self.words), WORD)
        self._sums = np.zeros(self.num_rows, WORD)

    def _open_files(self, root: str) -> None:
        text = json.dumps(self.key, indent=2, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.folder = osp.join(osp.expanduser(root), digest[:16])
        os.makedirs(self.folder, exist_ok=True)
        self._write_key(text)
        self._rows, self._rows_file = self._map(ROWS,
                                                (self.num_rows, self.words))
        self._sums, self._sums_file = self._map(SUMS, (self.num_rows, ))

    def _write_key(self, text: str) -> None:
        """Write the key, or compare it with the one in the folder."""
        path = osp.join(self.folder, KEY)
        if not osp.exists(path):
            draft = f'{path}.{uuid4().hex}'
            with open(draft, 'w') as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        with open(path) as file:
            if file.read() != text:
                raise RowStoreError(
                    f'{path} is not the key that its folder is named after: '
                    f'delete {self.folder}')

    def _map(self, name: str, shape: Tuple[int, ...]):
        """A file of zeros, mapped for reading, and its descriptor."""
        path = osp.join(self.folder, name)
        size = int(np.prod(shape)) * WORD.itemsize
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        found = os.fstat(descriptor).st_size
        if found > size:
            os.close(descriptor)
            raise RowStoreError(
                f'{path} has {found} bytes instead of {size}, so it is not a '
                f'file of this store: delete {self.folder}')
        # a sparse file: zeros that take no space until they are written
        os.ftruncate(descriptor, size)
        return np.memmap(path, WORD, 'r', shape=shape), descriptor

    def _sum(self, index: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Checksums of rows, never zero, which marks unwritten rows."""
        # a word's highest bits change only the highest bits of a product
        mixed = rows ^ (rows >> WORD.type(32))
        sums = (mixed * self._factors[:-1]).sum(axis=1, dtype=WORD)
        sums += (index.astype(WORD) + 1) * self._factors[-1]
        sums ^= sums >> 32
        return np.where(sums == 0, WORD.type(1), sums)

    def read(self, index: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Rows, and which of them were written.

        Args:
            index (np.ndarray): Numbers of rows, int64 (B,).

        Returns:
            tuple[np.ndarray, np.ndarray]: The rows, (B, \\*row_shape), and
            which of them were written, bool (B,).
        """
        words = np.asarray(self._rows[index])
        found = np.asarray(self._sums[index]) == self._sum(index, words)
        rows = words.view(self.dtype)[:, :self.length]
        return rows.reshape(len(index), *self.row_shape), found

    def write(self, index: np.ndarray, rows: np.ndarray) -> None:
        """Write rows.

        After an ``OSError``, such as that of a full disk, nothing more is
        written and ``failure`` holds the error; the run goes on.

        Args:
            index (np.ndarray): Numbers of rows, int64 (B,).
            rows (np.ndarray): The rows, (B, \\*row_shape), of the store's
                dtype.
        """
        if self.failure is not None:
            return
        words = np.zeros((len(index), self.words), WORD)
        words.view(self.dtype)[:, :self.length] = rows.reshape(
            len(index), self.length)
        sums = self._sum(index, words)
        if self.folder is None:
            self._rows[index] = words
            self._sums[index] = sums
            return
        try:
            # through the map, a full disk would be a fatal signal
            for i, row, total in zip(index.tolist(), words, sums):
                self._put(self._rows_file, row.tobytes(), i * row.nbytes)
                self._put(self._sums_file, total.tobytes(), i * WORD.itemsize)
        except OSError as error:
            self.failure = error

    @staticmethod
    def _put(descriptor: int, data: bytes, offset: int) -> None:
        while data:  # the write after a short one raises the reason
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written

    def count(self) -> int:
        """Number of rows that were written."""
        return int(np.count_nonzero(self._sums))

    def close(self) -> None:
        """Close the files."""
        self._rows = self._sums = None
        if self.folder is not None:
            os.close(self._rows_file)
            os.close(self._sums_file)
