"""The table of channels: a new way to reach people is one file beside these and one row here."""

from collections.abc import Callable, Mapping

from services.notifier.channels.channel import Channel
from services.notifier.channels.email import Email
from services.notifier.channels.log import Log
from services.notifier.channels.sms import Sms
from services.notifier.settings import NotifierSettings

CHANNELS: Mapping[str, Callable[[NotifierSettings], Channel]] = {
    "email": Email,
    "sms": Sms,
    "log": lambda settings: Log(),
}
