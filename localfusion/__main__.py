"""``python -m localfusion``."""

from localfusion.cli import main

if __name__ == "__main__":
    main()
