# Copyright (c) sdd_mm contributors. All rights reserved.
"""runtime/ knows nothing of SDD, and what it knows of MMEngine is listed."""
import ast
from pathlib import Path

import pytest
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop
from short_run import runner
from torch.utils.data import BatchSampler, DataLoader

from sdd_mm import runtime
from sdd_mm.runtime.errors import UnsupportedMMEngineError
from sdd_mm.runtime.private_names import PRIVATE
from sdd_mm.runtime.sample_seeding import numbered
from sdd_mm.runtime.stream import Stream

FOLDER = Path(runtime.__file__).parent
SOURCES = {path: ast.parse(path.read_text()) for path in FOLDER.rglob('*.py')}
# of torch and of os
OTHERS = {'_foreach_norm', '_C', '_iterator', '_exit'}


def test_it_imports_nothing_of_the_rest():
    found = set()
    for path, tree in SOURCES.items():
        package = ('sdd_mm', 'runtime', *path.relative_to(FOLDER).parts[:-1])
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                above = package[:len(package) + 1 - node.level]
                module = '.'.join([*above * bool(node.level)] +
                                  [node.module] * bool(node.module))
                found.add(module)
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
    ours = {name for name in found if name.split('.')[0] == 'sdd_mm'}
    assert len(ours) > 8
    assert all(name.split('.')[1:2] == ['runtime'] for name in ours), ours
    # nor of what distils and classifies
    assert not {name.split('.')[0]
                for name in found} & {'mmcv', 'mmpretrain', 'mmrazor'}


def test_every_private_name_of_mmengine_is_in_the_table():
    used, own = set(), set()
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and not node.attr.startswith(
                    '__') and node.attr.startswith('_'):
                used.add(node.attr)
                if isinstance(node.ctx, ast.Store):
                    own.add(node.attr)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own.add(node.name)
    listed = {name for names in PRIVATE.values() for name in names}
    assert used - own - OTHERS <= listed
    # names that are overridden are listed, too; this one is asked for by name
    assert listed - used - own == {'_inner_count'}
    rows = {tuple(row.split()[:2]) for row in runtime.__doc__.splitlines()}
    for owner, names in PRIVATE.items():
        assert {(owner, name) for name in names} <= rows


def test_another_mmengine_is_refused_in_a_sentence(tmp_path, monkeypatch):
    run = runner(tmp_path, hooks=[dict(type='ExactResumeHook')])
    monkeypatch.delattr(EpochBasedTrainLoop, '_decide_current_val_interval')
    with pytest.raises(
            UnsupportedMMEngineError,
            match='no EpochBasedTrainLoop._decide_current_val_interval, which'
            '.*: install mmengine 0.10.7'):
        run.train()


def test_batches_are_skipped_as_the_maintained_fork_does():
    """onedl-mmengine calls skip_iter where mmengine calls next."""

    def stream(done):
        sampler = InfiniteSampler(range(10), shuffle=True, seed=0)
        loader = DataLoader(
            range(10), batch_sampler=BatchSampler(sampler, 4, False))
        return Stream(numbered(loader, 0, 0, 1), done)

    whole, asked, skipped = stream(0), stream(3), stream(3)
    batches = [next(whole) for _ in range(6)]
    assert [next(asked) for _ in range(3)] == [None] * 3
    skipped.skip_iter(3)
    for one in (asked, skipped):
        assert all(map(torch.equal, batches[3:], one))
