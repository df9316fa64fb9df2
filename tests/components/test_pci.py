"""Reading the PCI bus under any root."""

from ds_core.components import pci


def bus(root, address, vendor="0x1002\n", kind="0x120000\n", device="0x74a1\n", driver=None):
    place = root / "sys/bus/pci/devices" / address
    place.mkdir(parents=True)
    (place / "vendor").write_text(vendor)
    (place / "class").write_text(kind)
    (place / "device").write_text(device)
    if driver:
        (place / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")


def test_functions_of_one_vendor_and_kind_in_the_order_of_the_bus(tmp_path):
    bus(tmp_path, "0000:c1:00.0", driver="amdgpu")
    bus(tmp_path, "0000:41:00.0")
    bus(tmp_path, "0000:00:01.0", vendor="0x10de\n")
    bus(tmp_path, "0000:c1:00.1", kind="0x040300\n")
    found = pci.functions(str(tmp_path), "0x1002", ("0x12", "0x03"))
    assert [(one.bus, one.driver) for one in found] == [
        ("0000:41:00.0", ""),
        ("0000:c1:00.0", "amdgpu"),
    ]
    assert {one.device for one in found} == {"0x74a1"}


def test_a_bus_that_cannot_be_read_is_empty(tmp_path):
    place = tmp_path / "sys/bus/pci/devices/0000:00:00.0"
    (place / "vendor").mkdir(parents=True)
    assert pci.functions(str(tmp_path), "0x1002", ("0x12",)) == ()
    assert pci.functions(str(tmp_path / "nowhere"), "0x1002", ("0x12",)) == ()
