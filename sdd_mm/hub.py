# Copyright (c) sdd_mm contributors. All rights reserved.
"""This package's networks among MMPretrain's own."""
from pathlib import Path
from typing import List

PACKAGE = Path(__file__).resolve().parent


def register_models() -> List[str]:
    """Let ``mmpretrain.get_model`` and ``list_models`` know them by name.

    A network of ``configs/vanilla`` has the name of its config. The name of a
    distillation stands for its student: the plain network, and its weights
    where the metafile has some.

    Returns:
        list[str]: The names. Calling it again changes nothing.

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
    root = next(
        path for path in (PACKAGE / '.mim', PACKAGE.parent)
        if (path / 'model-index.yml').is_file())
    index = load(str(root / 'model-index.yml'))
    index.build_models_with_collections()
    networks = {model.name: model.config for model in index.models}
    names = []
    for model in index.models:
        student = (model.metadata.data or {}).get('Student')
        network = networks.get(student, model.config)
        if '/vanilla/' not in network:
            continue  # a name of the demo's is no name anywhere else
        model.config = str(root / network)
        if model.results is None:  # inference_model() looks for the task
            model.results = ResultList(
                [Result('Image Classification', 'unknown', {})])
        ModelHub._models_dict[model.name.lower()] = model
        names.append(model.name)
    return names
