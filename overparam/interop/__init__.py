"""Objectives inside other people's code: :mod:`overparam.interop.torch`, :mod:`overparam.interop.jax`, :mod:`overparam.interop.scipy`.

Each has one function, ``wrap``, and is imported by its own name. PyTorch and JAX are extras, ``pip install 'overparam[torch]'`` and
``pip install 'overparam[jax]'``, that nothing else here imports.
"""
