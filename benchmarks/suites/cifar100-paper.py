# The schedule of the paper: 240 epochs
teacher = 'configs/vanilla/res32x4_cifar100.py'
seeds = [0, 1, 2]
rows = {
    f'ResNet32x4 to {name}: {method.upper()}':
    dict(
        config=f'configs/sdd/{method}_res32x4_{student}_cifar100.py',
        panel=name)
    for student, name in (('res8x4', 'ResNet8x4'), ('shuv1', 'ShuffleNetV1'),
                          ('mbv2', 'MobileNetV2'))
    for method in ('kd', 'sd-kd', 'dkd', 'sd-dkd', 'nkd', 'sd-nkd')
}
notes = ['CIFAR-100, 240 epochs as in the paper.']
