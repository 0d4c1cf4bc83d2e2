"""Points of the sweeps that tests make: in a module of their own, so that worker processes can import them."""

import os
import time

import numpy as np

import overparam as op


def draws(x, y, rng):
    """Numbers that depend on the place in the grid, and an array whose length is x."""
    return {"sum": x + y, "draws": rng.normal(size=3), "counts": np.arange(x), "name": "a" * x, "phase": 1j * y}


def flow(M, scale, rng):
    """A run, with a product that BLAS may share out."""
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-6))
    start = op.init.cluster(n=3, center=[M], scale=scale, rng=rng)
    traj = op.gradient_flow(objective, start, t_end=100.0, rtol=1e-4, record=op.log_spaced(10), progress=False)
    matrix = np.random.default_rng(0).normal(size=(300, 300))
    return {"loss": traj.loss, "final": traj.final, "product": (matrix @ matrix @ rng.normal(size=300)).sum()}


def trajectory(M):
    return op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-6)), [[M], [M - 0.1]], t_end=100.0, rtol=1e-4,
                            progress=False)


def fails_at_two(x):
    if x == 2:
        raise ValueError("not this one")
    return {"square": x * x}


def fails_unless(x, flag):
    if not os.path.exists(flag):
        raise RuntimeError("the flag is not there")
    return {"square": x * x}


def dies_at_three(x):
    if x == 3:
        os._exit(9)
    return {"x": x}


def counted(i, log):
    """A moment's work, with a line in a log."""
    with open(log, "ab", buffering=0) as file:
        file.write(f"{i}\n".encode())
    time.sleep(0.02)
    return {"square": i * i}


def interrupts(i, log):
    """Ctrl-C in the fourth point, which a driver takes as the end of its own run alone."""
    if i == 3:
        import _thread

        def press(params):
            _thread.interrupt_main()
            return 0.0

        op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[1.0]], step_size=0.1, steps=20, observe={"press": press},
                            progress=False)
        return {"square": -1}  # what an interrupted run would have left
    return counted(i, log)
