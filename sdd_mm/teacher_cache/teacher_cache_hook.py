# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ..runtime.utils import bare_model
from .cacheable import TeacherCacheError
from .teacher_cache import TeacherCache


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Runs the teacher once per view of an image.

    Needs an ``InMemoryDataset`` for training, whose augmentations are a
    discrete set of views, and a ``FrozenTeacherDistill``. See
    :class:`sdd_mm.teacher_cache.TeacherCache`. Logs the size of the cache
    before training, and after every epoch how often the teacher had to run.

    Args:
        cache_dir (str, optional): Folder of the rows, for later runs, other
            methods and other students. Defaults to None, which keeps them in
            memory for this run.
        dtype (str): 'float16' or 'float32', of the stored logits. Defaults to
            'float16'.

    Raises:
        TeacherCacheError: If the cache could not be exact, or has no room.

    Examples:
        >>> # in a config
        >>> custom_hooks = [
        ...     dict(type='TeacherCacheHook', cache_dir='work_dirs/teachers')
        ... ]
    """

    def __init__(self,
                 cache_dir: Optional[str] = None,
                 dtype: str = 'float16') -> None:
        self.cache_dir = cache_dir
        self.dtype = dtype

    def before_train(self, runner) -> None:
        """Open the cache."""
        model = bare_model(runner)
        if sum(isinstance(hook, TeacherCacheHook)
               for hook in runner.hooks) > 1:
            raise TeacherCacheError('custom_hooks has two TeacherCacheHooks: '
                                    'remove one')
        previous = getattr(model, 'teacher_source', None)
        if isinstance(previous, TeacherCache):  # of an interrupted run
            previous.store.close()
            model.teacher_source = previous.live
        self.cache = TeacherCache(model, runner.train_dataloader.dataset,
                                  self.cache_dir, self.dtype)
        model.teacher_source = self.cache

    def before_train_epoch(self, runner) -> None:
        """Reset the counts."""
        self.cache.requested = self.cache.forwards = 0

    def after_train_epoch(self, runner) -> None:
        """Log how often the teacher had to run."""
        cache = self.cache
        if cache.requested == 0:
            return  # the distillation was stopped
        runner.logger.info(
            f'Teacher cache: the teacher ran on {cache.forwards:,} of '
            f'{cache.requested:,} views '
            f'({cache.forwards / cache.requested:.1%})')

    def after_train(self, runner) -> None:
        """Close the cache."""
        bare_model(runner).teacher_source = self.cache.live
        self.cache.store.close()
