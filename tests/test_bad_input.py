# Copyright (c) sdd_mm contributors. All rights reserved.
"""One table of mistakes: each a clear error, and nothing is written."""
import copy
import io
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from toy import build_classifier

from sdd_mm.engine.preflight import check_training
from sdd_mm.errors import SDDError
from sdd_mm.runtime.work_dir import lock_work_dir

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
LOSS = 'model.distiller.distill_losses.loss_sdd'
STUDENT, TEACHER = 'model.architecture', 'model.teacher'
DATA = 'train_dataloader.dataset'
CHILDREN = []


def teacher_file(change):
    """A change of the teacher's checkpoint."""

    def apply(cfg):
        path = cfg.model.teacher_ckpt
        content = torch.load(path)
        content = change(content, cfg)
        if content is not None:
            torch.save(content, path)

    return apply


def cut(content, cfg):
    path = Path(cfg.model.teacher_ckpt)
    path.write_bytes(path.read_bytes()[:1000])


def write(data):

    def change(content, cfg):
        Path(cfg.model.teacher_ckpt).write_bytes(data)

    return change


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}', )


def malicious(content, cfg):
    content['extra'] = Malicious(Path(cfg.work_dir).parent / 'ran')
    return content


def bare_pickle(content, cfg):
    Path(cfg.model.teacher_ckpt).write_bytes(
        pickle.dumps(Malicious(Path(cfg.work_dir).parent / 'ran')))


def students_own(content, cfg):
    """A checkpoint of a distillation, given as the teacher of another."""
    from mmengine.registry import MODELS, DefaultScope
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    return dict(state_dict=model.state_dict())


def poisoned(content, cfg):
    next(iter(content.values())).view(-1)[0] = float('nan')
    return content


def trained_on_others(content, cfg):
    """A teacher whose run normalized its images otherwise."""
    run = Config(dict(data_preprocessor=dict(mean=[120.0], std=[64.0])))
    return dict(state_dict=content, meta=dict(cfg=run.pretty_text))


def renamed(content, cfg):
    return {f'net.{name}': value for name, value in content.items()}


def resumed(content):
    """Another file to resume from."""

    def apply(cfg):
        path = Path(cfg.work_dir).parent / 'start.pth'
        path.write_bytes(content)
        cfg.update(resume=True, load_from=str(path))

    return apply


def resumed_weights(cfg):
    content = students_own(None, cfg)
    content['state_dict'] = {
        name: value
        for name, value in content['state_dict'].items()
        if not name.startswith('teacher.')
    }
    resumed(saved(content))(cfg)


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def images(change):
    """Train on ten JPEGs in ten folders, and change them."""

    def apply(cfg):
        root = Path(cfg.work_dir).parent / 'images'
        pixels = np.random.default_rng(0).integers(
            0, 256, (32, 32, 3), dtype=np.uint8)
        lines = []
        for label, name in enumerate('abcdefghij'):
            (root / name).mkdir(parents=True)
            Image.fromarray(pixels).save(root / name / 'one.jpg')
            lines.append(f'{name}/one.jpg {label}')
        (root / 'labels.txt').write_text('\n'.join(lines))
        cfg.train_dataloader.dataset = dict(
            type='CustomDataset',
            data_root=str(root),
            pipeline=[dict(type='LoadImageFromFile'),
                      dict(type='PackInputs')])
        change(root, cfg.train_dataloader.dataset)

    return apply


def other_classes(cfg):
    """Validate on folders of which one has another name."""

    def change(root, dataset):
        other = root.parent / 'others'
        shutil.copytree(root, other)
        (other / 'b').rename(other / 'aa')
        cfg.val_dataloader.dataset = dict(dataset, data_root=str(other))

    images(change)(cfg)


def spoilt(data):
    """One of the images is changed."""

    def change(root, dataset):
        path = root / 'c' / 'one.jpg'
        path.write_bytes(data(path.read_bytes()))

    return images(change)


def labeled(label):
    """One of the labels is changed."""

    def change(root, dataset):
        path = root / 'labels.txt'
        path.write_text(path.read_text().replace(' 4', f' {label}'))
        dataset.update(ann_file='labels.txt')

    return images(change)


def absent_image(root, dataset):
    (root / 'c' / 'one.jpg').unlink()
    dataset.update(ann_file='labels.txt')


def switch(**recipe):
    """Another recipe from the second epoch on."""
    return dict(custom_hooks=[
        dict(type='SwitchRecipeHook', schedule=[dict(recipe, action_epoch=2)])
    ])


def cifar(change, **kwargs):
    """Train on files with the names of CIFAR-100's."""

    def apply(cfg):
        root = Path(cfg.work_dir).parent / 'cifar'
        folder = root / 'cifar-100-python'
        folder.mkdir(parents=True)
        for split in ('train', 'test'):
            (folder / split).write_bytes(pickle.dumps(dict(data=[split])))
        change(folder, root.parent)
        cfg.train_dataloader.dataset = dict(
            type='VerifiedCIFAR100',
            data_root=str(root),
            split='train',
            pipeline=[],
            **kwargs)

    return apply


def write_malicious(folder, root):
    (folder / 'train').write_bytes(pickle.dumps(Malicious(root / 'ran')))


def under_a_file(cfg):
    file = Path(cfg.work_dir).parent / 'file'
    file.write_text('')
    cfg.work_dir = str(file / 'run')


def occupied(cfg):
    """Another process trains there."""
    cfg.work_dir = str(Path(cfg.work_dir).parent / 'occupied')
    child = subprocess.Popen([
        sys.executable, '-c', 'import fcntl, os, sys\n'
        'os.mkdir(sys.argv[1])\n'
        'file = open(f"{sys.argv[1]}/.lock", "a+")\n'
        'fcntl.lockf(file, fcntl.LOCK_EX)\n'
        'print("held", flush=True)\n'
        'sys.stdin.read()', cfg.work_dir
    ],
                             stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    assert child.stdout.readline() == b'held\n'
    CHILDREN.append(child)  # it ends with this process


def recorder(**kwargs):
    return {
        'model.distiller.student_recorders':
        dict(feature_head=dict(type='FeatureHead', **kwargs))
    }


# what is changed, and what the message must name (the thing, then its key or
# remedy)
CASES = {
    # unknown names
    'key of the model': ({
        'model.student_los_weight': 1
    }, 'student_los_weight'),
    'key of the student': ({
        f'{STUDENT}.neckk': None
    }, 'neckk'),
    'key of a backbone': ({
        f'{STUDENT}.backbone.dept': 8
    }, 'model.architecture.backbone.dept'),
    'key of a head': ({
        f'{STUDENT}.head.num_class': 10
    }, 'num_class'),
    'key of the teacher': ({
        f'{TEACHER}.backbone.depht': 8
    }, 'model.teacher.backbone.depht'),
    'key of the distiller': ({
        'model.distiller.losses': {}
    }, 'model.distiller.losses'),
    'key of a loss': ({
        f'{LOSS}.scale': (1, )
    }, f'{LOSS}.scale'),
    'key of a criterion': ({
        f'{LOSS}.criterion.temperature': 4
    }, f'{LOSS}.criterion.temperature'),
    'type of the model': ({
        'model.type': 'FrozenTeachersDistill'
    }, "model.type: .*Did you mean 'FrozenTeacherDistill'"),
    'type of the student': ({
        f'{STUDENT}.type': 'ImageClasifier'
    }, "'ImageClasifier' .*Did you mean 'ImageClassifier'"),
    'type of a backbone': ({
        f'{STUDENT}.backbone.type': 'CIFARResNets'
    }, "backbone.type: .*Did you mean 'CIFARResNet'"),
    'type of a head': ({
        f'{STUDENT}.head.type': 'LinearHead'
    }, 'model.architecture.head.type'),
    'type of a loss': ({
        f'{LOSS}.type': 'ScaledDecoupledLoss'
    }, "loss_sdd.type: .*Did you mean 'ScaleDecoupledLoss'"),
    'type of a criterion': ({
        f'{LOSS}.criterion.type': 'DKDCriterium'
    }, "criterion.type: .*Did you mean 'DKDCriterion'"),
    'type of a recorder':
    (recorder() | {
        'model.distiller.student_recorders.feature_head.type': 'FeatureHeads'
    }, "feature_head.type: .*'FeatureHeads' .*Did you mean 'FeatureHead'"),
    'type of a hook': ({
        'custom_hooks': [dict(type='FrozenTeachersHook')]
    }, "custom_hooks.0.type: there is no 'FrozenTeachersHook'"),
    'key of a hook': ({
        'custom_hooks': [dict(type='DistillWarmupHook', los='loss_sdd')]
    }, "takes no 'los'. Did you mean 'loss'"),
    'key of a default hook': ({
        'default_hooks.logger.intervall': 1
    }, "default_hooks.logger.intervall: .*takes no 'intervall'. Did you mean "
                              "'interval'"),
    'type of an optimizer': ({
        'optim_wrapper.optimizer.type': 'SDG'
    }, "optim_wrapper.optimizer.type: there is no 'SDG'"),
    'key of an optimizer': ({
        'optim_wrapper.optimizer.momentun': 0.9
    }, "takes no 'momentun'. Did you mean 'momentum'"),
    'key of a schedule': ({
        'param_scheduler.eta': 1
    }, "param_scheduler.eta: OneCycleLR takes no 'eta'"),
    'key of the train loop': ({
        'train_cfg.max_epoch': 1
    }, "train_cfg.max_epoch: .* no 'max_epoch'. Did you mean 'max_epochs'"),
    'no kind of train loop': (lambda cfg: cfg.train_cfg.pop('by_epoch'),
                              'train_cfg must have by_epoch'),
    'two kinds of train loop': ({
        'train_cfg.type': 'EpochBasedTrainLoop'
    }, 'train_cfg must have by_epoch'),
    'key of a metric': ({
        'val_evaluator.topkk': 1
    }, "val_evaluator.topkk: .* takes no 'topkk'. Did you mean 'topk'"),
    'type of a wrapper': ({
        'optim_wrapper.type': 'DeferedOptimWrapper'
    }, "optim_wrapper.type: there is .*Did you mean 'DeferredOptimWrapper'"),
    'key of a wrapper': ({
        'optim_wrapper.accumulative_count': 2
    }, "takes no 'accumulative_count'. Did you mean 'accumulative_counts'"),
    'key of clipping': ({
        'optim_wrapper.clip_grad.maxnorm': 2
    }, "takes no 'maxnorm'. Did you mean 'max_norm'"),
    'key of a dataloader': ({
        'train_dataloader.batchsize': 2
    }, "takes no 'batchsize'. Did you mean 'batch_size'"),
    'type of a sampler': ({
        'train_dataloader.sampler.type': 'DefaultSamplr'
    }, "train_dataloader.sampler.type: .*Did you mean 'DefaultSampler'"),
    'key of a sampler': ({
        'train_dataloader.sampler.shufle': True
    }, "takes no 'shufle'. Did you mean 'shuffle'"),
    'more than there are classes': ({
        'val_evaluator.topk': [1, 50]
    }, r'val_evaluator.topk is \[1, 50\], and there are 10 classes'),
    'half of a validation': ({
        'val_evaluator': None
    }, 'val_evaluator must be set to validate: set all of'),
    'value of a metric': ({
        'val_evaluator.topk': 'abc'
    }, "val_evaluator.topk must be positive integers, got 'abc'"),
    # values of the loss
    'no scales': ({
        f'{LOSS}.scales': ()
    }, 'scales must be a non-empty tuple of positive integers'),
    'a scale twice': ({
        f'{LOSS}.scales': (1, 2, 1)
    }, r'scales must be different, .* got \(1, 2, 1\)'),
    'scale 0': ({
        f'{LOSS}.scales': (0, 1)
    }, r'scales must be .* got \(0, 1\)'),
    'negative scale': ({
        f'{LOSS}.scales': (1, -2)
    }, r'scales must be .* got \(1, -2\)'),
    'fractional scale': ({
        f'{LOSS}.scales': (1, 2.5)
    }, r'scales must be .* got \(1, 2.5\)'),
    'one number for scales': ({
        f'{LOSS}.scales': 4
    }, 'scales must be .* got 4'),
    'text for scales': ({
        f'{LOSS}.scales': '124'
    }, "scales must be .* got '124'"),
    'tau 0': ({
        f'{LOSS}.criterion.tau': 0
    }, 'tau must be positive and finite, got 0'),
    'negative tau': ({
        f'{LOSS}.criterion.tau': -4.0
    }, 'tau must be positive and finite, got -4.0'),
    'pooling': ({
        f'{LOSS}.pooling': 'max'
    }, "pooling must be one of .* got 'max'"),
    'consistency': ({
        f'{LOSS}.consistency': 'cell'
    }, "consistency must be one of .* got 'cell'"),
    'reduction': ({
        f'{LOSS}.reduction': 'none'
    }, "reduction must be one of .* got 'none'"),
    'chunk size': ({
        f'{LOSS}.chunk_size': 0
    }, 'chunk_size must be a positive integer or None, got 0'),
    # networks that do not fit
    'classes of the student': ({
        f'{STUDENT}.head.num_classes': 7
    }, 'has 10 classes, the student ImageClassifier 7.*'
                               'model.architecture.head.num_classes'),
    'classes of the teacher': ({
        f'{TEACHER}.head.num_classes': 7
    }, 'has 7 classes, the student .* 10.*model.teacher.head.num_classes'),
    'classes of the data': ({
        f'{STUDENT}.head.num_classes': 7,
        f'{TEACHER}.head.num_classes': 7
    }, 'DigitScenes. has 10 classes, the head .* 7'),
    'a student without head': ({
        f'{STUDENT}.head': None
    }, 'student: .*head'),
    'a teacher without head': ({
        f'{TEACHER}.head': None
    }, 'teacher: .*head'),
    'a student without neck': ({
        f'{STUDENT}.neck': None
    }, 'student'),
    'misspelt source':
    (recorder(pooling='nek.gap'), "no module 'nek.gap'.*neck.gap"),
    'a source that does not pool':
    (recorder(classifier='backbone'), 'student'),
    'a teacher that learns': ({
        'model.teacher_trainable': True
    }, 'model.teacher_trainable can only be False'),
    'a student that does not': ({
        'model.student_trainable': False
    }, 'model.student_trainable can only be True'),
    'normalisations that differ': ({
        f'{TEACHER}.data_preprocessor.mean': [1.0, 2.0, 3.0]
    }, "model.on_normalization_mismatch='convert'"),
    'a teacher of unknown images': ({
        f'{TEACHER}.data_preprocessor': None
    }, 'set model.teacher.data_preprocessor'),
    'what to do with a mismatch': ({
        'model.on_normalization_mismatch': 'warn'
    }, "on_normalization_mismatch must be one of .* got 'warn'"),
    'half of unknown precision': ({
        'model.teacher_inference': dict(dtype='half')
    }, "model.teacher_inference.dtype must be .* got 'half'"),
    'option of the teacher': ({
        'model.teacher_inference': dict(fold=True)
    }, "'fold'"),
    # data
    'split': ({
        f'{DATA}.split': 'val'
    }, 'split must be one of'),
    'key of the data': ({
        f'{DATA}.num_scene': 3
    }, 'num_scene'),
    'type of the data': ({
        f'{DATA}.type': 'DigitScene'
    }, "train_dataloader.dataset.type: .* Did you mean 'DigitScenes'"),
    'transform': ({
        f'{DATA}.pipeline': [dict(type='RandomCropp', crop_size=3)]
    }, 'RandomCropp'),
    'an empty class folder':
    (images(lambda root, dataset: (root / 'b' / 'one.jpg').unlink()),
     'train_dataloader.dataset: class folders in .*images are empty: b'
     '.*data_root'),
    'a class folder too few':
    (images(lambda root, dataset: shutil.rmtree(root / 'b')),
     'has 9 class folders .a, c, .*has 10 classes: .*num_classes'),
    'one class folder too many':
    (images(lambda root, dataset: shutil.copytree(root / 'b', root / 'aa')),
     'has 11 class folders .a, aa, b'),
    'a hidden class folder':
    (images(lambda root, dataset: (root / '.ipynb_checkpoints').mkdir()),
     'hidden folder .*images/.ipynb_checkpoints as a class: remove it'),
    'a hidden folder with images': (images(
        lambda root, dataset: shutil.copytree(root / 'b', root / 'b' / '.x')),
                                    'hidden folder .*b/.x as .*class b: '
                                    'remove it'),
    'other classes to validate':
    (other_classes, 'val_dataloader.dataset must have the class folders of '
     'train_dataloader.dataset .*no folder b: create it.*mkdir .*others/b.*'
     'a folder aa, .* rename or remove it'),
    'no scenes': ({
        f'{DATA}.num_scenes': 0
    }, 'num_scenes must be a positive integer, got 0'),
    'an empty pipeline': ({
        f'{DATA}.pipeline': []
    }, 'train_dataloader.dataset.pipeline is empty'),
    'pickled annotations': (images(lambda root, dataset: (
        (root / 'a.pkl').write_bytes(b''), dataset.update(ann_file='a.pkl'))),
                            'ann_file .*a.pkl is a pickle.*make a JSON'),
    'absent images': (images(
        lambda root, dataset: dataset.update(data_root=str(root / 'nowhere'))),
                      'images.nowhere.*data_root'),
    'absent annotations':
    (images(lambda root, dataset: dataset.update(ann_file='none.txt')),
     'none.txt'),
    'absent CIFAR-100':
    (cifar(lambda folder, root: (folder / 'train').unlink()),
     'no train under .*cifar-100-python.*data_root'),
    'other files than CIFAR-100': (cifar(lambda folder, root: None),
                                   "not the official ones .md5.*verify="),
    'other content than CIFAR-100': (cifar(
        lambda folder, root: None,
        verify='content'), "cifar-100-python/train is not CIFAR-100"),
    'CIFAR-100 that would run code': (cifar(write_malicious, verify='content'),
                                      'is not CIFAR-100: .*imports'),
    # checkpoints
    'a teacher whose meta is damaged':
    (teacher_file(lambda content, cfg: dict(state_dict=content, meta=5)),
     'its meta is a int.*model.teacher_ckpt|model.teacher_ckpt.*its meta'),
    'no teacher': ({
        'model.teacher_ckpt': None
    }, 'has no weights: set model.teacher_ckpt'),
    'absent teacher': ({
        'model.teacher_ckpt': 'nowhere.pth'
    }, 'nowhere.pth does not exist.*model.teacher_ckpt'),
    'truncated teacher': (teacher_file(cut),
                          'teacher.pth .*cannot be read.*model.teacher_ckpt'),
    'empty teacher': (teacher_file(write(b'')), 'model.teacher_ckpt'),
    'text for a teacher': (teacher_file(write(b'<html>404</html>')),
                           'model.teacher_ckpt'),
    'another network': ({
        f'{TEACHER}.backbone.depth': 20
    }, 'weights are missing: .*model.teacher_ckpt'),
    'renamed weights': (teacher_file(renamed), 'model.teacher_ckpt'),
    "a student's checkpoint for the teacher": (teacher_file(students_own),
                                               'model.teacher_ckpt'),
    'weights that are not finite': (teacher_file(poisoned),
                                    'not finite.*model.teacher_ckpt'),
    'a pickle that would run code': (teacher_file(malicious),
                                     'cannot be read.*model.teacher_ckpt'),
    'a bare pickle that would run code': (teacher_file(bare_pickle),
                                          'model.teacher_ckpt'),
    'absent run to resume': ({
        'resume': True,
        'load_from': 'gone.pth'
    }, '--resume gone.pth does not exist'),
    'truncated run to resume': (resumed(saved(dict(a=1))[:-50]),
                                '--resume .*start.pth cannot be read'),
    'run of another network to resume':
    (resumed(saved(dict(state_dict=dict(a=torch.ones(1))))),
     '--resume|checkpoint .*start.pth does not fit.*its own config'),
    'weights to resume': (resumed_weights, '--resume .*start.pth has no meta, '
                          'message_hub, optimizer.*epoch_N.pth'),
    'meta that is damaged': (resumed(saved(dict(state_dict={}, meta=5))),
                             'its meta is a int, not a dict'),
    'a teacher of the same classes in another order':
    (teacher_file(lambda content, cfg: dict(
        state_dict=content,
        meta=dict(dataset_meta=dict(classes=[*'1023456789'])))),
     "'0' is class 0 in the classes of DigitScenes .*class 1 in .*teacher.pth"
     '.*model.teacher_ckpt'),
    'a number for the teacher': ({
        'model.teacher_ckpt': 5
    }, 'model.teacher_ckpt must be text'),
    'average on another device': ({
        'custom_hooks': [dict(type='EMAHook', device='cpu')]
    }, 'EMAHook.*leave device out'),
}

VALUES = {
    f'{value!r} for {key}': ({
        key: value
    }, f'{key} must be {what}')
    for key, value, what in (
        ('train_dataloader.batch_size', -4, 'a positive integer, got -4'),
        ('train_dataloader.batch_size', 3.5, 'a positive integer, got 3.5'),
        ('train_dataloader.batch_size', 'abc',
         "a positive integer, got 'abc'"),
        ('train_dataloader.batch_size', None, 'a positive integer, got None'),
        ('val_dataloader.batch_size', 0, 'a positive integer'),
        ('train_dataloader.dataset', 'abc', 'a dict'),
        ('train_dataloader.dataset.type', None, 'the name of a data set'),
        ('train_dataloader', None, 'a dict, got None'),
        ('model', None, 'a dict, got None'),
        ('train_cfg', None, 'a dict, got None'),
        ('train_cfg.max_epochs', 0, 'a positive integer'),
        ('train_cfg.max_epochs', 'many', 'a positive integer'),
        ('train_cfg.val_interval', 0, 'a positive integer'),
        ('optim_wrapper', None, 'a dict, got None'),
        ('optim_wrapper.optimizer', None, 'a dict, got None'),
        ('optim_wrapper.optimizer.lr', 'abc', 'a number >= 0'),
        ('optim_wrapper.optimizer.lr', -0.1, 'a number >= 0'),
        ('optim_wrapper.optimizer.lr', float('nan'), 'a number >= 0'),
        ('optim_wrapper.optimizer.weight_decay', 'abc', 'a number >= 0'),
        ('optim_wrapper.clip_grad.max_norm', -5, 'a positive number'),
        ('optim_wrapper.clip_grad', 5, 'a dict'),
        ('optim_wrapper.accumulative_counts', 0, 'a positive integer'),
        ('param_scheduler.eta_max', 'big', 'a number'),
        ('default_hooks.checkpoint.interval', 'often',
         'a positive integer, or'),
        ('custom_hooks', 'abc', 'a list of dicts'),
        ('randomness.seed', -1, 'an integer from 0'),
        ('randomness.deterministic', 'maybe', 'True or False'),
        ('env_cfg', None, 'a dict'),
        ('work_dir', 5, 'text'),
        ('model.student_loss_weight', 'abc', 'a number >= 0'),
        ('model.student_loss_weight', -1, 'a number >= 0'),
        ('model.teacher_inference', 'abc', 'a dict'),
        ('data_preprocessor.std', [64.0, 0.0, 64.0],
         'a list of positive numbers'),
        ('data_preprocessor.std', 64.0, 'a list of positive numbers'),
        ('data_preprocessor.mean', 64.0, 'a list of numbers'),
        ('data_preprocessor.mean', [64.0, 'a', 64.0], 'a list of numbers'),
    )
}
CASES.update(VALUES)
# as VALUES, in the words of MMEngine or torch
CASES.update({
    f'{value!r} for {key}': ({
        key: value
    }, f'{key}={value!r}: .*{what}')
    for key, value, what in (
        ('train_dataloader.num_workers', -1, 'should be non-negative'),
        ('param_scheduler', 'abc', 'should be a _ParamScheduler .*or dict'),
        ('default_hooks.logger.interval', 0, 'must be greater than 0'),
        ('default_hooks.logger', 'abc', 'should be .* Hook or dict'),
        ('log_level', 'LOUD', 'Unknown level'),
    )
})

CASES['a teacher of otherwise normalized images'] = (
    teacher_file(trained_on_others),
    r'teacher.pth: it was trained on images normalized by mean \[120\].*'
    'model.teacher.data_preprocessor')


def unequal(steps):
    """JPEGs of two sizes behind some transforms."""

    def change(root, dataset):
        pixels = np.zeros((40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(root / 'c' / 'one.jpg')
        dataset['pipeline'][1:1] = steps

    return images(change)


def unequal_validation(cfg):
    """It trains on equal sizes, and would die after an epoch."""
    unequal([dict(type='ResizeEdge', scale=32)])(cfg)
    loader = cfg.train_dataloader
    cfg.val_dataloader.dataset = copy.deepcopy(loader.dataset)
    loader.dataset.pipeline[1:1] = [dict(type='RandomResizedCrop', scale=32)]


def gray(root, dataset):
    """One image has one channel."""
    dataset['pipeline'][0]['color_type'] = 'unchanged'
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(root / 'c' / 'one.jpg')


CASES.update({
    'images of two sizes':
    (unequal([]), r'train_dataloader: images of unequal shapes .*\(3, 32, 32\)'
     r' of .*one.jpg and \(3, 40, 60\) of .*c/one.jpg: add a Resize'),
    'a resize that keeps the aspect ratio':
    (unequal([dict(type='Resize', scale=(32, 32),
                   keep_ratio=True)]), 'Resize keeps the aspect ratio, '
     'so add a CenterCrop'),
    'images of two sizes to validate':
    (unequal_validation, 'val_dataloader: .*ResizeEdge keeps'),
    'images of two kinds of channels':
    (images(gray), "color_type='color'.*train_dataloader.dataset.pipeline"),
    'fewer images than a batch has': ({
        'train_dataloader.batch_size': 65,
        'train_dataloader.drop_last': True
    }, 'train_dataloader has no batch: .* 64 samples.*batch_size.*drop_last'),
    'no sampler': (lambda cfg: cfg.train_dataloader.pop('sampler'),
                   'train_dataloader.sampler must be a dict, got None'),
    'text for a flag': ({
        'train_dataloader.sampler.shuffle': 'false'
    }, "train_dataloader.sampler.shuffle must be True or False, got 'false'"),
    'Mixup of another number of classes': ({
        'data_preprocessor.num_classes':
        1000,
        'model.architecture.train_cfg':
        dict(augments=[dict(type='Mixup', alpha=0.8)])
    }, 'data_preprocessor.num_classes is 1000, model.architecture.head.num_c'
                                           'lasses is 10'),
    'scores of another number of classes': ({
        'data_preprocessor.num_classes': 9,
        'data_preprocessor.to_onehot': True
    }, 'data_preprocessor.num_classes is 9, .*head.num_classes is 10'),
    'CutMix later of another number of classes': ({
        'data_preprocessor.num_classes':
        100,
        'custom_hooks': [
            dict(
                type='SwitchRecipeHook',
                schedule=[
                    dict(
                        action_epoch=2,
                        batch_augments=dict(
                            augments=[dict(type='CutMix', alpha=1.)]))
                ])
        ]
    }, 'data_preprocessor.num_classes is 100, .*head.num_classes is 10'),
    'a pipeline of 0.x': ({
        'train_dataloader.dataset.pipeline': [
            dict(type='ImageToTensor', keys=['img']),
            dict(type='ToTensor', keys=['gt_label']),
            dict(type='Collect', keys=['img', 'gt_label'])
        ]
    }, r"train_dataloader.dataset yields \['gt_label', 'img'\].*must end with "
                          r"dict\(type='PackInputs'\)"),
    'validation images that are not packed': ({
        'val_dataloader.dataset.pipeline': [dict(type='Resize', scale=32)]
    }, "val_dataloader.dataset yields .*must end with dict.type='PackInputs'"),
    'images that are normalized twice': ({
        'train_dataloader.dataset.pipeline': [
            dict(type='Normalize', mean=[9.] * 3, std=[9.] * 3),
            dict(type='PackInputs')
        ]
    }, r'train_dataloader.dataset.pipeline.0 normalizes images, and data_prep'
                                         ),
    'a mean of four channels': ({
        'data_preprocessor.mean': [1.] * 4,
        'data_preprocessor.std': [1.] * 4,
        'model.teacher.data_preprocessor.mean': [1.] * 4,
        'model.teacher.data_preprocessor.std': [1.] * 4
    }, 'mean has 4 numbers, and images of train_dataloader have 3 channels'),
    'more to test than there are classes': ({
        'test_evaluator': [dict(type='Accuracy', topk=(1, 20))]
    }, r'test_evaluator.0.topk is \(1, 20\), and there are 10 classes'),
    'none of the classes': ({
        'val_evaluator.topk': 0
    }, 'val_evaluator.topk must be positive integers, got 0'),
    'too many classes for a metric of an Evaluator': ({
        'val_evaluator':
        dict(
            _delete_=True,
            type='Evaluator',
            metrics=[dict(type='Accuracy', topk=11)])
    }, 'val_evaluator.metrics.0.topk is 11, and there are 10 classes'),
    'the best matrix': ({
        'val_evaluator':
        dict(_delete_=True, type='ConfusionMatrix'),
        'default_hooks.checkpoint.save_best':
        'auto'
    }, "checkpoint.save_best='auto' takes .*'confusion_matrix/result': it is "
                        'not a number but a Tensor'),
    'the best of a metric that nobody yields': ({
        'default_hooks.checkpoint.save_best':
        'accuracy/top5'
    }, "save_best='accuracy/top5' is not a metric .*choose .*accuracy/top1"),
    'the best of a vector': ({
        'val_evaluator':
        dict(_delete_=True, type='SingleLabelMetric', average=None),
        'default_hooks.checkpoint.save_best':
        'single-label/f1-score_classwise',
        'default_hooks.checkpoint.rule':
        'greater'
    }, 'is not a number but a'),
    'a stop by a metric that nobody yields': ({
        'custom_hooks':
        [dict(type='EarlyStoppingHook', monitor='top1', rule='greater')]
    }, "custom_hooks.0.monitor='top1' is not a metric that val_evaluator"),
    'a schedule by a metric that nobody yields': ({
        'param_scheduler': [dict(type='ReduceOnPlateauLR', monitor='loss')]
    }, "param_scheduler.monitor='loss' is not a metric that val_evaluator"),
    'a validation after the last epoch': ({
        'train_cfg.val_begin': 10**6
    }, 'train_cfg.val_begin is 1000000, after the last of'),
    'a hook of a self-supervised model': ({
        'custom_hooks': [dict(type='DenseCLHook')]
    }, 'custom_hooks.0: DenseCLHook needs a model with loss_lambda'),
    'prototypes of a classifier': ({
        'custom_hooks': [dict(type='PrepareProtoBeforeValLoopHook')]
    }, 'needs a model with prepare_prototype'),
    'margins of a linear head': ({
        'custom_hooks': [dict(type='SetAdaptiveMarginsHook')]
    }, 'needs a model with head.set_margins'),
    'a recipe that mixes integer labels':
    (switch(batch_augments=dict(augments=dict(type='Mixup', alpha=0.2))),
     'action_epoch=2 mixes images'),
    'a recipe with a loss of soft labels':
    (switch(loss=dict(type='CrossEntropyLoss', use_soft=True)),
     'fails on labels that are integers'),
    'type of a visualizer': ({
        'visualizer.type': 'UniversalVisualiser'
    }, "visualizer.type: .* Did you mean 'UniversalVisualizer'"),
    'key of a log processor': ({
        'log_processor': dict(windowsize=3)
    }, "log_processor.windowsize: .*takes no 'windowsize'"),
    'key of the randomness': ({
        'randomness.sead': 3
    }, "takes no 'sead'. Did you mean 'seed'"),
    'a schedule that ends before it begins': ({
        'param_scheduler': [dict(type='LinearLR', begin=5, end=3)]
    }, 'param_scheduler.0.(begin|end)=.*end.* begin'),
    'weights to resume that are not finite': (resumed(
        saved(
            dict(state_dict={
                'architecture.head.fc.bias': torch.full((10, ), float('nan'))
            }))), '--resume .*start.pth .*not finite'),
})

# work dirs; a disk that is full is in test_full_disk.py
CASES.update({
    'a work dir that cannot be written':
    (under_a_file, 'file/run cannot be written.*--work-dir'),
    'two runs in one work dir':
    (occupied, 'occupied belongs to another run.*another --work-dir'),
})

# as CASES, and a run that was not checked finds them, too
DIVERGES = 'a learning rate that diverges'
RUNS = {
    'a JPEG that is cut off': (spoilt(lambda data: data[:-200]),
                               'images/c/one.jpg cannot be read as an image.*'
                               'replace the file'),
    'a JPEG without data':
    (spoilt(lambda data: b''), 'images/c/one.jpg cannot be read as an image'),
    'text for a JPEG': (spoilt(lambda data: b'<html>404</html>'),
                        'images/c/one.jpg cannot be read as an image'),
    'an image that is absent': (images(absent_image), 'images/c/one.jpg'),
    'a label beyond the classes':
    (labeled(10), 'images/e/one.jpg: label 10 is not one of the 10 classes.*'
     'head.num_classes'),
    'a negative label': (labeled(-1), 'images/e/one.jpg: label -1 is not'),
    DIVERGES: ({
        'optim_wrapper.optimizer.lr': 1e38,
        'optim_wrapper.clip_grad': None,
        'param_scheduler': [],
        f'{DATA}.num_scenes': 256
    }, 'not finite.*Learning rate.*optim_wrapper.optimizer.lr'),
}


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """The demo's SD-KD, and the weights of a teacher for it."""
    config = Config.fromfile(CONFIGS / 'demo' / 'sd-kd.py')
    teacher = config.model.teacher
    return config, build_classifier(
        backbone=teacher.backbone, head=teacher.head).state_dict()


@pytest.fixture
def cfg(demo, tmp_path):
    """The demo with a teacher, to be changed."""
    cfg = Config(demo[0].to_dict(), format_python_code=False)
    cfg.work_dir = str(tmp_path / 'run')
    for field in ('train_dataloader', 'val_dataloader'):
        cfg[field].dataset.num_scenes = 64
    cfg.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    torch.save(demo[1], cfg.model.teacher_ckpt)
    return cfg


def mistake(cfg, change):
    if callable(change):
        change(cfg)
    else:
        cfg.merge_from_dict(change)


@pytest.mark.parametrize('name', CASES)
def test_a_mistake_is_a_clear_error(cfg, name, tmp_path):
    change, message = (CASES | RUNS)[name]
    mistake(cfg, change)
    with pytest.raises(SDDError, match=f'(?s){message}'):
        check_training(cfg)
        lock_work_dir(cfg.work_dir)
    assert not (tmp_path / 'run').exists() and not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('name', RUNS)
def test_a_run_ends_with_a_clear_error(cfg, name, tmp_path):
    change, message = RUNS[name]
    cfg.experiment_name = f'bad_{list(RUNS).index(name)}'
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    mistake(cfg, change)
    (tmp_path / 'run').mkdir()
    kept = tmp_path / 'run' / 'epoch_1.pth'
    kept.write_text('of an earlier run')
    with lock_work_dir(cfg.work_dir), pytest.raises(
            Exception, match=f'(?s){message}'):
        Runner.from_cfg(cfg).train()
    assert kept.read_text() == 'of an earlier run'


@pytest.mark.parametrize('name', [n for n in RUNS if n != DIVERGES])
def test_most_of_these_are_found_before_a_run(cfg, name, tmp_path):
    test_a_mistake_is_a_clear_error(cfg, name, tmp_path)


def test_there_are_enough():
    assert len(CASES) + len(RUNS) >= 60
