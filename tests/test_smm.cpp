// System management mode and INIT (SDM vol. 3, chapter 32 and table 10-1).
#include "devices/acpi_pm.hpp"
#include "devices/q35_mch.hpp"
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint64_t kCodeAt = SystemGuest::kCodeAt, kSmbase = 0x30000, kMap = kSmbase + 0xfe00;
constexpr uint64_t kHandler = kSmbase + 0x8000;

void raiseSmi(SystemGuest& g) { g.apic.accept({.mode = DeliveryMode::Smi}); }
void raiseInit(SystemGuest& g) { g.apic.accept({.mode = DeliveryMode::Init}); }

// NOPs where a processor begins.
struct ResetVector {
    explicit ResetVector(SystemGuest& g) : rom("rom", 0x1000) {
        std::fill_n(rom.data(), 0x1000, uint8_t(0x90));
        g.memory.mapRom(PhysAddr(0xfffff000), 0x1000, rom);
    }
    RamBlock rom;
};

// Into SMM, at the handler's first instruction.
void enter(SystemGuest& g, std::initializer_list<uint8_t> handler = {0x0f, 0xaa}) {
    g.write(kHandler, std::vector<uint8_t>(handler));
    g.cpu.enterSmm();
}

}  // namespace

TEST_CASE("SMI: the state on entry") {
    for (Mode mode : {Mode::Real16, Mode::Protected32, Mode::Compat32, Mode::Long64}) {
        CAPTURE(unsigned(mode));
        SystemGuest g(mode, mode == Mode::Real16 ? 0 : 3);
        g.write(kHandler, std::vector<uint8_t>{0xf4});
        g.cpu.writeDr(7, 0x401);
        g.cpu.cr0 |= cr0::TS | cr0::EM;
        g.code({0x90}, mode == Mode::Real16 ? 0x7000 : kCodeAt);
        raiseSmi(g);
        g.cpu.run(1);  // the HLT of the handler
        CHECK(g.cpu.smm);
        CHECK(g.cpu.halted);
        CHECK(g.cpu.rip == 0x8001);
        CHECK(g.cpu.seg[Cs].base == kSmbase);
        CHECK(g.cpu.seg[Cs].selector == 0x3000);
        for (SegReg r : {Es, Ss, Ds, Fs, Gs}) {
            CHECK(g.cpu.seg[r].base == 0);
            CHECK(g.cpu.seg[r].limit == 0xffffffff);
        }
        CHECK(g.cpu.flags.value() == 2);
        CHECK(g.cpu.cpl == 0);
        CHECK((g.cpu.cr0 & (cr0::PE | cr0::PG | cr0::TS | cr0::EM)) == 0);
        CHECK(g.cpu.cr4 == 0);
        CHECK(g.cpu.efer == 0);
        CHECK(g.cpu.dr[7] == 0x400);
        CHECK(g.get<uint32_t>(kMap + 0xfc) == 0x20064);
        CHECK(g.get<uint32_t>(kMap + 0x100) == kSmbase);
        CHECK(g.get<uint64_t>(kMap + 0x178) == (mode == Mode::Real16 ? 0x7000 : kCodeAt));
        CHECK(g.get<uint64_t>(kMap + 0x160) == 0x401);
        CHECK(g.get<uint8_t>(kMap + 0xc9) == 0);
    }
}

TEST_CASE("RSM brings back every mode and goes on") {
    for (Mode mode : {Mode::Real16, Mode::Protected32, Mode::Compat32, Mode::Long64})
        for (unsigned cpl : {0, 3}) {
            if (mode == Mode::Real16 && cpl) continue;
            CAPTURE(unsigned(mode));
            CAPTURE(cpl);
            SystemGuest g(mode, cpl);
            for (unsigned r = 0; r < 16; r++) g.cpu.gpr.slot[r] = 0x10000 + r * 8;
            g.cpu.flags.set(flag::CF | flag::OF | flag::DF | 2);
            g.cpu.setSegmentBase(Fs, 0x12345);
            if (mode == Mode::Long64) {
                g.cpu.seg[Es] = Segment{.selector = 3, .unusable = true};
                g.cpu.segmentsChanged();
            }
            g.write(kHandler, std::vector<uint8_t>{0x66, 0xb9, 1, 0, 0, 0, 0x0f, 0xaa});  // mov ecx, 1; rsm
            g.code({0x90, 0x40, 0xeb, 0xfe}, mode == Mode::Real16 ? 0x7000 : kCodeAt);
            const CpuState before = g.cpu;
            raiseSmi(g);
            g.cpu.run(1);
            CHECK(!g.cpu.smm);
            CHECK(g.cpu.rip == before.rip);
            for (unsigned r = 0; r < 16; r++) CHECK(g.cpu.gpr.slot[r] == before.gpr.slot[r]);
            for (unsigned r = 0; r < 6; r++) {
                CHECK(g.cpu.seg[r].selector == before.seg[r].selector);
                CHECK(g.cpu.seg[r].base == before.seg[r].base);
                CHECK(g.cpu.seg[r].limit == before.seg[r].limit);
                CHECK(g.cpu.seg[r].rights == before.seg[r].rights);
                CHECK(g.cpu.seg[r].unusable == before.seg[r].unusable);
            }
            CHECK(g.cpu.tr.base == before.tr.base);
            CHECK(g.cpu.gdtr.base == before.gdtr.base);
            CHECK(g.cpu.idtr.limit == before.idtr.limit);
            CHECK(g.cpu.cr0 == before.cr0);
            CHECK(g.cpu.cr3 == before.cr3);
            CHECK(g.cpu.cr4 == before.cr4);
            CHECK(g.cpu.efer == before.efer);
            CHECK(g.cpu.cpl == before.cpl);
            CHECK(g.cpu.flags.value() == before.flags.value());
            CHECK(g.cpu.nmiBlocked == before.nmiBlocked);
            CHECK_FALSE(g.step());
            CHECK_FALSE(g.step());
        }
}

TEST_CASE("a processor without Intel 64 has the 32-bit map") {
    auto model = std::make_shared<CpuModel>(*kilnModel());
    model->features = model->features - FeatureSet{Feature::LM};
    SystemGuest g(Mode::Protected32, 0, model);
    g.write(kHandler, std::vector<uint8_t>{0x0f, 0xaa});
    g.code({0x90});
    g.cpu.gpr[Rdi] = 0xdeadbeef;
    g.cpu.gpr[Rax] = 0x12345678;
    const CpuState before = g.cpu;
    raiseSmi(g);
    g.cpu.singleStep();
    CHECK(g.get<uint32_t>(kMap + 0xfc) == 0x20000);
    CHECK(g.get<uint32_t>(kMap + 0xf8) == kSmbase);
    CHECK(g.get<uint32_t>(kMap + 0x1ec) == 0xdeadbeef);
    CHECK(g.get<uint32_t>(kMap + 0x1d0) == 0x12345678);
    CHECK(g.get<uint32_t>(kMap + 0x1f0) == kCodeAt);
    CHECK(g.get<uint32_t>(kMap + 0x1fc) == before.cr0);
    CHECK(g.get<uint16_t>(kMap + 0x1ac) == kCode0);
    CHECK(!g.cpu.smm);
    CHECK(g.cpu.rip == kCodeAt);
    CHECK(g.cpu.gpr[Rdi] == 0xdeadbeef);
    CHECK(g.cpu.seg[Gs].limit == before.seg[Gs].limit);
    CHECK(g.cpu.tr.base == before.tr.base);
}

TEST_CASE("the 32-bit map keeps the hidden parts of all segments, also behind an OUT") {
    struct Trigger : IoHandler {
        explicit Trigger(LocalApic& a) : apic(a) {}
        uint64_t ioRead(uint64_t, unsigned) override { return 0; }
        void ioWrite(uint64_t, unsigned, uint64_t) override { apic.accept({.mode = DeliveryMode::Smi}); }
        LocalApic& apic;
    };
    std::vector<std::string> warnings;
    SystemGuest g(Mode::Protected32, 0, chooseCpuModel("pentium3", warnings));
    Trigger trigger(g.apic);
    g.ports.map(0xb2, 1, trigger);
    g.write(kHandler, std::vector<uint8_t>{0x0f, 0xaa});
    for (unsigned i = 0; i < 6; i++)
        if (i != Cs) g.setBase(SegReg(i), 0x1000 * i);
    g.code({0xe6, 0xb2, 0x90, 0xf4});
    const CpuState before = g.cpu;
    g.runToHalt();
    CHECK(g.get<uint32_t>(kMap + 0x1a4) == 0x00b20003);
    for (unsigned i = 0; i < 6; i++) {
        CAPTURE(i);
        CHECK(g.cpu.seg[i].base == before.seg[i].base);
        CHECK(g.cpu.seg[i].limit == before.seg[i].limit);
        CHECK(g.cpu.seg[i].rights == before.seg[i].rights);
        CHECK(g.cpu.seg[i].selector == before.seg[i].selector);
    }
}

TEST_CASE("RSM outside SMM is #UD; SMBASE relocation; shutdown on an invalid state") {
    SystemGuest g(Mode::Long64);
    CHECK_RAISES(g.does({0x0f, 0xaa}), kUD, 0);
    enter(g);
    g.put<uint32_t>(kMap + 0x100, 0x70000);
    g.cpu.singleStep();
    CHECK(!g.cpu.smm);
    CHECK(g.cpu.smbase == 0x70000);
    g.put<uint8_t>(0x78000, 0xf4);
    raiseSmi(g);
    g.cpu.run(1);
    CHECK(g.cpu.smm);
    CHECK(g.cpu.seg[Cs].base == 0x70000);
    CHECK(g.cpu.seg[Cs].selector == 0x7000);
    CHECK(g.get<uint32_t>(0x7ff00) == 0x70000);

    struct {
        unsigned place;
        uint64_t value;
    } cases[] = {
        {0x158, cr0::PG},   {0x158, cr0::PE | cr0::NW}, {0x158, 1ull << 32 | cr0::PE}, {0x148, 1ull << 31},
        {0x148, 0},  // long mode without PAE
        {0xd0, 1ull << 40},
    };
    for (auto& c : cases) {
        CAPTURE(c.place);
        SystemGuest bad(Mode::Long64);
        enter(bad);
        bad.put<uint64_t>(kMap + c.place, c.value);
        bad.cpu.singleStep();
        CHECK(!bad.shutdown.empty());
    }
}

TEST_CASE("SMI, NMI and INIT wait for RSM; a wake-up from HLT may go back to it") {
    for (bool restart : {true, false}) {
        SystemGuest g(Mode::Protected32);
        g.write(kHandler, std::vector<uint8_t>{0x90, 0x0f, 0xaa});
        g.cpu.flags.change(flag::IF, true);
        g.code({0xf4, 0x90});
        g.cpu.singleStep();
        REQUIRE(g.cpu.halted);
        raiseSmi(g);
        CHECK(g.cpu.wakeable());
        g.cpu.singleStep();
        REQUIRE(g.cpu.smm);
        CHECK(g.get<uint8_t>(kMap + 0xc9) == 1);
        if (!restart) g.put<uint8_t>(kMap + 0xc9, 0);
        raiseSmi(g);
        g.apic.accept({.mode = DeliveryMode::Nmi});
        raiseInit(g);
        CHECK(g.cpu.nmiBlocked);
        g.cpu.singleStep();  // rsm
        CHECK(!g.cpu.smm);
        CHECK(g.cpu.halted == restart);
        CHECK(g.cpu.wakeable());
        ResetVector nops(g);
        g.cpu.singleStep();  // INIT goes first
        CHECK(g.cpu.seg[Cs].base == 0xffff0000);
    }
}

TEST_CASE("an IRET in SMM lets NMIs in") {
    SystemGuest g(Mode::Real16);
    enter(g, {0x90});
    CHECK(g.cpu.nmiBlocked);
    g.cpu.gpr[Rsp] = 0x4000;
    g.push<uint16_t>({0x10, 0, 2});
    g.write(kHandler, std::vector<uint8_t>{0xcf});
    g.cpu.singleStep();
    CHECK(!g.cpu.nmiBlocked);
    CHECK(g.cpu.smm);
}

TEST_CASE("an OUT that makes an SMI: it comes behind the OUT, and the instruction can run again") {
    struct Trigger : IoHandler {
        explicit Trigger(LocalApic& a) : apic(a) {}
        uint64_t ioRead(uint64_t, unsigned) override { return 0x55; }
        void ioWrite(uint64_t, unsigned, uint64_t) override {
            if (writes++ == 0) apic.accept({.mode = DeliveryMode::Smi});
        }
        LocalApic& apic;
        int writes = 0;
    };
    for (bool restart : {false, true}) {
        SystemGuest g(Mode::Long64);
        Trigger trigger(g.apic);
        g.ports.map(0xb2, 1, trigger);
        g.cpu.gpr[Rbx] = 0;
        g.write(kHandler, std::vector<uint8_t>{0xf4});
        g.code({0x90, 0xe6, 0xb2, 0xff, 0xc3, 0xff, 0xc3, 0xf4});
        g.cpu.run(3);
        if (!g.cpu.smm) g.cpu.run(1);
        REQUIRE(g.cpu.smm);
        CHECK(g.cpu.gpr[Rbx] == 0);
        CHECK(g.get<uint64_t>(kMap + 0x178) == kCodeAt + 3);
        CHECK(g.get<uint32_t>(kMap + 0xc0) == 0xb20012);
        g.write(kHandler + 1, std::vector<uint8_t>{0x0f, 0xaa});
        if (restart) g.put<uint8_t>(kMap + 0xc8, 0xff);
        g.cpu.halted = false;
        g.cpu.singleStep();
        CHECK(g.cpu.rip == kCodeAt + (restart ? 1 : 3));
        g.runToHalt();
        CHECK(trigger.writes == (restart ? 2 : 1));
        CHECK(g.cpu.gpr[Rbx] == 2);
    }
}

TEST_CASE("A20 does not count in SMM") {
    SystemGuest g(Mode::Real16);
    g.addRam(0x100000, 0x10000);
    g.put<uint8_t>(0x500, 1);
    g.put<uint8_t>(0x100500, 2);
    g.cpu.a20(false);
    enter(g, {0x67, 0x8a, 0x06, 0x0f, 0xaa});
    g.cpu.gpr[Rsi] = 0x100500;
    g.cpu.singleStep();
    CHECK(g.cpu.gpr.get<uint8_t>(0) == 2);
    g.cpu.singleStep();
    REQUIRE(!g.cpu.smm);
    g.cpu.gpr[Rsi] = 0x500;
    g.cpu.seg[Ds].base = 0x100000;
    g.cpu.segmentsChanged();
    g.code({0x8a, 0x04}, 0x7000);
    CHECK_FALSE(g.step());
    CHECK(g.cpu.gpr.get<uint8_t>(0) == 1);
}

TEST_CASE("SMRAM is there for the processor in SMM alone; D_OPEN, D_CLS, D_LCK and TSEG") {
    constexpr uint64_t kMiB = 1 << 20;
    SystemGuest g(Mode::Real16);
    PciBus pci(g.memory, g.ports);
    RamBlock ram("ram", 8 * kMiB), bios("bios", 64 << 10);
    struct Screen : IoHandler {
        uint64_t ioRead(uint64_t, unsigned) override { return 0x77; }
        void ioWrite(uint64_t, unsigned, uint64_t) override {}
    } screen;
    g.memory.mapRam(PhysAddr(0), 8 * kMiB, ram);
    g.memory.mapIo(PhysAddr(0xa0000), 0x20000, screen, 1);
    Q35Mch mch(pci, ram, bios);
    auto open = [&](uint8_t smram, uint8_t esmramc = 0x38) {
        mch.configWrite(0x9e, 1, esmramc);
        mch.configWrite(0x9d, 1, smram);
    };
    auto sees = [&](uint64_t at) { return g.memory.read<uint8_t>(PhysAddr(at)); };
    auto smmSees = [&](uint64_t at, bool fetch = false) {
        return g.memory.read<uint8_t>(g.memory.inSmm(PhysAddr(at), fetch));
    };
    open(0x48);
    g.put<uint8_t>(0xa8000, 0x11);
    CHECK(sees(0xa8000) == 0x11);
    CHECK(smmSees(0xa8000) == 0x11);
    open(0x08);
    CHECK(sees(0xa8000) == 0x77);
    CHECK(smmSees(0xa8000) == 0x11);
    open(0x28);  // closed to data
    CHECK(smmSees(0xa8000) == 0x77);
    CHECK(smmSees(0xa8000, true) == 0x11);
    open(0x08, 0x80);  // high
    CHECK(smmSees(0xa8000) == 0x77);
    CHECK(smmSees(0xfeda8000) == 0x11);
    open(0x00);
    CHECK(smmSees(0xa8000) == 0x77);

    ram.data()[7 * kMiB + 5] = 0x22;
    ram.data()[6 * kMiB + 5] = 0x33;
    open(0x08, 0x01);
    CHECK(sees(7 * kMiB + 5) == 0xff);
    CHECK(sees(6 * kMiB + 5) == 0x33);
    CHECK(smmSees(7 * kMiB + 5) == 0x22);
    g.put<uint8_t>(7 * kMiB + 5, 1);
    CHECK(ram.data()[7 * kMiB + 5] == 0x22);
    open(0x08, 0x03);
    CHECK(sees(6 * kMiB + 5) == 0xff);
    CHECK(smmSees(6 * kMiB + 5) == 0x33);

    open(0x58, 0x01);  // locking closes
    CHECK((mch.configRead(0x9d, 1) & 0x58) == 0x18);
    open(0x48, 0x00);
    CHECK((mch.configRead(0x9d, 1) & 0x58) == 0x18);
    CHECK((mch.configRead(0x9e, 1) & 1) == 1);
    mch.reset();
    CHECK(sees(7 * kMiB + 5) == 0x22);

    // A handler in SMRAM runs, and the screen behind it is as before.
    open(0x48);
    g.put<uint16_t>(0xa8000, 0x9090);
    g.put<uint8_t>(0xa8002, 0xf4);
    open(0x08);
    g.cpu.smbase = 0xa0000;
    g.put<uint8_t>(0x7000, 0x90);
    g.cpu.rip = 0x7000;
    raiseSmi(g);
    g.cpu.run(1);
    CHECK(g.cpu.smm);
    CHECK(g.cpu.halted);
    CHECK(ram.data()[0xafefc] == 0x64);
}

TEST_CASE("port B2h: the ACPI commands are the chipset's, others an SMI when it is enabled") {
    FakeTime time;
    Clock clock(time);
    IrqInput sci;
    AcpiPm pm(clock, sci);
    int smis = 0;
    pm.onSmi = [&] { smis++; };
    auto command = [&](uint8_t v) { pm.apmPorts().ioWrite(0, 1, v); };
    command(0x55);
    CHECK(smis == 0);
    pm.ioWrite(AcpiPm::kSmiEnable, 4, 0x20);
    command(0x55);
    CHECK(smis == 0);
    CHECK(pm.ioRead(0x34, 4) == 0x20);
    pm.ioWrite(AcpiPm::kSmiEnable, 4, 0x21);
    command(0x55);
    CHECK(smis == 1);
    pm.ioWrite(0x34, 4, 0x20);
    CHECK(pm.ioRead(0x34, 4) == 0);
    command(AcpiPm::kAcpiEnable);
    CHECK(smis == 1);
    CHECK((pm.ioRead(AcpiPm::kPm1Control, 2) & 1) == 1);
    pm.lockSmi(true);
    pm.ioWrite(AcpiPm::kSmiEnable, 4, 0);
    CHECK(pm.ioRead(AcpiPm::kSmiEnable, 4) == 1);
}

TEST_CASE("INIT keeps FPU, vectors, MSRs, caching bits and SMBASE; RESET does not") {
    for (bool init : {true, false}) {
        CAPTURE(init);
        SystemGuest g(Mode::Long64, 3);
        g.cpu.cr0 |= cr0::CD;
        g.cpu.fpu.status = 0x1234;
        g.cpu.fpu.control = 0x37f;
        ResetVector nops(g);
        g.cpu.vec[5].q[0] = 42;
        g.cpu.mxcsr = 0x1fc0;
        g.cpu.msr.lstar = 0x1000;
        g.cpu.msr.pat = 6;
        g.cpu.smbase = 0x70000;
        g.cpu.cr2 = 7;
        g.cpu.writeDr(0, 5);
        g.cpu.writeDr(7, 0x402);
        if (init) {
            raiseInit(g);
            g.cpu.singleStep();
        } else {
            g.cpu.reset();
        }
        CHECK(g.cpu.cr0 == (init ? cr0::CD | cr0::ET : cr0::CD | cr0::NW | cr0::ET));
        CHECK(g.cpu.fpu.status == (init ? 0x1234 : 0));
        CHECK(g.cpu.fpu.control == (init ? 0x37f : 0x40));
        CHECK(g.cpu.vec[5].q[0] == (init ? 42 : 0));
        CHECK(g.cpu.mxcsr == (init ? 0x1fc0 : 0x1f80));
        CHECK(g.cpu.msr.lstar == (init ? 0x1000 : 0));
        CHECK(g.cpu.msr.pat == (init ? 6 : 0x0007040600070406));
        CHECK(g.cpu.smbase == (init ? 0x70000 : 0x30000));
        CHECK(g.cpu.cr2 == 0);
        CHECK(g.cpu.cr3 == 0);
        CHECK(g.cpu.cr4 == 0);
        CHECK(g.cpu.efer == 0);
        CHECK(g.cpu.dr[0] == 0);
        CHECK(g.cpu.dr[6] == 0xffff0ff0);
        CHECK(g.cpu.dr[7] == 0x400);
        CHECK(g.cpu.cpl == 0);
        CHECK(g.cpu.gpr[Rsp] == 0);
        CHECK(g.cpu.gpr[Rdx] == g.cpu.model.signature());
        CHECK(g.cpu.seg[Cs].base == 0xffff0000);
        CHECK(!g.cpu.waitingForSipi);
    }
}
