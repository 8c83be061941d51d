# Copyright (c) sdd_mm contributors. All rights reserved.
"""timm's transformers that average patch tokens, as teachers of SDD."""
import commands
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmrazor.registry import TASK_UTILS
from test_configs import CONFIGS, smoke

from sdd_mm import make_config
from sdd_mm.config_builder import ConfigBuilderError
from sdd_mm.converters import ConversionError
from sdd_mm.converters.timm_classifier import convert_timm_file
from sdd_mm.converters.timm_tokens import timm_tokens_teacher
from sdd_mm.models.algorithms.teacher import load_teacher

timm = pytest.importorskip('timm')
STUDENT = str(CONFIGS / 'demo/student.py')


@pytest.fixture(scope='module', autouse=True)
def small_models():
    """Models of timm's classes under timm's names for them, in small."""
    from timm.models import register_model
    from timm.models.mlp_mixer import MlpMixer
    from timm.models.vision_transformer import VisionTransformer

    def define(name, build, **settings):

        def create(pretrained=False, **kwargs):
            kwargs = {
                key: value
                for key, value in kwargs.items() if key == 'num_classes'
            }
            model = build(
                img_size=32, patch_size=8, embed_dim=16, **settings, **kwargs)
            model.pretrained_cfg = model.default_cfg = dict(
                input_size=(3, 32, 32),
                mean=(0.5, 0.4, 0.3),
                std=(0.2, 0.25, 0.3),
                num_classes=1000)
            return model

        create.__name__, create.__module__ = name, __name__
        register_model(create)

    vit = dict(build=VisionTransformer, depth=2, num_heads=2)
    gap = dict(vit, global_pool='avg', class_token=False)
    define('small_gap', fc_norm=False, **gap)
    define('small_reg4_gap', fc_norm=False, reg_tokens=4, **gap)
    define('small_norm_gap', reg_tokens=2, **gap)
    define(
        'small_prefix_gap',
        fc_norm=False,
        pool_include_prefix=True,
        reg_tokens=4,
        **gap)
    define('small_cls', **vit)
    define('small_map', **dict(gap, global_pool='map'))
    define('small_mixer', MlpMixer, num_blocks=2)


EXACT = dict(small_gap=0, small_reg4_gap=4, small_mixer=0)
REGION = dict(EXACT, small_norm_gap=2)


def teacher_of(name, region=False):
    """A teacher with random weights, its recorder, and timm's model."""
    torch.manual_seed(0)
    config, recorder = timm_tokens_teacher(name, 10, region=region)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = MODELS.build(config).eval()
    for value in teacher.parameters():
        torch.nn.init.normal_(value, 0, 0.3)
    recorder = dict(recorder, type=f'{recorder["type"]}Recorder')
    recorder = TASK_UTILS.build(recorder)
    recorder.initialize(teacher)
    return teacher, recorder, teacher.backbone.net


@pytest.mark.parametrize('name, region',
                         [(name, False)
                          for name in EXACT] + [(name, True)
                                                for name in REGION])
def test_cells_are_the_models_logits_of_their_patch_tokens(name, region):
    """Token by token: what the model says if it averages fewer tokens."""
    teacher, recorder, model = teacher_of(name, region)
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        with recorder:
            own = teacher(images)
        found = recorder.get_record_data().local_logits((1, 2, 4), 'direct')
        tokens = model.forward_features(images)[:, REGION[name]:]
        assert tokens.shape == (3, 16, 16) and own.std() > 1e-2
        wanted = []
        for scale in (1, 2, 4):
            side = 4 // scale
            for row in range(scale):
                for column in range(scale):
                    inside = [
                        token for token in range(16) if token // 4 //
                        side == row and token % 4 // side == column
                    ]
                    mean = tokens[:, inside].mean(1)
                    if name == 'small_norm_gap':
                        mean = model.fc_norm(mean)
                    wanted.append(model.head(mean))
    torch.testing.assert_close(
        found, torch.stack(wanted), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0], own, rtol=1e-4, atol=1e-5)
    if not region:  # linear: coarse cells are averages of fine ones
        torch.testing.assert_close(
            found[5:].mean(0), own, rtol=1e-4, atol=1e-5)


def test_a_token_is_where_its_patch_is():
    """Without attention between them, only the changed patch's cell moves."""
    _, recorder, model = teacher_of('small_reg4_gap')
    for block in model.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
        torch.nn.init.zeros_(block.attn.proj.bias)
    images, cells = torch.zeros(2, 3, 32, 32), []
    images[1, :, 8:16, 24:32] = 1
    with torch.no_grad(), recorder:
        recorder._model(images)
    cells = recorder.get_record_data().local_logits((4, ), 'direct')
    moved = (cells[:, 0] - cells[:, 1]).abs().amax(1) > 1e-3
    assert moved.nonzero().flatten().tolist() == [4 * 1 + 3]


@pytest.mark.parametrize('name, reason', [
    ('small_norm_gap', r'fc_norm \(LayerNorm\), so '),
    ('small_prefix_gap', 'differ from its own by'),
    ('small_cls', 'does not average the patch'),
    ('small_map', 'does not average the patch'),
    ('test_vit_relpos', r'fc_norm \(LayerNorm\)'),
    ('resnet10t', 'does not average the patch'),
])
def test_what_is_not_linear_in_its_tokens_is_refused(name, reason):
    if not timm.is_model(name):
        pytest.skip(f'timm {timm.__version__} has no {name}')
    with pytest.raises(ConversionError, match=reason):
        timm_tokens_teacher(name, 10)


def save_teacher(name, folder):
    """A model of timm, as timm.pth and converted."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    torch.save(model.state_dict(), folder / 'timm.pth')
    convert_timm_file(name, str(folder / 'timm.pth'),
                      str(folder / 'teacher.pth'))


@pytest.mark.parametrize('name, settings', [
    ('small_reg4_gap', None),
    ('small_norm_gap', dict(type='RegionHead')),
])
def test_sdd_of_a_vision_transformer(tmp_path, name, settings):
    given = dict(
        student=STUDENT,
        teacher=f'timm::{name}',
        method='sd-kd',
        on_normalization_mismatch='convert')
    if settings:
        with pytest.raises(ConfigBuilderError, match='RegionHead.*kd, dkd'):
            make_config(tmp_path / 'sd-kd.py', **given)
    save_teacher(name, tmp_path)
    path = make_config(
        tmp_path / 'sd-kd.py',
        teacher_ckpt=tmp_path / 'teacher.pth',
        teacher_recorder=settings,
        **given)
    cfg = Config.fromfile(path)
    assert cfg.model.teacher.data_preprocessor.mean == [127.5, 102, 76.5]
    recorder = cfg.model.distiller.teacher_recorders.feature_head
    assert recorder.prefix_tokens == REGION[name]
    for file in ('timm.pth', 'teacher.pth'):  # a smoke run leaves none
        (tmp_path / file).rename(tmp_path / f'{file}.kept')
    cfg.model.teacher_ckpt = str(tmp_path / 'teacher.pth.kept')
    cfg.dump(path)
    runner, losses = smoke(path, tmp_path / 'run')
    assert losses['distill.loss_sdd'] > 0
    load_teacher(runner.model.teacher, cfg.model.teacher_ckpt)


def test_prefix_tokens_need_a_grid():
    for given in (dict(prefix_tokens=1),
                  dict(prefix_tokens=-1, token_grid=(2, 2))):
        with pytest.raises(ValueError, match='prefix_tokens must be'):
            TASK_UTILS.build(dict(type='FeatureHeadRecorder', **given))


def test_a_training_by_the_command(tmp_path):
    """Of a model that timm itself has, at its own resolution."""
    name = 'vit_wee_patch16_reg1_gap_256'
    save_teacher(name, tmp_path)
    path = make_config(
        tmp_path / 'sd-kd.py',
        student=STUDENT,
        teacher=f'timm::{name}',
        method='sd-kd',
        teacher_ckpt=tmp_path / 'teacher.pth',
        teacher_size=256,
        teacher_recorder=dict(type='RegionHead'),
        on_normalization_mismatch='convert')
    done = commands.run(commands.ROOT / 'tools' / 'train.py', path, '--smoke',
                        2, '--work-dir', tmp_path / 'run', '--cfg-options',
                        'train_dataloader.batch_size=4')
    assert done.returncode == 0 and 'distill.loss_sdd' in done.stdout
