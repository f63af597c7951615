"""Makes `python -m watchdog` the same as the command `watchdog`. Nothing else lives here."""

from watchdog.cli import main

if __name__ == "__main__":
    main()
