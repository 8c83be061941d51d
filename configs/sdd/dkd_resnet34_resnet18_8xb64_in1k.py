_base_ = './dkd_res34_res18_imagenet.py'
