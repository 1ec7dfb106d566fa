"""``python -m mdiff_client``."""

from mdiff_client.cli import main

if __name__ == "__main__":
    main()
