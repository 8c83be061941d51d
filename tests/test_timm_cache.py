# Copyright (c) sdd_mm contributors. All rights reserved.
"""The weights that timm has downloaded, found without a network."""
import hashlib
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from test_configs import CONFIGS
from test_timm import trained

from sdd_mm.converters import ConversionError
from sdd_mm.converters.timm_pretrained import (AbsentWeightsError, cached_file,
                                               convert_timm_pretrained)
from sdd_mm.models.algorithms.teacher import load_teacher
from sdd_mm.weights import state_hash

timm = pytest.importorskip('timm')
ROOT = CONFIGS.parent
NAME, REPO = 'test_resnet', 'timm/test_resnet.r160_in1k'
URL = 'https://example.org/releases/some_model-{}.pth'


def put_in_hub(home, weights, repo=REPO, name='model.safetensors'):
    """A file as huggingface_hub keeps it: blobs, snapshots and refs."""
    from safetensors.torch import save_file
    root = home / 'hub' / f'models--{repo.replace("/", "--")}'
    snapshot = root / 'snapshots' / ('a' * 40)
    for path in (root / 'blobs', root / 'refs', snapshot):
        path.mkdir(parents=True, exist_ok=True)
    (root / 'refs/main').write_text('a' * 40)
    blob = root / 'blobs' / name
    if name.endswith('.safetensors'):
        save_file(weights, blob)
    else:
        torch.save(weights, blob)
    (snapshot / name).symlink_to(f'../../blobs/{blob.name}')
    return snapshot / name


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Empty caches of huggingface_hub and torch, and no network."""
    from huggingface_hub import constants
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hf/hub'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'torch/hub'))
    (tmp_path / 'hf').mkdir()
    return tmp_path / 'hf'


def make(folder, home, name, *options):
    """`make_config --teacher timm::NAME`, in a process of its own."""
    (folder / 'student.py').write_text(f'''
_base_ = ['{CONFIGS}/demo/student.py']
model = dict(head=dict(num_classes=1000))
''')
    environ = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        HF_HOME=str(home),
        HF_HUB_OFFLINE='1',
        TORCH_HOME=str(folder / 'torch'))
    environ.pop('HF_HUB_CACHE', None)
    return subprocess.run([
        sys.executable, ROOT / 'tools/make_config.py', 'out.py', '--student',
        'student.py', '--method', 'sd-kd', '--teacher', f'timm::{name}',
        '--teacher-size', '96', '--on-normalization-mismatch', 'convert',
        '--overwrite', *options
    ],
                          env=environ,
                          cwd=folder,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          text=True)


def test_a_teacher_with_the_weights_in_the_cache(tmp_path):
    own = trained(NAME, 1000)
    path = put_in_hub(tmp_path / 'hf', own.state_dict())
    result = make(tmp_path, tmp_path / 'hf', NAME)
    assert result.returncode == 0, result.stdout
    text = (tmp_path / 'out.py').read_text()
    cfg = Config.fromfile(tmp_path / 'out.py')
    # it says which file it was, and what was in it
    content = torch.load(cfg.model.teacher_ckpt)
    digest = state_hash(content['state_dict'])
    assert f'teacher: {path}, SHA-256 {digest}' in text
    assert cfg.model.teacher_ckpt == str(tmp_path /
                                         f'timm_{NAME}_{digest[:12]}.pth')
    # timm's normalization of these weights, not ImageNet's
    preprocessor = cfg.model.teacher.data_preprocessor
    assert preprocessor.mean == preprocessor.std == [127.5] * 3
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(cfg.model.teacher).eval()
    load_teacher(teacher, cfg.model.teacher_ckpt)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            teacher(images), own(images), rtol=1e-4, atol=1e-4)


def test_without_the_weights_it_says_what_to_download(tmp_path):
    result = make(tmp_path, tmp_path / 'hf', NAME)
    assert result.returncode == 0, result.stdout
    assert (f'`hf download {REPO} model.safetensors` and make the config '
            'again, or pass a checkpoint of your own') in result.stdout
    assert Config.fromfile(tmp_path / 'out.py').model.teacher_ckpt is None
    assert not list(tmp_path.glob('*.pth'))


def test_the_file_that_timm_would_take(home, tmp_path):
    defaults = dict(hf_hub_id=REPO, url=URL.format('x'))
    weights = dict(weight=torch.zeros(2))
    with pytest.raises(AbsentWeightsError, match=f'hf download {REPO} model'):
        cached_file(NAME, defaults)
    with pytest.raises(AbsentWeightsError, match='download https://example'):
        cached_file(NAME, dict(url=URL.format('x')))
    with pytest.raises(AbsentWeightsError, match='timm has no weights of'):
        cached_file(NAME, {})
    checkpoints = tmp_path / 'torch/hub/checkpoints'
    checkpoints.mkdir(parents=True)
    torch.save(weights, checkpoints / 'some_model-x.pth')
    assert cached_file(NAME, defaults) == checkpoints / 'some_model-x.pth'
    given = (('pytorch_model.bin', {}), ('model.safetensors', {}),
             ('other.bin', dict(hf_hub_filename='other.bin')),
             ('other.safetensors', dict(hf_hub_filename='other.bin')))
    for name, more in given:
        path = put_in_hub(home, weights, name=name)
        assert cached_file(NAME, dict(defaults, **more)) == path
    # another revision is another file
    with pytest.raises(AbsentWeightsError):
        cached_file(NAME, dict(hf_hub_id=f'{REPO}@other'))


def test_a_file_with_another_hash_than_its_name_is_refused(home, tmp_path):
    folder = tmp_path / 'torch/hub/checkpoints'
    folder.mkdir(parents=True)
    torch.save(dict(weight=torch.zeros(2)), folder / 'new')
    digest = hashlib.sha256((folder / 'new').read_bytes()).hexdigest()[:8]
    for digits in (digest, '0' * 8):
        path = folder / f'some_model-{digits}.pth'
        path.write_bytes((folder / 'new').read_bytes())
    assert cached_file(NAME, dict(url=URL.format(digest))).is_file()
    with pytest.raises(ConversionError, match='checksum mismatch'):
        cached_file(NAME, dict(url=URL.format('0' * 8)))


def test_what_does_not_fit_or_holds_code_is_refused(home):
    weights = trained(NAME, 1000).state_dict()
    path = put_in_hub(home, weights)
    assert convert_timm_pretrained(NAME, 1000)[1] == path
    with pytest.raises(AbsentWeightsError, match='1000 classes, the stud.* 9'):
        convert_timm_pretrained(NAME, 9)
    path.unlink()
    broken = dict(weights, surplus=torch.zeros(1))
    path = put_in_hub(home, broken)
    with pytest.raises(ConversionError, match='of timm: Error.*surplus'):
        convert_timm_pretrained(NAME, 1000)
    path.unlink()
    put_in_hub(home, dict(weights, code=Evil()), name='pytorch_model.bin')
    with pytest.raises(ConversionError, match='cannot be read: .*posix'):
        convert_timm_pretrained(NAME, 1000)


class Evil:
    """What runs a command when it is unpickled as it asks."""

    def __reduce__(self):
        return os.system, ('exit 1', )
