# Copyright (c) sdd_mm contributors. All rights reserved.
import io
import shlex
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmengine.device import get_device

from ..config_builder import METHODS, make_config
from ..config_builder.methods import read_method
from ..engine.errors import PreflightError
from . import steps
from .photos import Photos, balance, find_photos, write_lists
from .recipe import (Network, data_text, network_text, read_network,
                     scales_that_fit, teacher_text)
from .result import STUDENT_ALONE, doubt, measure_graph, measure_run, text
from .timing import epochs_within, seconds_of, seconds_per_epoch

ALONE = 'alone'


def distill(data: Union[str, Path],
            teacher: str,
            student: str,
            method: str = 'sd-kd',
            out: Union[str, Path, None] = None,
            teacher_ckpt: Optional[str] = None,
            student_ckpt: Optional[str] = None,
            compare: Sequence[str] = (),
            epochs: int = 50,
            time: Optional[str] = None,
            image_size: int = 224,
            batch_size: int = 32,
            workers: int = 2,
            seed: int = 0) -> Path:
    """Distill a teacher into a student for a folder of pictures.

    Configs are written to ``out/configs`` and left as they are if they exist,
    so that a second call follows what was edited. Every step is a command
    that is printed, and that is not repeated if it is done. A teacher that is
    not trained for these classes is trained first.

    Args:
        data (str | Path): A folder with a folder of pictures for each class,
            or with ``train`` and ``val`` that have these.
        teacher (str): A model of MMPretrain's index, such as
            ``resnet50_8xb32_in1k``, ``mmpretrain::PATH``, or a config file.
        student (str): The same.
        method (str): One of ``sdd_mm.config_builder.METHODS``. Defaults to
            'sd-kd'.
        out (str | Path, optional): Folder for everything that is written.
            Defaults to None: ``work_dirs/distill/NAME`` of the data's NAME.
        teacher_ckpt (str, optional): Path or URL of the teacher's weights;
            'none' for random ones. Defaults to None: those that MMPretrain
            publishes.
        student_ckpt (str, optional): The same of the student, which starts
            from them.
        compare (Sequence[str]): Also train 'alone', the student without a
            teacher, and other methods, such as 'kd'. Defaults to ().
        epochs (int): Epochs of every training. Defaults to 50.
        time (str, optional): A time such as '30m' in place of ``epochs``,
            which is measured and divided among the trainings. Defaults to
            None.
        image_size (int): Height and width of the images, in pixels. Defaults
            to 224.
        batch_size (int): Images per step. Defaults to 32. Halved until it
            fits into the memory of the GPU.
        workers (int): Processes that load images. Defaults to 2.
        seed (int): Seed of the split and of every training. Defaults to 0.

    Returns:
        Path: The table of the result, ``out/result.md``.

    Raises:
        SDDError: If something cannot be read or trained, with the reason.

    Examples:
        >>> sdd_mm.distill('pictures', 'resnet50_8xb32_in1k',
        ...                'resnet18_8xb32_in1k', time='30m')
    """
    data = Path(data).expanduser()
    if out is None:
        out = Path('work_dirs', 'distill', data.resolve().name)
    out, configs = Path(out), Path(out) / 'configs'
    for name in (method, *compare):
        if name != ALONE and name not in METHODS:
            read_method(name, 2)  # says which there are
    seconds = None if time is None else seconds_of(time)
    for name, value, least in (('epochs', epochs, 1),
                               ('batch-size', batch_size, 1), ('workers',
                                                               workers, 0)):
        if value < least:
            raise PreflightError(f'--{name} must be at least {least}, got '
                                 f'{value}')
    if image_size < 32:
        raise PreflightError(f'--image-size must be at least 32 pixels, got '
                             f'{image_size}')
    photos = find_photos(data, seed)
    print(balance(photos))
    for note in photos.notes:
        print(f'NOTE: {note}')
    networks = {
        role: read_network(role, name, checkpoint, len(photos.classes))
        for role, name, checkpoint in (('teacher', teacher, teacher_ckpt),
                                       ('student', student, student_ckpt))
    }
    methods = [*dict.fromkeys([*(m for m in compare if m != ALONE), method])]
    recipe = Recipe(photos, networks, methods, ALONE in compare, image_size,
                    min(batch_size, len(photos.train)), workers, seed)
    if not (configs / f'{method}.py').is_file():
        if networks['teacher'].checkpoint is None:
            print('NOTE: the teacher starts from random weights. One with '
                  'published weights teaches more: --teacher-ckpt')
        per_epoch = {}
        if seconds is not None or get_device() == 'cuda':
            per_epoch = _try(recipe)
        if seconds is not None:
            epochs = _fit_time(per_epoch, seconds)
    recipe.write(configs, out, epochs)
    return _run(recipe, configs, out, method)


@dataclass
class Recipe:
    """What is written, and in which order it is trained."""

    photos: Photos
    networks: Dict[str, Network]
    methods: List[str]
    alone: bool
    image_size: int
    batch_size: int
    workers: int
    seed: int

    @property
    def trained(self) -> List[str]:
        """Names of the runs, in order."""
        teacher = [] if self.networks['teacher'].trained else ['teacher']
        return [*teacher, *(['student'] * self.alone), *self.methods]

    def teacher_ckpt(self, configs: Path, out: Path) -> str:
        """The weights of the teacher, once it is trained."""
        teacher = self.networks['teacher']
        if teacher.trained:
            return str(Path(teacher.checkpoint).expanduser().resolve())
        return str(
            steps.checkpoint_of(configs / 'teacher.py',
                                out / 'teacher').resolve())

    def write(self, configs: Path, out: Path, epochs: int) -> None:
        """Write the configs that do not exist."""
        configs.mkdir(parents=True, exist_ok=True)
        lists = write_lists(self.photos, configs)
        teacher, student = (
            self.networks[role] for role in ('teacher', 'student'))
        texts = {
            'data':
            data_text(self.photos, lists, self.image_size, self.batch_size,
                      self.workers),
            'teacher':
            teacher_text(teacher) if teacher.trained else network_text(
                teacher, epochs, self.seed),
            'student':
            network_text(student, epochs, self.seed),
        }
        for name, content in texts.items():
            path = configs / f'{name}.py'
            if path.is_file():
                print(f'{path} is left as it is')
            else:
                path.write_text(content, encoding='utf-8')
                print(f'{path} is written')
        for name in self.methods:
            path = configs / f'{name}.py'
            if path.is_file():
                print(f'{path} is left as it is')
                continue
            method = read_method(name, len(self.photos.classes))
            own, scales = method.warmup, None
            if any('scales' in loss for loss in method.losses.values()):
                scales = scales_that_fit(student, self.image_size)
            said = io.StringIO()
            with redirect_stdout(said):
                make_config(
                    path,
                    configs / 'student.py',
                    configs / 'teacher.py',
                    name,
                    teacher_ckpt=self.teacher_ckpt(configs, out),
                    warmup_epochs=min(own['epochs'], max(1, epochs //
                                                         10)) if own else None,
                    scales=scales,
                    on_normalization_mismatch='convert')
            for line in said.getvalue().splitlines():
                if 'does not exist yet' not in line:  # it will
                    print(line)
            print(f'{path} is written')


def _try(recipe: Recipe) -> Dict[str, float]:
    """The seconds of an epoch of each training, from some of its steps.

    Halves the batch until each of them fits into the memory of the GPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        configs = Path(folder)
        with redirect_stdout(io.StringIO()):
            recipe.write(configs, configs, 100)
        try:
            return {
                name: seconds_per_epoch(configs / f'{name}.py')
                for name in recipe.trained
            }
        except torch.OutOfMemoryError:
            if recipe.batch_size == 1:
                raise
    recipe.batch_size //= 2
    print(f'The memory of the GPU is too small: {recipe.batch_size} images a '
          'step are tried')
    return _try(recipe)


def _fit_time(per_epoch: Dict[str, float], seconds: float) -> int:
    """The epochs of each training that fit into a time."""
    epochs = epochs_within(seconds, sum(per_epoch.values()))
    each = ', '.join(f'{name} {one:.1f} s' for name, one in per_epoch.items())
    print(f'An epoch takes: {each}. {epochs} epochs each fit')
    return epochs


def _run(recipe: Recipe, configs: Path, out: Path, method: str) -> Path:
    """Train, report, export, and write the table."""
    done: Dict[str, Tuple[Path, Path]] = {}
    doubts: List[str] = []
    for name in recipe.trained:
        if name == recipe.methods[0]:  # its teacher is trained now
            doubts = doubt(out)
            for line in doubts:
                print(f'WARNING: {line}', flush=True)
            steps.check(configs / f'{name}.py')
        config = configs / f'{name}.py'
        done[name] = config, steps.train(config, out / name)
    if recipe.networks['teacher'].trained:
        ready = Path(recipe.teacher_ckpt(configs, out))
        done = {'teacher': (configs / 'teacher.py', ready), **done}
    checkpoint = done[method][1]
    others = [name for name in recipe.methods if name != method]
    steps.report(checkpoint, done[others[0]][1] if others else None,
                 done['student'][1] if 'student' in done else None,
                 out / 'report')
    steps.export(checkpoint, out / 'student.pth')
    titles = {'student': STUDENT_ALONE}
    found = {
        titles.get(name, name): measure_run(*run)
        for name, run in done.items()
    }
    exported = {
        f'{method}, {title}': measure_graph(out / name)
        for title, name in (('ONNX', 'student.onnx'), ('int8 ONNX',
                                                       'student.int8.onnx'))
    }
    classify = shlex.join(
        map(str, ('python', out / 'infer.py', out / 'student.onnx')))
    names = {role: one.title for role, one in recipe.networks.items()}
    result = text(found, exported, [
        *(f'**{line}**' for line in doubts),
        f'Teacher: {names["teacher"]}. Student: {names["student"]}. '
        f'{balance(recipe.photos)}.',
        *recipe.photos.notes,
        f'Student: {out / "student.pth"}, {out / "student.onnx"}, '
        f'{out / "student.int8.onnx"}. `{classify} PICTURE ...` needs '
        'onnxruntime, NumPy and Pillow alone.',
        f'Figures: {out / "report/report.html"}. Configs: {configs}',
    ])
    path = out / 'result.md'
    path.write_text(result, encoding='utf-8')
    print(f'\n{result}\nWritten to {path}')
    return path
