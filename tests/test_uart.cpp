#include <doctest/doctest.h>

#include <string>

#include "devices/debug_ports.hpp"
#include "devices/uart16550.hpp"

using namespace kiln;

namespace {

enum : uint8_t { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };

struct Fixture {
    FakeTime time;
    Clock clock{time};
    IrqInput irq;
    std::string sent;
    Uart16550 uart{clock, irq, [this](std::span<const uint8_t> s) { sent.append(s.begin(), s.end()); }};

    Fixture() {
        out(LCR, 0x80), out(0, 1), out(1, 0), out(LCR, 3);  // 115200 8n1
        out(MCR, 0x0B);
        in(MSR);
    }
    void out(unsigned reg, uint8_t value) { uart.ioWrite(reg, 1, value); }
    uint8_t in(unsigned reg) { return uint8_t(uart.ioRead(reg, 1)); }
    void receive(std::string_view text) {
        uart.receive({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    }
    void advance(Nanos by) {
        for (; by; by -= std::min<Nanos>(by, 10'000))
            time.advance(std::min<Nanos>(by, 10'000)), clock.runDue();
    }
};

}  // namespace

TEST_CASE("UART: transmits at once, with the THRE interrupt") {
    Fixture f;
    for (char c : std::string("hello")) {
        CHECK((f.in(LSR)&0x60) == 0x60);
        f.out(RBR, uint8_t(c));
    }
    CHECK(f.sent == "hello");
    CHECK_FALSE(f.irq.level());
    f.out(IER, 2);  // empty already: interrupts at once
    CHECK(f.irq.level());
    CHECK(f.in(IIR) == 0x02);
    CHECK(f.in(IIR) == 0x01);
    CHECK_FALSE(f.irq.level());
    f.out(RBR, '!');
    CHECK(f.irq.level());
    f.out(MCR, 0x03);  // OUT2 off: the line is cut
    CHECK_FALSE(f.irq.level());
    f.out(MCR, 0x0B);
    f.out(LCR, 0x02);  // 7 bits
    f.out(RBR, 0xC1);
    CHECK(f.sent == "hello!A");
}

TEST_CASE("UART: receives through the holding register without losing anything") {
    Fixture f;
    f.out(IER, 1);
    f.receive("abc");
    CHECK(f.irq.level());
    CHECK(f.in(IIR) == 0x04);
    f.advance(kSecond);  // nobody reads: the others wait outside
    CHECK(f.uart.waiting() == 2);
    CHECK(f.in(LSR) == 0x61);
    CHECK(f.in(RBR) == 'a');
    f.advance(kSecond / 1000);
    CHECK(f.in(RBR) == 'b');
    CHECK_FALSE(f.irq.level());
    f.advance(kSecond / 1000);
    CHECK(f.in(RBR) == 'c');
    CHECK(f.in(LSR) == 0x60);
}

TEST_CASE("UART: FIFO trigger, timeout and flow control") {
    Fixture f;
    f.out(IIR, 0x81);  // FIFO on, trigger 8
    f.out(IER, 1);
    CHECK(f.in(IIR) == 0xC1);
    f.receive("0123");
    f.advance(4 * 87'000);
    CHECK_FALSE(f.irq.level());
    f.advance(5 * 87'000);
    CHECK(f.irq.level());
    CHECK(f.in(IIR) == 0xCC);
    CHECK(f.in(RBR) == '0');
    CHECK_FALSE(f.irq.level());  // reading restarts the timeout
    f.receive("4567890123456789012345");
    f.advance(6 * 87'000);
    CHECK(f.in(IIR) == 0xC4);
    f.advance(kSecond);
    CHECK(f.uart.waiting() == 25 - 16);
    std::string got;
    for (int i = 0; i < 100; i++) {
        while (f.in(LSR)&1) got += char(f.in(RBR));
        f.advance(100'000);
    }
    CHECK(got == "1234567890123456789012345");
    CHECK((f.in(LSR)&2) == 0);
}

TEST_CASE("UART: clearing the FIFO") {
    Fixture f;
    f.out(IIR, 0x01);
    f.receive("x");
    CHECK((f.in(LSR)&1) == 1);
    f.out(IIR, 0x03);
    CHECK((f.in(LSR)&1) == 0);
}

TEST_CASE("UART: loopback, overrun and modem lines") {
    Fixture f;
    CHECK(f.in(MSR) == 0xB0);
    f.out(MCR, 0x1A);  // loop, RTS, OUT2: the probe of Linux's 8250 driver
    CHECK((f.in(MSR)&0xF0) == 0x90);
    f.out(MCR, 0x1F);
    CHECK((f.in(MSR)&0xF0) == 0xF0);
    f.in(MSR);
    f.out(IER, 8);
    f.out(MCR, 0x1B);  // RI falls
    CHECK(f.in(IIR) == 0x00);
    CHECK(f.in(MSR) == 0xB4);
    CHECK(f.in(IIR) == 0x01);
    f.out(IER, 4);
    f.out(RBR, 'a'), f.out(RBR, 'b');
    CHECK(f.sent.empty());
    CHECK(f.in(IIR) == 0x06);
    CHECK(f.in(LSR) == 0x63);
    CHECK(f.in(LSR) == 0x61);
    CHECK(f.in(RBR) == 'b');
}

TEST_CASE("UART: divisor latch and scratch register") {
    Fixture f;
    f.out(LCR, 0x83);
    f.out(0, 0x34), f.out(1, 0x12);
    CHECK(f.in(0) == 0x34);
    CHECK(f.in(1) == 0x12);
    f.out(0, 0), f.out(1, 0);  // divisor 0 must not divide anything
    f.out(LCR, 0x03);
    f.out(SCR, 0xA5);
    CHECK(f.in(SCR) == 0xA5);
    f.receive("q");
    CHECK(f.in(RBR) == 'q');
    f.uart.reset();
    CHECK(f.in(SCR) == 0);
}

TEST_CASE("debug console and debug exit") {
    std::string text;
    DebugConsole console([&](uint8_t c) { text += char(c); });
    CHECK(console.ioRead(0, 1) == 0xE9);
    console.ioWrite(0, 1, 'k');
    CHECK(text == "k");
    int code = -1;
    IsaDebugExit exit([&](int c) { code = c; });
    exit.ioWrite(0, 4, 0x10);
    CHECK(code == 0x21);
    exit.ioWrite(0, 1, 0);
    CHECK(code == 1);
}
