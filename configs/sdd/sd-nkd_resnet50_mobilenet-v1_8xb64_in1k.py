_base_ = './sd-nkd_res50_mbv1_imagenet.py'
