# Copyright (c) sdd_mm contributors. All rights reserved.
"""The images that a data set loads, as its config says."""
from typing import Iterator, Optional, Tuple

LOADERS = ('LoadImageFromFile', 'mmpretrain.LoadImageFromFile',
           'mmcv.LoadImageFromFile')
# data sets of arrays that are RGB
RGB_ARRAYS = ('CIFAR10', 'CIFAR100', 'VerifiedCIFAR100')


def datasets_of(key: str, cfg: dict) -> Iterator[Tuple[str, dict]]:
    """The data sets inside wrappers, each with its dotted config key."""
    if 'datasets' in cfg:
        for index, inner in enumerate(cfg['datasets']):
            yield from datasets_of(f'{key}.datasets.{index}', inner)
    elif 'dataset' in cfg:
        yield from datasets_of(f'{key}.dataset', cfg['dataset'])
    else:
        yield key, cfg


def preprocessor_of(cfg: dict) -> Optional[dict]:
    """The data preprocessor of a config; the model's own takes precedence."""
    return cfg['model'].get('data_preprocessor') or cfg.get(
        'data_preprocessor')


def student_arguments(preprocessor: Optional[dict]) -> dict:
    """What the config of a data preprocessor says of the student's images.

    Args:
        preprocessor (dict, optional): It may have ``student`` and ``teacher``,
            see ``PairedDataPreprocessor``.

    Returns:
        dict: The config of one for the student's images alone.
    """
    found = dict(preprocessor or {})
    found.update(found.pop('student', None) or {})
    found.pop('teacher', None)
    if str(found.get('type')).split('.')[-1] == 'PairedDataPreprocessor':
        found.pop('type')
    return found


def innermost(dataset: dict) -> dict:
    """The data set inside wrappers; of several, the first."""
    return next(datasets_of('dataset', dataset))[1]


def collate_of(cfg: dict) -> dict:
    """What collates the samples of dataloaders that do not say it."""
    # mmaction2's data preprocessor stacks clips itself
    clips = cfg.get('default_scope') == 'mmaction'
    return dict(type='pseudo_collate' if clips else 'default_collate')


def without_workers(loader: dict) -> dict:
    """The config of a dataloader whose own process loads the images."""
    loader = dict(loader, num_workers=0)
    loader.setdefault('collate_fn', dict(type='default_collate'))
    for key in ('persistent_workers', 'prefetch_factor'):
        loader.pop(key, None)
    return loader


def loads_files(loader: dict) -> bool:
    """Whether a dataloader reads image files rather than arrays."""
    return any(step['type'] in LOADERS
               for step in innermost(loader['dataset'])['pipeline'])


def loads_grayscale(loader: dict) -> bool:
    """Whether a dataloader loads images with a single channel."""
    return any(
        step.get('color_type') == 'grayscale'
        for step in innermost(loader['dataset']).get('pipeline', ())
        if step['type'] in LOADERS)


def channel_order(loader: dict) -> Optional[str]:
    """The channel order of a dataloader's images.

    Args:
        loader (dict): Config of a dataloader.

    Returns:
        str | None: 'RGB', 'BGR', or None if the config does not say.
    """
    dataset = innermost(loader['dataset'])
    if dataset['type'].split('.')[-1] in RGB_ARRAYS:
        return 'RGB'
    loads = [
        step for step in dataset.get('pipeline', ()) if step['type'] in LOADERS
    ]
    if loads and loads[0].get('color_type', 'color') == 'color':
        return 'BGR'
    return None


def teacher_order(loader: dict) -> Optional[str]:
    """The channel order of the teacher's own images, of two per sample.

    Args:
        loader (dict): Config of a dataloader.

    Returns:
        str | None: 'BGR' if they are read from files in color, None if the
        config does not say.
    """
    for step in innermost(loader['dataset']).get('pipeline', ()):
        if str(step.get('type')).split('.')[-1] == 'LoadTeacherImage':
            return 'BGR' if step.get('color_type',
                                     'color') == 'color' else None
    return None


def student_pipeline(pipeline: Optional[list]) -> list:
    """A pipeline of pairs as one of the student's images alone.

    Args:
        pipeline (list[dict], optional): Configs of transforms.

    Returns:
        list[dict]: Without what concerns the teacher's images.
    """
    found = []
    for step in pipeline or ():
        kind = str(step.get('type')).split('.')[-1]
        if kind == 'ApplyToBoth' or kind == 'TransformBroadcaster' and (
                'teacher_img' in str(step.get('mapping'))):
            found += step['transforms']
        elif kind == 'PackPairedInputs':
            found.append(dict(step, type='PackInputs'))
        elif kind != 'LoadTeacherImage':
            found.append(step)
    return found
