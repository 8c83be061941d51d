# Copyright (c) sdd_mm contributors. All rights reserved.
"""This package's networks by name in MMPretrain."""
from pathlib import Path
from typing import List, Union

from .config_file import project_root


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
