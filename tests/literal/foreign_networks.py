# Copyright (c) sdd_mm contributors. All rights reserved.
"""The networks of RepDistiller and mdistiller, under their weights' names.

Written layer by layer from what those names and networks are, without a look
at the converter: running one yields its logits and its state dict.
"""
import torch
from torch.nn import functional as F


class Layers:
    """Layers that name and draw their weights when they are first used."""

    def __init__(self, seed=0):
        self.weights = {}
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, name, *shape, spread=1.0, center=0.0):
        assert name not in self.weights, name
        values = torch.randn(shape, generator=self.generator)
        self.weights[name] = center + spread * values
        return self.weights[name]

    def conv(self, x, name, out, kernel, stride=1, groups=1, bias=False):
        shape = out, x.shape[1] // groups, kernel, kernel
        spread = (shape[1] * kernel * kernel)**-0.5
        weight = self.draw(f'{name}.weight', *shape, spread=spread)
        bias = self.draw(f'{name}.bias', out, spread=0.1) if bias else None
        return F.conv2d(x, weight, bias, stride, kernel // 2, groups=groups)

    def bn(self, x, name):
        size = x.shape[1]
        weight = self.draw(f'{name}.weight', size, spread=0.2, center=1.0)
        bias = self.draw(f'{name}.bias', size, spread=0.2)
        mean = x.mean((0, 2, 3)) + 0.1 * torch.randn(
            size, generator=self.generator)
        var = x.var((0, 2, 3)) + 0.1
        self.weights[f'{name}.running_mean'] = mean
        self.weights[f'{name}.running_var'] = var
        self.weights[f'{name}.num_batches_tracked'] = torch.tensor(7)
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, x, name, out):
        """The classifier on the average of the map."""
        x = x.mean((2, 3))
        weight = self.draw(f'{name}.weight', out, x.shape[1], spread=0.1)
        return F.linear(x, weight, self.draw(f'{name}.bias', out, spread=0.1))


def stem(net, x, out, kernel, stride, cub):
    kernel, stride = (7, 2) if cub else (kernel, stride)
    return F.relu(net.bn(net.conv(x, 'conv1', out, kernel, stride), 'bn1'))


def resnet(net, x, classes, depth, channels=(16, 16, 32, 64), cub=False):
    x = stem(net, x, channels[0], 3, 1, cub)
    for stage, out in enumerate(channels[1:], 1):
        for block in range((depth - 2) // 6):
            name = f'layer{stage}.{block}'
            stride = 2 if stage > 1 and block == 0 else 1
            y = net.conv(x, f'{name}.conv1', out, 3, stride)
            y = F.relu(net.bn(y, f'{name}.bn1'))
            y = net.bn(net.conv(y, f'{name}.conv2', out, 3), f'{name}.bn2')
            if stride == 2 or x.shape[1] != out:
                x = net.conv(x, f'{name}.downsample.0', out, 1, stride)
                x = net.bn(x, f'{name}.downsample.1')
            x = F.relu(x + y)
    return net.linear(x, 'fc', classes)


def resnet_v2(net, x, classes, blocks, bottleneck, cub=False):
    x = stem(net, x, 64, 3, 1, cub)
    for stage, number in enumerate(blocks, 1):
        mid = 32 * 2**stage
        out = 4 * mid if bottleneck else mid
        for block in range(number):
            name = f'layer{stage}.{block}'
            stride = 2 if stage > 1 and block == 0 else 1
            if bottleneck:
                layers = ((mid, 1, 1), (mid, 3, stride), (out, 1, 1))
            else:
                layers = ((mid, 3, stride), (mid, 3, 1))
            y = x
            for index, (width, kernel, step) in enumerate(layers, 1):
                y = net.conv(y, f'{name}.conv{index}', width, kernel, step)
                y = net.bn(y, f'{name}.bn{index}')
                y = F.relu(y) if index < len(layers) else y
            if stride == 2 or x.shape[1] != out:
                x = net.conv(x, f'{name}.shortcut.0', out, 1, stride)
                x = net.bn(x, f'{name}.shortcut.1')
            x = F.relu(x + y)
    return net.linear(x, 'linear', classes)


def wrn(net, x, classes, depth, width):
    x = net.conv(x, 'conv1', 16, 3)
    for stage, base in enumerate((16, 32, 64), 1):
        for block in range((depth - 4) // 6):
            name, out = f'block{stage}.layer.{block}', base * width
            stride = 2 if stage > 1 and block == 0 else 1
            active = F.relu(net.bn(x, f'{name}.bn1'))
            y = net.conv(active, f'{name}.conv1', out, 3, stride)
            y = net.conv(
                F.relu(net.bn(y, f'{name}.bn2')), f'{name}.conv2', out, 3)
            if x.shape[1] != out:
                x = net.conv(active, f'{name}.convShortcut', out, 1, stride)
            x = x + y
    return net.linear(F.relu(net.bn(x, 'bn1')), 'fc', classes)


def vgg(net, x, classes, convolutions):
    for stage, out in enumerate((64, 128, 256, 512, 512)):
        for index in range(convolutions):
            name = f'block{stage}'
            x = net.conv(x, f'{name}.{3 * index}', out, 3, bias=True)
            x = F.relu(net.bn(x, f'{name}.{3 * index + 1}'))
        if stage < 3:
            x = F.max_pool2d(x, 2)
    return net.linear(x, 'classifier', classes)


def mobilenet_v2(net, x, classes, cub=False):
    x = net.conv(x, 'conv1.0', 16, 7 if cub else 3, 2)
    x = F.relu(net.bn(x, 'conv1.1'))
    if cub:
        x = F.max_pool2d(x, 2)
    settings = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2),
                (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))
    for stage, (expansion, out, blocks, first) in enumerate(settings):
        for block in range(blocks):
            name = f'blocks.{stage}.{block}.conv'
            stride, mid = first if block == 0 else 1, x.shape[1] * expansion
            y = F.relu(net.bn(net.conv(x, f'{name}.0', mid, 1), f'{name}.1'))
            y = net.conv(y, f'{name}.3', mid, 3, stride, groups=mid)
            y = F.relu(net.bn(y, f'{name}.4'))
            y = net.bn(net.conv(y, f'{name}.6', out, 1), f'{name}.7')
            x = x + y if x.shape == y.shape else y
    x = F.relu(net.bn(net.conv(x, 'conv2.0', 1280, 1), 'conv2.1'))
    return net.linear(x, 'classifier.0', classes)


def shuffle(x, groups):
    """Channel g, i of groups x size becomes channel i, g."""
    size = x.shape[1] // groups
    order = [g * size + i for i in range(size) for g in range(groups)]
    return x[:, order]


def shufflenet_v1(net, x, classes, cub=False):
    x = stem(net, x, 24, 1, 1, cub)
    for stage, (out, blocks) in enumerate(((240, 4), (480, 8), (960, 4)), 1):
        for block in range(blocks):
            name, stride = f'layer{stage}.{block}', 1 if block else 2
            groups = 1 if x.shape[1] == 24 else 3
            new = out if block else out - x.shape[1]
            mid = int(new / 4)
            y = net.conv(x, f'{name}.conv1', mid, 1, groups=groups)
            y = shuffle(F.relu(net.bn(y, f'{name}.bn1')), groups)
            y = net.conv(y, f'{name}.conv2', mid, 3, stride, groups=mid)
            y = F.relu(net.bn(y, f'{name}.bn2'))
            y = net.conv(y, f'{name}.conv3', new, 1, groups=3)
            y = net.bn(y, f'{name}.bn3')
            if block:
                x = F.relu(y + x)
            else:
                x = F.relu(torch.cat((y, F.avg_pool2d(x, 3, 2, 1)), 1))
    return net.linear(x, 'linear', classes)


def shufflenet_v2(net, x, classes, cub=False):
    x = stem(net, x, 24, 1, 1, cub)
    for stage, (out, blocks) in enumerate(((116, 4), (232, 8), (464, 4)), 1):
        half = out // 2
        for block in range(blocks):
            name = f'layer{stage}.{block}'

            def layer(y, index, width, kernel, stride=1):
                groups = width if kernel == 3 else 1
                y = net.conv(y, f'{name}.conv{index}', width, kernel, stride,
                             groups)
                y = net.bn(y, f'{name}.bn{index}')
                return y if kernel == 3 else F.relu(y)

            if block == 0:
                left = layer(layer(x, 1, x.shape[1], 3, 2), 2, half, 1)
                right = layer(
                    layer(layer(x, 3, half, 1), 4, half, 3, 2), 5, half, 1)
            else:
                left, right = x[:, :half], x[:, half:]
                for index, kernel in enumerate((1, 3, 1), 1):
                    right = layer(right, index, half, kernel)
            x = shuffle(torch.cat((left, right), 1), 2)
    x = F.relu(net.bn(net.conv(x, 'conv2', 1024, 1), 'bn2'))
    return net.linear(x, 'linear', classes)


def mobilenet_v1(net, x, classes):
    x = net.conv(x, 'model.0.0', 32, 3, 2)
    x = F.relu(net.bn(x, 'model.0.1'))
    widths = (64, 128, 128, 256, 256, *(512, ) * 6, 1024, 1024)
    for index, out in enumerate(widths, 1):
        name, size = f'model.{index}', x.shape[1]
        stride = 2 if index in (2, 4, 6, 12) else 1
        x = net.conv(x, f'{name}.0', size, 3, stride, groups=size)
        x = F.relu(net.bn(x, f'{name}.1'))
        x = F.relu(net.bn(net.conv(x, f'{name}.3', out, 1), f'{name}.4'))
    return net.linear(x, 'fc', classes)
