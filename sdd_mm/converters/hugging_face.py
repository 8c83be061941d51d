# Copyright (c) sdd_mm contributors. All rights reserved.
"""Image classifiers of Hugging Face's transformers as teachers.

How a teacher's images are normalized is not read from the many keys of
``preprocessor_config.json``: the image processor is run on plain colors, and
mean, standard deviation and channel order are what explains its results.
"""
from pathlib import Path
from typing import Union

import torch

from ..hub import HubError, config_hash, hugging_face, hugging_face_config
from ..input_format import META, InputFormat
from ..weights import listed, misfits
from .checkpoint import ConversionError, refuse, write

# black first; the last color is no corner of the cube
COLORS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255),
          (51, 102, 204))
SIZE = 512
DIGITS = 12
PROCESSORS = ('preprocessor_config.json', 'processor_config.json')


def hugging_face_teacher(folder: Union[str, Path],
                         num_classes: int,
                         to_rgb: bool = True) -> dict:
    """Config of an image classifier of Hugging Face as a teacher.

    Args:
        folder (str | Path): A folder that ``save_pretrained`` wrote.
        num_classes (int): Number of classes that it must have.
        to_rgb (bool): Whether the data set loads BGR images, as those from
            files. Defaults to True.

    Returns:
        dict: Config of a ``ModuleClassifier`` with its ``data_preprocessor``.

    Raises:
        ConversionError: If the folder holds no image classifier with so many
            classes, or not the image processor that it was trained with.
    """
    try:
        found = hugging_face_config(folder).num_labels
    except HubError as error:
        raise ConversionError(str(error)) from error
    if found != num_classes:
        raise ConversionError(
            f'folder {folder}: the network has {found} classes, the student '
            f'{num_classes}: train it on the classes of the student first')
    images = hugging_face_images(folder)
    return dict(
        type='ModuleClassifier',
        num_classes=num_classes,
        module=dict(
            type='sdd_mm.hub.hugging_face',
            folder=str(folder),
            sha256=config_hash(folder)[:DIGITS]),
        data_preprocessor=dict(
            mean=list(images.mean),
            std=list(images.std),
            to_rgb=to_rgb == (images.channel_order == 'RGB')))


def convert_hugging_face(folder: Union[str, Path]) -> dict:
    """Read an image classifier of Hugging Face as a checkpoint.

    transformers reads ``model.safetensors`` or ``pytorch_model.bin``, and
    renames what older versions named otherwise.

    Args:
        folder (str | Path): A folder that ``save_pretrained`` wrote.

    Returns:
        dict: A checkpoint of a ``ModuleClassifier`` of the network. Its meta
        states the normalization of the images and the names of the classes.

    Raises:
        ConversionError: If it is no image classifier, if a weight is missing,
            left over, of another shape or not finite, or if the image
            processor is not known.
    """
    try:
        config = hugging_face_config(folder)
        network = hugging_face(folder)
    except HubError as error:
        raise ConversionError(str(error)) from error
    import transformers
    try:
        loaded, found = (
            transformers.AutoModelForImageClassification.from_pretrained(
                Path(folder).expanduser(),
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # named and refused below
                output_loading_info=True))
    except Exception as error:  # a broken file may raise anything
        raise ConversionError(f'folder {folder}: its weights cannot be read: '
                              f'{type(error).__name__}: {error}') from error
    problems = [
        f'{title}: {listed(list(map(_shapes, sorted(found[key]))))}'
        for key, title in (('missing_keys', 'missing'), ('unexpected_keys',
                                                         'not in the model'),
                           ('mismatched_keys', 'of another shape'))
        if found.get(key)
    ]
    if problems:
        raise ConversionError(
            f'folder {folder}: its weights are not those of a '
            f'{type(loaded).__name__}: {"; ".join(problems)}')
    weights = loaded.float().state_dict()
    refuse(misfits(weights, network))
    meta = {
        META: hugging_face_images(folder).meta(),
        'converted_from': Path(folder).expanduser().resolve().name,
        'transformers_version': transformers.__version__
    }
    names = [config.id2label[number] for number in range(config.num_labels)]
    if names != [f'LABEL_{number}' for number in range(len(names))]:
        meta['dataset_meta'] = dict(classes=names)
    return dict(state_dict=weights, meta=meta)


def _shapes(problem: Union[str, tuple]) -> str:
    """A weight's name, with both shapes if they differ."""
    if isinstance(problem, str):
        return problem
    name, theirs, own = problem
    return f'{name} {tuple(theirs)} instead of {tuple(own)}'


def convert_hugging_face_folder(folder: str, target: str) -> None:
    """Write an image classifier of Hugging Face as a checkpoint.

    Args:
        folder (str): A folder that ``save_pretrained`` wrote.
        target (str): Where to write.

    Raises:
        ConversionError: As of :func:`convert_hugging_face`, or if ``target``
            cannot be written.
    """
    write(target, convert_hugging_face(folder))


def hugging_face_images(folder: Union[str, Path]) -> InputFormat:
    """How the image processor of a folder normalizes images, measured.

    Args:
        folder (str | Path): A folder with a ``preprocessor_config.json``.

    Returns:
        InputFormat: Mean, standard deviation and channel order.

    Raises:
        ConversionError: If there is no image processor, or if it does more
            to the values of pixels than a normalization of each channel.
    """
    path = Path(folder).expanduser()
    if not any((path / name).is_file() for name in PROCESSORS):
        raise ConversionError(
            f'folder {folder} has no preprocessor_config.json, so nothing '
            'says how images are normalized: save the image processor of the '
            'training there by its save_pretrained')
    from PIL import Image
    from transformers import AutoImageProcessor
    try:
        processor = AutoImageProcessor.from_pretrained(
            path, local_files_only=True, trust_remote_code=False)
        seen = [
            processor(
                images=Image.new('RGB', (SIZE, SIZE), color),
                return_tensors='pt')['pixel_values'].double()
            for color in COLORS
        ]
    except Exception as error:  # a processor may raise anything
        raise ConversionError(
            f'folder {folder}: its image processor cannot be used: '
            f'{type(error).__name__}: {error}') from error
    title = f'folder {folder}: its {type(processor).__name__}'
    shape = tuple(seen[0].shape)
    if len(shape) != 4 or shape[:2] != (1, 3):
        raise ConversionError(f'{title} gives pixel_values of shape {shape}, '
                              'not images (1, 3, h, w)')
    # the borders may be padding
    pixels = torch.stack(
        [image[0, :, shape[2] // 2, shape[3] // 2] for image in seen])
    for order in ('RGB', 'BGR'):
        colors = torch.tensor(COLORS, dtype=torch.float64)
        colors = colors if order == 'RGB' else colors.flip(1)
        std = 255 / (pixels[4] - pixels[0])
        mean = -pixels[0] * std
        if (std > 0).all() and std.isfinite().all() and torch.allclose(
                pixels * std + mean, colors, rtol=0, atol=0.02):
            return InputFormat(
                tuple(round(value, 4) for value in (mean + 0.).tolist()),
                tuple(round(value, 4) for value in std.tolist()),
                channel_order=order)
    raise ConversionError(
        f'{title} does more to colors than a mean and a standard deviation '
        'of each channel, which is all that a data_preprocessor does')
