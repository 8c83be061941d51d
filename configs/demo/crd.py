_base_ = ['../_base_/pairs/res14_res8_digit_scenes.py', '../_base_/methods/crd.py']
model = _base_.method
model.image_size = _base_.image_size
model.distiller.distill_losses.loss_crd.update(num_data=1500, num_negatives=1024)
custom_hooks = [*_base_.custom_hooks, _base_.labels]
