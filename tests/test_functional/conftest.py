# Copyright (c) sdd_mm contributors. All rights reserved.
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on two threads, on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
