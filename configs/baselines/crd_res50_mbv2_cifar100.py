_base_ = ['../_base_/pairs/res50_mbv2_cifar100.py', '../_base_/methods/crd.py']
model = _base_.method
model.image_size = _base_.image_size
optim_wrapper = dict(clip_grad=None)
custom_hooks = [*_base_.custom_hooks, _base_.labels]
