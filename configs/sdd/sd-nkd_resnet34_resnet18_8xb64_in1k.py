_base_ = './sd-nkd_res34_res18_imagenet.py'
