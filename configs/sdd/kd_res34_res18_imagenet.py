_base_ = ['../_base_/pairs/res34_res18_imagenet.py', '../_base_/methods/kd.py']
model = _base_.method
model.student_loss_weight = 0.5
model.distiller.distill_losses.loss_kd.update(loss_weight=0.5)
model.distiller.distill_losses.loss_kd.criterion.update(tau=1.0)
