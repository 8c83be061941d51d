# Copyright (c) sdd_mm contributors. All rights reserved.
import os.path as osp
import pickle
from typing import Any, Optional

from mmpretrain.datasets import CIFAR100
from mmpretrain.registry import DATASETS


@DATASETS.register_module()
class VerifiedCIFAR100(CIFAR100):
    """MMPretrain's ``CIFAR100``, also for files from other sources.

    Args:
        data_root (str): Folder that holds ``cifar-100-python/``.
        verify (str): 'md5' requires the official files, as MMPretrain does.
            'content' requires their content in any order and pickle format:
            50,000 and 10,000 images of 32 x 32 x 3 bytes, as many labels from
            0 to 99, and equally many of each. A pickle that needs more than
            NumPy's arrays is not loaded. Defaults to 'md5'.
        download (bool): Whether to download the official files if they are
            absent. Defaults to False.
        num_classes (int): Number of classes to keep, the first ones, for a
            smaller data set. Defaults to 100.
        **kwargs: The other arguments of ``CIFAR100``.

    Raises:
        RuntimeError: If the files are missing or not what ``verify``
            requires.

    Examples:
        >>> # in a config: 20 classes, 9,000 of their training images
        >>> dataset = dict(
        ...     type='VerifiedCIFAR100', data_root='data/cifar100',
        ...     split='train', num_classes=20, indices=9000,
        ...     pipeline=[dict(type='PackInputs')])
    """

    sizes = dict(train=50000, test=10000)

    def __init__(self,
                 data_root: str = '',
                 verify: str = 'md5',
                 download: bool = False,
                 num_classes: int = 100,
                 metainfo: Optional[dict] = None,
                 **kwargs) -> None:
        if verify not in ('md5', 'content'):
            raise ValueError(
                f"verify must be 'md5' or 'content', got {verify!r}")
        if type(num_classes) is not int or not 1 <= num_classes <= 100:
            raise ValueError(
                f'num_classes must be from 1 to 100, got {num_classes!r}')
        self.verify = verify
        self._verified = False
        self.num_classes = num_classes
        classes = self.METAINFO['classes'][:num_classes]
        super().__init__(
            data_root=data_root,
            download=download,
            metainfo=dict(dict(classes=classes), **(metainfo or {})),
            **kwargs)

    def load_data_list(self):
        """Load images and labels of the split."""
        if not self.download:
            self.check_files()
        return [
            image for image in super().load_data_list()
            if image['gt_label'] < self.num_classes
        ]

    def check_files(self) -> None:
        """Refuse files that are missing or not what ``verify`` requires."""
        folder = osp.join(self.data_prefix['root'], self.base_folder)
        absent = [
            name for name in self.sizes
            if not osp.isfile(osp.join(folder, name))
        ]
        if absent:
            raise RuntimeError(
                f'CIFAR-100 has no {" and ".join(absent)} under {folder}: set '
                'train_dataloader.dataset.data_root (and val_, test_) to the '
                'folder that holds cifar-100-python/, or their download=True')
        if not self._check_integrity():
            raise RuntimeError(
                f'the CIFAR-100 files under {folder} are not the official '
                'ones (md5): if they have the same content in another format, '
                "set train_dataloader.dataset.verify='content' (and val_, "
                'test_)')

    def _check_integrity(self) -> bool:
        # MMPretrain calls this twice, and reading the data takes a second
        self._verified = self._verified or (super()._check_integrity()
                                            if self.verify == 'md5' else
                                            self._check_content())
        return self._verified

    def _check_content(self) -> bool:
        folder = osp.join(self.data_prefix['root'], self.base_folder)
        path = osp.join(folder, self.split)
        if not osp.isfile(path):
            return False
        size = self.sizes[self.split]
        try:
            with open(path, 'rb') as file:
                entry = Arrays(file, encoding='latin1').load()
            images, labels = entry['data'], entry['fine_labels']
            found = (images.shape, str(images.dtype), len(labels))
            counts = [labels.count(label) for label in range(100)]
        except Exception as error:  # another file may raise anything
            raise RuntimeError(f'{path} is not CIFAR-100: '
                               f'{type(error).__name__}: {error}') from error
        if found != ((size, 3072), 'uint8',
                     size) or set(counts) != {size // 100}:
            raise RuntimeError(
                f'{path} is not CIFAR-100: it has data of shape {found[0]} '
                f'and type {found[1]}, {found[2]} labels, {min(counts)} to '
                f'{max(counts)} images per class; expected are '
                f'({size}, 3072), uint8, {size} labels and {size // 100} '
                'images per class')
        return True


class Arrays(pickle.Unpickler):
    """Reads pickles of NumPy's arrays, and imports nothing else.

    Raises:
        pickle.UnpicklingError: If a pickle needs anything else.
    """
    known = {('numpy', 'ndarray'), ('numpy', 'dtype'), ('_codecs', 'encode'),
             ('numpy.core.multiarray', '_reconstruct'),
             ('numpy._core.multiarray', '_reconstruct'),
             ('numpy.core.numeric', '_frombuffer'),
             ('numpy._core.numeric', '_frombuffer')}

    def find_class(self, module: str, name: str) -> Any:
        """Import a class, if it belongs to arrays."""
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(
                f'it imports {module}.{name}, which arrays do not need')
        return super().find_class(module, name)
