"""One run in several processes: each trains on its part of every batch, all in lockstep.

The parts of a batch (:mod:`~bnnbench.parallel.parts`), normalization over all of it
(:mod:`~bnnbench.parallel.normalization`), the exchange (:mod:`~bnnbench.parallel.lockstep`),
whether a training can be divided at all (:mod:`~bnnbench.parallel.division`), and the processes
(:mod:`~bnnbench.parallel.helpers`, each of which is a :mod:`~bnnbench.parallel.helping`).
"""
