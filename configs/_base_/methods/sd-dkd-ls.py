# SD-DKD of z-scores: CE + 9 SDD, with a 20-epoch warm-up, as logit
# standardization was released for DKD; its numbers depend on the pair
_base_ = ['sd-dkd.py']
method = dict(
    distiller=dict(
        distill_losses=dict(
            loss_sdd=dict(
                criterion=dict(tau=2.0, standardize=True), loss_weight=9.0))))
