"""Catches every mail and SMS of a local stack and shows them; speaks the part of Mailpit's API that tests use."""

import argparse
import asyncio
import contextlib
import email
import email.policy
import html
import os
import re
import sys
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import getaddresses
from itertools import count, islice
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from deploy.local.leftovers import MARK
from deploy.local.places import SMS

NUMBER = re.compile(r"\+[1-9][0-9]{7,14}")
KEPT = 25_000  # then the oldest goes; compressed, they take some 60 MB
LARGEST_BYTES = 10_000_000
PAGE = 50
# Nothing in a caught mail may run or be fetched when somebody looks at it.
POLICY = "Content-Security-Policy"
SAFE = {POLICY: "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-src 'self'"}


@dataclass(frozen=True)
class Caught:
    """One mail: what a list shows of it, and its bytes, compressed."""

    number: str
    summary: dict[str, Any]
    packed: bytes

    @property
    def raw(self) -> bytes:
        return zlib.decompress(self.packed)

    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.raw, policy=email.policy.default)


class Box:
    """The mails that were caught, oldest first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._mails: OrderedDict[str, Caught] = OrderedDict()
        self._numbers = count(1)
        self._kept = kept

    def __len__(self) -> int:
        return len(self._mails)

    def add(self, sender: str, recipients: list[str], raw: bytes, tags: Sequence[str] = ()) -> Caught:
        """Keep one mail, dropping the oldest when there are too many; also one that cannot be read."""
        number = f"{next(self._numbers):08d}"
        message = email.message_from_bytes(raw, policy=email.policy.compat32)
        headers = {name: readable(message.get(name, "")) for name in ("From", "To", "Cc", "Reply-To", "Subject")}
        summary = {
            "ID": number,
            "MessageID": readable(message.get("Message-ID", "")).strip().strip("<>"),
            "From": (addresses(headers["From"]) or addresses(sender) or [{"Name": "", "Address": sender}])[0],
            "To": addresses(headers["To"]) or [{"Name": "", "Address": one} for one in recipients],
            "Cc": addresses(headers["Cc"]),
            "Bcc": [],
            "ReplyTo": addresses(headers["Reply-To"]),
            "Subject": headers["Subject"],
            "Created": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "Size": len(raw),
            "Read": False,
            "Tags": list(tags),
        }
        caught = Caught(number, summary, zlib.compress(raw, 1))
        self._mails[number] = caught
        while len(self._mails) > self._kept:
            self._mails.popitem(last=False)
        return caught

    def add_text(self, to: str, text: str, reference: str) -> Caught:
        """Keep one SMS, as a mail to its number: the page and the API then show both."""
        message = EmailMessage(policy=email.policy.SMTP)
        message["To"] = to
        message["Subject"] = f"SMS: {' '.join(text.split())}"
        message["Message-ID"] = f"<{' '.join(reference.split())}@sms>"
        message.set_content(text)
        return self.add("sms", [to], message.as_bytes(), ["sms"])

    def newest(self, start: int, limit: int) -> list[Caught]:
        return list(islice(reversed(self._mails.values()), start, start + limit))

    def get(self, number: str) -> Caught | None:
        if number == "latest":
            return next(reversed(self._mails.values()), None)
        return self._mails.get(number)

    def clear(self) -> None:
        self._mails.clear()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """What aiosmtpd calls with each mail."""
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        caught = self.add(envelope.mail_from or "", list(envelope.rcpt_tos), content)
        return f"250 OK {caught.number}"


def readable(header: Any) -> str:
    """A header's text with its encoded words decoded, on one line."""
    text = " ".join(str(header).split())
    with contextlib.suppress(Exception):  # any header that somebody may send; then it is shown as it came
        return str(email.header.make_header(email.header.decode_header(text)))
    return text


def addresses(header: str) -> list[dict[str, str]]:
    return [{"Name": name, "Address": address} for name, address in getaddresses([header]) if address]


def body(message: EmailMessage, kind: str) -> str:
    """The text or HTML part, empty when there is none or it cannot be read."""
    with contextlib.suppress(KeyError, LookupError, ValueError):
        part = message.get_body((kind,))
        return str(part.get_content()) if part is not None else ""
    return ""


def number_of(parameters: Mapping[str, str], name: str, otherwise: int) -> int:
    text = parameters.get(name, "")
    return int(text) if text.isdecimal() else otherwise


def application(box: Box) -> Starlette:
    """The page and the API over one box."""

    def missing() -> Response:
        return JSONResponse({"Error": "message not found"}, 404)

    async def messages(request: Request) -> Response:
        start, limit = number_of(request.query_params, "start", 0), number_of(request.query_params, "limit", PAGE)
        shown = [caught.summary for caught in box.newest(start, limit)]
        counts = {"total": len(box), "unread": len(box), "messages_count": len(box), "count": len(shown)}
        return JSONResponse({**counts, "start": start, "tags": [], "messages": shown})

    async def clear(request: Request) -> Response:
        box.clear()
        return Response("ok", media_type="text/plain")

    async def texted(request: Request) -> Response:
        """What a gateway for SMS answers; its code for a number that is none makes the notifier give that up."""
        try:
            said = await request.json()
            to, text, reference = (str(said[name]) for name in ("to", "text", "reference"))
        except (ValueError, TypeError, KeyError):
            return JSONResponse({"Error": 'Post JSON as {"to": "+4791234567", "text": "…", "reference": "…"}.'}, 400)
        if not NUMBER.fullmatch(to):
            return JSONResponse({"Error": "`to` must be a number as +4791234567.", "code": "invalid_number"}, 422)
        return JSONResponse({"id": box.add_text(to, text, reference).number})

    async def message(request: Request) -> Response:
        caught = box.get(request.path_params["number"])
        if caught is None:
            return missing()
        read = caught.message()
        parts = [(part.get_filename() or "", part.get_content_type()) for part in read.iter_attachments()]
        listed = [{"FileName": name, "ContentType": kind} for name, kind in parts]
        text, page = body(read, "plain"), body(read, "html")
        date = caught.summary["Created"]
        return JSONResponse({**caught.summary, "Date": date, "Text": text, "HTML": page, "Attachments": listed})

    async def raw(request: Request) -> Response:
        caught = box.get(request.path_params["number"])
        return missing() if caught is None else Response(caught.raw, media_type="text/plain; charset=utf-8")

    async def rendered(request: Request) -> Response:
        caught = box.get(request.path_params["number"].removesuffix(".html"))
        if caught is None:
            return missing()
        return HTMLResponse(body(caught.message(), "html"), headers={POLICY: f"sandbox; {SAFE[POLICY]}"})

    async def listing(request: Request) -> Response:
        start = number_of(request.query_params, "start", 0)
        return HTMLResponse(list_page(box, start), headers=SAFE)

    async def view(request: Request) -> Response:
        caught = box.get(request.path_params["number"])
        return missing() if caught is None else HTMLResponse(mail_page(caught), headers=SAFE)

    async def ready(request: Request) -> Response:
        return JSONResponse({"service": "mail", "ready": True, "stack": os.environ.get(MARK)})

    return Starlette(
        routes=[
            Route("/", listing),
            Route("/readyz", ready),
            Route("/view/{number}", view),
            Route("/view/{number}/html", rendered),
            Route(SMS, texted, methods=["POST"]),
            Route("/api/v1/messages", messages, methods=["GET"]),
            Route("/api/v1/messages", clear, methods=["DELETE"]),
            Route("/api/v1/message/{number}", message),
            Route("/api/v1/message/{number}/raw", raw),
        ]
    )


STYLE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>body { font: 1rem/1.4 system-ui; max-width: 60rem; margin: 1rem auto; padding: 0 1rem }
td, th { text-align: left;
padding: .3rem .8rem .3rem 0; vertical-align: top } pre { white-space: pre-wrap } iframe { width: 100%; height: 30rem;
border: 1px solid }</style>"""


def list_page(box: Box, start: int) -> str:
    rows = "\n".join(
        f"<tr><td>{html.escape(one.summary['Created'][11:19])}<td>"
        f"{html.escape(', '.join(to['Address'] for to in one.summary['To']))}"
        f'<td><a href="/view/{one.number}">{html.escape(one.summary["Subject"] or "(no subject)")}</a>'
        for one in box.newest(start, PAGE)
    )
    older = f'<p><a href="/?start={start + PAGE}">Older</a>' if len(box) > start + PAGE else ""
    table = f"<table><tr><th>Time (UTC)<th>To<th>Subject, or SMS\n{rows}</table>{older}" if len(box) else "<p>None yet."
    return f"{STYLE}<title>Mail</title><h1>Mail and SMS caught here: {len(box)}</h1>{table}"


def mail_page(caught: Caught) -> str:
    message = caught.message()
    text, page = body(message, "plain"), body(message, "html")
    headers = caught.raw.partition(b"\r\n\r\n")[0].decode(errors="replace")
    frame = f'<h2>HTML</h2><iframe sandbox src="/view/{caught.number}/html"></iframe>' if page else ""
    return (
        f'{STYLE}<title>Mail</title><p><a href="/">All mail</a> · <a href="/api/v1/message/{caught.number}/raw">raw</a>'
        f"<h1>{html.escape(caught.summary['Subject'] or '(no subject)')}</h1><pre>{html.escape(text)}</pre>{frame}"
        f"<h2>Headers</h2><pre>{html.escape(headers)}</pre>"
    )


async def serve(smtp_port: int, http_port: int) -> None:
    """Listen on both ports of 127.0.0.1 until SIGTERM."""
    box = Box()
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(box, data_size_limit=LARGEST_BYTES, enable_SMTPUTF8=True, hostname="localhost", loop=loop)

    smtp = await loop.create_server(session, "127.0.0.1", smtp_port)
    settings = uvicorn.Config(
        application(box), host="127.0.0.1", port=http_port, access_log=False, log_level="warning", lifespan="off"
    )
    server = uvicorn.Server(settings)
    try:
        await server.serve()
    finally:
        smtp.close()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.mail", description=__doc__)
    parser.add_argument("--smtp", type=int, required=True, help="port for mail")
    parser.add_argument("--http", type=int, required=True, help="port for the page and the API")
    asked = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(asked.smtp, asked.http))


if __name__ == "__main__":
    main(sys.argv[1:])
