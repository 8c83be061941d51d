_base_ = './nkd_res34_res18_imagenet.py'
