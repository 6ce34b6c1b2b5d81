"""`python -m services.notifier serve | migrate | …`."""

from kit.service import main
from services.notifier.app import build

if __name__ == "__main__":
    main("notifier", build)
