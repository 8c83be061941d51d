_base_ = './sd-kd_vgg13_vgg8_cub200.py'
