#include <doctest/doctest.h>

#include "devices/pc_testdev.hpp"

using namespace kiln;

TEST_CASE("pc-testdev: latches, scratch memory, interrupt lines and forgetting translations") {
    unsigned drops = 0;
    PcTestdev device([&] { drops++; });
    PhysicalMemory memory;
    PortBus ports;
    device.map(ports, memory);
    ports.write(0xe0, 4, 0x12345678);
    ports.write(0xe1, 1, 0xff);
    ports.write(0xe2, 2, 0xabcd);
    CHECK(ports.read(0xe0, 4) == 0xabcdff78);
    CHECK(ports.read(0xe1, 1) == 0xff);
    CHECK(ports.read(0xe2, 2) == 0xabcd);
    ports.write(0xe8, 4, 0x12345678);  // byte by byte: the last one stays
    CHECK(ports.read(0xe8, 1) == 0x12);
    CHECK(ports.read(0xe8, 2) == 0x1212);
    memory.access(PhysAddr(0xff000004), 8, 0x1122334455667788);
    CHECK(memory.access(PhysAddr(0xff000006), 2) == 0x5566);
    CHECK(memory.access(PhysAddr(0xff00fff8), 8) == 0);
    ports.write(0xe4, 4, 0x100000);
    CHECK(drops == 1);

    IrqInput input;
    device.connect(14, input);
    ports.write(0x200e, 1, 1);
    CHECK(input.level());
    ports.write(0x200e, 1, 7);
    ports.write(0x200e, 1, 0);
    CHECK(!input.level());
    ports.write(0x200e, 1, 1);
    device.reset();
    CHECK(!input.level());
}
