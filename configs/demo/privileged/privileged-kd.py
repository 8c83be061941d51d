_base_ = ['../../_base_/pairs/res14_res8_privileged_scenes.py', '../../_base_/methods/kd.py']
model = _base_.method
