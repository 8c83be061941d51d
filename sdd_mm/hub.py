# Copyright (c) sdd_mm contributors. All rights reserved.
"""This package's networks by name in MMPretrain."""
from typing import List

from .config_file import project_root


def register_models() -> List[str]:
    """Register networks for ``mmpretrain.get_model`` and ``list_models``.

    A network of ``configs/vanilla`` has the name of its config. The name of a
    distillation gives its student: the plain network, with weights where the
    metafile lists some.

    Returns:
        list[str]: The names that were registered. A second call changes
        nothing.

    Examples:
        >>> import sdd_mm
        >>> from mmpretrain import get_model, list_models
        >>> sdd_mm.register_models()
        >>> list_models('*res8x4*')
        >>> get_model('sd-kd_res32x4_res8x4_cifar100')
    """
    from mmpretrain.apis.model import ModelHub
    from modelindex.load_model_index import load
    from modelindex.models.Result import Result
    from modelindex.models.ResultList import ResultList
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
