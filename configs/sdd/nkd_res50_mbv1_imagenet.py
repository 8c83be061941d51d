_base_ = ['../_base_/pairs/res50_mbv1_imagenet.py', '../_base_/methods/nkd.py']
model = _base_.method
