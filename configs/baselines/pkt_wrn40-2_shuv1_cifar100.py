_base_ = ['../_base_/pairs/wrn40-2_shuv1_cifar100.py', '../_base_/methods/pkt.py']
model = _base_.method
optim_wrapper = dict(clip_grad=None)
