"""The development issuer, NAV's mock-oauth2-server: says of everybody what he says of himself."""

import asyncio
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from deploy.local import jars
from deploy.local.asking import ask, said
from deploy.local.kafka import UTF_8, java
from deploy.local.places import ISSUER_ID, ROOT, Places
from deploy.local.processes import Program, Say
from deploy.trouble import Trouble

CONFIGURATION = ROOT / "deploy" / "issuer.json"  # what it puts into a token; the same file in the containers
MAIN = "no.nav.security.mock.oauth2.StandaloneMockOAuth2ServerKt"
JVM = ("-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
AT_ONCE = 16  # requests side by side; it closes the connection after each
WARMING = 400  # a young Java signs a third of what it does after so many


@dataclass(frozen=True)
class Login:
    """A person the demo data knows: the log-in name and what a token says of him."""

    username: str
    name: str
    role: str = "learner"
    partner: str = ""
    employer: str = ""

    def claims(self) -> dict[str, str]:
        """The claims as our services read them; those that are empty are left out."""
        said = {"name": self.name, "kursnett_role": self.role, "kursnett_partner": self.partner}
        return {key: value for key, value in {**said, "kursnett_employer": self.employer}.items() if value}


LOGINS = {
    "learner": Login("kari", "Kari Nordmann"),
    "partner": Login("torgar", "Tor Torgar", partner="torgar"),
    "operator": Login("drift", "Drift Hansen", role="operator"),
}


class Issuer:
    """The issuer of one stack. It keeps nothing: its keys are the same after each start."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._warm = False

    def program(self) -> Program:
        folder = self.places.home / "issuer"
        self._program = Program(
            "issuer",
            ready=self.ready,
            prepare=self.prepare,
            environment={
                **UTF_8,
                "SERVER_HOSTNAME": "127.0.0.1",
                "SERVER_PORT": str(self.places.port("issuer")),
                "JSON_CONFIG_PATH": str(folder / "issuer.json"),
            },
        )
        return self._program

    async def prepare(self, say: Say) -> None:
        """Fetch and check the archives; write the configuration and the log-in page."""
        class_path = await asyncio.to_thread(jars.class_path, "issuer", say)
        folder = self.places.home / "issuer"
        folder.mkdir(parents=True, exist_ok=True)
        page = folder / "login.html"
        page.write_text(login_page())
        configuration = {**json.loads(CONFIGURATION.read_text()), "loginPagePath": str(page)}
        (folder / "issuer.json").write_text(json.dumps(configuration))  # ASCII, whatever is on the path
        self._program.argv = [java(), *JVM, "-cp", class_path, MAIN]

    async def ready(self) -> bool:
        """Whether our issuer answers, by its discovery document; the first time it is warmed with some tokens too."""
        if not await self.identified():
            return False
        if not self._warm:
            self._warm = True
            await tokens(self.places, [Login(f"warm-{count}", "warm") for count in range(WARMING)])
        return True

    async def identified(self) -> bool:
        """Whether whoever answers calls himself by our issuer's address."""
        path = f"/{ISSUER_ID}/.well-known/openid-configuration"
        return await said(self.places.port("issuer"), path, issuer=self.places.issuer)


async def tokens(places: Places, logins: Sequence[Login]) -> list[str]:
    """An access token for each, in order; some hundreds a second. Raises Trouble when the issuer does not answer."""
    given = [""] * len(logins)
    waiting = iter(enumerate(logins))

    async def take_turns() -> None:
        for place, login in waiting:
            shape = " ".join(name for name in ("partner", "employer") if getattr(login, name)) or "person"
            asked = {"grant_type": "client_credentials", "client_id": "kursnett", "client_secret": "none"}
            said = {"sub": login.username, "name": login.name, "role": login.role, "speaks_for": shape}
            known = {"partner": login.partner, "employer": login.employer}
            answer = await ask(places.port("issuer"), f"POST /{ISSUER_ID}/token", urlencode(asked | said | known))
            given[place] = json.loads(answer)["access_token"]

    try:
        await asyncio.gather(*(take_turns() for _ in range(min(AT_ONCE, len(logins)))))
    except (OSError, ValueError, KeyError, TimeoutError) as error:
        raise Trouble(
            f"The development issuer at {places.issuer} gives no token ({type(error).__name__}).",
            "Does the stack run? See: kursnett status",
        ) from error
    return given


def login_page() -> str:
    """The log-in form: a button for each person of the demo data, and a field for any other name."""
    buttons = "\n".join(
        f'<form method="post"><input type="hidden" name="username" value="{html.escape(login.username)}">'
        f'<input type="hidden" name="claims" value=\'{html.escape(json.dumps(login.claims()))}\'>'
        f"<button>{html.escape(login.name)} ({kind}: {html.escape(login.username)})</button></form>"
        for kind, login in LOGINS.items()
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Development log-in</title>
<style>body {{ font: 1rem system-ui; max-width: 32rem; margin: 3rem auto; padding: 0 1rem }}
button, input, textarea {{ font: inherit; padding: .5rem; margin: .3rem 0; width: 100% }}</style>
<h1>Development log-in</h1>
<p>Anybody may be anybody here. Choose a person of the demo data, or write any name.</p>
{buttons}
<form method="post"><label>Name <input name="username" required autocomplete="off"></label>
<label>Claims (JSON, may be empty) <textarea name="claims" rows="3"></textarea></label><button>Log in</button></form>
</html>
"""
