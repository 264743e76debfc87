// The decoder and every instruction: random bytes as code in every mode on every processor model, behind a
// prologue of system instructions that sets up what random code would not find by itself, with tables in
// memory overwritten, interrupts of all kinds in between, and the code changing under the processor.
#include <array>

#include "tests/cpu_bench.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

using test::GuestBench;

enum class Start : uint8_t { Real, Unreal, V86, Protected16, Protected32, Compat16, Compat32, Long, Count };
constexpr uint64_t kGdt = 0x1000, kIdt = 0x2000, kTss = 0x3000, kTables = 0x8000, kData = 0x60000;
constexpr uint32_t kMsrs[] = {
    0x10,       0x1b,       0x3b,       0x6e0,      0x174,      0x175,      0x176,      0x1a0,
    0x1d9,      0x277,      0x2ff,      0x200,      0x201,      0x250,      0x9e,       0xda0,
    0x802,      0x808,      0x80b,      0x80f,      0x830,      0x832,      0x838,      0xc0000080,
    0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103};

GuestBench::Mode benchMode(Start start) {
    switch (start) {
        case Start::Real:
        case Start::Unreal: return GuestBench::Mode::Real16;
        case Start::V86:
        case Start::Protected16:
        case Start::Protected32: return GuestBench::Mode::Protected32;
        case Start::Compat16:
        case Start::Compat32: return GuestBench::Mode::Compat32;
        default: return GuestBench::Mode::Long64;
    }
}

using Models = std::vector<std::shared_ptr<const CpuModel>>;

// The models that can be in this mode, kiln's own first.
const Models& modelsFor(GuestBench::Mode mode) {
    static const std::array<Models, 4> kModels = [] {
        std::array<Models, 4> usable;
        std::vector<std::string> warnings;
        Models all{kilnModel()};
        for (const std::string& name : cpuModelNames()) all.push_back(chooseCpuModel(name, warnings));
        for (unsigned n = 0; n < usable.size(); n++)
            for (const auto& model : all) try {
                    GuestBench(GuestBench::Mode(n), 0, model);
                    usable[n].push_back(model);
                } catch (const Fault&) {}
        return usable;
    }();
    return kModels[size_t(mode)];
}

class Run {
  public:
    explicit Run(Input in)
        : in_(in),
          start_(Start(in_.below(unsigned(Start::Count)))),
          choice_(in_.byte()),
          bench_(benchMode(start_), start_ == Start::V86 ? 0 : choice_ % 2 * 3, model()) {
        bench_.memory.mapIo(PhysAddr(ApicBus::kWindowBase), ApicBus::kWindowSize, bench_.apicBus);
        bench_.apicBus.onIntAck = [this] { return interruptVector_; };
    }

    void all() {
        for (uint64_t n = in_.below(6); n; n--) overwriteTable();
        for (unsigned n = 0; n < 16; n++) bench_.cpu.gpr.slot[n] = value();
        // Long repeats show nothing that short ones don't, and take all the time.
        if (~bench_.cpu.gpr[Rcx]) bench_.cpu.gpr[Rcx] &= 0xfff;
        bench_.cpu.gpr[Rsp] = start_ <= Start::Unreal ? 0x5000 : 0x80000;
        for (uint64_t n = in_.below(6); n && bench_.shutdown.empty(); n--) prologue();
        enterStart();
        placeCode();
        for (uint64_t n = 1 + in_.below(6); n && bench_.shutdown.empty(); n--) {
            bench_.cpu.run(1 + int64_t(in_.below(100)));
            event();
        }
        if (bench_.shutdown.empty()) {
            bench_.cpu.run(200);
            bench_.cpu.disassemble(bench_.cpu.rip);
            PhysAddr ignored{};
            bench_.cpu.translate(value(), ignored);
        }
    }

  private:
    std::shared_ptr<const CpuModel> model() const {
        const Models& models = modelsFor(benchMode(start_));
        return models[choice_ / 2 % models.size()];
    }

    uint64_t value() {
        switch (in_.below(12)) {
            case 0: return 0;
            case 1: return in_.byte();
            case 2: return ~0ull;
            case 3: return kData + in_.byte() * 8u;
            case 4: return kGdt + in_.byte();
            case 5: return 1ull << (in_.byte() & 63);
            case 6: return uint64_t(int64_t(int8_t(in_.byte())));
            case 7: return 0x80000000 - in_.byte();
            case 8: return 0xfee00000 + in_.byte() * 16u;
            case 9: return in_.take<uint16_t>();
            case 10: return in_.take<uint32_t>();
            default: return in_.take<uint64_t>();
        }
    }

    void poke(uint64_t at, uint64_t v) { bench_.write(at, {reinterpret_cast<uint8_t*>(&v), 8}); }

    void overwriteTable() {
        switch (in_.below(5)) {
            case 0: poke(kGdt + in_.below(64) * 8, in_.take<uint64_t>()); break;
            case 1:
                poke(kIdt + in_.below(256) * (bench_.cpu.longMode() ? 16 : 8), in_.take<uint64_t>());
                break;
            case 2: poke(kTss + in_.below(104), in_.take<uint64_t>()); break;
            case 3: poke(kTables + in_.below<uint16_t>(0x600) * 8, in_.take<uint64_t>()); break;
            default: poke(in_.take<uint32_t>() & 0xffff8, in_.take<uint64_t>());
        }
    }

    // One system instruction with chosen operands; whatever it raises is put back.
    void prologue() {
        Cpu& c = bench_.cpu;
        const uint64_t rip = codeAddress(), sp = c.gpr[Rsp];
        std::array<uint8_t, 8> code{};
        auto put = [&](std::initializer_list<uint8_t> bytes) {
            std::copy(bytes.begin(), bytes.end(), code.begin());
        };
        auto reg = [&] { return uint8_t(in_.below(8)); };
        c.gpr[Rax] = value(), c.gpr[Rdx] = in_.byte() & 1 ? value() : 0;
        switch (in_.below(14)) {
            case 0: c.gpr[Rax] = c.cr0 ^ c.gpr[Rax], put({0x0f, 0x22, 0xc0}); break;
            case 1: put({0x0f, 0x22, 0xd8}); break;
            case 2: c.gpr[Rax] = c.cr4 ^ c.gpr[Rax], put({0x0f, 0x22, 0xe0}); break;
            case 3:
            case 4:
                c.gpr[Rcx] = kMsrs[in_.below(std::size(kMsrs))];
                if (c.gpr[Rcx] == 0xc0000080) c.gpr[Rax] ^= c.efer, c.gpr[Rdx] = 0;
                put({0x0f, 0x30});
                break;
            case 5: c.gpr[Rcx] = 0, put({0x0f, 0x01, 0xd1}); break;                     // XSETBV
            case 6: put({0x0f, 0x23, uint8_t(0xc0 | reg() << 3)}); break;               // MOV DR
            case 7: put({0x0f, 0x01, uint8_t(0x10 | (reg() & 1) << 3 | 7)}); break;     // LGDT, LIDT
            case 8: put({0x0f, 0x00, uint8_t(0xd0 | (reg() & 1) << 3)}); break;         // LLDT, LTR
            case 9: put({0x8e, uint8_t(0xc0 | reg() << 3)}); break;                     // MOV Sreg
            case 10: poke(sp, value()), put({0x9d}); break;                             // POPF
            case 11: poke(kData, value()), put({0xd9, 0x2d, 0x00, 0x00, 0x06}); break;  // FLDCW
            case 12: put({0x0f, 0xae, uint8_t(reg() << 3 | 6)}); break;
            default: put({in_.byte(), in_.byte(), in_.byte(), in_.byte()});
        }
        bench_.write(c.seg[Cs].base + rip, code);
        c.rip = rip;
        bench_.step();
        c.gpr[Rsp] = sp;
    }

    uint64_t codeAddress() const { return start_ <= Start::Unreal ? 0xf000 : 0x50000; }

    void farTo(uint16_t selector, uint64_t offset) {
        Cpu& c = bench_.cpu;
        const uint8_t iret[] = {0x48, 0xcf};
        const uint64_t frame64[] = {offset, selector, 2, c.gpr[Rsp], c.seg[Ss].selector};
        const uint32_t frame32[] = {uint32_t(offset), selector, 2, 0x7000, 0x1234};
        const bool wide = c.code64();
        const uint64_t sp = c.gpr[Rsp] - 64;
        for (unsigned n = 0; n < 5; n++)
            if (wide || c.longMode())
                poke(sp + n * (wide ? 8 : 4), wide ? frame64[n] : uint32_t(frame64[n]));
            else
                poke(sp + n * 4, frame32[n]);
        c.gpr[Rsp] = sp;
        bench_.write(c.seg[Cs].base + codeAddress(), {iret + !wide, wide ? 2u : 1u});
        c.rip = codeAddress();
        bench_.step();
    }

    void enterStart() {
        Cpu& c = bench_.cpu;
        const bool user = c.cpl == 3;
        switch (start_) {
            case Start::Unreal: c.seg[Ds].limit = c.seg[Es].limit = 0xffffffff, c.segmentsChanged(); break;
            case Start::Protected16:
            case Start::Compat16:
                poke(kGdt + 0x40, user ? 0x008ffb000000ffff : 0x008f9b000000ffff);  // 16 bits, 4 GiB
                farTo(user ? 0x43 : 0x40, codeAddress());
                break;
            case Start::V86: {
                const uint32_t frame[] = {0x100,  0x5000, 0x20002 | uint32_t(in_.byte() & 0x33) << 8,
                                          0xff00, 0x7000, 0x6000,
                                          0x6000, 0x6000, 0x6000};
                c.gpr[Rsp] = 0x7f000;
                for (unsigned n = 0; n < 9; n++) poke(0x7f000 + n * 4, frame[n]);
                const uint8_t iret = 0xcf;
                bench_.write(codeAddress(), {&iret, 1});
                c.rip = codeAddress();
                bench_.step();
                break;
            }
            default: break;
        }
    }

    void placeCode() {
        static constexpr uint64_t kPlaces[] = {0, 0xff0, 0xff8, 0xffd, 0xfff};
        Cpu& c = bench_.cpu;
        const bool low = c.real() || c.v86();
        uint64_t rip = (low ? (c.v86() ? 0 : 0xf000) : 0x50000) + kPlaces[in_.below(std::size(kPlaces))];
        code_ = (c.seg[Cs].base + rip) & 0xfffff;
        auto bytes = in_.bytes(in_.byte());
        bench_.write(code_, bytes);
        c.rip = rip & c.ipMask();
    }

    void event() {
        auto send = [&](DeliveryMode mode, uint8_t vector) {
            bench_.apicBus.deliver(ApicMessage{.destination = 0, .mode = mode, .vector = vector});
        };
        switch (in_.below(12)) {
            case 0: send(DeliveryMode::Fixed, in_.byte()); break;
            case 1: send(DeliveryMode::Nmi, 0); break;
            case 2: send(DeliveryMode::Smi, 0); break;
            case 3: send(DeliveryMode::Init, 0); break;
            case 4: send(DeliveryMode::StartUp, in_.byte()); break;
            case 5: interruptVector_ = in_.byte(), bench_.apicBus.setIntr(in_.byte() & 1); break;
            case 6: bench_.time.advance(in_.take<uint32_t>()), bench_.clock.runDue(); break;
            case 7: bench_.write(code_, in_.bytes(in_.byte() & 15)); break;
            case 8: bench_.cpu.a20(in_.byte() & 1); break;
            case 9: overwriteTable(); break;
            case 10: bench_.cpu.singleStep(); break;
            default: break;
        }
    }

    Input in_;
    Start start_;
    uint8_t choice_;  // privilege level and model
    GuestBench bench_;
    uint64_t code_ = 0;
    uint8_t interruptVector_ = 0x20;
};

void run(std::span<const uint8_t> input) { Run(Input(input)).all(); }

// Every mode with instructions of every map, and a few that go together.
std::vector<Bytes> seeds() {
    static const Bytes kCodes[] = {
        {0x66, 0x0f, 0x3a, 0x0f, 0xc1, 0x05, 0xd9, 0xfa, 0xde, 0xc1, 0x9b, 0xdd, 0x35, 0, 0, 6, 0, 0xf4},
        {0xf3, 0xa4, 0xf2, 0xae, 0xf3, 0x6c, 0xcd, 0x80, 0xcf, 0xf4},
        {0xc4, 0xe2, 0x7d, 0x18, 0x05, 0, 0, 6, 0, 0xc5, 0xfd, 0x58, 0xc1, 0xc5, 0xf8, 0x77},
        {0xc4, 0xe2, 0x71, 0x90, 0x04, 0xc5, 0, 0, 6, 0, 0x0f, 0xc7, 0x24, 0x25, 0, 0, 6, 0},
        {0xea, 0, 0, 8, 0, 0x9a, 0, 0, 5, 0, 0x28, 0, 0xcb, 0xca, 4, 0},
        {0x0f, 0xa2, 0x0f, 0x31, 0x0f, 0x0b, 0xf0, 0x0f, 0xb1, 0x08, 0x0f, 0x05, 0x0f, 0x34},
        {0x0f, 0xae, 0x00, 0x0f, 0xae, 0x08, 0x0f, 0xae, 0x20, 0x0f, 0xae, 0x28, 0x0f, 0xc7, 0x20},
        {0xe8, 0, 0, 0, 0, 0x58, 0xc6, 0x00, 0xf4, 0xeb, 0xfe, 0xe2, 0xfc},
    };
    std::vector<Bytes> all;
    for (unsigned start = 0; start < unsigned(Start::Count); start++)
        for (const Bytes& code : kCodes)
            for (unsigned prologues = 0; prologues < 2; prologues++) {
                Bytes b = {uint8_t(start)};
                b.push_back(uint8_t(code.size() & 1));
                b.push_back(0);  // no table overwritten
                for (unsigned n = 0; n < 16; n++) b.push_back(3), b.push_back(uint8_t(n));
                b.push_back(uint8_t(prologues));
                if (prologues) b.insert(b.end(), {2, 0x00, 0x06, 2});  // CR4
                if (start == unsigned(Start::V86)) b.push_back(0);
                b.push_back(0);
                b.push_back(uint8_t(code.size()));
                b.insert(b.end(), code.begin(), code.end());
                b.insert(b.end(), {3, 50, 0, 0x30, 50, 1, 50, 7, 3, 0xcc, 0xf4, 0x90});
                all.push_back(b);
            }
    return all;
}

}  // namespace

const Target kProcessor{"processor", run, seeds, 3000};

}  // namespace kiln::fuzz
