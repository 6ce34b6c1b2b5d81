"""A channel that always says no, so that tests can see what the sender makes of each answer."""

from services.notifier.channels.channel import Later, Letter, Never


class Failing:
    """Raises the answer it was made with."""

    def __init__(self, answer: Later | Never) -> None:
        self._answer = answer

    async def deliver(self, letter: Letter) -> None:
        raise self._answer

    async def close(self) -> None:
        return None
