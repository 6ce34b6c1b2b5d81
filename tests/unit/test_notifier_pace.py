"""How many letters a sender has in hand: few where a mail server takes its time, more in a rush."""

import pytest

from services.notifier import sender


def test_more_are_taken_in_hand_where_they_go_quickly_and_fewer_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("services.notifier.sender.time.monotonic", lambda: now[0])
    ahead = sender.Ahead(4)
    least, most = 4 * sender.AHEAD, 4 * sender.MOST_AHEAD
    seen = [ahead.most]
    for a_second in (100, 700, 5_000, 1_000, 0):
        for _ in range(10):
            now[0] += 0.02
            ahead.gone(round(a_second * 0.02))
        seen.append(ahead.most)
    assert seen == [least, least, 70, most, 100, least]
