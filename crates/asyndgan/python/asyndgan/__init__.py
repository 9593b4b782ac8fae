"""AsynDGAN: learn from medical images that never leave their hospitals.

This package has the program ``asyndgan``. ``python -m asyndgan --help`` lists its commands.
"""
