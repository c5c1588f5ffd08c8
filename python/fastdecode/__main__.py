"""`python -m fastdecode` is the command `fastdecode`."""

from fastdecode.cli import main

if __name__ == "__main__":
    main()
