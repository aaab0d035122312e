"""`python -m safetrax`: the same as the command `safetrax`."""

from safetrax.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
