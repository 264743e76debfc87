// The translator against the interpreter: random programs of basic blocks that jump about, with faults at
// random memory operands, in slices of random length. Both must be at the same instruction, with the same
// state and the same count, whenever a slice ends.
//
//   KILN_FUZZ_ITERATIONS  programs per mode     KILN_FUZZ_SEED  another sequence
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/cpu_bench.hpp"
#include "tests/differences.hpp"
#include "tests/fuzz_forms.hpp"
#include "tests/random.hpp"
#include "translate/translator.hpp"

namespace kiln::test {
namespace {

constexpr uint64_t kCode = HostOracle::kCode, kCodePages = 3;
constexpr uint64_t kData = HostOracle::kScratch, kDataSize = HostOracle::kScratchSize;

struct Program {
    std::vector<uint8_t> code;
    std::vector<uint64_t> labels;                    // where basic blocks begin
    std::vector<std::pair<uint64_t, size_t>> jumps;  // where a 32-bit distance is missing, and to which label
    std::string listing;
};

class ProgramFuzz {
  public:
    ProgramFuzz(bool code64, bool threads, uint64_t seed)
        : code64_(code64),
          table_(code64, false),
          random_(seed),
          plain_(mode(), 3, kilnModel(), threads),
          translated_(mode(), 3, kilnModel(), threads) {
        plain_.translator.reset();
        translated_.translator.reset();
        for (GuestBench* b : {&plain_, &translated_}) {
            b->addRam(kCode, kCodePages * kPageSize);
            b->addRam(kData, kDataSize);
            if (code64) b->setBase(Gs, kData + 0x840);
            // Neighbours in the linear address space that are none in memory, and one that is only read.
            b->map(kData + 0x1000, kData + 0x3000);
            b->map(kData + 0x3000, kData + 0x1000);
            b->map(kData, kData, true, false);
            b->enableAvx();
        }
        const auto tier2 = uint32_t(environment("KILN_FUZZ_TIER2", 1));
        const bool background = environment("KILN_FUZZ_BACKGROUND", 0);
        translator_ = std::make_unique<Translator>(
            translated_.cpu,
            TranslatorOptions{
                .tier1 = 2, .tier2 = tier2, .ways = 1, .portable = true, .background = background});
        for (const auto& [mnemonic, forms] : table_.forms()) {
            if (!usable(mnemonic)) continue;
            (Translator::knows(mnemonic) ? known_ : others_).push_back(&forms);
            for (const Form& form : forms)
                lists_[size_t(kindOf(table_.make(random_, form)))].push_back(&form);
        }
    }

    bool run(uint64_t programs) {
        for (uint64_t n = 0; n < programs; n++)
            if (!one()) return false;
        return true;
    }
    const Translator& translator() const { return *translator_; }
    uint64_t executed() const { return plain_.cpu.executed(); }
    uint64_t faults() const { return faults_; }

  private:
    GuestBench::Mode mode() const { return code64_ ? GuestBench::Mode::Long64 : GuestBench::Mode::Compat32; }

    // Not: what makes its own way out of the program, and what takes long.
    static bool usable(ZydisMnemonic m) {
        switch (m) {
            case ZYDIS_MNEMONIC_CALL:
            case ZYDIS_MNEMONIC_JMP:
            case ZYDIS_MNEMONIC_RET:
            case ZYDIS_MNEMONIC_MONITOR:
            case ZYDIS_MNEMONIC_MWAIT: return false;
            default: return true;
        }
    }

    // Which registers an instruction is about: what of them is loaded is each block's to find out.
    enum class Kind : uint8_t { General, X87, Mmx, Sse, Vex, Evex, Count };
    static Kind kindOf(const Instance& i) {
        for (unsigned n = 0; n < i.z.operand_count_visible; n++)
            if (i.operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER)
                switch (ZydisRegisterGetClass(i.operands[n].reg.value)) {
                    case ZYDIS_REGCLASS_MMX: return Kind::Mmx;
                    case ZYDIS_REGCLASS_MASK: return Kind::Evex;
                    case ZYDIS_REGCLASS_XMM:
                        if (i.z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY) return Kind::Sse;
                        break;
                    default: break;
                }
        if (i.z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (i.z.opcode & 0xf8) == 0xd8) return Kind::X87;
        if (i.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) return Kind::Evex;
        return i.z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? Kind::Vex : Kind::General;
    }

    const Form& anyForm() {
        if (!kinds_.empty() && oneIn(random_, 2)) {
            const auto& list = lists_[size_t(kinds_[below(random_, kinds_.size())])];
            return *list[below(random_, list.size())];
        }
        const auto& from = oneIn(random_, 2) ? others_ : known_;
        const std::vector<Form>& forms = *from[below(random_, from.size())];
        return forms[below(random_, forms.size())];
    }

    void addInstruction(Program& p) {
        const Form& form = anyForm();
        Instance i = table_.make(random_, form);
        if (i.z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE) {
            // Conditional ones of 8 bits go on right behind: either way is the same, but for the count.
            if (i.z.raw.imm[0].size != 8) return;
            i.bytes[i.z.raw.imm[0].offset] = 0;
        }
        p.listing += fmt::format("  {:x}: {}\n", kCode + p.code.size(), i.text(kCode + p.code.size()));
        p.code.insert(p.code.end(), i.code().begin(), i.code().end());
    }

    // As compilers' code does: several operands a few bytes from one register, which moves by constants.
    void addNeighbours(Program& p) {
        static constexpr unsigned kBases[] = {Rsp, Rsp, Rbp, Rbx, Rsi, Rdi, Rax, R10, R13, R14};
        const unsigned base = kBases[below(random_, code64_ ? std::size(kBases) : 7)];
        const size_t from = p.code.size();
        for (uint64_t k = 2 + below(random_, 8); k; k--) {
            const unsigned other = unsigned(below(random_, code64_ ? 16 : 8));
            const int disp = int(below(random_, 12)) * 8 - 40;
            const int small = int(below(random_, 5)) * 8 - 16;
            switch (below(random_, 17)) {
                case 0: putMemory(p, {0x89}, other, base, disp); break;  // MOV m, r
                case 1: putMemory(p, {0x8b}, other == Rsp ? unsigned(Rcx) : other, base, disp); break;
                case 2: putMemory(p, {0x01}, other, base, disp); break;  // ADD m, r
                case 3:
                    putMemory(p, {0x83}, 7, base, disp), put(p, {int(below(random_, 128))});
                    break;  // CMP m, i
                case 4:
                    putMemory(p, {0x13}, other == Rsp ? unsigned(Rdx) : other, base, disp);
                    break;                                                             // ADC r, m
                case 5: putMemory(p, {0x0f, 0x42}, Rcx, base, disp); break;            // CMOVB rCX, m
                case 6: putMemory(p, {0x0f, 0x28}, other & 7, base, disp); break;      // MOVAPS
                case 7: putMemory(p, {0x0f, 0x11}, other & 7, base, disp); break;      // MOVUPS
                case 8: putMemory(p, {0x8d}, base, base, small); break;                // LEA base, [base + n]
                case 9: putRegister(p, 0x83, 0, base), put(p, {small & 0xff}); break;  // ADD base, n
                case 10: putRegister(p, 0x83, 5, base), put(p, {small & 0xff}); break;  // SUB base, n
                case 11: putRegister(p, 0x89, base, Rbp); break;                        // MOV rBP, base
                case 12:
                case 13: putShort(p, 0x50, other); break;                                 // PUSH
                case 14: putShort(p, 0x58, other == Rsp ? unsigned(Rdx) : other); break;  // POP
                case 15: putMemory(p, {0x8f}, 0, base, disp); break;                      // POP m
                default: putMemory(p, {0xff}, 6, base, disp); break;                      // PUSH m
            }
        }
        p.listing += fmt::format("  {:x}: {} bytes of neighbours of register {}:", kCode + from,
                                 p.code.size() - from, base);
        for (size_t n = from; n < p.code.size(); n++) p.listing += fmt::format(" {:02x}", p.code[n]);
        p.listing += "\n";
    }
    // A loop over arrays: operands from one and two registers that move by constants.
    void addWalk(Program& p, size_t label) {
        static constexpr unsigned kBases[] = {Rbx, Rsi, Rdi, Rbp, R8, R10, R13, R15};
        const unsigned count = code64_ ? 8 : 4;
        const unsigned bases[] = {kBases[below(random_, count)], kBases[below(random_, count)]};
        const unsigned index = code64_ && oneIn(random_, 2) ? unsigned(R14) : unsigned(Rdx);
        const size_t from = p.code.size();
        if (code64_ || oneIn(random_, 2)) putRegister(p, 0x83, 4, index), put(p, {0x78});  // AND index, 78h
        if (oneIn(random_, 3)) p.labels.back() = p.code.size();
        for (uint64_t k = 2 + below(random_, 6); k; k--) {
            const unsigned base = bases[below(random_, 2)],
                           other = unsigned(below(random_, code64_ ? 16 : 8));
            const unsigned to = other == Rsp ? unsigned(Rax) : other;
            const int disp = int(below(random_, 16)) * 4 - 32, step = int(below(random_, 33)) * 4 - 64;
            const unsigned scale = unsigned(below(random_, 4));
            switch (below(random_, 9)) {
                case 0: putMemory(p, {0x8b}, to, base, disp); break;
                case 1: putMemory(p, {0x89}, other, base, disp); break;
                case 2: putIndexed(p, {0x8b}, to, base, index, scale, disp); break;
                case 3: putIndexed(p, {0x89}, other, base, index, scale, disp); break;
                case 4: putIndexed(p, {0x03}, to, base, index, scale, disp); break;
                case 5:
                    putIndexed(p, {0x0f, oneIn(random_, 2) ? 0x10 : 0x29}, other & 7, base, index, scale,
                               disp);
                    break;
                case 6: putRegister(p, 0x83, 0, base), put(p, {step & 0xff}); break;
                case 7: putRegister(p, 0x83, 0, index), put(p, {(step / 4) & 0xff}); break;
                default: putMemory(p, {0x8d}, base, base, step / 2); break;
            }
        }
        putRegister(p, 0x83, 5, Rcx), put(p, {1});  // SUB rCX, 1
        put(p, {0x0f, 0x85}), putTarget(p, label);  // JNZ
        p.listing += fmt::format("  {:x}: a walk:", kCode + from);
        for (size_t n = from; n < p.code.size(); n++) p.listing += fmt::format(" {:02x}", p.code[n]);
        p.listing += "\n";
    }
    void putIndexed(Program& p, std::initializer_list<int> opcode, unsigned reg, unsigned base,
                    unsigned index, unsigned scale, int disp) {
        if (code64_) put(p, {int(0x48 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3)});
        put(p, opcode);
        put(p, {int(0x44 | (reg & 7) << 3), int(scale << 6 | (index & 7) << 3 | (base & 7)), disp & 0xff});
    }
    void putRex(Program& p, unsigned reg, unsigned rm) {
        if (code64_) put(p, {int(0x48 | (reg >> 3) << 2 | rm >> 3)});
    }
    void putMemory(Program& p, std::initializer_list<int> opcode, unsigned reg, unsigned base, int disp) {
        putRex(p, reg, base);
        put(p, opcode);
        put(p, {int(0x40 | (reg & 7) << 3 | (base & 7))});
        if ((base & 7) == Rsp) put(p, {0x24});
        put(p, {disp & 0xff});
    }
    void putRegister(Program& p, int opcode, unsigned reg, unsigned rm) {
        putRex(p, reg, rm);
        put(p, {opcode, int(0xc0 | (reg & 7) << 3 | (rm & 7))});
    }
    void putShort(Program& p, int opcode, unsigned reg) {
        if (reg >= 8) put(p, {0x41});
        put(p, {opcode | int(reg & 7)});
    }

    void put(Program& p, std::initializer_list<int> bytes) {
        for (int b : bytes) p.code.push_back(uint8_t(b));
    }
    void putTarget(Program& p, size_t label) {
        p.jumps.push_back({p.code.size(), label});
        p.code.insert(p.code.end(), 4, 0);
    }

    void addEnd(Program& p, size_t blocks) {
        const auto label = size_t(below(random_, blocks));
        const int kind = int(below(random_, 8));
        p.listing += fmt::format("  {:x}: end {} to block {}\n", kCode + p.code.size(), kind, label);
        switch (kind) {
            case 0: put(p, {0xe9}), putTarget(p, label); break;
            case 1: put(p, {0xe8}), putTarget(p, label); break;
            case 2: put(p, {0xc3}); break;
            case 3:  // MOV EAX, target; JMP rAX
                put(p, {0xb8}), putAbsolute(p, label), put(p, {0xff, 0xe0});
                break;
            case 4:  // PUSH target; RET
                put(p, {0x68}), putAbsolute(p, label), put(p, {0xc3});
                break;
            case 5:  // MOV ECX, target; CALL rCX
                put(p, {0xb9}), putAbsolute(p, label), put(p, {0xff, 0xd1});
                break;
            default: put(p, {0x0f, 0x80 | int(below(random_, 16))}), putTarget(p, label);
        }
    }
    void putAbsolute(Program& p, size_t label) {
        absolute_.push_back({p.code.size(), label});
        p.code.insert(p.code.end(), 4, 0);
    }

    Program make() {
        Program p;
        absolute_.clear();
        // Most programs are about some kinds of registers above all.
        kinds_.clear();
        for (uint64_t n = below(random_, 4); n; n--)
            kinds_.push_back(Kind(below(random_, uint64_t(Kind::Count))));
        const size_t blocks = 3 + below(random_, 8);
        for (size_t n = 0; n < blocks; n++) {
            if (oneIn(random_, 4)) p.code.insert(p.code.end(), below(random_, 1500), 0x90);
            p.labels.push_back(p.code.size());
            for (uint64_t k = 1 + below(random_, 8); k; k--)
                oneIn(random_, 6) ? addNeighbours(p) : addInstruction(p);
            if (oneIn(random_, 5)) {
                p.labels.back() = p.code.size();
                addWalk(p, n);
            }
            addEnd(p, blocks);
        }
        put(p, {0xf4});
        p.code.resize(std::min<size_t>(p.code.size(), kCodePages * kPageSize));
        auto patch = [&](uint64_t at, uint64_t v) {
            const auto word = uint32_t(v);
            if (at + 4 <= p.code.size()) std::memcpy(&p.code[at], &word, 4);
        };
        for (auto [at, label] : p.jumps) patch(at, p.labels[label] - (at + 4));
        for (auto [at, label] : absolute_) patch(at, kCode + p.labels[label]);
        return p;
    }

    void randomState(const Program& p) {
        UserState s;
        for (uint64_t& g : s.gpr)
            g = oneIn(random_, 4) ? interesting(random_) : kData + below(random_, kDataSize / 8) * 8;
        for (uint64_t& g : s.gpr)  // near the border of two pages
            if (oneIn(random_, 4))
                g = kData + (1 + below(random_, 3)) * kPageSize - 64 + below(random_, 16) * 8;
        for (unsigned n = 0; n < 16 && !code64_; n++) s.gpr[n] = n < 8 ? s.gpr[n] & 0xffffffff : 0;
        s.gpr[Rsp] = kData + 0x2000 + below(random_, oneIn(random_, 3) ? 8 : 0x80) * 16;
        s.gpr[Rcx] &= 0xff;
        s.rflags = 2 | flag::IF | (random_() & flag::Arithmetic) | (oneIn(random_, 8) ? flag::DF : 0);
        s.rip = kCode + p.labels[below(random_, p.labels.size())];
        for (unsigned n = 0; n < 32; n++) s.fx.set<uint64_t>(FxImage::kXmm + 8 * n, interesting(random_));
        for (unsigned n = 0; n < 32; n++)
            for (unsigned word = 2; word < 8 && oneIn(random_, 4); word++)
                s.setVectorWord(n, word, interesting(random_));
        for (uint64_t& k : s.opmask) k = oneIn(random_, 2) ? ~0ull : random_();
        for (unsigned n = 0; n < 8; n++) {
            s.fx.set<uint64_t>(FxImage::kRegisters + 16 * n, interesting(random_) | 1ull << 63);
            s.fx.set<uint16_t>(FxImage::kRegisters + 16 * n + 8, uint16_t(0x3f80 + below(random_, 0x100)));
        }
        const bool unmasked = oneIn(random_, 8);
        s.fx.set<uint16_t>(FxImage::kControl, uint16_t(unmasked ? 0x340 | below(random_, 0x40) : 0x37f));
        s.fx.set<uint16_t>(FxImage::kStatus, uint16_t(below(random_, 8) << 11));
        s.fx.set<uint16_t>(FxImage::kTags, uint16_t(oneIn(random_, 2) ? random_() & 0xff : 0));
        s.fx.set<uint32_t>(FxImage::kMxcsr, uint32_t(oneIn(random_, 8) ? below(random_, 0x40) << 7 : 0x1f80));
        // Return addresses for RET.
        for (unsigned n = 0; n < 16; n++) {
            const uint64_t target = kCode + p.labels[below(random_, p.labels.size())];
            std::vector<uint8_t> bytes(code64_ ? 8 : 4);
            std::memcpy(bytes.data(), &target, bytes.size());
            for (GuestBench* b : {&plain_, &translated_}) b->write(s.gpr[Rsp] + n * bytes.size(), bytes);
        }
        for (GuestBench* b : {&plain_, &translated_}) {
            b->restoreMode();
            b->cpu.halted = false;
            b->cpu.pendingDebug = 0;
            importState(s, b->cpu);
        }
    }

    std::string differences() {
        Differences d;
        Cpu &a = plain_.cpu, &b = translated_.cpu;
        d.equalBasics(a, b);
        d.equal("cpl", a.cpl, b.cpl);
        d.equal("halted", a.halted, b.halted);
        for (unsigned n = 0; n < 32; n++)
            for (unsigned w = 0; w < 8; w++)
                d.equal(fmt::format("zmm{}[{}]", n, w), a.vec[n].get<uint64_t>(w), b.vec[n].get<uint64_t>(w));
        for (unsigned n = 0; n < 8; n++) d.equal(fmt::format("k{}", n), a.opmask[n], b.opmask[n]);
        for (unsigned n = 0; n < 8; n++)
            d.equal(fmt::format("R{}", n), a.fpu.physical[n].mantissa, b.fpu.physical[n].mantissa);
        for (unsigned n = 0; n < 8; n++)
            d.equal(fmt::format("R{} exp", n), a.fpu.physical[n].signExponent,
                    b.fpu.physical[n].signExponent);
        d.equal("fpu control", a.fpu.control, b.fpu.control);
        d.equal("fpu status", a.fpu.status, b.fpu.status);
        d.equal("fpu tags", a.fpu.empty, b.fpu.empty);
        d.equal("fpu opcode", a.fpu.opcode, b.fpu.opcode);
        d.equal("fip", a.fpu.instructionPointer, b.fpu.instructionPointer);
        d.equal("fdp", a.fpu.dataPointer, b.fpu.dataPointer);
        d.equal("fcs", a.fpu.instructionSelector, b.fpu.instructionSelector);
        d.equal("fds", a.fpu.dataSelector, b.fpu.dataSelector);
        d.equal("mxcsr", a.mxcsr, b.mxcsr);
        for (auto [base, size] : {std::pair{kData, kDataSize}, {kCode, kCodePages * kPageSize}})
            for (uint64_t at = 0; at < size; at += 8) {
                uint64_t x, y;
                std::memcpy(&x, plain_.host(base) + at, 8);
                std::memcpy(&y, translated_.host(base) + at, 8);
                if (x != y) d.equal(fmt::format("{:x}", base + at), x, y);
            }
        return d.text();
    }

    bool one() {
        const Program p = make();
        for (GuestBench* b : {&plain_, &translated_}) b->write(kCode, p.code);
        std::vector<uint8_t> data(kDataSize);
        for (uint64_t at = 0; at < kDataSize; at += 8) {
            const uint64_t v = oneIn(random_, 2) ? kData + below(random_, kDataSize) : interesting(random_);
            std::memcpy(&data[at], &v, 8);
        }
        for (GuestBench* b : {&plain_, &translated_}) b->write(kData, data);
        for (int start = 0; start < 6; start++) {
            randomState(p);
            for (int slices = 0; slices < 12; slices++) {
                const auto slice = int64_t(1 + below(random_, oneIn(random_, 2) ? 20 : 400));
                const uint64_t from = translated_.cpu.rip;
                if (oneIn(random_, 4)) translated_.code.thinOut();
                plain_.cpu.run(slice);
                translated_.cpu.run(slice);
                if (std::string d = differences(); !d.empty()) {
                    MESSAGE(fmt::format("slice of {} from {:x}:\n{}{}", slice, from, p.listing, d));
                    return false;
                }
                if (plain_.cpu.halted || !plain_.shutdown.empty()) {
                    faults_++;
                    break;
                }
            }
            if (!plain_.shutdown.empty()) {
                plain_.shutdown.clear();
                translated_.shutdown.clear();
            }
        }
        return true;
    }

    bool code64_;
    FormTable table_;
    Random random_;
    GuestBench plain_, translated_;
    std::unique_ptr<Translator> translator_;
    std::vector<const std::vector<Form>*> known_, others_;
    std::array<std::vector<const Form*>, size_t(Kind::Count)> lists_;
    std::vector<Kind> kinds_;  // of this program
    std::vector<std::pair<uint64_t, size_t>> absolute_;
    uint64_t faults_ = 0;
};

void fuzz(bool code64, bool threads = false) {
    ProgramFuzz f(code64, threads, environment("KILN_FUZZ_SEED", 1));
    const uint64_t programs = environment("KILN_FUZZ_ITERATIONS", 3000);
    CHECK(f.run(programs));
    const Translator::Statistics& s = f.translator().statistics();
    MESSAGE(
        fmt::format("{}-bit: {} programs, {} instructions, {} faults; {} blocks translated, entered {} "
                    "times, {} misses, {} links, {} look-ups; {} traces, {} of them loops",
                    code64 ? 64 : 32, programs, f.executed(), f.faults(), s.blocks, s.entries, s.misses,
                    s.links, s.lookUps, s.traces, s.loops));
    CHECK(s.blocks > 0);
}

}  // namespace

TEST_CASE("fuzz the translator against the interpreter: 64-bit mode") { fuzz(true); }
TEST_CASE("fuzz the translator against the interpreter: 32-bit code") { fuzz(false); }
TEST_CASE("fuzz the translator against the interpreter: among threads") { fuzz(true, true); }

}  // namespace kiln::test
