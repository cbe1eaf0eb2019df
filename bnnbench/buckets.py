"""The names of the buckets into which the clock puts a run's time."""

TRAIN = "train"  #: getting the batch, forward, backward and the optimizers
WARMUP = "warmup"  #: what ``train`` is called in a run's first epoch, which no mean includes
EVALUATION = "evaluation"
PROBES = "probes"
CHECKPOINTS = "checkpoints"
DATABASE = "database"  #: all that happens outside, between two epochs
OTHER = "other"
BUCKETS = (TRAIN, EVALUATION, PROBES, CHECKPOINTS, DATABASE, OTHER)
