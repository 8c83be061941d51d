_base_ = './nkd_res50_mbv1_imagenet.py'
