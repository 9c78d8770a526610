"""`python -m shadowproxy` is the same program as the console script."""

from shadowproxy.cli import main

if __name__ == "__main__":
    main()
