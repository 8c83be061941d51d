# Copyright (c) sdd_mm contributors. All rights reserved.
"""Numbers of configs/standardized/ against the names of published logs."""
import pytest
from mmengine.config import Config
from test_configs import CONFIGS, smoke

# TEACHER,STUDENT,TAU,WEIGHT and DKD's BETA, which is 8 if the name has none
LOGS = '''
kd,ResNet50,MobileNetV2,3,1
kd,resnet110,resnet32,2,9
kd,resnet32x4,ShuffleV2,2,9
kd,resnet32x4,resnet8x4,2,9
kd,resnet56,resnet20,2,9
kd,vgg13,MobileNetV2,3,9
kd,vgg13,vgg8,3,9
kd,wrn_40_2,MobileNetV2,3,9
kd,wrn_40_2,wrn_16_2,2,9
kd,wrn_40_2,wrn_40_1,2,9
dkd,ResNet50,MobileNetV2,2,15,2.0
dkd,resnet110,resnet32,2,15,2.0
dkd,resnet32x4,ShuffleV2,2,9
dkd,resnet32x4,resnet8x4,2,9
dkd,resnet56,resnet20,3,12,2.0
dkd,vgg13,MobileNetV2,3,9,2.0
dkd,vgg13,vgg8,2,15,2.0
dkd,wrn_40_2,MobileNetV2,2,15,2.0
dkd,wrn_40_2,wrn_16_2,2,12,2.0
dkd,wrn_40_2,wrn_40_1,2,12,2.0
'''.split()


def ours(network):
    for theirs, name in (('wrn_40_', 'wrn40-'), ('wrn_16_', 'wrn16-'),
                         ('MobileNetV2', 'mbv2'), ('ShuffleV2', 'shuv2'),
                         ('ResNet', 'res'), ('resnet', 'res')):
        network = network.replace(theirs, name)
    return network


def test_numbers_are_those_of_the_logs():
    found = set()
    for log in LOGS:
        method, teacher, student, tau, weight, *beta = log.split(',')
        pair = f'{ours(teacher)}_{ours(student)}_cifar100'
        path = CONFIGS / f'standardized/sd-{method}-ls_{pair}.py'
        cfg, plain = map(Config.fromfile,
                         (path, CONFIGS / f'sdd/sd-{method}_{pair}.py'))
        losses = cfg.model.distiller.distill_losses
        before = plain.model.distiller.distill_losses.loss_sdd
        criterion = dict(before.criterion, tau=float(tau), standardize=True)
        if method == 'dkd':
            criterion['beta'] = float(*beta or ['8'])
        # everything else is SDD's
        before.update(criterion=criterion, loss_weight=float(weight))
        assert losses.loss_sdd == before, path
        assert cfg.model == plain.model, path
        for key in ('custom_hooks', 'optim_wrapper', 'train_dataloader'):
            assert cfg[key] == plain[key], path
        found.add(path)
    assert found == set((CONFIGS / 'standardized').glob('*.py'))


@pytest.mark.parametrize('method', ['kd', 'dkd'])
def test_a_step(method, tmp_path):
    name = f'sd-{method}-ls_res56_res20_cifar100.py'
    _, losses = smoke(CONFIGS / 'standardized' / name, tmp_path)
    assert losses['distill.loss_sdd'] > 0
