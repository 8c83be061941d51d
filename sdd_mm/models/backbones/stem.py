# Copyright (c) sdd_mm contributors. All rights reserved.
def stem_geometry(stem: str, kernel_size: int, stride: int) -> dict:
    """The first convolution's kernel, stride and padding.

    Args:
        stem (str): 'cifar' for 32 x 32 images: what the family has there; or
            'cub' for 224 x 224 images: 7 x 7 with stride 2.
        kernel_size (int): The family's kernel for 'cifar'.
        stride (int): The family's stride for 'cifar'.

    Returns:
        dict: Arguments of a convolution.

    Raises:
        ValueError: If ``stem`` is neither 'cifar' nor 'cub'.
    """
    stems = dict(cifar=(kernel_size, stride), cub=(7, 2))
    if stem not in stems:
        raise ValueError(f'stem must be one of {list(stems)}, got {stem!r}')
    kernel_size, stride = stems[stem]
    return dict(
        kernel_size=kernel_size, stride=stride, padding=kernel_size // 2)
