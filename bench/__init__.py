"""mlship beside its peers: the same models, the same bodies, the same load, one machine, one run.

``python -m bench`` (or ``make bench``) builds an environment for each peer, starts one server at a time, interleaved
over several rounds, and measures. Read on in this order: ``subjects`` (who), ``loads`` (what is sent), ``rounds``
(the run), ``summary``, ``goals`` and ``tables`` (pure: what it means), ``publish`` (where it is written).
"""
