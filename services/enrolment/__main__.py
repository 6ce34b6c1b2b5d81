"""`python -m services.enrolment serve | migrate | …`."""

from kit.service import main
from services.enrolment.app import build

if __name__ == "__main__":
    main("enrolment", build)
