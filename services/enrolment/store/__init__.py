"""Every SQL statement of enrolment: one function, one statement. `seats`, `enrolments`, `times` (offers, timers)."""
