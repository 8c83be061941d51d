_base_ = './sd-kd_res50_mbv1_imagenet.py'
