# Copyright (c) sdd_mm contributors. All rights reserved.
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / 'configs/_base_/models'
IMAGE = dict(cifar100=32, cub200=224, imagenet=224)

# parameters with the head and map before pooling, as the literature has them
CONFIGURED = {
    'resnet8_cifar100': (83892, (64, 8, 8)),
    'resnet14_cifar100': (181108, (64, 8, 8)),
    'resnet20_cifar100': (278324, (64, 8, 8)),
    'resnet32_cifar100': (472756, (64, 8, 8)),
    'resnet44_cifar100': (667188, (64, 8, 8)),
    'resnet56_cifar100': (861620, (64, 8, 8)),
    'resnet110_cifar100': (1736564, (64, 8, 8)),
    'resnet8x4_cifar100': (1233540, (256, 8, 8)),
    'resnet32x4_cifar100': (7433860, (256, 8, 8)),
    'resnet18_cifar100': (11220132, (512, 4, 4)),
    'resnet50_cifar100': (23705252, (2048, 4, 4)),
    'wrn16-1_cifar100': (180916, (64, 8, 8)),
    'wrn40-2_cifar100': (2255156, (128, 8, 8)),
    'wrn16-2_cifar100': (703284, (128, 8, 8)),
    'wrn40-1_cifar100': (569780, (64, 8, 8)),
    'vgg8_cifar100': (3965028, (512, 4, 4)),
    'vgg13_cifar100': (9462180, (512, 4, 4)),
    'mobilenet-v2_cifar100': (812836, (1280, 2, 2)),
    'shufflenet-v1_cifar100': (949258, (960, 4, 4)),
    'shufflenet-v2_cifar100': (1355528, (1024, 4, 4)),
    'resnet8x4_cub200': (1263080, (256, 28, 28)),
    'resnet32x4_cub200': (7463400, (256, 28, 28)),
    'resnet50_cub200': (23917832, (2048, 14, 14)),
    'vgg8_cub200': (4016328, (512, 28, 28)),
    'vgg13_cub200': (9513480, (512, 28, 28)),
    'mobilenet-v2_cub200': (942856, (1280, 7, 7)),
    'shufflenet-v1_cub200': (1048814, (960, 14, 14)),
    'shufflenet-v2_cub200': (1461484, (1024, 14, 14)),
    'resnet18_imagenet': (11689512, (512, 7, 7)),
    'resnet34_imagenet': (21797672, (512, 7, 7)),
    'resnet50_imagenet': (25557032, (2048, 7, 7)),
    'mobilenet-v1_imagenet': (4231976, (1024, 7, 7)),
}


def test_every_model_config_is_the_network_of_the_literature():
    for name, (parameters, shape) in CONFIGURED.items():
        path, size = CONFIGS / f'{name}.py', IMAGE[name.split('_')[-1]]
        config = Config.fromfile(path)
        (variable, ) = config.keys()
        assert variable == name.rsplit('_', 1)[0].replace('-', '_'), name
        model = MODELS.build(config[variable])
        found = sum(p.numel() for p in model.parameters())
        assert found == parameters, name
        assert path.read_text().startswith(
            f'# {parameters:,} parameters, {shape[0]} x {shape[1]} x '
            f'{shape[2]} before pooling\n'), name
        with torch.no_grad():
            feature = model.backbone(torch.randn(1, 3, size, size))[-1]
            logits = model.head((feature.mean((2, 3)), ))
        assert feature.shape == (1, *shape), name
        assert feature.min() == 0 and logits.isfinite().all(), name  # ReLU


def test_no_model_config_is_forgotten():
    found = {path.stem for path in CONFIGS.glob('*.py')}
    assert {n for n in found if 'digit_scenes' not in n} == set(CONFIGURED)


def test_depth_counts_the_layers():
    for depth in (8, 14, 20, 32, 44, 56, 110):
        model = MODELS.build(dict(type='CIFARResNet', depth=depth))
        layers = [
            name for name, module in model.named_modules()
            if isinstance(module, torch.nn.Conv2d) and 'downsample' not in name
        ]
        assert len(layers) == depth - 1  # and the head


def test_unknown_arguments_are_refused():
    with pytest.raises(ValueError, match='6 n'):
        MODELS.build(dict(type='CIFARResNet', depth=18))
    with pytest.raises(ValueError, match='depth must be one of'):
        MODELS.build(dict(type='CIFARVGG', depth=16))
    for config in (dict(type='CIFARResNet', depth=8),
                   dict(type='CUBResNet',
                        depth=18), dict(type='CIFARMobileNetV2'),
                   dict(type='CIFARShuffleNetV1'),
                   dict(type='CIFARShuffleNetV2')):
        with pytest.raises(ValueError, match="stem must be .*'imagenet'"):
            MODELS.build(dict(config, stem='imagenet'))


def test_a_backbone_starts_from_a_checkpoint_of_its_own(tmp_path):
    for config in (dict(type='CIFARMobileNetV2'),
                   dict(type='CIFARResNet',
                        depth=8), dict(type='CIFARShuffleNetV1'),
                   dict(type='CIFARShuffleNetV2'),
                   dict(type='CIFARVGG', depth=8), dict(type='MobileNetV1')):
        torch.manual_seed(0)
        trained = MODELS.build(config)
        trained.init_weights()
        path = str(tmp_path / 'backbone.pth')
        torch.save(dict(state_dict=trained.state_dict()), path)
        model = MODELS.build(
            dict(config, init_cfg=dict(type='Pretrained', checkpoint=path)))
        model.init_weights()
        for key, value in trained.state_dict().items():
            torch.testing.assert_close(model.state_dict()[key], value)
