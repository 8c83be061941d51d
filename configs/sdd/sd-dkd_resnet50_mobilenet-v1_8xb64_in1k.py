_base_ = './sd-dkd_res50_mbv1_imagenet.py'
