_base_ = ['../_base_/pairs/res34_res18_imagenet.py', '../_base_/methods/nkd.py']
model = _base_.method
