_base_ = ['../_base_/pairs/res32x4_mbv2_cifar100.py', '../_base_/methods/sd-sskd.py']
model = _base_.method
model.image_size = _base_.image_size
model.distiller.distill_losses.loss_relation.teacher_head = 'work_dirs/sskd-head_res32x4_cifar100/epoch_60.pth'
optim_wrapper = dict(clip_grad=None)
train_dataloader = dict(dataset=dict(pipeline=_base_.pipeline))
