_base_ = './kd_res50_mbv1_imagenet.py'
