# Copyright (c) sdd_mm contributors. All rights reserved.
from .row_store import RowStore, RowStoreError
from .teacher_cache import TeacherCache, TeacherCacheError

__all__ = ['RowStore', 'RowStoreError', 'TeacherCache', 'TeacherCacheError']
