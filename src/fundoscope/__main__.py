"""`python -m fundoscope` is the command `fundoscope`."""

from fundoscope.cli.main import run

if __name__ == "__main__":
    run()
