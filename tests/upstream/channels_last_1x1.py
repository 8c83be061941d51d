"""Weight gradients of strided 1 x 1 convolutions, channels last, on a CPU.

python channels_last_1x1.py prints the numbers of input channels whose weight
gradient differs from the contiguous one. ONEDNN_MAX_CPU_ISA=AVX2 shows it on
a processor with AVX-512, too. Run it with a time limit: it may never end.
"""
import torch
import torch.nn.functional as F

for channels in range(1, 17):
    torch.manual_seed(channels)
    images, weight = torch.randn(4, channels, 8,
                                 8), torch.randn(16, channels, 1, 1)
    grads = []
    for layout in (torch.contiguous_format, torch.channels_last):
        w = weight.to(memory_format=layout, copy=True).requires_grad_()
        maps = F.conv2d(images.to(memory_format=layout), w, stride=2)
        maps.pow(2).sum().backward()
        grads.append(w.grad.contiguous())
    if not torch.allclose(*grads, rtol=1e-3, atol=1e-3 * grads[0].abs().max()):
        print(channels)
