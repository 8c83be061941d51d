_base_ = './sd-dkd_res34_res18_imagenet.py'
