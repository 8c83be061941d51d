# Copyright (c) sdd_mm contributors. All rights reserved.
"""Which of MMPretrain's classifiers distill, and how.

One representative of every family in MMPretrain's ``_base_/models`` takes an
SD-KD step as student and as teacher, or is refused. The table of the verdicts
is docs/en/families.md; ``pytest tests/test_families.py --write-families``
writes it anew.
"""
import copy
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from toy import algorithm, batch
from toy import build as build_algorithm
from toy import classifier, sdd_loss

from sdd_mm.models.recorders import (FeatureHeadError, FeatureHeadRecorder,
                                     LogitsRecorder, RegionHeadRecorder)
from sdd_mm.models.records import RegionHead

BASES = Path(mmpretrain.__file__).parent / '.mim' / 'configs/_base_/models'
PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'en' / 'families.md'
MEASURED = '<!-- measured by tests/test_families.py: what follows is '\
           'written by it -->\n'
REGION = dict(type='RegionHead')

# representative: (image size, recorder or None for the default)
DISTIL = {
    'convmixer/convmixer-768-32': (64, None),
    'convnext/convnext-tiny': (64, REGION),
    'davit/davit-tiny': (224, None),
    'densenet/densenet121': (64, None),
    'edgenext/edgenext-xxsmall': (64, REGION),
    'efficientformer-l1': (224, dict(REGION, token_grid=(7, 7))),
    'efficientnet_b0': (64, None),
    'efficientnet_v2/efficientnetv2_b0': (64, None),
    'hivit/tiny_224': (224, None),
    'hornet/hornet-tiny': (64, REGION),
    'hrnet/hrnet-w18': (64, None),
    'inception_v3':
    (299,
     dict(type='FeatureHead', pooling='backbone.avgpool', head='backbone.fc')),
    'levit-256-p16': (224, REGION),
    'mixmim/mixmim_base':
    (224,
     dict(type='FeatureHead', pooling='backbone.avgpool', token_grid=(7, 7))),
    'mlp_mixer_base_patch16': (224,
                               dict(type='FeatureHead', token_grid=(14, 14))),
    'mobilenet_v2_1x': (64, None),
    'mobilenet_v3/mobilenet_v3_small_050_imagenet': (64, REGION),
    'mobileone/mobileone_s0': (64, None),
    'mobilevit/mobilevit_xxs': (64, None),
    'mvit/mvitv2-tiny': (64, None),
    'poolformer/poolformer_s12': (64, None),
    'regnet/regnetx_400mf': (64, None),
    'replknet-31B_in1k': (64, None),
    'repmlp-base_224': (224, None),
    'repvgg-A0_in1k': (64, None),
    'res2net50-w14-s8': (64, None),
    'resnest50': (64, None),
    'resnet18': (64, None),
    'resnet18_cifar': (32, None),
    'resnet34_gem': (64, REGION),
    'resnet50_cifar_mixup': (32, None),
    'resnet50_mixup': (64, None),
    'resnetv1c50': (64, None),
    'resnetv1d50': (64, None),
    'resnext50_32x4d': (64, None),
    'revvit/revvit-small': (224,
                            dict(
                                type='FeatureHead',
                                feature='backbone.fusion_layer',
                                token_grid=(14, 14))),
    'seresnet50': (64, None),
    'seresnext50_32x4d': (64, None),
    'shufflenet_v1_1x': (64, None),
    'shufflenet_v2_1x': (64, None),
    'swin_transformer/tiny_224': (224, None),
    'swin_transformer_v2/tiny_256': (256, None),
    'tinyvit/tinyvit-5m': (224, REGION),
    'twins_pcpvt_base': (64, None),
    'twins_svt_base': (64, None),
    'van/van_tiny': (64, None),
    'vig/pyramid_vig_tiny': (224, REGION),
    'vig/vig_tiny': (224, REGION),
}
REFUSED = [
    'conformer/tiny-p16', 'deit3/deit3-small-p16-224', 'eva/eva-l',
    'itpn_hivit-base-p16', 'mae_hivit-base-p16', 'mae_vit-base-p16',
    't2t-vit-t-14', 'tnt_s_patch16_224', 'vgg11', 'vit-base-p32'
]
# MMPretrain itself does not train them with their two heads
TEACHERS_ONLY = ('efficientformer-l1', 'levit-256-p16')


def family(path):
    """What makes a family: backbone, neck and head."""
    model = Config.fromfile(path).model
    neck = model.get('neck')
    neck = neck[-1] if isinstance(neck, list) else neck or {}
    head = model.get('head') or {}
    return model.backbone.type, neck.get('type'), head.get('type')


def config(name):
    """The model of ten classes that a representative describes."""
    model = Config.fromfile(BASES / f'{name}.py').model.to_dict()
    model.pop('train_cfg', None)  # Mixup has its own tests
    model['backbone'].pop('init_cfg', None)
    head = model['head']
    for part in (model['backbone'], head, head.get('loss', {})):
        if 'num_classes' in part:
            part['num_classes'] = 10
    if 'topk' in head:
        head['topk'] = (1, )
    return model


def step(name, size, recorder, role):
    """Loss of an SD-KD step, and the record of the representative."""
    distiller = dict(
        type='SDDDistiller', distill_losses=dict(loss_sdd=sdd_loss()))
    if recorder:
        distiller[f'{role}_recorders'] = dict(feature_head=dict(recorder))
    preprocessor = algorithm()['data_preprocessor']
    roles = dict(student=classifier(), teacher=classifier())
    roles[role] = config(name)
    roles['teacher']['data_preprocessor'] = copy.deepcopy(preprocessor)
    model = build_algorithm(
        architecture=roles['student'],
        teacher=roles['teacher'],
        distiller=distiller)
    kept = []
    model.distiller.reset_records = lambda: kept.append(
        getattr(model.distiller, f'{role}_recorders').get_recorder(
            'feature_head').get_record_data())
    data = model.data_preprocessor(batch(2, size=size), training=True)
    losses = model.train()(**data, mode='loss')
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert torch.isfinite(total)
    assert losses['distill.loss_sdd'] > 0
    for parameter in model.student.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    return kept[0]


def verdict(name, role):
    """What the documents say of a representative in a role."""
    size, recorder = DISTIL[name]
    if recorder == REGION:  # has to be asked for
        with pytest.raises(FeatureHeadError, match="type='RegionHead'"):
            step(name, size, None, role)
    if role == 'student' and name in TEACHERS_ONLY:
        with pytest.raises(NotImplementedError, match='support'):
            step(name, size, recorder, role)
        return 'not trained by MMPretrain'
    record = step(name, size, recorder, role)
    return 'region' if isinstance(record, RegionHead) else 'exact'


def row(name, *cells):
    backbone, neck, head = family(BASES / f'{name}.py')
    parts = f'{backbone}, {head}' if neck in (
        None, 'GlobalAveragePooling') else f'{backbone}, {neck}, {head}'
    return f'| {" | ".join((parts, f"`{name}`", *cells))} |'


def as_config(recorder):
    """A recorder as one writes it."""
    if recorder is None:
        return 'default'
    values = ', '.join(f'{key}={value!r}' for key, value in recorder.items())
    return f'`dict({values})`'


@pytest.mark.parametrize('name', DISTIL)
def test_distils_as_the_table_says(name, families_page):
    student, teacher = (verdict(name, role) for role in ('student', 'teacher'))
    families_page.check(
        row(name, student, teacher, as_config(DISTIL[name][1])))


@pytest.mark.parametrize('name', REFUSED)
def test_is_refused_with_its_reason(name, families_page):
    model = MODELS.build(config(name))
    with pytest.raises(FeatureHeadError) as info:
        FeatureHeadRecorder().initialize(model)
    with pytest.raises(FeatureHeadError):
        RegionHeadRecorder().initialize(model)
    reason = str(info.value).split(': ', 1)[1].split('. ', 1)[0]
    assert 'RegionHead' not in str(info.value)
    families_page.check(row(name, reason, by_logits(name, model)))


def by_logits(name, model):
    """Whether a teacher without cells distills by its logits alone."""
    recorder = LogitsRecorder()
    recorder.initialize(model)
    images = torch.zeros(1, 3, 224, 224)
    try:
        with recorder, torch.no_grad():
            logits = model.eval()(images, mode='tensor')
    except (FeatureHeadError, TypeError, ValueError):
        return 'no'  # two heads, or a network that does not classify
    record = recorder.get_record_data()
    assert torch.equal(record.logits(), logits) and logits.ndim == 2
    return 'yes'


def test_every_family_has_a_representative():
    represented = {
        family(BASES / f'{name}.py')
        for name in (*DISTIL, *REFUSED)
    }
    assert represented == {family(path) for path in BASES.rglob('*.py')}
    assert len(represented) == len(DISTIL) + len(REFUSED)
    assert len(DISTIL) >= 40


class Page:
    """docs/en/families.md, read and checked or written anew."""

    def __init__(self, write):
        self.write = write
        self.rows = []
        self.introduction, self.text = PAGE.read_text().split(MEASURED)

    def check(self, line):
        if self.write:
            self.rows.append(line)
        else:
            assert f'{line}\n' in self.text

    def close(self):
        if not self.rows:
            return
        rows = [[r for r in self.rows if r.count(' | ') == bars]
                for bars in (4, 3)]
        assert [len(r) for r in rows] == [len(DISTIL), len(REFUSED)]
        table = [
            '| family | representative | as student | as teacher | '
            'recorder |', '|---|---|---|---|---|', *rows[0]
        ]
        refused = [
            '| family | representative | reason | by its logits alone |',
            '|---|---|---|---|', *rows[1]
        ]
        PAGE.write_text(self.introduction + MEASURED + '\n'.join([
            f'## {len(DISTIL)} families that distill', '', *table, '',
            f'## {len(REFUSED)} without cells', '', *refused, ''
        ]))


@pytest.fixture(scope='module')
def families_page(request):
    page = Page(request.config.getoption('--write-families'))
    yield page
    page.close()
