_base_ = './sd-nkd_vgg13_vgg8_cub200.py'
