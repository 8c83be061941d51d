# Copyright (c) sdd_mm contributors. All rights reserved.
"""This package's networks by name in MMPretrain; Hugging Face's as modules."""
import hashlib
import json
from pathlib import Path
from typing import Any, List, Optional, Union

from torch import nn

from .config_file import project_root
from .errors import SDDError


class HubError(SDDError, ValueError):
    """A folder that holds no image classifier of Hugging Face."""


def register_models(index: Union[str, Path, None] = None) -> List[str]:
    """Register networks for ``mmpretrain.get_model`` and ``list_models``.

    A network of ``configs/vanilla`` has the name of its config. The name of a
    distillation gives its student: the plain network, with weights where the
    metafile lists some.

    Args:
        index (str | Path, optional): The model index of an exported student,
            whose files lie beside it, wherever that is. Defaults to None:
            this package's networks.

    Returns:
        list[str]: The names that were registered. A second call changes
        nothing.

    Examples:
        >>> import sdd_mm
        >>> from mmpretrain import get_model, list_models
        >>> sdd_mm.register_models()
        >>> list_models('*res8x4*')
        >>> get_model('sd-kd_res32x4_res8x4_cifar100')
        >>> sdd_mm.register_models('student.yml')
        >>> get_model('student', pretrained=True)
    """
    from mmpretrain.apis.model import ModelHub
    from modelindex.load_model_index import load
    from modelindex.models.Result import Result
    from modelindex.models.ResultList import ResultList
    if index is not None:
        return _register_exported(Path(index).expanduser().resolve())
    root = project_root()
    index = load(str(root / 'model-index.yml'))
    index.build_models_with_collections()
    networks = {model.name: model.config for model in index.models}
    names = []
    for model in index.models:
        student = (model.metadata.data or {}).get('Student')
        network = networks.get(student, model.config)
        if '/vanilla/' not in network:
            continue  # the demo's names, such as `teacher`, are too general
        model.config = str(root / network)
        if model.results is None:  # inference_model() reads the task
            model.results = ResultList(
                [Result('Image Classification', 'unknown', {})])
        ModelHub._models_dict[model.name.lower()] = model
        names.append(model.name)
    return names


def _register_exported(path: Path) -> List[str]:
    from mmpretrain.apis.model import ModelHub
    from modelindex.load_model_index import load
    models = load(str(path)).models
    for model in models:
        model.config = str(path.parent / model.config)
        if '://' not in model.weights:
            model.weights = str(path.parent / model.weights)
        ModelHub._models_dict[model.name.lower()] = model
    return [model.name for model in models]


def hugging_face(folder: Union[str, Path],
                 num_classes: Optional[int] = None,
                 sha256: str = '') -> nn.Module:
    """Build an image classifier of Hugging Face, with random weights.

    For the ``module`` of a ``ModuleClassifier``. Only ``config.json`` of the
    folder is read: nothing is downloaded, and no code of the folder runs. Its
    weights come from a checkpoint that
    ``tools/model_converters/hugging_face_to_mmpretrain.py`` writes, since the
    names in the folder's files may be older than those of the network.

    Args:
        folder (str | Path): A folder that ``save_pretrained`` wrote or
            ``hf download`` filled.
        num_classes (int, optional): Number of classes of a new classifier,
            for a student. Defaults to None: that of the folder.
        sha256 (str): First digits of the SHA-256 of ``config.json``, so that
            the network is always the same. Defaults to '', any.

    Returns:
        nn.Module: The network, in float32.

    Raises:
        HubError: If transformers is not installed, if the folder holds no
            image classifier with one label per image, or if its
            ``config.json`` is another one.

    Examples:
        >>> # in a config
        >>> student = dict(
        ...     type='ModuleClassifier',
        ...     num_classes=10,
        ...     module=dict(
        ...         type='sdd_mm.hub.hugging_face',
        ...         folder='resnet-18',
        ...         num_classes=10))
    """
    import torch
    config = hugging_face_config(folder)
    found = config_hash(folder)
    if not found.startswith(sha256):
        raise HubError(
            f'folder {folder}: its config.json has changed, the SHA-256 is '
            f'{found[:len(sha256)]} and not {sha256}: bring the former back, '
            'or make the config again (module.sha256)')
    if num_classes is not None and num_classes != config.num_labels:
        config.num_labels = num_classes
    from transformers import AutoModelForImageClassification
    try:
        return AutoModelForImageClassification.from_config(
            config, dtype=torch.float32, trust_remote_code=False).float()
    except Exception as error:  # a constructor may raise anything
        raise HubError(
            f'folder {folder}: transformers cannot build an image classifier '
            f'of model_type {config.model_type!r}: {type(error).__name__}: '
            f'{error}') from error


def config_hash(folder: Union[str, Path]) -> str:
    """The SHA-256 of the ``config.json`` of a folder."""
    path = Path(folder).expanduser() / 'config.json'
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hugging_face_config(folder: Union[str, Path]) -> Any:
    """The ``config.json`` of an image classifier of Hugging Face.

    Args:
        folder (str | Path): As of :func:`hugging_face`.

    Returns:
        PretrainedConfig: The network's configuration.

    Raises:
        HubError: As of :func:`hugging_face`.
    """
    path = Path(folder).expanduser()
    if not (path / 'config.json').is_file():
        raise HubError(
            f'folder {folder} has no config.json: write the network there by '
            'save_pretrained, or fetch it by `hf download NAME --local-dir '
            'FOLDER`')
    if (path / 'adapter_config.json').is_file():
        raise HubError(
            f'folder {folder} holds an adapter: merge it into its network '
            '(merge_and_unload) and save that')
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise HubError('transformers is not installed: pip install '
                       'sdd_mm[transformers]') from error
    try:
        content = json.loads((path / 'config.json').read_text('utf-8'))
        if 'pretrained_cfg' in content or (content.get('model_type')
                                           == 'timm_wrapper'):
            raise HubError(
                f'folder {folder} holds a network of timm: use it as a '
                'teacher timm::NAME')
        config = AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=False)
    except HubError:
        raise
    except Exception as error:  # a broken file may raise anything
        raise HubError(f'folder {folder}: its config.json cannot be read: '
                       f'{type(error).__name__}: {error}') from error
    if config.problem_type not in (None, 'single_label_classification'):
        raise HubError(
            f'folder {folder}: its problem_type is {config.problem_type!r}, '
            'but distillation compares one softmax over the classes')
    return config
