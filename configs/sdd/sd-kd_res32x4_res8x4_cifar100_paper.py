# SD-KD by the paper's equations; see docs/en/fidelity.md
_base_ = ['./sd-kd_res32x4_res8x4_cifar100.py', '../_base_/fidelity/paper.py']
model = dict(distiller=dict(distill_losses=dict(loss_sdd=_base_.fidelity)))
optim_wrapper = dict(clip_grad=_base_.fidelity_clip_grad)
custom_hooks = _base_.custom_hooks + _base_.fidelity_hooks
