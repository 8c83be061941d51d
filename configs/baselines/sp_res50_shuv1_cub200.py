_base_ = ['../_base_/pairs/res50_shuv1_cub200.py', '../_base_/methods/sp.py']
model = _base_.method
optim_wrapper = dict(clip_grad=None)
