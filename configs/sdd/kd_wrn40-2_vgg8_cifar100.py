_base_ = ['../_base_/pairs/wrn40-2_vgg8_cifar100.py', '../_base_/methods/kd.py']
model = _base_.method
