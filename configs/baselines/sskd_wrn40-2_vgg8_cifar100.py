_base_ = ['../_base_/pairs/wrn40-2_vgg8_cifar100.py', '../_base_/methods/sskd.py']
model = _base_.method
model.image_size = _base_.image_size
model.distiller.distill_losses.loss_relation.teacher_head = 'work_dirs/sskd-head_wrn40-2_cifar100/epoch_60.pth'
optim_wrapper = dict(clip_grad=None)
train_dataloader = dict(dataset=dict(pipeline=_base_.pipeline))
