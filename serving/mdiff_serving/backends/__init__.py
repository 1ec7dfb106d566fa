"""Backends of Triton for a server that has only the Python backend; they run inside it and import nothing of mdiff.

``<name>_engine.py`` and ``model.py`` are laid side by side, as ``engine.py`` and ``model.py``, into the folder of the
backend ``<name>``.
"""
