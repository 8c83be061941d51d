# Digit scenes by the paper's equations 6 to 10, whose loss is a sum over cells
# and so grows with their number: under which clipping and warm-up it trains
_base_ = '../../configs/_base_/fidelity/paper.py'
teacher = 'configs/demo/teacher.py'
seeds = [0]
_hooks = [dict(type='FrozenTeacherHook'), dict(type='SDDReportHook')]
_loss = 'model.distiller.distill_losses.loss_sdd'
_paper = {f'{_loss}.{key}': _base_.fidelity[key] for key in _base_.fidelity}
rows = {}
for _method, _clips, _warm_ups in (
    ('sd-kd', (None, 40, 10, 5, 1), (0, 1.5)),
    ('sd-dkd', (40, 5, 1), (1.5, )),
    ('sd-nkd', (40, 5, 1), (1.5, )),
):
    for _warm_up in _warm_ups:  # the paper's 30 of 240 epochs are 1.5 of 12
        for _clip in _clips:
            rows[f'{_method.upper()}, '
                 f'{"not clipped" if _clip is None else f"clipped at {_clip}"}'
                 f', warm-up {_warm_up}'] = dict(
                     config=f'configs/demo/{_method}.py',
                     options={
                         **_paper, 'optim_wrapper.clip_grad':
                         None if _clip is None else dict(max_norm=_clip),
                         'custom_hooks':
                         _hooks + [
                             dict(
                                 type='DistillWarmupHook',
                                 loss='loss_sdd',
                                 epochs=_warm_up,
                                 by_epoch=False)
                         ] * bool(_warm_up)
                     },
                     panel=f'{_method.upper()}, warm-up {_warm_up}')
notes = [
    'M = {1, 2, 4}: 21 cells. Clipping limits the norm of the whole gradient. '
    'The warm-up is linear; its length is in epochs, of 12 in all.'
]
