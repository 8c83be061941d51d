_base_ = './nkd_vgg13_vgg8_cub200.py'
