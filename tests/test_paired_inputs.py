# Copyright (c) sdd_mm contributors. All rights reserved.
"""A teacher with images of its own: both views are of one scene."""
import random
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, TRANSFORMS
from mmrazor.registry import MODELS
from PIL import Image

from sdd_mm.analysis import load_run, validation_loader
from sdd_mm.converters.plain_config import plain_config
from sdd_mm.datasets import PairedInputsError
from sdd_mm.engine.errors import PreflightError
from sdd_mm.engine.preflight import check_training
from sdd_mm.engine.preflight.files import check_images
from sdd_mm.engine.preflight.paired import check_paired_steps
from sdd_mm.images import student_pipeline, teacher_order
from sdd_mm.input_format import InputFormat
from sdd_mm.models.data_preprocessor import PairedDataPreprocessor

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'demo'
FEW = {
    'train_dataloader.dataset.num_scenes': 100,
    'train_dataloader.batch_size': 20,
    'val_dataloader.dataset.num_scenes': 40,
    'val_dataloader.batch_size': 20,
    'test_dataloader.dataset.num_scenes': 40,
    'train_cfg.max_epochs': 1,
    'default_hooks.logger.interval': 1,
}
# what changes geometry, and must change it alike
GEOMETRY = [
    dict(type='RandomCrop', crop_size=24, padding=4),
    dict(type='RandomResizedCrop', scale=24),
    dict(type='EfficientNetRandomCrop', scale=24),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.9, direction=['horizontal', 'vertical']),
    dict(type='ResizeEdge', scale=40),
    dict(type='Resize', scale=(24, 40)),
    dict(type='CenterCrop', crop_size=24),
    dict(type='EfficientNetCenterCrop', crop_size=24),
    dict(type='RandomTranslatePad', size=40, aug_translate=True),
    dict(type='RandomResize', scale=(24, 24), ratio_range=(0.5, 2.0)),
    dict(type='RandomChoiceResize', scales=[(24, 24), (40, 40)]),
    dict(type='Pad', size=(40, 40)),
    dict(type='Cutout', shape=8),
    dict(type='Rotate', angle=30., prob=0.5),
    dict(type='Shear', magnitude=0.3, prob=0.5),
    dict(type='Translate', magnitude=0.3, prob=0.5),
    dict(type='RandomErasing', erase_prob=0.5, mode='rand'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9),
    dict(type='AutoAugment', policies='imagenet'),
    dict(
        type='RandomApply',
        prob=0.5,
        transforms=[dict(type='RandomCrop', crop_size=32, padding=3)]),
    dict(
        type='RandomChoice',
        transforms=[[dict(type='RandomFlip', prob=1.0)],
                    [dict(type='RandomResizedCrop', scale=32)]]),
    dict(type='torchvision/RandomAffine', degrees=20, translate=(0.2, 0.2)),
]


def positions(size=32):
    """An image that says of every pixel where it is."""
    place = np.arange(size, dtype=np.uint8) * 7 + 5
    rows, columns = np.meshgrid(place, place, indexing='ij')
    return np.stack([rows, columns, rows // 2 + columns // 2], axis=2)


@pytest.mark.parametrize('step', GEOMETRY, ids=lambda step: step['type'])
def test_both_images_change_alike(step):
    transforms = [step]
    if step['type'].startswith('torchvision/'):
        transforms = [dict(type='NumpyToPIL'), step, dict(type='PILToNumpy')]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        both = TRANSFORMS.build(
            dict(type='ApplyToBoth', transforms=transforms))
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    seen = []
    for _ in range(20):
        image = positions()
        found = both(
            dict(img=image, teacher_img=image.copy(), img_shape=(32, 32)))
        assert np.array_equal(found['img'], found['teacher_img'])
        seen.append(found['img'].tobytes())
    moves = not step['type'].startswith(
        ('Resize', 'Center', 'EfficientNetC', 'Pad'))
    assert len(set(seen)) > 1 or not moves


def test_images_of_different_kinds():
    both = TRANSFORMS.build(
        dict(
            type='ApplyToBoth',
            transforms=[
                dict(type='RandomResizedCrop', scale=16),
                dict(type='RandomFlip', prob=0.5)
            ]))
    np.random.seed(0)
    image = positions()
    for depth in (image[..., :1], image[..., 0]):
        found = both(dict(img=image, teacher_img=depth, img_shape=(32, 32)))
        assert np.array_equal(found['img'][..., 0],
                              found['teacher_img'].squeeze())


def test_numbers_drawn_for_colors_are_noticed():
    """Torch draws as many numbers as there are values."""

    def noise(results):
        torch.rand(results['img'].shape)
        return results

    both = TRANSFORMS.build(dict(type='ApplyToBoth', transforms=[]))
    both.transforms = [noise]
    with pytest.raises(PairedInputsError, match='other random numbers'):
        both(dict(img=positions(), teacher_img=positions()[..., 0]))
    both.transforms = []
    with pytest.raises(PairedInputsError, match='32 x 32 .* 30 x 30 are no '):
        both(dict(img=positions(), teacher_img=positions(30)))
    with pytest.raises(PairedInputsError, match='add LoadTeacherImage'):
        both(dict(img=positions()))


def test_a_transform_with_random_numbers_of_its_own_is_noticed():
    numbers = np.random.default_rng(0)

    def flip(results):
        if numbers.random() < 0.5:
            results['img'] = results['img'][:, ::-1].copy()
        return results

    both = TRANSFORMS.build(dict(type='ApplyToBoth', transforms=[]))
    both.transforms = [flip]
    with pytest.raises(PairedInputsError, match='numbers of its own'):
        for _ in range(20):
            both(dict(img=positions(), teacher_img=positions()[..., 0]))


def test_images_end_as_arrays():
    both = TRANSFORMS.build(
        dict(type='ApplyToBoth', transforms=[dict(type='NumpyToPIL')]))
    with pytest.raises(PairedInputsError, match='PILToNumpy'):
        both(dict(img=positions(), teacher_img=positions()))


@pytest.fixture
def folders(tmp_path):
    """Photos and their depth in folders side by side."""
    for view in ('rgb', 'depth'):
        for label in range(2):
            folder = tmp_path / view / f'class{label}'
            folder.mkdir(parents=True)
            for number in range(4):
                image = np.roll(positions(40), 5 * number + label, 1)
                cv2.imwrite(
                    str(folder / f'{number}.png'),
                    image if view == 'rgb' else image[..., 0])
    return tmp_path


def built(config, pipeline):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(dict(config, pipeline=pipeline))


def test_folders_of_photos_and_of_depth(folders):
    load = [
        dict(type='LoadImageFromFile'),
        dict(
            type='LoadTeacherImage',
            replace=('/rgb/', '/depth/'),
            color_type='grayscale')
    ]
    steps = [
        dict(
            type='ApplyToBoth',
            transforms=[dict(type='RandomResizedCrop', scale=24)]),
        dict(type='PackPairedInputs')
    ]
    config = dict(type='CustomDataset', data_root=str(folders / 'rgb'))
    data = built(config, [*load, *steps])
    np.random.seed(0)
    for sample in data:
        inputs = sample['inputs']
        assert inputs['teacher'].shape == (1, 24, 24)
        assert torch.equal(inputs['student'][:1], inputs['teacher'])
        assert sample['data_samples'].gt_label in (0, 1)
    (folders / 'depth' / 'class1' / '3.png').unlink()
    with pytest.raises(FileNotFoundError, match='depth/class1/3.png'):
        list(data)
    load[1]['replace'] = ('/color/', '/depth/')
    data = built(config, [*load, *steps])
    with pytest.raises(PairedInputsError, match="does not contain '/color/'"):
        data[0]
    alone = built(config, student_pipeline([*load, *steps]))
    assert alone[0]['inputs'].shape == (3, 24, 24)


def run_config(tmp_path, name='sd-kd', **options):
    cfg = Config.fromfile(CONFIGS / 'privileged' / f'privileged-{name}.py')
    cfg.merge_from_dict({**FEW, **options})
    cfg.work_dir = str(tmp_path / name)
    return cfg


@pytest.fixture
def teacher(tmp_path):
    cfg = run_config(tmp_path, 'teacher')
    torch.manual_seed(1)
    model = MODELS.build(dict(cfg.model, _scope_='mmpretrain'))
    torch.save(
        dict(state_dict=model.state_dict(), meta={}), tmp_path / 'depth.pth')
    return str(tmp_path / 'depth.pth')


def test_a_training_from_pairs(tmp_path, teacher):
    """To a student that knows nothing of depth."""
    cfg = run_config(
        tmp_path, **{
            'model.teacher_ckpt': teacher,
            'experiment_name': 'pairs'
        })
    check_training(cfg)
    runner = Runner.from_cfg(cfg)
    seen = []
    runner.model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]))
    runner.train()
    assert {tuple(images.shape[1:]) for images in seen} == {(1, 32, 32)}
    # normalized by the teacher's own mean and std, depth 0 at the least
    assert min(images.min() for images in seen) == -1
    assert 'val/accuracy/top1' in runner.message_hub.log_scalars
    checkpoint = tmp_path / 'sd-kd' / 'epoch_1.pth'
    run = load_run(str(checkpoint))
    batches = list(validation_loader(run.cfg))
    depth = torch.cat([batch['inputs']['teacher'] for batch in batches])
    outputs = run.classify('teacher', batches)
    with torch.no_grad():
        wanted = run.model.teacher((depth.float() - 64) / 64)
    assert torch.allclose(outputs.logits, wanted, atol=1e-5)
    color = torch.cat([batch['inputs']['student'] for batch in batches])
    student = run.classify('student', batches)
    with torch.no_grad():
        wanted = run.model.student((color.float() - 64) / 64)
    assert torch.allclose(student.logits, wanted, atol=1e-5)
    plain = plain_config(run.cfg)
    assert 'type' not in plain.data_preprocessor
    assert plain.test_dataloader.dataset.pipeline == [dict(type='PackInputs')]


def test_the_losses_are_those_of_the_two_views(tmp_path, teacher):
    """As if each network had been asked by itself."""
    cfg = run_config(tmp_path, **{'model.teacher_ckpt': teacher})
    model = check_training(cfg).model.train()
    model.init_weights()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batch = next(
            iter(
                Runner.build_dataloader(
                    dict(
                        cfg.train_dataloader,
                        collate_fn=dict(type='default_collate'),
                        sampler=dict(type='DefaultSampler', shuffle=False)))))
    data = model.data_preprocessor(batch, True)
    losses = model(**data, mode='loss')
    loss = model.distiller.distill_losses['loss_sdd']
    model.eval()
    with torch.no_grad():
        assert torch.equal(
            model(data['inputs'], mode='tensor'),
            model.student(data['inputs']['student']))
        depth = batch['inputs']['teacher']
        recorder = model.distiller.teacher_recorders.recorders['feature_head']
        recorder.stop_at_map = False
        with recorder:
            model.teacher((depth.float() - 64) / 64)
        record, = recorder.data_buffer
    target = torch.cat([one.gt_label for one in data['data_samples']])
    model.train()
    student = model.distiller.student_recorders.recorders['feature_head']
    with student:
        model.student(data['inputs']['student'])
    mine, = student.data_buffer
    assert torch.allclose(losses['distill.loss_sdd'],
                          loss(mine, record, target))


@pytest.mark.parametrize('options, error, message', [
    ({
        'data_preprocessor.type': 'AsyncClsDataPreprocessor'
    }, PreflightError, "data_preprocessor.type='PairedDataPreprocessor'"),
    ({
        'train_dataloader.dataset.pipeline': [dict(type='PackInputs')],
        'train_dataloader.dataset.view': 'color'
    }, PreflightError, 'train_dataloader.dataset yields a single input'),
    ({
        'train_dataloader.dataset.view': 'color'
    }, PreflightError, 'PackPairedInputs found no image'),
    ({
        'model.teacher_input': dict(type='Resize', scale=64)
    }, PreflightError, 'remove one of the two'),
    ({
        'model.architecture.train_cfg':
        dict(augments=dict(type='Mixup', alpha=0.8))
    }, PreflightError, 'model.architecture.train_cfg=None'),
    ({
        'model.teacher.data_preprocessor': None
    }, PreflightError, 'leaves the images of the teacher to model.teacher'),
    ({
        'data_preprocessor.to_onehot':
        True,
        'custom_hooks': [
            dict(
                type='SwitchRecipeHook',
                schedule=[
                    dict(
                        action_epoch=1,
                        batch_augments=dict(
                            augments=dict(type='Mixup', alpha=0.8)))
                ])
        ]
    }, PreflightError, 'custom_hooks.0.schedule.0 switches to Mixup'),
    ({
        'custom_hooks': [
            dict(
                type='SwitchRecipeHook',
                schedule=[
                    dict(
                        action_epoch=1,
                        train_pipeline=[
                            dict(type='RandomFlip', prob=1.0),
                            dict(type='PackPairedInputs')
                        ])
                ])
        ]
    }, PreflightError, 'train_pipeline.0: RandomFlip changes where'),
    ({
        'custom_hooks': [
            dict(
                type='SwitchRecipeHook',
                schedule=[
                    dict(
                        action_epoch=1,
                        train_pipeline=[dict(type='PackInputs')])
                ])
        ]
    }, PreflightError, 'train_pipeline gives the teacher no images'),
    ({
        'default_hooks.visualization': dict(
            type='VisualizationHook', enable=True)
    }, PreflightError, 'default_hooks.visualization draws a single input'),
    ({
        'custom_hooks': [dict(type='TeacherCacheHook')]
    }, Exception, 'InMemoryDataset'),
    ({
        'train_dataloader.dataset':
        dict(
            _delete_=True,
            type='InMemoryDataset',
            dataset=dict(
                type='PrivilegedDigitScenes',
                split='train',
                num_scenes=16,
                view='both',
                pipeline=[dict(type='PackPairedInputs')])),
        'train_dataloader.collate_fn':
        dict(type='batch_or_collate')
    }, Exception,
     'PackPairedInputs in its pipeline: its views are not a known'),
])
def test_what_would_not_be_one_scene_is_refused(tmp_path, teacher, options,
                                                error, message):
    cfg = run_config(tmp_path, **{'model.teacher_ckpt': teacher, **options})
    with pytest.raises(error, match=re.escape(message)):
        check_training(cfg)
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('shares, inner, message', [
    (False, dict(type='RandomFlip', prob=0.5), 'without share_random_params'),
    (True, dict(type='RandomResizedCrop', scale=24), 'RandomResizedCrop in a'),
    (True, dict(type='RandAugment', policies='timm_increasing', num_policies=2,
                total_level=10, magnitude_level=9), 'RandAugment in a'),
    (True, dict(type='torchvision/RandomHorizontalFlip'), 'torchvision/Rand'),
    (True, dict(type='Cutout', shape=8), 'Cutout in a'),
    (True, dict(type='RandomFlip', prob=0.5), None),
])  # yapf: disable
def test_broadcasters_of_mmcv(tmp_path, teacher, shares, inner, message):
    pipeline = [
        dict(
            type='TransformBroadcaster',
            mapping=dict(img=['img', 'teacher_img']),
            auto_remap=True,
            share_random_params=shares,
            transforms=[inner]),
        dict(type='PackPairedInputs')
    ]
    cfg = run_config(
        tmp_path, **{
            'model.teacher_ckpt': teacher,
            'train_dataloader.dataset.pipeline': pipeline
        })
    if message is None:
        check_training(cfg)
        return
    with pytest.raises(PreflightError, match=message):
        check_training(cfg)


@pytest.mark.parametrize('steps, message', [
    ([dict(type='RandomFlip', prob=0.5)], 'pipeline.0: RandomFlip changes'),
    ([
        dict(
            type='RandomApply',
            prob=0.5,
            transforms=[dict(type='RandomCrop', crop_size=32, padding=2)])
    ], 'RandomCrop changes where things are .*ApplyToBoth'),
    ([dict(type='ColorJitter', brightness=0.4)], None),
    ([dict(type='Resize', scale=24)], None),
])
def test_what_moves_one_image_alone(tmp_path, teacher, steps, message):
    cfg = run_config(
        tmp_path, **{
            'model.teacher_ckpt':
            teacher,
            'train_dataloader.dataset.pipeline':
            [*steps, dict(type='PackPairedInputs')]
        })
    if message is None:
        check_training(cfg)
        return
    with pytest.raises(PreflightError, match=message):
        check_training(cfg)


@pytest.mark.parametrize('options, message', [
    ({
        'model.teacher.data_preprocessor.mean': [1., 2., 3.],
        'model.teacher.data_preprocessor.std': [1., 2., 3.]
    }, 'have 1 channels, model.teacher.data_preprocessor.mean has 3 numbers'),
    ({
        'model.teacher.backbone.in_channels': 3,
        'model.teacher_ckpt': None,
        'model.allow_untrained_teacher': True
    }, 'takes 3: correct model.teacher.backbone.in_channels'),
])
def test_channels_of_the_teachers_images(tmp_path, teacher, options, message):
    cfg = run_config(tmp_path, **{'model.teacher_ckpt': teacher, **options})
    with pytest.raises(PreflightError, match=message):
        check_training(cfg)


def test_a_photo_without_depth_is_named_before_training(folders):
    (folders / 'depth' / 'class1' / '3.png').unlink()
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(
            type='LoadTeacherImage',
            replace=('/rgb/', '/depth/'),
            color_type='grayscale'),
        dict(type='PackPairedInputs')
    ]
    data = built(
        dict(type='CustomDataset', data_root=str(folders / 'rgb')), pipeline)
    with pytest.raises(
            PreflightError,
            match='1 of 8 images are absent, first .*depth/class1/3.png'):
        check_images('train_dataloader.dataset', data)


def test_depth_of_sixteen_bits_is_not_cut(folders):
    for path in (folders / 'depth').rglob('*.png'):
        cv2.imwrite(str(path), np.full((40, 40), 5000, np.uint16))
    load = dict(
        type='LoadTeacherImage',
        replace=('/rgb/', '/depth/'),
        color_type='grayscale')
    pipeline = [
        dict(type='LoadImageFromFile'), load,
        dict(type='PackPairedInputs')
    ]
    config = dict(type='CustomDataset', data_root=str(folders / 'rgb'))
    with pytest.raises(PreflightError, match="set it to 'unchanged'"):
        check_images('train_dataloader.dataset', built(config, pipeline))
    load['color_type'] = 'unchanged'
    data = built(config, pipeline)
    check_images('train_dataloader.dataset', data)
    assert data[0]['inputs']['teacher'].int().max() == 5000


def test_a_part_for_each_network(tmp_path, teacher):
    """The teacher's part becomes ``model.teacher.data_preprocessor``."""
    parts = dict(
        student=dict(mean=[64.] * 3, std=[64.] * 3),
        teacher=dict(mean=[64.], std=[64.]))
    model = check_training(
        run_config(tmp_path, **{'model.teacher_ckpt': teacher})).model
    cfg = run_config(
        tmp_path, **{
            'model.teacher_ckpt': teacher,
            'model.teacher.data_preprocessor': None
        })
    cfg.data_preprocessor = dict(type='PairedDataPreprocessor', **parts)
    other = check_training(cfg).model
    assert other.data_preprocessor.teacher is None
    assert other.teacher.data_preprocessor.mean.flatten().tolist() == [64.]
    other.load_state_dict(model.state_dict())
    inputs = dict(
        student=torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8),
        teacher=torch.randint(256, (2, 1, 32, 32), dtype=torch.uint8))
    seen, found = (
        one.data_preprocessor(dict(inputs=inputs))['inputs']
        for one in (model, other))
    assert torch.equal(seen['student'], found['student'])
    assert torch.equal(model.teacher_images(seen), other.teacher_images(found))
    # by itself, it normalizes both
    alone = PairedDataPreprocessor(**parts)(dict(inputs=inputs))['inputs']
    assert torch.equal(alone['student'], found['student'])
    assert torch.equal(alone['teacher'], other.teacher_images(found))
    one = PairedDataPreprocessor(**parts)(dict(inputs=inputs['student']))
    assert torch.equal(one['inputs'], found['student'])
    assert InputFormat.of_config(cfg.pretty_text).mean == (64., ) * 3
    plain = plain_config(cfg)
    assert plain.data_preprocessor == parts['student']


@pytest.mark.parametrize('options, message', [
    ({
        'data_preprocessor.teacher': dict(mean=[0.], std=[1.])
    }, 'and model.teacher.data_preprocessor says mean [64]'),
    ({
        'data_preprocessor.student': dict(num_classes=7)
    }, 'data_preprocessor.student.num_classes is 7: remove one'),
    ({
        'data_preprocessor.teacher': 64
    }, 'data_preprocessor.teacher must be a dict'),
    ({
        'data_preprocessor.student': dict(type='ClsDataPreprocessor')
    }, 'model: ValueError: data_preprocessor.student has the arguments'),
    ({
        'data_preprocessor.teacher': dict(mean=[0.], std=[0.])
    }, 'data_preprocessor.teacher.std'),
])
def test_parts_that_contradict(tmp_path, teacher, options, message):
    cfg = run_config(tmp_path, **{'model.teacher_ckpt': teacher}, **options)
    with pytest.raises(PreflightError, match=re.escape(message)):
        check_training(cfg)


@pytest.mark.parametrize('divisors, refused', [((1, 48), True),
                                               ((48, 1), True),
                                               ((48, 48), False),
                                               ((1, 32), False)])
def test_padding_of_one_image_alone(tmp_path, teacher, divisors, refused):
    cfg = run_config(
        tmp_path, **{
            'model.teacher_ckpt': teacher,
            'data_preprocessor.pad_size_divisor': divisors[0],
            'model.teacher.data_preprocessor.pad_size_divisor': divisors[1]
        })
    if not refused:
        check_training(cfg)
        return
    with pytest.raises(PreflightError, match='32 x 32 become 48 x 48'):
        check_training(cfg)


def test_numbers_in_a_message_are_no_keys(tmp_path, teacher):
    cfg = run_config(
        tmp_path, **{
            'model.teacher_ckpt': teacher,
            'data_preprocessor.teacher': dict(mean=[64.], std=[64.])
        })
    cfg.model.teacher.data_preprocessor = dict()
    with pytest.raises(
            PreflightError, match='^model: data_preprocessor.teacher says'):
        check_training(cfg)


def test_an_image_that_is_turned_by_its_tag_alone(tmp_path):
    """OpenCV follows the tag, but for unchanged images."""
    upside_down = Image.Exif()
    upside_down[274] = 3
    for folder in ('rgb', 'depth'):
        (tmp_path / folder).mkdir()
        pixels = np.zeros((8, 8), np.uint8)
        pixels[0] = 255
        Image.fromarray(pixels).save(
            tmp_path / folder / '0.png', exif=upside_down)
    image = LoadImageFromFile()(dict(img_path=str(tmp_path / 'rgb' / '0.png')))
    assert image['img'][-1].min() == 255
    load = dict(type='LoadTeacherImage', replace=('/rgb/', '/depth/'))
    found = TRANSFORMS.build(dict(load, color_type='grayscale'))(image)
    assert found['teacher_img'][-1].min() == 255
    with pytest.raises(PairedInputsError, match='0.png has an EXIF orient'):
        TRANSFORMS.build(dict(load, color_type='unchanged'))(image)


def test_the_order_of_the_teachers_channels_is_its_own():

    def loader(*steps):
        return dict(dataset=dict(pipeline=list(steps)))

    load = dict(type='LoadTeacherImage', replace=('a', 'b'))
    assert teacher_order(loader(load)) == 'BGR'
    assert teacher_order(loader(dict(load, color_type='grayscale'))) is None
    assert teacher_order(loader(dict(type='LoadImageFromFile'))) is None


def test_a_network_without_a_teacher_has_no_use_for_pairs(tmp_path):
    cfg = run_config(
        tmp_path, 'student', **{
            'train_dataloader.dataset.view': 'both',
            'train_dataloader.dataset.pipeline':
            [dict(type='PackPairedInputs')]
        })
    with pytest.raises(PreflightError, match='ImageClassifier has none'):
        check_training(cfg)


def test_hooks_may_be_objects(tmp_path, teacher):
    cfg = run_config(tmp_path, **{'model.teacher_ckpt': teacher})
    cfg.custom_hooks.append(EMAHook())
    check_paired_steps(cfg)
