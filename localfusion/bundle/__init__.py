"""Bundles: all that a machine without a network needs, carried in on a disk.

`create` makes one where there is a network. The modules that check and install (`form`, `check`,
`install`, `start`) use nothing but the standard library and ``errors``: they also travel in the
bundle as install.pyz, for a machine that has a Python and nothing else.
"""
