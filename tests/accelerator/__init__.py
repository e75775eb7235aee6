"""A stand-in accelerator: a device named ``accel`` whose tensors live on the CPU in disguise.

It refuses what a GPU refuses, a CPU tensor beside a device tensor, and counts what makes a GPU
wait: each reading of a value by the host. So device mistakes show on a machine without one.

Registering a device is for good and for the whole process. The checks that use it therefore lie in
``check_*.py``, which pytest does not collect by itself; ``test_on_the_stand_in.py`` runs each in a
process of its own. While working on one, run it directly: ``pytest tests/accelerator/check_x.py``.
"""
