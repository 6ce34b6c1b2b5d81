"""Talks to the issuer about a log-in: where to send the person, and what a code that came back is worth."""

import asyncio
import time
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from kit import logs
from kit.auth import Keys, Refused, speaks_for
from kit.problems import Problem
from services.enrolment.asserting import asserted
from services.enrolment.settings import EnrolmentSettings

log = logs.get(__name__)

CALLBACK = "/logg-inn/svar"
ASKING_S = 5.0
KNOWN_S = 3600.0  # an issuer moves its addresses seldom, and then announces it
# A person is sent only to an issuer that answered so lately: one that is away would leave them with the browser's own
# words. One log-in in each such time waits for its answer, some milliseconds.
HEARD_S = 30.0
HEARING_S = 2.0  # and so long at most
AGAIN_S = 2.0  # an issuer that is away is not asked by each who would log in
MAX_BYTES = 256 * 1024
NEEDED = ("authorization_endpoint", "token_endpoint")
DISCOVERY = "/.well-known/openid-configuration"
# What comes of an answer that is none: no JSON, or JSON in which a number is a list, has no end, or lies too deep.
NO_ANSWER = (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)


class LoginRefused(Exception):
    """The issuer's answer will not do. The words are a code for the log."""


class Issuer:
    """The one issuer of this deployment."""

    def __init__(self, settings: EnrolmentSettings, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys
        self._known: dict[str, str] = {}
        self._heard = self._missed = float("-inf")  # when it last told where one logs in, and when it did not
        self._asking = asyncio.Lock()

    async def login_address(self, state: str, nonce: str, verifier: str) -> str:
        """Where the person logs in. Raises Problem (503) when the issuer does not answer."""
        said: dict[str, str] = {"nonce": nonce}
        if self._settings.login_acr:
            said["acr_values"] = self._settings.login_acr.replace(",", " ")
        async with self._client() as client:
            address = await self._address("authorization_endpoint", HEARD_S)
            url, _ = client.create_authorization_url(address, state=state, code_verifier=verifier, **said)
        return cast(str, url)

    async def logout_address(self) -> str:
        """Where the person ends the session that the issuer keeps; empty when it has no such place, or is away."""
        try:
            address = await self._address("end_session_endpoint")
        except Problem:
            return ""
        back = {
            "client_id": self._settings.login_client_id,
            "post_logout_redirect_uri": self._settings.public_url + "/",
        }
        return f"{address}{'&' if '?' in address else '?'}{urlencode(back)}" if address else ""

    async def claims(self, code: str, nonce: str, verifier: str) -> dict[str, Any]:
        """What the issuer says of the person who came back with this code, checked.

        Raises LoginRefused, and Problem (503) when the issuer does not answer.
        """
        from authlib.integrations.base_client import OAuthError
        from httpx2 import HTTPError, InvalidURL

        address = await self._address("token_endpoint")
        own_key, us = self._settings.login_client_key.get_secret_value(), self._settings.login_client_id
        proof = asserted(own_key, us, self._settings.issuer) if own_key else {}
        try:
            async with asyncio.timeout(ASKING_S), self._client() as client:
                tokens = await client.fetch_token(
                    self._inside(address),
                    headers=self._host(address),
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=verifier,
                    **proof,
                )
            claims = await self._keys.claims(str(tokens.get("id_token", "")), self._settings.login_client_id)
        except OAuthError as error:
            raise LoginRefused(str(error.error)) from None
        except (HTTPError, InvalidURL, TimeoutError, *NO_ANSWER) as error:
            log.warning("issuer_away", error=type(error).__name__)
            raise away() from None
        except Refused as error:
            raise LoginRefused(str(error)) from None
        if claims.get("nonce") != nonce:
            raise LoginRefused("wrong_nonce")
        wanted = self._settings.login_acr.split(",") if self._settings.login_acr else []
        if wanted and claims.get("acr") not in wanted:
            raise LoginRefused("wrong_acr")
        if claims.get("azp", self._settings.login_client_id) != self._settings.login_client_id:
            raise LoginRefused("wrong_azp")
        speaks_for(claims, trust_role_claims=False)  # raises Refused for a subject that we cannot keep
        return claims

    def _client(self) -> Any:
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        secret = self._settings.login_client_secret.get_secret_value()
        return AsyncOAuth2Client(
            client_id=self._settings.login_client_id,
            client_secret=secret or None,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
            scope=self._settings.login_scope,
            redirect_uri=self._settings.public_url + CALLBACK,
            code_challenge_method="S256",
            timeout=ASKING_S,
            follow_redirects=False,
            trust_env=False,
        )

    async def _address(self, name: str, within_s: float = KNOWN_S) -> str:
        """One of the issuer's addresses, by its discovery document; empty when it has none such.

        Raises Problem (503) when there is none that it told within this time, and it does not answer now.
        """
        if time.monotonic() - self._heard > within_s:
            async with self._asking:  # all who come at once wait for one answer
                now = time.monotonic()
                if now - self._heard > within_s and now - self._missed > AGAIN_S:
                    await self._discover()
            if time.monotonic() - self._heard > within_s and (within_s < KNOWN_S or not self._known):
                raise away()
        return self._known.get(name, "")

    async def _discover(self) -> None:
        from httpx2 import AsyncClient, HTTPError

        address = self._settings.issuer.removesuffix("/") + DISCOVERY
        try:
            async with (
                asyncio.timeout(HEARING_S),
                AsyncClient(timeout=HEARING_S, follow_redirects=False, trust_env=False) as client,
            ):
                answer = await client.get(self._inside(address), headers=self._host(address))
            answer.raise_for_status()
            document = answer.json() if len(answer.content) <= MAX_BYTES else {}
            if document.get("issuer") != self._settings.issuer:
                raise ValueError("it is another issuer's document")
            if not all(isinstance(document.get(name), str) for name in NEEDED):
                raise ValueError("it does not say where one logs in")
        except (HTTPError, TimeoutError, *NO_ANSWER) as error:
            log.warning("issuer_away", error=type(error).__name__)
            self._missed = time.monotonic()
            return
        self._known = {name: value for name, value in document.items() if isinstance(value, str)}
        self._heard = time.monotonic()

    def _inside(self, address: str) -> str:
        """The same address as this service reaches it."""
        if not self._settings.issuer_inside:
            return address
        parts = urlsplit(address)
        return self._settings.issuer_inside + parts._replace(scheme="", netloc="").geturl()

    def _host(self, address: str) -> dict[str, str]:
        """By which name the issuer is asked: it answers with addresses of its own under that name."""
        return {"host": urlsplit(address).netloc}


def away() -> Problem:
    words = "The log-in service does not answer. Try again in a moment; who is logged in stays so."
    return Problem("busy", "Busy at the moment", 503, words, headers={"retry-after": "5"})
