_base_ = './dkd_vgg13_vgg8_cub200.py'
