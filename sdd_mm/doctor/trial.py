# Copyright (c) sdd_mm contributors. All rights reserved.
"""A config, tried: its data, its teacher, and a few steps."""
import resource
import statistics
import time
from typing import Iterator, Optional

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from ..engine.errors import PreflightError
from ..engine.hooks.sdd_report_hook import report
from ..engine.preflight import check_training
from ..engine.preflight.distilling import learned_parts
from ..engine.preflight.methods import without_meaning
from ..images import collate_of, datasets_of, without_workers
from ..input_format import InputFormat
from ..memory import size_text
from ..models.algorithms import FrozenTeacherDistill, TeacherError
from ..models.algorithms.teacher import keys_of
from ..models.algorithms.teacher_input import OwnImages
from ..models.losses import ScaleDecoupledLoss
from ..models.networks import members_of, network_name
from ..models.recorders import FeatureHeadError
from ..structures import student_part
from . import BAD, FACT, GOOD, WARN, Finding
from .teacher import try_teacher

FAR = 20  # mean and standard deviation that normalized pixels do not reach


def set_up(cfg: Config, batches: Optional[int],
           steps: int) -> Iterator[Finding]:
    """Try what a config would train.

    Args:
        cfg (Config): The config of a run.
        batches (int, optional): Validation batches that the teacher
            classifies. None: ten, or as many as have ``ENOUGH`` images.
        steps (int): Number of training steps to make.

    Yields:
        Finding: One after the other: config, data, teacher, student, method,
            cost. It ends with the first error.
    """
    cfg.setdefault('work_dir', 'work_dirs/doctor')
    for key in ('train_dataloader', 'val_dataloader'):
        if cfg.get(key) is not None:
            cfg[key].setdefault('collate_fn', collate_of(cfg))
    try:
        model = check_training(cfg).model
    except PreflightError as error:
        yield Finding(BAD, 'config', str(error))
        return
    yield Finding(GOOD, 'config', 'keys, values, data and checkpoints agree')
    try:
        yield from _try(cfg, model, batches, steps)
    except Exception as error:  # data and networks may do anything
        yield Finding(BAD, 'run', f'{type(error).__name__}: {error}')


def _try(cfg: Config, model: nn.Module, batches: Optional[int],
         steps: int) -> Iterator[Finding]:
    """Load data, run the teacher, and make steps."""
    loaders = {}
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        for key in ('train_dataloader', 'val_dataloader'):
            if cfg.get(key) is not None:
                loaders[key] = Runner.build_dataloader(
                    without_workers(cfg[key]), seed=0)
                yield _data(key, cfg[key], loaders[key])
    model.to(get_device())
    finding = _normalization(model, next(iter(loaders['train_dataloader'])))
    yield finding
    if finding.mark == BAD:
        return
    if isinstance(model, FrozenTeacherDistill):
        found = list(
            try_teacher(model, loaders.get('val_dataloader'), batches))
        yield from found
        if any(finding.mark == BAD for finding in found):
            return
        yield _student(model)
    for sentence in without_meaning(model):
        yield Finding(WARN, 'method', sentence)
    for key, part, count in learned_parts(model):
        yield Finding(
            FACT, 'method', f'{key.split(".")[1]} ({type(part).__name__}) '
            f'learns {count:,} parameters beside the student, which are saved '
            'to resume and left out of exports')
    yield from _steps(cfg, model, loaders['train_dataloader'], max(1, steps))


def _student(model: FrozenTeacherDistill) -> Finding:
    sizes = [
        sum(p.numel() for p in network.parameters())
        for network in (model.student, model.teacher)
    ]
    return Finding(
        FACT, 'student', f'{network_name(model.student)} of {sizes[0]:,} '
        f"parameters, {sizes[0] / sizes[1]:.0%} of the teacher's")


def _data(key: str, cfg: dict, loader) -> Finding:
    inner = next(datasets_of('dataset', cfg['dataset']))[1]
    root = inner.get('data_root')
    classes = loader.dataset.metainfo.get('classes')
    text = (f'{inner["type"]}, {len(loader.dataset):,} images'
            f'{"" if classes is None else f", {len(classes)} classes"}, '
            f'{len(loader):,} batches of {loader.batch_size or "any size"}'
            f'{f", {root}" if root else ""}')
    return Finding(GOOD, key.split('_')[0], text)


@torch.no_grad()
def _normalization(model: nn.Module, batch: dict) -> Finding:
    inputs = model.data_preprocessor(batch)['inputs']
    own, pixels = InputFormat.of_model(model), student_part(inputs)
    said = f'{_says(own)}{_pixels(pixels)}'
    if _out_of_range(own, pixels):
        return Finding(
            BAD, 'images', f'{said}: data_preprocessor.mean and std are '
            'not in the units of the images that the data set loads, such '
            'as 0 to 255')
    if not isinstance(model, FrozenTeacherDistill):
        return Finding(FACT, 'images', said)
    members = members_of(model.teacher)
    formats = list(map(InputFormat.of_model, members))
    size = '' if model.teacher_input is None else (
        ', which sees them at {} x {} pixels'.format(
            *model.teacher_input.size))
    if any(isinstance(part, OwnImages) for part in model.modules()):
        return _own_images(model, said, formats, inputs)
    if all(one == own for one in formats):
        return Finding(GOOD, 'images', f'{said}, of student and teacher{size}')
    given = "the student's images unconverted"
    if model.convert is not None:
        given = 'images converted to that'
    return Finding(
        FACT, 'images', f'student: {said}; teacher: '
        f'{" and ".join(map(_says, formats))}, and it gets {given}{size}')


def _own_images(model: FrozenTeacherDistill, said: str, formats: list,
                inputs: dict) -> Finding:
    """Two inputs per sample: what each teacher sees."""
    images = model.teacher_images(inputs)
    images = images if len(formats) > 1 else [images]
    for one, pixels, key in zip(formats, images, keys_of(model.teacher)):
        said += f'; teacher: {_says(one)}{_pixels(pixels)}'
        if _out_of_range(one, pixels):
            return Finding(
                BAD, 'images', f'{said}: {key}.data_preprocessor.mean and std '
                "are not in the units of the teacher's images")
    return Finding(FACT, 'images', f'student: {said}, in images of its own')


def _pixels(values: Tensor) -> str:
    values = values.float()
    return (f': pixels of mean {values.mean().item():.2g} and std '
            f'{values.std().item():.2g}')


def _out_of_range(found: Optional[InputFormat], values: Tensor) -> bool:
    """Whether pixels are far from what a network that scales them gets."""
    # some networks take pixels that are centered only, or as they are
    if found is None or all(value == 1 for value in found.std):
        return False
    values = values.float()
    return abs(values.mean().item()) > FAR or not (1 / FAR <
                                                   values.std().item() < FAR)


def _says(found: Optional[InputFormat]) -> str:
    return 'no data_preprocessor' if found is None else str(found)


def _steps(cfg: Config, model: nn.Module, loader,
           steps: int) -> Iterator[Finding]:
    """A few real steps: maps, cells, losses, time and memory."""
    reports = []
    distiller = getattr(model, 'distiller', None)
    for name, loss in getattr(distiller, 'distill_losses', {}).items():
        if isinstance(loss, ScaleDecoupledLoss):
            loss.register_forward_pre_hook(
                lambda loss, args, kwargs, name=name: reports.append(
                    report(distiller, name, loss, *_records(args, kwargs))),
                with_kwargs=True)
    try:
        model.init_weights()
        model.train()
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        wrapper.initialize_count_status(model, 0, steps)
        seconds, losses = [], {}
        for _, batch in zip(range(steps), _repeated(loader)):
            start = time.perf_counter()
            losses = model.train_step(batch, wrapper)
            losses = {name: float(value) for name, value in losses.items()}
            seconds.append(time.perf_counter() - start)
    except (FeatureHeadError, TeacherError, ValueError, RuntimeError) as error:
        yield Finding(BAD, 'step', f'{type(error).__name__}: {error}')
        return
    if reports:
        text = '\n'.join(dict.fromkeys(reports))
        repeated = 'repeat cells' in text
        yield Finding(WARN if repeated else GOOD, 'cells', text)
        yield _heads(distiller)
    finite = all(abs(value) < float('inf') for value in losses.values())
    yield Finding(
        GOOD if finite else BAD, 'losses',
        ', '.join(f'{name} {value:.4g}' for name, value in losses.items()))
    size = loader.batch_size or 1
    # the first one also allocates, compiles and chooses algorithms
    seconds = statistics.median(seconds[1:] or seconds)
    epoch, epochs = seconds * len(loader), cfg.train_cfg.get('max_epochs')
    whole = '' if epochs is None else (
        f', {_duration(epochs * epoch)} for {epochs} epochs')
    yield Finding(
        FACT, 'cost', f'{seconds:.3f} s a step of {size} images, with 0 '
        f'workers: {_duration(epoch)} an epoch{whole}, on {get_device()}; '
        f'{_memory_text()}')


def _duration(seconds: float) -> str:
    for unit, length in (('h', 3600), ('min', 60)):
        if seconds >= length:
            return f'{seconds / length:.1f} {unit}'
    return f'{seconds:.0f} s'


def _heads(distiller) -> Finding:
    """How far the recorded heads are from the networks' own logits."""
    found = []
    for role in ('student', 'teacher'):
        manager = getattr(distiller, f'{role}_recorders')
        for recorder in manager.recorders.values():
            difference = getattr(recorder, 'difference', None)
            if difference is not None:
                found.append(f'{role} {difference:.0e}')
    return Finding(
        GOOD, 'heads', "each reproduces its network's own logits from the "
        f'average of the map, but for {", ".join(found)} of the largest')


def _records(args: tuple, kwargs: dict) -> tuple:
    records = dict(zip(('student', 'teacher'), args), **kwargs)
    return records['student'], records['teacher']


def _repeated(loader) -> Iterator:
    while True:
        yield from loader


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _memory_text() -> str:
    where = 'GPU memory' if torch.cuda.is_available() else 'memory in total'
    return f'at most {size_text(_peak_memory())} of {where}'
