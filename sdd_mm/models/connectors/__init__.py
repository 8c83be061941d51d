# Copyright (c) sdd_mm contributors. All rights reserved.
from .conv_regressor import ConvRegressor

__all__ = ['ConvRegressor']
