_base_ = './sd-kd_res34_res18_imagenet.py'
