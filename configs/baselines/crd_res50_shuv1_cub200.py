_base_ = ['../_base_/pairs/res50_shuv1_cub200.py', '../_base_/methods/crd.py']
model = _base_.method
model.image_size = _base_.image_size
model.distiller.distill_losses.loss_crd.update(num_data=5994, num_negatives=4096)
optim_wrapper = dict(clip_grad=None)
custom_hooks = [*_base_.custom_hooks, _base_.labels]
