_base_ = ['../_base_/pairs/res32x4_shuv2_cifar100.py', '../_base_/methods/pkt.py']
model = _base_.method
optim_wrapper = dict(clip_grad=None)
