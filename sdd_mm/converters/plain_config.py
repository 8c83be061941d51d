# Copyright (c) sdd_mm contributors. All rights reserved.
"""The config of a distillation's student for plain MMPretrain."""
import copy

from mmengine.config import Config
from mmengine.registry import HOOKS, Registry
from mmpretrain.registry import (DATASETS, METRICS, MODELS, OPTIM_WRAPPERS,
                                 TRANSFORMS)

from ..engine.config_keys import RUNNER_KEYS, as_list
from ..images import (LOADERS, datasets_of, preprocessor_of, student_arguments,
                      student_pipeline)
from .checkpoint import ConversionError

# keys of a config that belong to one run
RUN = ('work_dir', 'experiment_name', 'launcher', 'load_from', 'resume',
       'custom_hooks', 'custom_imports')


def plain_config(cfg: Config) -> Config:
    """The config of the student alone, as MMPretrain reads it.

    Leaves out what only distillation, or training with this package, needs.
    ``custom_imports`` keeps this package if a part of the student comes from
    it.

    Args:
        cfg (Config): The config of a run.

    Returns:
        Config: One that tests the student, and trains it alone.

    Raises:
        ConversionError: If the config has no model, none but by ``cfg_path``,
            or a recognizer of mmaction2.
    """
    plain = {
        key: value
        for key, value in cfg.to_dict().items()
        if key in RUNNER_KEYS and key not in RUN
    }
    model = plain.get('model')
    if not isinstance(model, dict):
        raise ConversionError('the config has no `model`: pass the config of '
                              'the run with --config')
    own = preprocessor_of(plain)
    plain['data_preprocessor'] = own and student_arguments(own)
    model = model.get('architecture', model)
    if 'cls_head' in model:
        raise ConversionError(
            f'its student {model.get("type")} is not of MMPretrain: mmaction2 '
            'loads the checkpoint of the run with load_checkpoint(model, '
            "PATH, revise_keys=[(r'^architecture\\.', '')])")
    if 'cfg_path' in model:
        raise ConversionError(
            'its model.architecture is a cfg_path: pass a --config whose '
            'model.architecture is the config of the student')
    plain['model'] = {
        key: value
        for key, value in model.items()
        if key not in ('_scope_', 'data_preprocessor')
    }
    if not plain.get('test_dataloader') and plain.get('val_dataloader'):
        # MMPretrain's inferencers read the test pipeline
        for part in ('dataloader', 'evaluator', 'cfg'):
            plain[f'test_{part}'] = copy.deepcopy(
                plain.get(f'val_{part}') or {})
    for key, loader in plain.items():
        if key.endswith('_dataloader') and loader and 'dataset' in loader:
            _simplify(loader)
    if 'default_hooks' in plain:
        plain['default_hooks'] = {
            name: hook
            for name, hook in plain['default_hooks'].items()
            if not (hook and _is_ours(HOOKS, hook.get('type')))
        }
    wrapper = plain.get('optim_wrapper')
    if wrapper and _is_ours(OPTIM_WRAPPERS, wrapper.get('type')):
        wrapper['type'] = wrapper['type'].replace('Deferred', '')
    hooks = [
        hook for hook in cfg.get('custom_hooks') or ()
        if not _is_ours(HOOKS, hook['type'])
    ]
    plain.update(default_scope='mmpretrain', custom_hooks=hooks)
    imports = [
        name
        for name in as_list((cfg.get('custom_imports') or {}).get('imports'))
        if name not in (None, 'sdd_mm')
    ]
    if _names_ours(plain):
        imports.insert(0, 'sdd_mm')
    if imports:
        plain['custom_imports'] = dict(
            imports=imports, allow_failed_imports=False)
    return Config(plain)


def _simplify(loader: dict) -> None:
    """Read a data set from files again, by MMPretrain's own names."""
    while loader['dataset']['type'] == 'InMemoryDataset':
        loader['dataset'] = loader['dataset']['dataset']
        loader.pop('collate_fn', None)
    for _, dataset in datasets_of('dataset', loader['dataset']):
        if dataset.get('pipeline'):
            dataset['pipeline'] = student_pipeline(dataset['pipeline'])
        for step in dataset.get('pipeline') or ():
            if step.get('type') in LOADERS:
                # the only name that MMPretrain's inferencers know
                step['type'] = 'LoadImageFromFile'


def _is_ours(registry: Registry, kind) -> bool:
    """Whether a type of a registry is this package's."""
    found = registry.get(kind) if isinstance(kind, str) else kind
    return getattr(found, '__module__', '').split('.')[0] == 'sdd_mm'


def _names_ours(value) -> bool:
    """Whether any type in a config is this package's."""
    if isinstance(value, dict):
        kind = value.get('type')
        return isinstance(kind, str) and any(
            _is_ours(registry, kind)
            for registry in (MODELS, DATASETS, TRANSFORMS, METRICS,
                             HOOKS)) or any(map(_names_ours, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_names_ours, value))
