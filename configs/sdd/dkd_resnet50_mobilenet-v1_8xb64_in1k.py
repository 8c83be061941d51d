_base_ = './dkd_res50_mbv1_imagenet.py'
