# The first 50 classes of CUB-200-2011, a data set of its own. They are its
# first 2,889 images: a folder with the first 2,889 lines of images.txt,
# image_class_labels.txt and train_test_split.txt, and the images.
_pairs = (('vgg13_vgg8', 'VGG13 to VGG8'), ('vgg13_mbv2',
                                            'VGG13 to MobileNetV2'))
teacher = 'configs/vanilla/vgg13_cub200.py'
seeds = [0, 1, 2]
options = {
    f'{loader}_dataloader.dataset.{key}': value
    for loader in ('train', 'val', 'test')
    for key, value in (
        ('data_root', 'data/CUB_200_2011_classes001-050'),
        ('metainfo', dict(classes=[str(number) for number in range(1, 51)])),
    )
}
options['data_preprocessor.num_classes'] = 50
teacher_options = {'model.head.num_classes': 50}
rows = {
    f'{title}: {method.upper()}':
    dict(
        config=f'configs/sdd/{method}_{pair}_cub200.py',
        options={
            'model.architecture.head.num_classes': 50,
            'model.teacher.head.num_classes': 50,
            'model.teacher.data_preprocessor.num_classes': 50,
        },
        panel=title)
    for pair, title in _pairs
    for method in ('kd', 'sd-kd', 'dkd', 'sd-dkd', 'nkd', 'sd-nkd')
}
notes = [
    'The first 50 of CUB-200-2011\'s 200 classes (1,500 images to train, '
    '1,389 to test), 240 epochs. No published number compares with them.'
]
