# Copyright (c) sdd_mm contributors. All rights reserved.
"""Labels that are no class end a run before they are used."""
import pytest
from short_run import SCENES, loader, runner

from sdd_mm.runtime.errors import LabelError

HOOKS = [dict(type='LabelCheckHook')]


def train(work_dir, label, in_memory=False):
    data = dict(SCENES, split='train')
    loaded = loader()
    if in_memory:
        data = dict(type='InMemoryDataset', dataset=data)
        loaded['collate_fn'] = dict(type='batch_or_collate')
    run = runner(
        work_dir, hooks=HOOKS, train_dataloader=dict(loaded, dataset=data))
    dataset = run.train_dataloader.dataset
    if in_memory:
        dataset._labels[7] = label
    else:
        dataset.full_init()
        dataset.data_list[7]['gt_label'] = label
    run.train()


@pytest.mark.parametrize('in_memory, where', [(False, '7'), (True, 'image 7')])
@pytest.mark.parametrize('label', [-1, 10, 255])
def test_a_label_that_is_no_class(tmp_path, in_memory, where, label):
    with pytest.raises(
            LabelError,
            match=f'^{where}: label {label} is not one of the 10 classes'):
        train(tmp_path, label, in_memory)
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('in_memory', [False, True])
def test_all_classes_pass(tmp_path, in_memory):
    train(tmp_path, 9, in_memory)
