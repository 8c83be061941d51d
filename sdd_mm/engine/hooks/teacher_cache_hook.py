# Copyright (c) sdd_mm contributors. All rights reserved.
from typing import Optional

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...runtime.utils import bare_model
from ...teacher_cache import TeacherCache, TeacherCacheError


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Runs the teacher once per view of an image.

    Needs an ``InMemoryDataset`` for training, whose augmentation is a
    discrete set of views, and a ``FrozenTeacherDistill``. See
    :class:`sdd_mm.teacher_cache.TeacherCache`. The size is logged before the
    run starts, and every epoch how often the teacher was asked.

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
                                    'leave one out')
        left = getattr(model, 'teacher_source', None)
        if isinstance(left, TeacherCache):  # by a run that was interrupted
            left.store.close()
            model.teacher_source = left.live
        self.cache = TeacherCache(model, runner.train_dataloader.dataset,
                                  self.cache_dir, self.dtype)
        model.teacher_source = self.cache

    def before_train_epoch(self, runner) -> None:
        """Count anew."""
        self.cache.asked = self.cache.forwards = 0

    def after_train_epoch(self, runner) -> None:
        """Say how often the teacher was asked."""
        cache = self.cache
        if cache.asked == 0:
            return  # distillation was stopped
        runner.logger.info(
            f'Teacher cache: {cache.forwards:,} of {cache.asked:,} views were '
            f'asked of the teacher ({cache.forwards / cache.asked:.1%})')

    def after_train(self, runner) -> None:
        """Close the cache."""
        bare_model(runner).teacher_source = self.cache.live
        self.cache.store.close()
