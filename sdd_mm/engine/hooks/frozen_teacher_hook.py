# Copyright (c) sdd_mm contributors. All rights reserved.
import logging
from typing import Optional

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from ...models.algorithms import TEACHER_META, TeacherError
from ...runtime.utils import bare_model


@HOOKS.register_module()
class FrozenTeacherHook(Hook):
    """Makes sure that a run has a single teacher.

    Writes the SHA-256 of the teacher's weights into the meta of every
    checkpoint, and refuses to resume with another teacher or to train with
    different teachers on different ranks. Needs ``FrozenTeacherDistill``.

    Raises:
        TeacherError: If the teachers differ.

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
                f'{hashes}. Make model.teacher_ckpt the same file on every '
                'machine')
        runner.logger.info(f'Teacher weights: SHA-256 {hashes[0]}')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the teacher's hash."""
        checkpoint['meta'][TEACHER_META] = self._hash(runner)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuse to resume with another teacher."""
        mine = self._hash(runner)
        if not runner._resume or mine is None:
            return
        theirs = checkpoint.get('meta', {}).get(TEACHER_META)
        if theirs is None:
            print_log(
                'The checkpoint has no hash of its teacher, so it cannot be '
                'checked that this run has the same one.',
                logger='current',
                level=logging.WARNING)
        elif theirs != mine:
            raise TeacherError(
                'this run was distilled from another teacher: SHA-256 '
                f'{theirs} in the checkpoint, {mine} now. Set '
                'model.teacher_ckpt to the teacher that the run started with')

    @staticmethod
    def _hash(runner) -> Optional[str]:
        return getattr(bare_model(runner), 'teacher_hash', None)
