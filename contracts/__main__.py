"""Writes the golden files (`make contracts`), checks them (`--check`) or writes down a release (`--release 1.2.3`)."""

import argparse
import sys

from contracts import golden, released


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m contracts", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="change nothing; exit 1 and name the files that are stale")
    what.add_argument("--release", metavar="VERSION", help="write contracts/released/VERSION.json, once")
    asked = parser.parse_args()
    if asked.check:
        found = golden.stale()
        print("\n".join([*found, "Run `make contracts` and commit what it writes."] if found else ["All are current."]))
        return 1 if found else 0
    if asked.release:
        try:
            print(f"Written: {released.release(asked.release).name}. Commit it with the release.")
        except (FileExistsError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    changed = golden.write()
    print("\n".join(changed) if changed else "All were current.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
