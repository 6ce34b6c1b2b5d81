"""`python -m services.enrolment serve | migrate | people | …`."""

from kit.service import main
from services.enrolment.app import build
from services.enrolment.people import operators

if __name__ == "__main__":
    main("enrolment", build, operators)
