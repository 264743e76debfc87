// The translator against the interpreter on systems outside 64-bit mode: programs of CPL 3 in 32-bit
// protected mode, in virtual-8086 mode and in compatibility mode, and real mode, with a kernel that is
// 32-bit, 64-bit or not there, whose gates, descriptors, stacks and page tables are sometimes not what they
// should be. Both engines must be at the same instruction, with the same state and the same count, whenever a
// slice ends.
//
//   KILN_FUZZ_ITERATIONS  systems per mode     KILN_FUZZ_SEED  another sequence
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/differences.hpp"
#include "tests/random.hpp"
#include "tests/system_guest.hpp"
#include "translate/translator.hpp"

namespace kiln::test {
namespace {

enum class Kind : uint8_t { User32, V86, Compat, Real };

constexpr uint64_t kUser = 0x50000, kKernel = 0x60000, kData = 0x70000, kDataPages = 8;
constexpr uint64_t kDirectory = 0x40000, kTable = 0x41000, kUserStack = 0x78800, kSysenterStack = 0x5000;
constexpr uint16_t kOddCode = 0x48, kOddData = 0x50, kOddUserCode = 0x5b, kOddUserData = 0x63;

// Every piece begins by telling in ebp where it ends, which is where a handler goes on that can't mend a
// fault.
class Code {
  public:
    Code(uint64_t at, uint64_t base, unsigned bits) : at_(at), base_(base), bits_(bits) {}
    void operator()(std::initializer_list<int> bytes) {
        for (int b : bytes) bytes_.push_back(uint8_t(b));
    }
    void word(uint64_t v, unsigned bytes) {
        for (unsigned n = 0; n < bytes; n++) bytes_.push_back(uint8_t(v >> 8 * n));
    }
    // An instruction of 32-bit operands.
    void wide(std::initializer_list<int> bytes) {
        if (bits_ == 16) (*this)({0x66});
        (*this)(bytes);
    }
    void mov(int reg, uint64_t v) { wide({0xb8 | reg}), word(v, 4); }
    // MOV between a register and a place in the data, through DS or, in a 32-bit kernel, SS.
    void access(bool write, int reg, uint64_t linear, bool throughSs) {
        if (throughSs) (*this)({0x36});
        (*this)({write ? 0x89 : 0x8b});
        address(reg, bits_ == 16 ? linear - kData : linear);
    }
    void address(int reg, uint64_t at) {
        if (bits_ == 64)
            (*this)({0x04 | reg << 3, 0x25}), word(at, 4);
        else if (bits_ == 32)
            (*this)({0x05 | reg << 3}), word(at, 4);
        else
            (*this)({0x06 | reg << 3}), word(at, 2);
    }
    uint64_t here() const { return at_ + bytes_.size(); }
    uint64_t offset() const { return here() - base_; }
    void begin() {
        wide({0xbd});
        open_ = bytes_.size();
        word(0, 4);
    }
    void end() {
        const auto to = uint32_t(offset());
        std::memcpy(&bytes_[open_], &to, 4);
    }
    void jumpTo(uint64_t target) {
        (*this)({0xe9});
        const unsigned bytes = bits_ == 16 ? 2 : 4;
        word(target - (here() + bytes), bytes);
    }
    const std::vector<uint8_t>& bytes() const { return bytes_; }
    unsigned bits() const { return bits_; }

  private:
    uint64_t at_, base_;
    unsigned bits_;
    std::vector<uint8_t> bytes_;
    size_t open_ = 0;
};

class LegacyFuzz {
  public:
    LegacyFuzz(Kind kind, uint64_t seed)
        : kind_(kind), random_(seed), plain_(mode(), cpl()), translated_(mode(), cpl()) {
        plain_.translator.reset();
        translated_.translator.reset();
        for (SystemGuest* b : both()) {
            REQUIRE(b->apic.setApicBase(0xfee00c00 | 0x100));
            REQUIRE(b->apic.writeMsr(0x80f, 0x1ff));
            if (pages32()) enablePaging(*b);
            // Whoever writes to page tables without a word to the TLB gets what its entries happen to be.
            if (kind_ == Kind::Compat)
                for (uint64_t page = 0x8000; page < kDirectory; page += kPageSize)
                    b->map(page, page, false, false);
        }
        memory_.assign(plain_.host(0), plain_.host(0) + GuestBench::kLow);
        cr4_ = plain_.cpu.cr4;
        translator_ = std::make_unique<Translator>(translated_.cpu,
                                                   TranslatorOptions{.tier1 = 2, .tier2 = 1, .ways = 1});
    }
    bool run(uint64_t systems) {
        for (uint64_t n = 0; n < systems; n++)
            if (!one()) return false;
        return true;
    }
    const Translator& translator() const { return *translator_; }
    uint64_t executed() const { return plain_.cpu.executed(); }

  private:
    GuestBench::Mode mode() const {
        return kind_ == Kind::Compat ? GuestBench::Mode::Compat32
               : kind_ == Kind::Real ? GuestBench::Mode::Real16
                                     : GuestBench::Mode::Protected32;
    }
    unsigned cpl() const { return kind_ == Kind::User32 || kind_ == Kind::Compat ? 3 : 0; }
    bool pages32() const { return mode() == GuestBench::Mode::Protected32; }
    bool is16() const { return kind_ == Kind::V86 || kind_ == Kind::Real; }
    std::array<SystemGuest*, 2> both() { return {&plain_, &translated_}; }
    unsigned kernelBits() const { return kind_ == Kind::Real ? 16 : kind_ == Kind::Compat ? 64 : 32; }

    static void writeTables(SystemGuest& b) {
        b.put<uint32_t>(kDirectory, kTable | 7);
        for (uint64_t page = 0; page < GuestBench::kLow; page += kPageSize)
            b.put<uint32_t>(kTable + page / kPageSize * 4, uint32_t(page | 7));
    }
    static void enablePaging(SystemGuest& b) {
        writeTables(b);
        b.cpu.setCr4(b.cpu.cr4 | cr4::PGE);
        b.cpu.setCr3(kDirectory);
        b.cpu.setCr0(b.cpu.cr0 | cr0::PG | cr0::WP);
    }
    uint64_t dataPlace() {
        if (oneIn(random_, 12)) return kData + below(random_, kDataPages) * kPageSize - 2;
        return kData + below(random_, kDataPages * kPageSize / 4) * 4;
    }
    uint16_t selector() {
        static constexpr uint16_t kSome[] = {0, 0x13, 0x23, 0x23, 0x1b, 0x10, kOddUserData, kOddData, 0x101};
        return kSome[below(random_, std::size(kSome))];
    }

    // -- pieces

    void userPiece(Code& c) {
        c.begin();
        c.mov(4, (is16() ? kUserStack - kData : kUserStack) + below(random_, 4) * 4);
        switch (below(random_, 25)) {
            case 0:
            case 1:
            case 2:
            case 3: c({0xcd, 0x80}); break;
            case 24: c({0xd9, 0xe8, 0xdd, 0xd8}); break;                // fld1; fstp st0
            case 4: c({0xcd, oneIn(random_, 2) ? 0x06 : 0x90}); break;  // not for everybody, and none
            case 5: c({0xcc}); break;
            case 6: c({0x0f, 0x0b}); break;
            case 7: c({0xfa}); break;
            case 8: c({0xfb}); break;
            case 9: c({0x9c, 0x9d}); break;
            case 10: c({0x9c, 0x58}); break;
            case 11: c.wide({0x31, 0xd2}), c.wide({0xf7, 0xf2}); break;  // a division by nought
            case 12: c({0x0f, 0x20, 0xc0}); break;
            case 13: c({oneIn(random_, 2) ? 0xf4 : 0xe4}), c({0x60}); break;
            case 14:
            case 15:
            case 16:
                c.wide({0x89, 0xe1}), c.wide({0x89, 0xea});  // mov ecx, esp; mov edx, ebp
                c({0x0f, 0x34});
                break;
            case 17: c({0x66, 0xb8}), c.word(selector(), 2), c({0x8e, 0xc0 | segmentNumber() << 3}); break;
            case 18:
                // (A 64-bit kernel may come to run this code as its own, and would return anywhere.)
                if (kind_ != Kind::Compat) c({0x9c, 0x0e}), pushEnd(c), c({oneIn(random_, 3) ? 0xcb : 0xcf});
                break;
            case 19: c.wide({0x01, 0xc3}), c({0x9c, 0x58}); break;
            default:
                if (oneIn(random_, 4)) c({0x64 | int(random_() & 1)});
                c.access(oneIn(random_, 2), int(below(random_, 4)), dataPlace(), false);
        }
        c.end();
        if (oneIn(random_, 4)) c({0x90});
    }
    int segmentNumber() {
        static constexpr int kNumbers[] = {0, 3, 4, 5};
        return kNumbers[below(random_, 4)];
    }
    // PUSH of where the piece ends: this, and the return.
    void pushEnd(Code& c) {
        const unsigned bytes = is16() ? 2 : 4;
        c({0x68});
        c.word(c.offset() + bytes + 1, bytes);
    }

    void kernelPiece(Code& c) {
        const bool ss = c.bits() == 32;
        c.begin();
        switch (below(random_, 17)) {
            case 0: c({0xfa}); break;
            case 1: c({0xfb}); break;
            case 2: c({0x9c, 0x9d}); break;
            case 3: c.access(false, 0, dataPlace(), ss); break;
            case 4: c.access(true, 0, dataPlace(), ss); break;
            case 5: invlpg(c, ss); break;
            case 6: c({0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8}); break;
            case 7: togglePage(c, ss); break;
            case 8: c({0x0f, 0x0b}); break;
            case 9: c({0xcd, 0x41}); break;
            case 10: c({0x66, 0xb8}), c.word(selector(), 2), c({0x8e, 0xc0 | segmentNumber() << 3}); break;
            case 11: c({0x0f, 0x20, 0xe0}), c.wide({0x35}), c.word(cr4::PGE, 4), c({0x0f, 0x22, 0xe0}); break;
            case 12: c({0x0f, 0x06}); break;
            case 13: sameLevelReturn(c); break;
            case 14:
                if (oneIn(random_, 3)) changeDescriptor(c, ss);
                break;
            default: c.wide({0x01, 0xc3});
        }
        c.end();
    }
    void invlpg(Code& c, bool ss) {
        if (ss && oneIn(random_, 2)) c({0x36});
        c({0x0f, 0x01});
        c.address(7, c.bits() == 16 ? below(random_, 0x1000) : dataPlace());
    }
    // XOR of an entry's lowest bits.
    void togglePage(Code& c, bool ss) {
        if (!pages32()) return;
        if (ss) c({0x36});
        c({0x83});
        c.address(6, kTable + (kData / kPageSize + below(random_, kDataPages)) * 4);
        c({int(1 + below(random_, 7))});
    }
    // XOR of an access byte: accessed, type, DPL, present.
    void changeDescriptor(Code& c, bool ss) {
        static constexpr int kSlots[] = {kCode3, kData3, kOddUserCode, kOddUserData, kOddCode, kOddData};
        static constexpr int kChanges[] = {0x01, 0x02, 0x04, 0x20, 0x40, 0x60, 0x80};
        if (kind_ == Kind::Real) return;
        if (ss) c({0x36});
        c({0x80});
        c.address(6, SystemGuest::kGdtAt + (kSlots[below(random_, 6)] & ~7) + 5);
        c({kChanges[below(random_, 7)]});
    }
    void sameLevelReturn(Code& c) {
        if (c.bits() == 64) return;
        const unsigned bytes = c.bits() == 16 ? 2 : 4;
        c({0x9c, 0x0e, 0x68});
        c.word(c.offset() + bytes + 1, bytes);
        c({0xcf});
    }

    void handler(Code& c, unsigned vector) {
        const bool error = c.bits() != 16 && (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17);
        for (const int r : {0x50, 0x51, 0x52, 0x55}) c.wide({r});
        if (vector == 0x40) c.mov(1, 0x80b), c.wide({0x31, 0xc0}), c.wide({0x31, 0xd2}), c({0x0f, 0x30});
        if (c.bits() == 32 && oneIn(random_, 2)) c({0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0});
        if (vector >= 0x80 || oneIn(random_, 8))
            for (uint64_t n = below(random_, 5); n; n--) kernelPiece(c);
        for (const int r : {0x5d, 0x5a, 0x59, 0x58}) c.wide({r});
        const int word = int(c.bits() / 8);
        if (vector < 0x20 && vector != 3) {
            if (c.bits() == 64) c({0x48});
            c({0x83, 0xc4, error ? 2 * word : word, 0x55});  // add esp; push ebp
        } else if (error) {
            if (c.bits() == 64) c({0x48});
            c({0x83, 0xc4, word});
        }
        if (c.bits() == 64) c({0x48});
        c({0xcf});
    }
    void setGate(unsigned vector, uint64_t target) {
        static constexpr unsigned kTypes[] = {kInt32, kTrap32, kInt16, kTaskGateType, 0x80};
        unsigned access = kTypes[oneIn(random_, 40) ? below(random_, 5) : below(random_, 2)];
        if (vector != 6) access |= dpl(oneIn(random_, 20) ? unsigned(below(random_, 4)) : 3);
        if (oneIn(random_, 60)) access ^= kAbsent;
        const uint16_t code = oneIn(random_, 16)      ? uint16_t(kOddCode)
                              : kind_ == Kind::Compat ? uint16_t(0x38)
                                                      : kCode0;
        const uint64_t at = SystemGuest::kIdtAt + vector * plain_.idtEntry();
        for (SystemGuest* b : both()) {
            if (kind_ == Kind::Real)
                b->put<uint32_t>(vector * 4, uint32_t((kKernel >> 4) << 16 | (target - kKernel)));
            else
                b->put<uint64_t>(at, gate(access, code, uint32_t(target)));
        }
    }
    Code kernel() {
        Code c(kKernel, kind_ == Kind::Real ? kKernel : 0, kernelBits());
        c({0x51, 0x52});  // SYSENTER: ecx and edx as the user has them
        for (uint64_t n = below(random_, 5); n; n--) kernelPiece(c);
        if (oneIn(random_, 2)) c.mov(4, kSysenterStack - c.bits() / 4);
        c({0x5a, 0x59});
        if (oneIn(random_, 2)) c({0xfb});
        c({0x0f, 0x35});
        for (unsigned vector : {0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 17, 0x40, 0x41, 0x80}) {
            setGate(vector, c.here());
            handler(c, vector);
        }
        return c;
    }

    // -- where it begins

    uint64_t odd(Random& r, bool code, unsigned level) {
        const unsigned access = (code ? (oneIn(r, 4)   ? kCodeConforming
                                         : oneIn(r, 3) ? kCodeXo
                                                       : kCodeRx)
                                      : (oneIn(r, 4)   ? kDataRo
                                         : oneIn(r, 4) ? kDataDown
                                                       : kDataRw)) |
                                dpl(oneIn(r, 6) ? unsigned(r() & 3) : level);
        const uint32_t base = oneIn(r, 2) ? 0 : uint32_t(below(r, 4) * 0x1000);
        const unsigned size = kind_ == Kind::Compat && code && oneIn(r, 2) ? 2 : oneIn(r, 6) ? 0 : 4;
        const auto limit = uint32_t(oneIn(r, 3) ? kKernel + below(r, 0x300) : 0x5000 + below(r, 0x80000));
        uint64_t d =
            oneIn(r, 3) ? segment(access, base, limit, size) : segment(access, base, 0xfffff, 8 | size);
        if (oneIn(r, 5)) d &= ~(1ull << 40);  // not accessed
        if (oneIn(r, 12)) d ^= 1ull << 47;    // absent
        return d;
    }
    void start(SystemGuest& b, uint64_t seed) {
        Random r(seed);
        Cpu& c = b.cpu;
        c.flags.set(2);
        if (kind_ == Kind::Real) b.cpu.seg[Ss].base = 0;
        b.restoreMode();
        c.halted = false;
        c.pendingDebug = 0;
        c.stiShadow = c.movSsShadow = c.nmiBlocked = false;
        c.setCr0(c.cr0 & ~(cr0::TS | cr0::EM));
        const bool vme = pages32() && oneIn(r, 4);
        c.setCr4(vme ? cr4_ | cr4::VME : cr4_);
        if (pages32()) writeTables(b);
        for (uint64_t n = 0; n < kDataPages; n++)
            if (pages32())
                b.put<uint32_t>(kTable + (kData / kPageSize + n) * 4,
                                uint32_t((kData + n * kPageSize) | (oneIn(r, 4) ? r() & 7 : 7)));
        c.flushTlb(true);
        for (unsigned n = 0; n < 16; n++) c.gpr.slot[n] = uint32_t(r());
        c.gpr[Rsp] = kUserStack;
        const uint64_t flags = 2 | flag::IF | (r() & flag::Arithmetic) | (oneIn(r, 8) ? flag::AC : 0);
        c.flags.set(flags);
        c.rip = kUser;
        c.msr.sysenterCs = kind_ == Kind::Compat ? 0x38 : 8;
        c.msr.sysenterEsp = kSysenterStack;
        c.msr.sysenterEip = kKernel;
        if (kind_ == Kind::Real) {
            static constexpr SegReg kAll[] = {Es, Ss, Ds, Fs, Gs};
            for (const SegReg s : kAll) c.seg[s].selector = kData >> 4, c.seg[s].base = kData;
            c.seg[Cs].selector = kUser >> 4, c.seg[Cs].base = kUser;
            c.gpr[Rsp] = kUserStack - kData;
            c.rip = 0;
            c.segmentsChanged();
            return;
        }
        c.gdtr.limit = 0x7f;
        // Behind the 64-bit segment that SYSENTER loads come a stack, and what SYSEXIT leads to.
        if (kind_ == Kind::Compat) {
            b.setGdt(0x40, b.gdt(kData0));
            b.put<uint64_t>(SystemGuest::kTssAt + 4, 0x6000);
        } else {
            b.put<uint32_t>(SystemGuest::kTssAt + 4, 0x6000);
            b.put<uint16_t>(SystemGuest::kTssAt + 8,
                            uint16_t((oneIn(r, 4) ? kOddData : kData0) | oneIn(r, 20)));
        }
        b.setGdt(kOddCode, odd(r, true, 0));
        b.setGdt(kOddData, odd(r, false, 0));
        b.setGdt(kOddUserCode, odd(r, true, 3));
        b.setGdt(kOddUserData, odd(r, false, 3));
        c.segmentsChanged();
        if (kind_ == Kind::User32 && oneIn(r, 3)) {  // with other segments
            const uint16_t cs = oneIn(r, 3) ? kCode3 : kOddUserCode, ss = oneIn(r, 3) ? kData3 : kOddUserData;
            c.seg[Cs] = Cpu::unpack(cs, b.gdt(cs)), c.seg[Ss] = Cpu::unpack(ss, b.gdt(ss));
            c.rip = uint32_t(kUser - c.seg[Cs].base);
            c.segmentsChanged();
        }
        if (kind_ == Kind::V86) {
            c.tr.limit = 0x68 + 32 + 8192;
            b.put<uint16_t>(SystemGuest::kTssAt + 102, 0x68 + 32);
            const uint64_t data = kData >> 4, iopl = oneIn(r, 2) ? 3 : r() & 3;
            c.gpr[Rsp] = 0x6000;
            b.push<uint32_t>({0, kUser >> 4, flag::VM | iopl << 12 | flags, kUserStack - kData, data, data,
                              data, data, data});
            b.code({0xcf}, kUser - 0x10);
            c.singleStep();
        }
    }
    bool one() {
        Code user(kUser, is16() ? kUser : 0, is16() ? 16 : 32);
        for (uint64_t n = 4 + below(random_, 24); n; n--) userPiece(user);
        user.jumpTo(kUser);
        for (SystemGuest* b : both()) {
            b->write(0, std::span(memory_).first(0x8000));  // tables and stacks
            b->write(kUser, user.bytes());
        }
        const Code system = kernel();
        const uint64_t seed = random_();
        for (SystemGuest* b : both()) {
            b->write(kKernel, system.bytes());
            start(*b, seed);
        }
        for (int slices = 0; slices < 40; slices++) {
            if (oneIn(random_, 5)) disturb();
            const auto slice = int64_t(1 + below(random_, oneIn(random_, 2) ? 12 : 600));
            const uint64_t from = translated_.cpu.rip;
            plain_.cpu.run(slice);
            translated_.cpu.run(slice);
            if (std::string d = differences(); !d.empty()) {
                MESSAGE(fmt::format("slice {} of {} from {:x}:\n{}", slices, slice, from, d));
                return false;
            }
            if (!plain_.shutdown.empty() || plain_.cpu.halted) break;
        }
        plain_.shutdown.clear();
        translated_.shutdown.clear();
        return true;
    }
    void disturb() {
        const bool nmi = oneIn(random_, 3);
        for (SystemGuest* b : both())
            b->apic.accept(
                {.mode = nmi ? DeliveryMode::Nmi : DeliveryMode::Fixed, .vector = uint8_t(nmi ? 0 : 0x40)});
    }
    std::string differences() {
        Differences d;
        Cpu &a = plain_.cpu, &b = translated_.cpu;
        d.equalBasics(a, b);
        d.equal("cpl", a.cpl, b.cpl);
        for (unsigned n = 0; n < 6; n++) {
            const Segment &x = a.seg[n], &y = b.seg[n];
            d.equal(fmt::format("seg{} selector", n), x.selector, y.selector);
            d.equal(fmt::format("seg{} rights", n), x.rights, y.rights);
            d.equal(fmt::format("seg{} base", n), x.base, y.base);
            d.equal(fmt::format("seg{} limit", n), x.limit, y.limit);
            d.equal(fmt::format("seg{} unusable", n), x.unusable, y.unusable);
        }
        d.equal("sti shadow", a.stiShadow, b.stiShadow);
        d.equal("nmi blocked", a.nmiBlocked, b.nmiBlocked);
        d.equal("halted", a.halted, b.halted);
        d.equal("cr0", a.cr0, b.cr0);
        d.equal("cr3", a.cr3, b.cr3);
        d.equal("cr4", a.cr4, b.cr4);
        d.equal("fip", a.fpu.instructionPointer, b.fpu.instructionPointer);
        d.equal("fcs", a.fpu.instructionSelector, b.fpu.instructionSelector);
        d.equal("shutdown", plain_.shutdown.empty(), translated_.shutdown.empty());
        const uint8_t *x = plain_.host(0), *y = translated_.host(0);
        if (std::memcmp(x, y, GuestBench::kLow))
            for (uint64_t at = 0; at < GuestBench::kLow; at += 4) {
                uint32_t v, w;
                std::memcpy(&v, x + at, 4);
                std::memcpy(&w, y + at, 4);
                d.equal(fmt::format("{:x}", at), v, w);
            }
        return d.text();
    }

    const Kind kind_;
    Random random_;
    SystemGuest plain_, translated_;
    std::unique_ptr<Translator> translator_;
    std::vector<uint8_t> memory_;
    uint64_t cr4_ = 0;
};

void fuzz(Kind kind) {
    LegacyFuzz f(kind, environment("KILN_FUZZ_SEED", 1));
    const uint64_t systems = environment("KILN_FUZZ_ITERATIONS", 2000);
    CHECK(f.run(systems));
    const Translator::Statistics& s = f.translator().statistics();
    MESSAGE(
        fmt::format("{} systems, {} instructions; {} blocks translated, entered {} times, {} calls of "
                    "crossings, {} interpreted, {} faults",
                    systems, f.executed(), s.blocks, s.entries, s.calls[size_t(Site::Kind::System)],
                    s.calls[size_t(Site::Kind::Interpret)], s.faults));
    CHECK(s.calls[size_t(Site::Kind::System)] > systems);
}

}  // namespace

TEST_CASE("fuzz the translator against the interpreter: a 32-bit kernel's system calls and faults") {
    fuzz(Kind::User32);
}
TEST_CASE("fuzz the translator against the interpreter: a monitor of virtual-8086 mode") { fuzz(Kind::V86); }
TEST_CASE("fuzz the translator against the interpreter: compatibility mode's system calls and faults") {
    fuzz(Kind::Compat);
}
TEST_CASE("fuzz the translator against the interpreter: real mode's interrupts") { fuzz(Kind::Real); }

}  // namespace kiln::test
