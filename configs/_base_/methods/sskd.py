# SSKD: 0.1 CE + 0.9 KD + 2.7 KD of rotated views + 10 times their relations
_base_ = './_rotation.py'
loss = dict(type='LogitLoss', criterion=dict(type='KDCriterion', tau=4.0))
method = dict(
    distiller=dict(
        distill_losses=dict(
            loss_kd=dict(loss=loss), loss_rotated=dict(loss=loss))))
