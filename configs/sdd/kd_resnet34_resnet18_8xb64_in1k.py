_base_ = './kd_res34_res18_imagenet.py'
