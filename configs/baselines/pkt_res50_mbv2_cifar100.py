_base_ = ['../_base_/pairs/res50_mbv2_cifar100.py', '../_base_/methods/pkt.py']
model = _base_.method
optim_wrapper = dict(clip_grad=None)
