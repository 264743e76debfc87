// The translator against the interpreter where address spaces change: random programs of a kernel that moves
// between spaces with and without process-context identifiers, calls functions that are other code in each
// space, edits page tables and invalidates what it must. Both must be at the same instruction with the same
// registers and the same count whenever a slice ends, and at the end with the same memory.
//
//   KILN_FUZZ_ITERATIONS  programs per mode     KILN_FUZZ_SEED  another sequence
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/cpu_bench.hpp"
#include "tests/differences.hpp"
#include "tests/random.hpp"
#include "translate/translator.hpp"

namespace kiln::test {
namespace {

constexpr uint64_t P = 1, W = 2, G = 0x100;
// All that is used by its own address lies below 40000h: the bench gives users what lies above, and SMAP is
// on.
constexpr uint64_t kTables = 0x10000, kCode = 0x26000, kProcedures = 0x2a000, kStack = 0x3f000,
                   kFrames = 0x80000;
constexpr uint64_t kWindow = 0x4000'0000;  // the spaces' own: data, then procedures
constexpr unsigned kSpaces = 5, kData = 6, kFunctions = 3, kFramesThere = 40;

class SpacesFuzz {
  public:
    SpacesFuzz(bool pcids, uint64_t seed)
        : pcids_(pcids),
          random_(seed),
          plain_(GuestBench::Mode::Long64),
          translated_(GuestBench::Mode::Long64) {
        plain_.translator.reset();
        translated_.translator.reset();
        const bool background = environment("KILN_FUZZ_BACKGROUND", 0);
        translator_ = std::make_unique<Translator>(
            translated_.cpu, TranslatorOptions{.tier1 = 2, .tier2 = 1, .ways = 1, .background = background});
        for (GuestBench* b : {&plain_, &translated_}) prepare(*b);
    }
    bool run(uint64_t programs) {
        for (uint64_t n = 0; n < programs; n++)
            if (!one()) return false;
        return true;
    }
    const Translator& translator() const { return *translator_; }
    Cpu& cpu() { return translated_.cpu; }

  private:
    static uint64_t tables(unsigned space) { return kTables + space * 0x4000; }
    static uint64_t entryOf(unsigned space, unsigned page) { return tables(space) + 0x3000 + page * 8; }
    static uint64_t procedure(unsigned n) { return kProcedures + n * kPageSize; }

    // Each space: the bench's own first GiB, and a window of its own behind.
    void prepare(GuestBench& b) {
        auto put = [&](uint64_t at, uint64_t v) { b.memory.write<uint64_t>(PhysAddr(at), v); };
        const uint64_t bench = b.memory.read<uint64_t>(PhysAddr(b.cpu.cr3)) & ~kPageMask;
        const uint64_t low = b.memory.read<uint64_t>(PhysAddr(bench));
        for (unsigned s = 0; s < kSpaces; s++) {
            const uint64_t t = tables(s);
            put(t, (t + 0x1000) | P | W);
            put(t + 0x1000, low);
            put(t + 0x1008, (t + 0x2000) | P | W);
            put(t + 0x2000, (t + 0x3000) | P | W);
            for (unsigned n = 0; n < kData; n++)
                put(entryOf(s, n), (kFrames + (s * kData + n) * kPageSize) | P | W);
            for (unsigned n = 0; n < kFunctions; n++)
                put(entryOf(s, kData + n), procedure((s + n) % 4) | P | W | (n == 2 ? G : 0));
        }
        // What the third function is must be the same everywhere, since it is global.
        for (unsigned s = 0; s < kSpaces; s++) put(entryOf(s, kData + 2), procedure(3) | P | G);
        for (unsigned n = 0; n < 4; n++) {
            // ADD RCX, imm8; ROL RCX, imm8; XOR RDX, [RSI]; RET
            const uint8_t code[] = {0x48, 0x83, 0xc1, uint8_t(n * 7 + 1),
                                    0x48, 0xc1, 0xc1, uint8_t(n + 1),
                                    0x48, 0x33, 0x16, 0xc3};
            b.write(procedure(n), code);
        }
        b.cpu.setCr4(b.cpu.cr4 | cr4::PGE | cr4::SMAP);
        b.cpu.setCr3(tables(0));
        if (pcids_) b.cpu.setCr4(b.cpu.cr4 | cr4::PCIDE);
    }

    struct Assembler {
        std::vector<uint8_t> bytes;
        Assembler& operator()(std::initializer_list<int> b) {
            for (int v : b) bytes.push_back(uint8_t(v));
            return *this;
        }
        Assembler& number(uint64_t v, unsigned size) {
            for (unsigned i = 0; i < size; i++) bytes.push_back(uint8_t(v >> i * 8));
            return *this;
        }
        Assembler& rax(uint64_t v) { return (*this)({0x48, 0xb8}).number(v, 8); }  // MOV RAX, v
        Assembler& rsi(uint64_t v) { return (*this)({0x48, 0xbe}).number(v, 8); }
    };

    uint64_t pick(uint64_t n) { return below(random_, n); }
    uint64_t place(unsigned page) { return kWindow + page * kPageSize + pick(8) * 8; }

    void piece(Assembler& a) {
        const auto space = unsigned(pick(kSpaces)), page = unsigned(pick(kData));
        switch (pick(12)) {
            case 0:
            case 1:
            case 2: {
                uint64_t cr3 = tables(space);
                // An identifier for each space, kept or not.
                if (pcids_) cr3 |= (space + 1) | (pick(4) ? 1ull << 63 : 0);
                a.rax(cr3)({0x0f, 0x22, 0xd8});
                break;
            }
            case 3:
            case 4: a.rsi(place(page))({0x48, 0x03, 0x0e}); break;  // ADD RCX, [RSI]
            case 5: a.rsi(place(page))({0x48, 0x01, 0x0e}); break;  // ADD [RSI], RCX
            case 6:
            case 7:  // a function
                a.rsi(place(page)).rax(kWindow + (kData + pick(kFunctions)) * kPageSize)({0xff, 0xd0});
                break;
            case 8: {
                // Another frame, or other code, for a page of some space; then it is invalidated everywhere.
                const bool code = pick(2);
                const unsigned n = code ? kData + unsigned(pick(2)) : page;
                const uint64_t frame =
                    code ? procedure(unsigned(pick(4))) : kFrames + pick(kFramesThere) * kPageSize;
                a.rax(frame | P | W)({0x48, 0xa3}).number(entryOf(space, n), 8);  // MOV [entry], RAX
                if (pcids_) {
                    // INVPCID type 0 of the space's identifier, from a descriptor on the stack.
                    a.rax(kWindow +
                          n * kPageSize)({0x50, 0x6a, int(space + 1)});  // PUSH RAX; PUSH identifier
                    a({0x31, 0xc0, 0x66, 0x0f, 0x38, 0x82, 0x04, 0x24, 0x58,
                       0x58});  // XOR EAX, EAX; INVPCID; POPs
                } else {
                    a.rax(kWindow + n * kPageSize)({0x0f, 0x01, 0x38});  // INVLPG [RAX]
                }
                break;
            }
            case 9: a({0x0f, 0x01, pick(2) ? 0xca : 0xcb}); break;  // CLAC, STAC
            case 10: {
                // The global function becomes another one in all spaces.
                if (pick(4)) break;
                a.rax(procedure(unsigned(pick(4))) | P | G);
                for (unsigned s = 0; s < kSpaces; s++) a({0x48, 0xa3}).number(entryOf(s, kData + 2), 8);
                a.rax(kWindow + (kData + 2) * kPageSize)({0x0f, 0x01, 0x38});  // INVLPG [RAX]
                break;
            }
            default: a({0x48, 0xff, 0xc2, 0x48, 0x31, 0xd1}); break;  // INC RDX; XOR RCX, RDX
        }
    }

    std::vector<uint8_t> make() {
        Assembler a;
        for (uint64_t n = 6 + pick(30); n; n--) piece(a);
        a({0xff, 0xcd, 0x0f, 0x85});  // DEC EBP; JNZ to the start
        a.number(uint64_t(-int64_t(a.bytes.size() + 4)), 4);
        a({0xf4});
        return a.bytes;
    }

    std::string differences() {
        Differences d;
        Cpu &a = plain_.cpu, &b = translated_.cpu;
        d.equalBasics(a, b);
        d.equal("cr3", a.cr3, b.cr3);
        return d.text();
    }
    std::string differencesInMemory() {
        for (uint64_t at = 0x10000; at < GuestBench::kLow; at += 8) {
            const auto x = plain_.memory.read<uint64_t>(PhysAddr(at)),
                       y = translated_.memory.read<uint64_t>(PhysAddr(at));
            if (x != y) return fmt::format("    {:x}: interpreted {:016x}  translated {:016x}\n", at, x, y);
        }
        return {};
    }

    bool one() {
        const std::vector<uint8_t> code = make();
        const uint64_t at = kCode + pick(3) * 0x700;  // also across a page
        for (GuestBench* b : {&plain_, &translated_}) {
            b->write(at, code);
            b->restoreMode();
            b->cpu.rip = at;
            b->cpu.gpr[Rbp] = 12;
            b->cpu.gpr[Rsp] = kStack;
        }
        for (int slices = 0; slices < 10'000 && !plain_.cpu.halted; slices++) {
            const auto slice = int64_t(1 + pick(oneIn(random_, 2) ? 20 : 400));
            const uint64_t from = translated_.cpu.rip;
            plain_.cpu.run(slice);
            translated_.cpu.run(slice);
            if (std::string d = differences(); !d.empty()) {
                MESSAGE(fmt::format("slice of {} from {:x}:\n{}", slice, from, d));
                return false;
            }
        }
        REQUIRE(plain_.cpu.halted);
        REQUIRE(plain_.cpu.rip == at + code.size());
        if (std::string d = differencesInMemory(); !d.empty()) {
            MESSAGE(d);
            return false;
        }
        return true;
    }

    const bool pcids_;
    Random random_;
    GuestBench plain_, translated_;
    std::unique_ptr<Translator> translator_;
};

void fuzz(bool pcids) {
    SpacesFuzz f(pcids, environment("KILN_FUZZ_SEED", 1));
    const uint64_t programs = environment("KILN_FUZZ_ITERATIONS", 400);
    CHECK(f.run(programs));
    const auto& s = f.translator().statistics();
    MESSAGE(fmt::format("{} programs, {} instructions; {} blocks translated, entered {} times\n{}", programs,
                        f.cpu().executed(), s.blocks, s.entries, f.cpu().contexts().report()));
    CHECK(s.blocks > 0);
    CHECK(s.entries < f.cpu().executed() / 6);  // host code goes on through moves to CR3
}

}  // namespace

TEST_CASE("fuzz the translator in many address spaces") { fuzz(false); }
TEST_CASE("fuzz the translator in many address spaces with identifiers") { fuzz(true); }

}  // namespace kiln::test
