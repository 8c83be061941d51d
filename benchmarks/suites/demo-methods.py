# Digit scenes: the paper's other methods beside KD and SD-KD, with the weights
# that were published for CIFAR-100
teacher = 'configs/demo/teacher.py'
seeds = [0, 1, 2, 3, 4]

rows = {
    'student alone': dict(config='configs/demo/student.py'),
    'KD': dict(config='configs/demo/kd.py'),
    'FitNet': dict(config='configs/demo/fitnet.py'),
    'RKD': dict(config='configs/demo/rkd.py'),
    'SP': dict(config='configs/demo/sp.py'),
    'PKT': dict(config='configs/demo/pkt.py'),
    'CRD': dict(config='configs/demo/crd.py'),
    'SemCKD': dict(config='configs/demo/semckd.py'),
    'ReviewKD': dict(config='configs/demo/reviewkd.py'),
    'MGD': dict(config='configs/demo/mgd.py'),
    'SD-KD': dict(config='configs/demo/sd-kd.py'),
    'SD-DKD': dict(config='configs/demo/sd-dkd.py'),
}
notes = []
