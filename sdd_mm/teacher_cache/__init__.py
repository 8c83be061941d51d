# Copyright (c) sdd_mm contributors. All rights reserved.
from .cacheable import TeacherCacheError
from .row_store import RowStore, RowStoreError
from .teacher_cache import TeacherCache
from .teacher_cache_hook import TeacherCacheHook

__all__ = [
    'RowStore', 'RowStoreError', 'TeacherCache', 'TeacherCacheError',
    'TeacherCacheHook'
]
