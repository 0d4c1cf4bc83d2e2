"""``python -m overparam``."""

from overparam.cli import main

if __name__ == "__main__":
    main()
