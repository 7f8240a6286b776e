"""Which GPUs the workers of a launch see."""

from ablations.local.slots import SlotLayout


def test_workers_are_spread_over_the_gpus() -> None:
    machine = SlotLayout(slots=4, threads=1, gpus=("2", "5"), memory_gb=64)
    assert [machine.visible_devices((slot,)) for slot in range(4)] == ["2", "5", "2", "5"]
    assert machine.visible_devices((0, 1)) == "2,5"
    assert machine.visible_devices(tuple(machine.spread_over_gpus([0, 2, 3])[:2])) == "2,5"
    assert SlotLayout(slots=2, threads=1, gpus=(), memory_gb=64).visible_devices((0,)) is None
