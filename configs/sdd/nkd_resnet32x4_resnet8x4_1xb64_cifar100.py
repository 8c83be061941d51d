_base_ = './nkd_res32x4_res8x4_cifar100.py'
