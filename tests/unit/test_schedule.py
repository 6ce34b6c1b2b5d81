"""The fault suite's schedule: the same from the same seed, with something of everything."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.faults.schedule import OVERLAPPING, PROFILES, SERVICES, schedule, sorts
from tests.faults.strikes import STRIKES

SEEDS = range(25)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_seed_gives_the_same_schedule_and_another_gives_another(profile: str) -> None:
    assert schedule(profile, 7) == schedule(profile, 7)
    assert schedule(profile, 7) != schedule(profile, 8)
    assert len(schedule(profile, 7)) == PROFILES[profile].faults


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_sort_of_fault_comes_in_every_run(profile: str, seed: int) -> None:
    chosen = PROFILES[profile]
    faults = schedule(profile, seed)
    wanted = {(one.family, one.f, one.lasts_s) for one in sorts(chosen.brokers) if one.needs_s <= chosen.longest_s}
    assert {(one.family, one.f, one.lasts_s) for one in faults} == wanted
    assert {one.target for one in faults if one.f == "kill"} >= {*SERVICES, "postgres", "kafka-1"}


@pytest.mark.parametrize("seed", SEEDS)
def test_smoke_has_no_fault_that_takes_half_a_minute(seed: int) -> None:
    assert max(one.lasts_s for one in schedule("smoke", seed)) <= 20
    assert sum(one.lasts_s for one in schedule("smoke", seed)) < 130


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fifth_of_the_slots_hold_two_faults_at_different_places(seed: int) -> None:
    faults = schedule("standard", seed)
    slots = Counter(one.slot for one in faults)
    assert set(slots.values()) == {1, 2}
    assert sum(count == 2 for count in slots.values()) == pytest.approx(OVERLAPPING * len(slots), abs=3)
    assert sorted(slots) == list(range(len(slots)))
    for one, other in pairwise(faults):
        if one.slot == other.slot:
            assert one.target != other.target
            assert other.after_s > one.after_s == 0


def test_a_long_run_follows_the_weights() -> None:
    faults = schedule("thousand", 1)
    shares = Counter(one.family for one in faults)
    weights = dict.fromkeys(shares, 0.0)
    for one in sorts(3):
        weights[one.family] += one.weight
    for family, weight in weights.items():
        assert shares[family] / len(faults) == pytest.approx(weight / sum(weights.values()), abs=0.05)


def test_three_brokers_can_be_asked_of_any_profile() -> None:
    faults = schedule("smoke", 1, brokers=3)
    assert {"kafka-1", "kafka-2", "kafka-3"} & {one.target for one in faults}
    assert any(one.f == "isolate" for one in faults)


def test_whatever_may_happen_can_be_done() -> None:
    assert {one.f for one in sorts(3)} == set(STRIKES)
