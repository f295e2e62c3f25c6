"""`python -m neva`, where the script is not in PATH."""

from neva.cli import main

main()
