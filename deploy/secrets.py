"""Makes each secret of a stack once: `python -m deploy.secrets DIR`; those that are there stay as they are."""

import json
import os
import secrets
import sys
from pathlib import Path

from kit import passes
from kit.sealing import generate

SERVICES = ("catalogue", "enrolment", "notifier")


class Damaged(Exception):
    """A secret is there, and is not what was once written. It stays as it is: `path`, and what to do, `mend`."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"The secret {path} is damaged.")
        self.mend = (
            "Put it back as it was, as from a backup: what it opens is lost without it. "
            "To start anew with nothing: kursnett reset"
        )


def make(directory: Path) -> list[str]:
    """Write what is missing, as DIR/<service>/<field name> and DIR/postgres/<role>_password; returns their names.

    A file may be read by whoever may read its directory: 0400, or 0440 where the directory says so. Raises Damaged for
    one that is there and can be no secret.
    """
    admin = directory / "postgres" / "admin_password"
    made = ["postgres/admin_password"] if _write(admin, secrets.token_hex(24)) else []
    _text(admin)
    for service in SERVICES:  # the server and the service each have their own copy, so that neither reads the other's
        copies = [directory / "postgres" / f"{service}_password", directory / service / "database_password"]
        password = next((_text(copy) for copy in copies if copy.exists()), secrets.token_hex(24))
        made += [f"{copy.parent.name}/{copy.name}" for copy in copies if _write(copy, password)]
        _text(copies[1])
    private_key = directory / "notifier" / "contact_private_key"
    public_keys = [directory / service / "contact_public_key" for service in ("catalogue", "enrolment")]
    if not private_key.exists():
        for one in public_keys:
            one.unlink(missing_ok=True)  # it belongs to a private key that is lost
        private, _ = generate()
        _write(private_key, private)
        made.append("notifier/contact_private_key")
    try:
        public = public_half(_text(private_key))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Damaged(private_key) from None
    made += [f"{path.parent.name}/{path.name}" for path in public_keys if _write(path, public)]
    return made + _passes(directory)


def _passes(directory: Path) -> list[str]:
    """The key of the passes of people who are logged in: enrolment signs them, all three read them."""
    private_key = directory / "enrolment" / "pass_private_key"
    public_keys = [directory / service / "pass_public_key" for service in SERVICES]
    made = []
    if not private_key.exists():
        for one in public_keys:
            one.unlink(missing_ok=True)
        private, _ = passes.generate()
        _write(private_key, private)
        made.append("enrolment/pass_private_key")
    try:
        public = {name: value for name, value in json.loads(_text(private_key)).items() if name != "d"}
    except (ValueError, AttributeError):
        raise Damaged(private_key) from None
    return made + [f"{path.parent.name}/{path.name}" for path in public_keys if _write(path, json.dumps(public))]


def public_half(private_json: str) -> str:
    """The public JWK set of a private one: the same keys without their secret number."""
    keys = json.loads(private_json)["keys"]
    return json.dumps({"keys": [{name: value for name, value in key.items() if name != "d"} for key in keys]})


def _text(path: Path) -> str:
    """A secret that is there. Raises Damaged when that is nothing."""
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        text = ""
    if not text.strip():
        raise Damaged(path)
    return text


def _write(path: Path, text: str) -> bool:
    """Whether the file had to be made. It appears whole or not at all, so that a killed run leaves no half secret."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), path.parent.stat().st_mode & 0o440 | 0o400)
        file.flush()
        os.fsync(file.fileno())  # a power cut could leave the name without the text
    draft.replace(path)
    return True


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("Say where the secrets go: python -m deploy.secrets DIR", file=sys.stderr)
        return 2
    try:
        made = make(Path(arguments[0]))
    except Damaged as error:
        print(error, error.mend, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"A secret could not be written ({error}): check the directory's owner and mode.", file=sys.stderr)
        return 1
    print(f"made {', '.join(made)}" if made else "every secret is there")  # names only
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
