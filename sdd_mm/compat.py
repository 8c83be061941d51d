# Copyright (c) sdd_mm contributors. All rights reserved.
"""What import, training and resumption need on today's torch.

=========================  =================  ================================
repair                     needed by          what breaks without it
=========================  =================  ================================
:func:`import_mmrazor`     mmrazor 1.0.0      ``import mmrazor`` asserts
                           with mmcv > 2.1.0  mmcv <= 2.1.0
:func:`stub_quantization`  mmrazor 1.0.0      ``import mmrazor.models`` fails:
                           with torch >= 2.0  its quantization packages ask
                                              for names that torch has renamed
:func:`set_inplace_false`  mmrazor 1.0.0      a recorder of what comes before
                           with torch whose   an in-place activation records
                           ``_modules`` is a  what comes after it, without an
                           dict (2.15)        error
:func:`allow_checkpoint`   mmengine 0.10.7    ``--resume`` fails: torch.load
                           with torch >= 2.6  refuses the types of the log
                                              history (weights_only)
:func:`launch_on_cpu`      mmengine 0.10.7    torchrun fails: a CUDA device is
                           without a GPU      set whatever the backend
:func:`free_cublas`        mmengine 0.10.7    ``randomness.deterministic``
                                              fails on a GPU, where cuBLAS
                                              wants a variable to be set
:func:`forget_copies`      mmengine 0.10.7    a subset of a data set may get an
                                              older pipeline, or another data
                                              set in its place
:func:`name_bad_images`    mmcv 2.1.0 with    the rest of a JPEG that was cut
                           OpenCV < 5         off is gray, without an error
:func:`name_wrapped`       mmpretrain 1.2.0   a student that is a
                                              TimmClassifier or a
                                              HuggingFaceClassifier is tested
                                              and resumed with random weights
:func:`stub_drn`           mmaction2 1.2.0    ``import mmaction.models`` fails:
                                              its wheel lacks the package of
                                              one localizer, DRN
:func:`silence_warnings`   mmengine 0.10.7,   every start warns of what nobody
                           mmcv-lite 2.1.0    can do anything about
=========================  =================  ================================

:func:`repair` runs them all, once; ``import sdd_mm`` calls it before anything
else of this package is imported. Nothing here imports sdd_mm, except
:mod:`sdd_mm.stand_ins`, which imports nothing of it. No repair changes what
works: each turns an error into a result, or, in :func:`set_inplace_false`,
:func:`forget_copies`, :func:`name_bad_images` and :func:`name_wrapped`, a
silently wrong result into the right one or an error.
"""
import importlib
import importlib.util
import io
import os
import pickle
import sys
import warnings

import torch

from .stand_ins import DRN, QUANTIZATION

_NEWEST_MMCV_FOR_MMRAZOR = '2.1.0'


def repairs() -> list:
    """The repairs that the installed versions need, in order."""
    return [
        silence_warnings, stub_quantization, import_mmrazor, set_inplace_false,
        allow_checkpoint, *[launch_on_cpu] * (not torch.cuda.is_available()),
        free_cublas, forget_copies, name_bad_images, name_wrapped,
        *[stub_drn] * _lacks_drn()
    ]


def repair() -> None:
    """Apply every repair that the installed versions need."""
    for fix in repairs():
        fix()


def silence_warnings() -> None:
    """Silence warnings of the stack about itself."""
    for message in ('pkg_resources is deprecated',
                    'Fail to import ``MultiScaleDeformableAttention',
                    'In MMCV v1.4.4, we modified the default value of args'):
        warnings.filterwarnings('ignore', message=message)


# --- mmrazor 1.0.0 with mmcv > 2.1.0 ---------------------------------------


def import_mmrazor() -> None:
    """Import mmrazor, whose ``__init__`` asserts mmcv <= 2.1.0.

    Nothing of mmcv that mmrazor's distillation uses has changed since: the
    assertion is shown the newest version that it accepts.

    Raises:
        ImportError: If no mmcv is installed.
    """
    if 'mmrazor' in sys.modules:
        return
    if importlib.util.find_spec('mmcv') is None:
        raise ImportError(
            'sdd_mm needs mmcv and found none. Install the light one with '
            '"pip install mmcv-lite==2.1.0", or a full mmcv if you need its '
            'compiled operators.')
    import mmcv
    from mmengine.utils import digit_version
    version = mmcv.__version__
    if digit_version(version) > digit_version(_NEWEST_MMCV_FOR_MMRAZOR):
        mmcv.__version__ = _NEWEST_MMCV_FOR_MMRAZOR
    try:
        importlib.import_module('mmrazor')
    finally:
        mmcv.__version__ = version


# --- mmrazor 1.0.0 with torch >= 2.0 ---------------------------------------


def stub_quantization() -> None:
    """Let mmrazor import on torch >= 2 by leaving out its quantization.

    Its quantization packages import names that torch 2.0 renamed. Using one of
    their classes is an error that says so.
    """
    if 'mmrazor.models' not in sys.modules and (QUANTIZATION
                                                not in sys.meta_path):
        sys.meta_path.insert(0, QUANTIZATION)


# --- mmrazor 1.0.0 with torch 2.15 -----------------------------------------


def set_inplace_false() -> None:
    """Let MMRazor's algorithms turn off what works in place.

    A recorder of what comes before an activation would record what comes
    after it. MMRazor looks into an ``OrderedDict`` for modules, which torch
    no longer keeps them in.
    """
    from mmrazor.models.algorithms.base import BaseAlgorithm

    def set_module_inplace_false(self, architecture, varstr) -> None:
        for module in architecture.modules():
            if hasattr(module, 'inplace'):
                module.inplace = False

    BaseAlgorithm.set_module_inplace_false = set_module_inplace_false


# --- mmengine 0.10.7 with torch >= 2.6 -------------------------------------


def checkpoint_attr(owner, name: str):
    """What ``getattr`` is to a checkpoint of mmengine, and nothing more.

    A log history refers to ``HistoryBuffer.mean`` and its like through
    ``getattr``, a one-cycle schedule to its annealing function. The real
    ``getattr`` would let a checkpoint reach any attribute of anything.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.optim import OneCycleParamScheduler
    wanted = {
        HistoryBuffer: ('current', 'max', 'mean', 'min'),
        OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
    }
    if isinstance(owner, type) and name in wanted.get(owner, ()):
        return getattr(owner, name)
    raise pickle.UnpicklingError(
        f'the checkpoint asks for attribute {name!r} of {owner!r}, which is '
        'not one that mmengine\'s checkpoints refer to')


def checkpoint_types() -> dict:
    """What mmengine's checkpoints hold beside weights, by its name.

    The types of a log history and of a one-cycle schedule.
    """
    import numpy
    from mmengine.logging import HistoryBuffer
    from mmengine.optim import OneCycleParamScheduler
    core = 'numpy._core' if hasattr(numpy, '_core') else 'numpy.core'
    multiarray = importlib.import_module(f'{core}.multiarray')
    types = [
        HistoryBuffer, OneCycleParamScheduler, numpy.ndarray, numpy.dtype,
        *(type(numpy.dtype(name))
          for name in ('bool', 'int32', 'int64', 'float32', 'float64'))
    ]
    found = {f'{one.__module__}.{one.__qualname__}': one for one in types}
    # arrays saved under numpy 1 and 2 name their parts differently
    for part in ('_reconstruct', 'scalar'):
        for package in ('numpy._core', 'numpy.core'):
            found[f'{package}.multiarray.{part}'] = getattr(multiarray, part)
    found['builtins.getattr'] = checkpoint_attr
    return found


def allow_checkpoint() -> None:
    """Let ``torch.load(weights_only=True)`` read mmengine's checkpoints.

    Adds exactly :func:`checkpoint_types` to torch's allow-list.
    """
    torch.serialization.add_safe_globals([
        (found, name) for name, found in checkpoint_types().items()
    ])


# --- mmengine 0.10.7 without a GPU -----------------------------------------


def launch_on_cpu() -> None:
    """Let torchrun start CPU processes (backend gloo)."""
    from mmengine.dist import utils
    original = utils._init_dist_pytorch
    if getattr(original, '_sdd_mm', False):
        return

    def init_dist_pytorch(backend, init_backend='torch', **kwargs):
        if backend == 'gloo' and init_backend == 'torch':
            torch.distributed.init_process_group(backend=backend, **kwargs)
        else:
            original(backend, init_backend=init_backend, **kwargs)

    init_dist_pytorch._sdd_mm = True
    utils._init_dist_pytorch = init_dist_pytorch


# --- mmengine 0.10.7 -------------------------------------------------------


def free_cublas() -> None:
    """Let ``randomness=dict(deterministic=True)`` train on a GPU.

    MMEngine forbids algorithms that are not deterministic, and torch then
    refuses matrix products until cuBLAS is told its workspace.
    """
    from mmengine.runner import Runner
    original = Runner.set_randomness
    if getattr(original, '_sdd_mm', False):
        return

    def set_randomness(self,
                       seed,
                       diff_rank_seed=False,
                       deterministic=False) -> None:
        if deterministic:
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        original(self, seed, diff_rank_seed, deterministic)

    set_randomness._sdd_mm = True
    Runner.set_randomness = set_randomness


def forget_copies() -> None:
    """Copy a data set for its subset without what was copied earlier.

    MMEngine keeps what ``get_subset`` (of ``KFoldDataset``, ``indices=``) has
    copied, by the addresses of the originals, which may have changed or have
    gone to other objects since.
    """
    from mmengine.dataset import BaseDataset
    original = BaseDataset._copy_without_annotation
    if getattr(original, '_sdd_mm', False):
        return

    def copy_without_annotation(self, memo=None):
        return original(self, {} if memo is None else memo)

    copy_without_annotation._sdd_mm = True
    BaseDataset._copy_without_annotation = copy_without_annotation


# --- mmpretrain 1.2.0 ------------------------------------------------------


def name_wrapped() -> None:
    """Name the weights of wrapped models alike in saving and in loading.

    Within another model, MMPretrain saves them with ``model.`` before their
    names, adds it again when it loads them, and removes all other weights.
    """
    from mmpretrain.models.classifiers import (HuggingFaceClassifier,
                                               TimmClassifier)

    def rename(state_dict, old, new):
        for name in list(state_dict):
            value = state_dict.pop(name)
            if name.startswith(old):
                name = new + name[len(old):]
            state_dict[name] = value

    def remove(module, state_dict, prefix, *args):
        rename(state_dict, f'{prefix}model.', prefix)

    def add(state_dict, prefix, *args):
        rename(state_dict, prefix, f'{prefix}model.')

    for one in (HuggingFaceClassifier, TimmClassifier):
        one._remove_state_dict_prefix = staticmethod(remove)
        one._add_state_dict_prefix = staticmethod(add)


# --- mmcv 2.1.0 with OpenCV < 5 --------------------------------------------


def name_bad_images() -> None:
    """Let an image that is cut off or no image be an error with its name.

    OpenCV 4 fills what is missing with gray, later ones give no image at all.
    A JPEG that does not end as one is decoded by Pillow first, which refuses
    what it cannot read to the end.
    """
    import mmcv
    from mmcv.transforms import LoadImageFromFile
    from PIL import Image
    decode, transform = mmcv.imfrombytes, LoadImageFromFile.transform
    if getattr(transform, '_sdd_mm', False):
        return

    def imfrombytes(content, *args, **kwargs):
        start, end = bytes(content[:2]), bytes(content[-2:])
        if start == b'\xff\xd8' and end != b'\xff\xd9':
            Image.open(io.BytesIO(content)).load()
        return decode(content, *args, **kwargs)

    def load(self, results):
        try:
            return transform(self, results)
        except FileNotFoundError:
            raise  # it has its name
        except Exception as error:
            raise ValueError(
                f'{results["img_path"]} cannot be read as an image ({error}): '
                'replace the file, or take it out of the annotations of the '
                'data set') from error

    load._sdd_mm = True
    mmcv.imfrombytes, LoadImageFromFile.transform = imfrombytes, load


# --- mmaction2 1.2.0 -------------------------------------------------------


def _lacks_drn() -> bool:
    """Whether mmaction2 is installed without it. This imports nothing."""
    spec = importlib.util.find_spec('mmaction')
    folders = (spec and spec.submodule_search_locations) or ()
    return bool(folders) and not any(
        os.path.isdir(os.path.join(folder, 'models', 'localizers', 'drn'))
        for folder in folders)


def stub_drn() -> None:
    """Let ``mmaction.models`` import without the package that it lacks.

    The stand-in is asked last, after all that could find the real one.
    """
    if DRN not in sys.meta_path:
        sys.meta_path.append(DRN)
