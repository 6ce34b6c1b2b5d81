"""Judges mail: each notice reaches its learner once, or twice where a fault in that very moment explains it (V12)."""

from collections import defaultdict
from datetime import datetime

from tests.faults.evidence import Row
from tests.faults.model import World
from tests.faults.verdict import Looked, outcomes

# From the moment that the server took a mail until that is noted: 15 s the sender tries, and the time of one statement.
NOTED_S = 20.0
TOUCHED = ("notifier", "postgres", "sink")  # whose faults can keep a sent mail from being noted
OVER = ("sent", "failed", "suppressed")
HARMLESS = ("terminate", "rewind", "replay", "republish")  # a stop in order finishes its mails; repeats send none


def one_mail(world: World) -> Looked:
    """V12: a sent notice was taken once by the mail server; more often only where the answer or its note was lost.

    And then our log says so, by a line of that notice.
    """
    found = Looked({"notices sent": 0, "mails taken": 0})
    found.also |= {
        "failed": 0,
        "suppressed": 0,
        "still waiting": 0,
        "taken more than once": 0,
        "taken and not answered": 0,
    }
    told = _told(world)
    subjects = {row["id"]: row["subject"] for row in world.rows("enrolment.learners")}
    notices = {row["message_id"]: row for row in world.rows("notifier.notices") if row["message_id"]}
    taken: dict[str, list[Row]] = defaultdict(list)
    for mail in world.evidence.deliveries:
        if mail["outcome"] in ("ok", "unanswered"):
            taken[mail["message_id"]].append(mail)
            found.seen["mails taken"] += 1
            found.also["taken and not answered"] += mail["outcome"] == "unanswered"
    for message_id, mails in taken.items():
        row = notices.get(message_id)
        if row is None:
            found.wrong.append(("no notice has this Message-ID", mails))
        elif {mail["recipient"].partition("@")[0] for mail in mails} != {subjects.get(row["learner_id"])}:
            found.wrong.append(("a mail went to somebody else", [row, *mails]))
    for row in world.rows("notifier.notices"):
        mails = taken.get(row["message_id"], [])
        found.seen["notices sent"] += row["state"] == "sent"
        found.also["failed"] += row["state"] == "failed"
        found.also["suppressed"] += row["state"] == "suppressed"
        found.also["still waiting"] += row["state"] not in OVER
        found.also["taken more than once"] += len(mails) > 1
        if row["state"] == "suppressed" and row.get("reason") == "bounced":
            found.wrong.append(("not sent as to a bad address, though the mail server has called none bad", [row]))
        if row.get("sealed") and row["state"] in OVER:
            found.wrong.append(("the links of an offer are kept after its mail is done with", [row]))
        if row["state"] == "sent" and not mails:
            found.wrong.append(("this notice is called sent, and no mail of it was taken", [row]))
        if len(mails) > 1 + row["resends"]:
            found.wrong.append(("taken more often than the service says", [row, *mails]))
        for mail in mails[:-1] if row["state"] == "sent" else mails:
            if not _in_window(world, mail):
                found.wrong.append(("sent again, though nothing was wrong when it was taken", [row, *mails]))
                break
            if not any(at > mail["t"] - 1.0 for at in told.get(row["event_id"], ())):
                found.wrong.append(("sent again, and no line of our log tells of it", [row, *mails]))
                break
    return found


def _in_window(world: World, mail: Row) -> bool:
    """Whether the answer to this mail, or the note of it, may have been lost: by the server or a fault just then."""
    if mail["outcome"] == "unanswered":
        return True
    begin, end = mail["t"] - 1.0, mail["t"] + NOTED_S
    history = world.evidence.history
    heals = {line["id"]: line.get("ended", line["t"]) for line in outcomes(history, "heal")}
    for line in outcomes(history, "fault"):
        near = line["t"] < end and heals.get(line["id"], float("inf")) > begin
        if near and line["f"] not in HARMLESS and any(word in str(line.get("target", "")) for word in TOUCHED):
            return True
    exits = outcomes(history, "exit")
    return any(line["who"] == "notifier" and line["status"] and begin < line["t"] < end for line in exits)


def _told(world: World) -> dict[str, list[float]]:
    """Event id -> when our log told that its mail goes out again, on the clock of the history."""
    first = world.evidence.history[0]
    found: dict[str, list[float]] = defaultdict(list)
    for line in world.evidence.notifier_log:
        if line.get("event") in ("mail_may_come_twice", "notice_deferred"):
            at = datetime.fromisoformat(line["time"]).timestamp() - first.get("wall", 0.0) + first["t"]
            found[str(line.get("causation_id"))].append(at)
    return found
