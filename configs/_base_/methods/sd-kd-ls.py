# SD-KD of z-scores: 0.1 CE + 9 SDD, as logit standardization was released for
# KD; its weight and temperature depend on the pair
_base_ = ['sd-kd.py']
method = dict(
    distiller=dict(
        distill_losses=dict(
            loss_sdd=dict(
                criterion=dict(tau=2.0, standardize=True), loss_weight=9.0))))
