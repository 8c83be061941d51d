# Copyright (c) sdd_mm contributors. All rights reserved.
def stem_geometry(stem: str, kernel_size: int, stride: int) -> dict:
    """Return kernel, stride and padding of the first convolution.

    Args:
        stem (str): 'cifar' for 32 x 32 images, with the kernel and stride
            given; or 'cub' for 224 x 224 images: 7 x 7 with stride 2.
        kernel_size (int): Kernel of the 'cifar' stem.
        stride (int): Stride of the 'cifar' stem.

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
