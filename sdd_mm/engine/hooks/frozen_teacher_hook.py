# Copyright (c) sdd_mm contributors. All rights reserved.
import logging
from typing import Optional

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from ...models.algorithms import TeacherError
from ...runtime.utils import bare_model

META = 'teacher_sha256'


@HOOKS.register_module()
class FrozenTeacherHook(Hook):
    """Keeps a run to one teacher.

    The SHA-256 of the teacher's weights goes into every checkpoint's meta.
    Resuming with another teacher is refused, and so are ranks whose teachers
    differ. Needs ``FrozenTeacherDistill``.

    Raises:
        TeacherError: If the teacher is another one.

    Examples:
        >>> # in a config
        >>> custom_hooks = [dict(type='FrozenTeacherHook')]
    """

    def before_train(self, runner) -> None:
        """Compare the teachers of all ranks."""
        hashes = all_gather_object(self._hash(runner))
        if len(set(hashes)) > 1:
            raise TeacherError(
                'the ranks have different teachers (SHA-256 by rank): '
                f'{hashes}. Is model.teacher_ckpt the same file on every '
                'machine?')
        runner.logger.info(f'Teacher weights: SHA-256 {hashes[0]}')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the teacher's hash."""
        checkpoint['meta'][META] = self._hash(runner)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuse to resume with another teacher."""
        mine = self._hash(runner)
        if not runner._resume or mine is None:
            return
        theirs = checkpoint.get('meta', {}).get(META)
        if theirs is None:
            print_log(
                'The checkpoint does not say which teacher it was distilled '
                'from, so it cannot be compared with this one.',
                logger='current',
                level=logging.WARNING)
        elif theirs != mine:
            raise TeacherError(
                'this run was distilled from another teacher: SHA-256 '
                f'{theirs} in the checkpoint, {mine} now. Set '
                'model.teacher_ckpt to the teacher that the run began with')

    @staticmethod
    def _hash(runner) -> Optional[str]:
        return getattr(bare_model(runner), 'teacher_hash', None)
