_base_ = ['../_base_/pairs/res50_vgg8_cifar100.py', '../_base_/methods/fitnet.py']
model = _base_.method
model.image_size = _base_.image_size
optim_wrapper = dict(clip_grad=None)
