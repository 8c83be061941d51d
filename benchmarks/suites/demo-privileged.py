# The teacher sees depth, the student sees colors; depth is for training only
_pair = 'configs/demo/privileged/privileged'

teacher = f'{_pair}-teacher.py'
seeds = [0, 1, 2, 3, 4]
rows = {
    'student alone': dict(config=f'{_pair}-student.py'),
    'KD': dict(config=f'{_pair}-kd.py', panel='KD'),
    'SD-KD, M = {1, 2, 4}': dict(config=f'{_pair}-sd-kd.py', panel='KD'),
    'DKD': dict(config=f'{_pair}-dkd.py', panel='DKD'),
    'SD-DKD, M = {1, 2, 4}': dict(config=f'{_pair}-sd-dkd.py', panel='DKD'),
}
notes = [
    'Scenes of digits: the student sees their colors, with strokes and noise, '
    'the teacher sees how near everything is. 1,500 scenes to train, 1,000 '
    'of other digits to test, 24 epochs. The teacher\'s accuracy is on '
    'depth, the students\' on colors alone.'
]
