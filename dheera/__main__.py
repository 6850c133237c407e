"""
``python -m dheera``: the same as ``dheera_ai``.
"""

from dheera.cli import main

if __name__ == "__main__":
    main()
