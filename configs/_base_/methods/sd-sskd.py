# SD-SSKD: SSKD with SD-KD in place of KD, for all views. The paper does not
# define it; this definition is ours
_base_ = './_rotation.py'
loss = dict(
    type='ScaleDecoupledLoss',
    criterion=dict(type='KDCriterion', tau=4.0),
    scales=(1, 2, 4))
method = dict(
    distiller=dict(
        distill_losses=dict(
            loss_kd=dict(loss=loss), loss_rotated=dict(loss=loss))))
