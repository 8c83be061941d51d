# CUB-200-2011 with the paper's 240 epochs: its five pairs
seeds = [0, 1, 2]
rows = {
    f'{title}: {method.upper()}':
    dict(
        config=f'configs/sdd/{method}_{pair}_cub200.py',
        teacher=f'configs/vanilla/{pair.split("_")[0]}_cub200.py',
        panel=title)
    for pair, title in (
        ('res32x4_mbv2', 'ResNet32x4 to MobileNetV2'),
        ('res32x4_shuv1', 'ResNet32x4 to ShuffleNetV1'),
        ('res50_shuv1', 'ResNet-50 to ShuffleNetV1'),
        ('vgg13_mbv2', 'VGG13 to MobileNetV2'),
        ('vgg13_vgg8', 'VGG13 to VGG8'),
    )
    for method in ('kd', 'sd-kd', 'dkd', 'sd-dkd', 'nkd', 'sd-nkd')
}
notes = ['CUB-200-2011, 240 epochs as in the paper.']
