"""What a header of version 3 is made of: its compression starts as if it had just read this text.

The text is part of the version: a change of one letter makes files of this version unreadable. It holds the
steps of recipes at their defaults, names of tensors and descriptions, what is frequent at the end.
"""

TEXT = (
    '["lstm.weight_ih_l0","lstm.weight_hh_l0","lstm.bias_ih_l0","lstm.bias_hh_l0","lstm.weight_ih_l1","ls'
    'tm.weight_hh_l1","lstm.bias_ih_l1","lstm.bias_hh_l1","fc.weight","fc.bias"]'
    '["layer3.0.conv1.weight","layer3.0.bn1.weight","layer3.0.bn1.bias","layer3.0.bn1.running_mean","laye'
    'r3.0.bn1.running_var","layer3.0.conv2.weight","layer3.0.bn2.weight","layer3.0.bn2.bias","layer3.0.bn'
    '2.running_mean","layer3.0.bn2.running_var","layer2.0.conv1.weight","layer2.0.bn1.weight","layer2.0.b'
    'n1.bias","layer2.0.bn1.running_mean","layer2.0.bn1.running_var","layer2.0.conv2.weight","layer2.0.bn'
    '2.weight","layer2.0.bn2.bias","layer2.0.bn2.running_mean","layer2.0.bn2.running_var","layer1.0.conv1'
    '.weight","layer1.0.bn1.weight","layer1.0.bn1.bias","layer1.0.bn1.running_mean","layer1.0.bn1.running'
    '_var","layer1.0.conv2.weight","layer1.0.bn2.weight","layer1.0.bn2.bias","layer1.0.bn2.running_mean",'
    '"layer1.0.bn2.running_var"]'
    '["conv1.weight","bn1.weight","bn1.bias","bn1.running_mean","bn1.running_var","conv2.weight","bn2.wei'
    'ght","bn2.bias","bn2.running_mean","bn2.running_var","conv3.weight","bn3.weight","bn3.bias","bn3.run'
    'ning_mean","bn3.running_var","conv4.weight","bn4.weight","bn4.bias","bn4.running_mean","bn4.running_'
    'var","conv5.weight","bn5.weight","bn5.bias","bn5.running_mean","bn5.running_var","conv6.weight","bn6'
    '.weight","bn6.bias","bn6.running_mean","bn6.running_var","conv7.weight","bn7.weight","bn7.bias","bn7'
    '.running_mean","bn7.running_var","conv8.weight","bn8.weight","bn8.bias","bn8.running_mean","bn8.runn'
    'ing_var"]'
    '["conv1.weight","conv1.bias","conv2.weight","conv2.bias","fc1.weight","fc1.bias","fc2.weight","fc2.b'
    'ias","fc3.weight","fc3.bias"]'
    '["packed","floats","entropy","sparse","steps '
    'context"],[[0,[10,100],["tensor"]],[1,[64]],[0,[64,64,3,3],["group",1,64]],[1,[300]]'
    '["book","grid","dense"],["context","floats","packed","raw"],[[0,[300,784],8,["axis",0]],[1,[300]],[0'
    ',[100,300],8,["axis",0]],[1,[100]],[0,[10,100],8,["axis",0]],[1,[10]]],[[0,1,2],[1],[0,1,2],[1],[0,1'
    ",2],[3]],["
    '["bare",[["quantize_input",{"narrow","split","condense"]]]'
    '[["resnet-20",[]],[["vgg-small",[]],[["resnet-8",[]],[["lstm-mnist",[]],[["lstm-32",[]],[["mlp-500-3'
    '00",[]],[["mlp-32",[]],[["lenet-5-small",[]],[["lenet-5",[]],[["lenet-300-100",[]],[['
    '["slim",{"allocation":"global","epochs":5,"learning_rate":0.02,"leave_out":[],"removed":0.5,"seed":0'
    ',"strength":0.001,"tuning":3,"weight_decay":0.0001}],["condense",{"epochs":6,"factor":4,"groups":4,"'
    'learning_rate":0.02,"leave_out":[],"seed":0,"weight_decay":0.0001}],["lottery_ticket",{"epochs":6,"l'
    'earning_rate":0.0012,"random_mask":false,"rate":0.2,"re_init":true,"rewind":0,"rounds":7,"seed":0,"s'
    'tart":"zoo"}],["prune_iteratively",{"allocation":"global","epochs":2,"learning_rate":0.01,"leave_out'
    '":[],"rounds":5,"schedule":"rounds","seed":0,"sparsity":0.92,"weight_decay":0.0001}],["distill",{"al'
    'pha":0.7,"control":true,"epochs":10,"learning_rate":0.01,"seed":0,"subset":10000,"temperature":4.0}]'
    ',["low_rank",{"by":"energy","energy":0.9,"form":"channel","leave_out":[],"per_layer":{},"rank":16,"s'
    'hare":0.5}],["optimal_brain_damage",{"allocation":"global","samples":200,"seed":0,"sparsity":0.6}],['
    '"prune_channels",{"leave_out":[],"refit":true,"removed":0.5,"removed_per_layer":{},"samples":2000,"s'
    'eed":0,"selection":"lasso"}],["prune_filters",{"allocation":"layer","by_hand":{},"leave_out":[],"per'
    '_layer":{},"removed":0.25,"residual":false,"score":"l1","seed":0}],["finetune",{"epochs":3,"learning'
    '_rate":0.01,"precision":"float32","seed":0,"weight_decay":0.0001}],["train_centroids",{"entries":16,'
    '"epochs":3,"learning_rate":0.001,"moves":"centroids","optimizer":"adam","seed":0}],["share_weights",'
    '{"allocation":"layer","by_hand":{},"entries":16,"leave_out":[],"per_layer":{},"seed":0,"start":"best'
    '","tables":{}}],["prune_weights",{"allocation":"global","block":4,"by":"sparsity","granularity":"ele'
    'ment","leave_out":[],"m":4,"n":2,"norm":"l1","per_layer":{},"quality":1.0,"samples":200,"score":"mag'
    'nitude","seed":0,"sparsity":0.9,"threshold":0.02}],["quantize",{"activation_bits":8,"activations":"n'
    'one","bits":8,"granularity":"channel","group":64,"leave_out":[],"per_layer":{},"percentile":99.9,"ra'
    'nge":"minmax","scheme":"symmetric"}]],'
)

WORDS = TEXT.encode()
