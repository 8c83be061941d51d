# The paper's two pairs on ImageNet; the teachers are OpenMMLab's. --gpus 8:
# 8 x 64 images per step
seeds = [0]
rows = {
    f'{name}: {method.upper()}':
    dict(config=f'configs/sdd/{method}_{pair}_imagenet.py', panel=name)
    for pair, name in (('res34_res18', 'ResNet-34 to ResNet-18'),
                       ('res50_mbv1', 'ResNet-50 to MobileNetV1'))
    for method in ('kd', 'sd-kd', 'dkd', 'sd-dkd', 'nkd', 'sd-nkd')
}
notes = ['ImageNet-1k, 100 epochs, 512 images per step as in the paper.']
