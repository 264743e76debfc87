// The translator against the interpreter where segments matter: random programs in real mode, virtual-8086
// mode, 16-bit protected mode and 32-bit code with bases and limits; data segments of all kinds, which the
// program loads anew, expand-down ones too; code that runs under several bases, wraps around at 64 KiB or
// ends at its limit. In slices of random length, with all state compared behind each.
//
//   KILN_FUZZ_ITERATIONS  programs per mode     KILN_FUZZ_SEED  another sequence
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/differences.hpp"
#include "tests/random.hpp"
#include "tests/system_guest.hpp"
#include "translate/translator.hpp"

namespace kiln::test {
namespace {

enum class Kind : uint8_t { Real, V86, Protected16, Protected32 };
constexpr const char* kNames[] = {"real", "virtual-8086", "16-bit protected", "32-bit segmented"};

constexpr uint64_t kCodeArea = 0x40000, kDataArea = 0x58000, kDataBytes = 0x28000;
constexpr uint16_t kFirstCode = 0x40, kCodes = 4, kFirstData = 0x60, kDatas = 12;

class SegmentFuzz {
  public:
    SegmentFuzz(Kind kind, uint64_t seed)
        : kind_(kind), random_(seed), plain_(bench()), translated_(bench()) {
        plain_.translator.reset();
        translated_.translator.reset();
        translator_ =
            std::make_unique<Translator>(translated_.cpu, TranslatorOptions{.tier1 = 2, .portable = true});
        memory_.resize(GuestBench::kLow);
        std::memcpy(memory_.data(), plain_.host(0), memory_.size());
    }
    bool run(uint64_t programs) {
        for (uint64_t n = 0; n < programs; n++)
            if (!one()) return false;
        return true;
    }
    const Translator& translator() const { return *translator_; }
    uint64_t executed() const { return plain_.cpu.executed(); }

  private:
    GuestBench::Mode bench() const {
        return kind_ == Kind::Real ? GuestBench::Mode::Real16 : GuestBench::Mode::Protected32;
    }
    std::array<SystemGuest*, 2> both() { return {&plain_, &translated_}; }
    bool isProtected() const { return kind_ == Kind::Protected16 || kind_ == Kind::Protected32; }

    // -- programs

    void put(std::initializer_list<int> bytes) {
        for (int b : bytes) code_.push_back(uint8_t(b));
    }
    void random(unsigned bytes) {
        for (unsigned n = 0; n < bytes; n++)
            code_.push_back(uint8_t(oneIn(random_, 3) ? random_() : below(random_, 0x40)));
    }
    uint16_t selector() {
        if (!isProtected()) return realSelector(random_);
        return oneIn(random_, 16) ? 0 : uint16_t(kFirstData + 8 * below(random_, kDatas));
    }
    // Sometimes of the code's own pages.
    uint16_t realSelector(Random& r) const {
        if (oneIn(r, 6)) return uint16_t((at_ >> 4) - below(r, 0x80));
        return uint16_t((kDataArea >> 4) + below(r, kDataBytes / 16 - 0x100));
    }
    void modrm(bool memoryOnly = false) {
        const bool wide = (kind_ == Kind::Protected32) != addressPrefix_;
        int m = int(random_() & 0xff);
        if (memoryOnly && m >> 6 == 3) m &= 0x7f;
        put({m});
        const int mod = m >> 6, rm = m & 7;
        if (mod == 3) return;
        if (wide) {
            int base = rm;
            if (rm == 4) {
                base = int(random_() & 7);
                put({int(random_() & 0xf8) | base});
            }
            if (mod == 1) random(1);
            if (mod == 2 || (mod == 0 && base == 5)) {
                const uint64_t disp = oneIn(random_, 4) ? random_() : below(random_, 0x2000);
                for (unsigned n = 0; n < 4; n++) put({int(disp >> 8 * n & 0xff)});
            }
        } else {
            if (mod == 1) random(1);
            if (mod == 2 || (mod == 0 && rm == 6)) random(2);
        }
    }
    void instruction() {
        static constexpr int kPrefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
        starts_.push_back(code_.size());
        addressPrefix_ = oneIn(random_, 10);
        const bool operandPrefix = oneIn(random_, 6);
        const bool wideOperand = (kind_ == Kind::Protected32) != operandPrefix;
        const unsigned full = wideOperand ? 4 : 2;
        if (oneIn(random_, 6)) put({kPrefixes[below(random_, 6)]});
        if (addressPrefix_) put({0x67});
        if (operandPrefix) put({0x66});
        const int w = int(random_() & 1), reg = int(random_() & 7);
        switch (below(random_, 46)) {
            case 0:
            case 1:
            case 2:
            case 3: put({reg << 3 | int(random_() & 3)}), modrm(); break;  // ADD ... CMP
            case 4: put({reg << 3 | 4 | w}), random(w ? full : 1); break;
            case 5: put({0x80 | w}), modrm(), random(w ? full : 1); break;
            case 6: put({0x83}), modrm(), random(1); break;
            case 7:
            case 8:
            case 9:
            case 10: put({0x88 | int(random_() & 3)}), modrm(); break;  // MOV
            case 11: put({0x8c}), modrm(); break;                       // MOV r/m, Sreg
            case 12: loadSegment(); break;
            case 13: put({0x8d}), modrm(true); break;                   // LEA
            case 14: put({0x84 | int(random_() & 3)}), modrm(); break;  // TEST, XCHG
            case 15: put({0x40 | int(random_() & 15)}); break;          // INC, DEC
            case 16:
            case 17: put({0x50 | reg}); break;  // PUSH
            case 18:
            case 19: put({0x58 | reg}); break;  // POP
            case 20: put({w ? 0x68 : 0x6a}), random(w ? full : 1); break;
            case 21: put({0x06 | int(random_() & 3) << 3}); break;  // PUSH Sreg
            case 22: put({0x9c}); break;                            // PUSHF
            case 23: put({0x98 | w}); break;
            case 24: put({0xa0 | int(random_() & 3)}), moffs(); break;
            case 25:
            case 26:
            case 27: string(); break;
            case 28: put({0xb0 | reg}), random(1); break;
            case 29: put({0xb8 | reg}), random(full); break;
            case 30: put({0xc0 | w}), modrm(), random(1); break;
            case 31: put({0xd0 | int(random_() & 3)}), modrm(); break;
            case 32: put({0xc6 | w}), modrmGroup(0), random(w ? full : 1); break;
            case 33: put({0xf6 | w}), modrmGroup(int(2 + below(random_, 6))); break;
            case 34: put({0xfe | w}), modrmGroup(int(below(random_, 2))); break;
            case 35: put({0xff}), modrmGroup(6); break;
            case 36: put({0xc9}); break;  // LEAVE
            case 37: put({0x0f, 0xb6 | int(random_() & 9)}), modrm(); break;
            case 38: put({0x0f, 0xa3 | int(random_() & 3) << 3}), modrm(); break;  // BT
            case 39: put({0x0f, (w ? 0x40 : 0x90) | int(random_() & 15)}), modrm(); break;
            case 40: put({0xd8 | reg}), modrm(); break;
            case 41: put({0x0f, 0x10 | w}), modrm(); break;
            case 42: put({w ? 0x60 : 0x61}); break;
            case 43: rare(full); break;
            case 44: put({0x0f, 0xa0 | int(random_() & 1) << 3}); break;  // PUSH FS, GS
            default: put({0x69}), modrm(), random(full);
        }
    }
    void moffs() { random((kind_ == Kind::Protected32) != addressPrefix_ ? 4 : 2); }
    void modrmGroup(int reg) {
        const size_t at = code_.size();
        modrm();
        code_[at] = uint8_t((code_[at] & 0xc7) | reg << 3);
    }
    // MOV AX, selector; MOV Sreg, AX. Or from what happens to be there.
    void loadSegment() {
        static constexpr int kSegments[] = {0, 0, 3, 3, 4, 5, 2};
        const int segment = kSegments[below(random_, oneIn(random_, 6) ? 7 : 6)];
        const uint16_t s = selector();
        const bool wide = kind_ == Kind::Protected32;
        switch (below(random_, 5)) {
            case 0:  // LES and relatives
                if (segment == 0 || segment == 3)
                    put({segment ? 0xc5 : 0xc4});
                else
                    put({0x0f, 0xb4 | (segment & 1)});
                modrm(true);
                break;
            case 1: put({0x8e}), modrm(true); break;
            case 2:  // PUSH imm; POP Sreg
                code_.resize(starts_.back());
                put({0x68, s & 0xff, s >> 8});
                if (wide) put({0, 0});
                if (segment == 4 || segment == 5)
                    put({0x0f, 0xa1 | (segment & 1) << 3});
                else
                    put({0x07 | segment << 3});
                break;
            default:
                code_.resize(starts_.back());
                put({0xb8, s & 0xff, s >> 8});
                if (wide) put({0, 0});
                put({0x8e, 0xc0 | segment << 3});
        }
    }
    void string() {
        static constexpr int kOpcodes[] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
        if (oneIn(random_, 4)) put({oneIn(random_, 2) ? 0xf2 : 0xf3});
        put({kOpcodes[below(random_, 5)] | int(random_() & 1)});
    }
    void rare(unsigned full) {
        static constexpr int kSimple[] = {0x27, 0x2f, 0x37, 0x3f, 0x9d, 0x9e, 0x9f, 0xd7, 0xf5, 0xf8,
                                          0xf9, 0xfa, 0xfb, 0xfc, 0xfc, 0xfd, 0xce, 0xcc, 0x9b};
        switch (below(random_, 4)) {
            case 0: put({0xc8}), random(1), put({0, int(below(random_, 3))}); break;
            case 1: put({0x0f, 0xb0 | int(random_() & 1)}), modrm(); break;
            case 2: put({0x62}), modrm(true); break;
            default: put({kSimple[below(random_, std::size(kSimple))]});
        }
        (void)full;
    }

    struct Jump {
        size_t at;
        unsigned bytes;
        size_t label;
        bool absolute;
    };
    void end(size_t blocks) {
        const auto label = size_t(below(random_, blocks));
        const unsigned full = kind_ == Kind::Protected32 ? 4 : 2;
        auto target = [&](bool absolute) {
            jumps_.push_back({code_.size(), full, label, absolute});
            for (unsigned n = 0; n < full; n++) put({0});
        };
        switch (below(random_, 12)) {
            case 0: put({0xe9}), target(false); break;
            case 1:
            case 2: put({0xe8}), target(false); break;
            case 3: put({0xc3}); break;
            case 4: put({0xc2, int(below(random_, 8)), 0}); break;
            case 5: put({0xb8}), target(true), put({0xff, 0xe0}); break;
            case 6: put({0xb9}), target(true), put({0xff, 0xd1}); break;
            case 7: put({0x68}), target(true), put({0xc3}); break;
            case 8: put({0xe0 | int(below(random_, 4)), int(below(random_, 6))}); break;  // LOOP, JCXZ
            case 9: farJump(label); break;
            default: put({0x0f, 0x80 | int(below(random_, 16))}), target(false);
        }
    }
    // To the same code under another base.
    void farJump(size_t label) {
        put({oneIn(random_, 3) ? 0x9a : 0xea});
        far_.push_back({code_.size(), label, unsigned(below(random_, kCodes))});
        for (unsigned n = 0; n < (kind_ == Kind::Protected32 ? 6u : 4u); n++) put({0});
    }

    uint64_t codeBase(unsigned n) const { return codes_[n].base; }
    void make() {
        code_.clear(), starts_.clear(), jumps_.clear(), far_.clear(), labels_.clear();
        at_ = kCodeArea + 0x10000 + below(random_, 0x1000) + (oneIn(random_, 2) ? 0xf00 : 0);
        const size_t blocks = 3 + below(random_, 8);
        for (size_t n = 0; n < blocks; n++) {
            if (oneIn(random_, 5))
                for (uint64_t k = below(random_, 900); k; k--) put({0x90});
            labels_.push_back(code_.size());
            for (uint64_t k = 1 + below(random_, 9); k; k--) instruction();
            end(blocks);
        }
        put({0xf4});
        chooseCode();
        auto patch = [&](size_t at, unsigned bytes, uint64_t v) { std::memcpy(&code_[at], &v, bytes); };
        const uint64_t base = codes_[0].base;
        for (const Jump& j : jumps_)
            patch(j.at, j.bytes,
                  j.absolute ? at_ + labels_[j.label] - base : labels_[j.label] - (j.at + j.bytes));
        for (const Far& f : far_) {
            const unsigned full = kind_ == Kind::Protected32 ? 4 : 2;
            patch(f.at, full, at_ + labels_[f.label] - codes_[f.code].base);
            patch(f.at + full, 2, codes_[f.code].selector);
        }
    }
    struct CodeSegment {
        uint16_t selector;
        uint64_t base;
        uint64_t limit;
    };
    // Four ways to see the code; the last byte of the segment is sometimes just behind its end, or in it.
    void chooseCode() {
        codes_.clear();
        for (unsigned n = 0; n < kCodes; n++) {
            CodeSegment c{uint16_t(kFirstCode + 8 * n), 0, 0xffff};
            const uint64_t reach = oneIn(random_, 4)
                                       ? 0x10000 - code_.size() / 2 - below(random_, code_.size())
                                       : 0x100 + below(random_, 0xc000);
            c.base = at_ - std::min<uint64_t>(reach, 0xffff);
            if (!isProtected()) {
                c.base &= ~15ull;
                c.selector = uint16_t(c.base >> 4);
            } else {
                if (oneIn(random_, 3)) c.limit = at_ - c.base + below(random_, code_.size() * 2);
                if (kind_ == Kind::Protected32 && oneIn(random_, 3)) c.limit = 0xfffff;
            }
            codes_.push_back(c);
        }
    }

    // -- state

    void descriptors(SystemGuest& b, Random r) {
        for (const CodeSegment& c : codes_)
            b.setGdt(c.selector, segment(oneIn(r, 4) ? kCodeXo : kCodeRx, uint32_t(c.base), uint32_t(c.limit),
                                         kind_ == Kind::Protected32 ? 4 : 0));
        for (unsigned n = 0; n < kDatas; n++) {
            const auto base =
                uint32_t(oneIn(r, 8) ? at_ - below(r, 0x800) : kDataArea + below(r, kDataBytes / 2));
            const uint64_t kind = below(r, 8);
            const unsigned big = oneIn(r, 2) ? 4 : 0;
            uint64_t d = segment(kDataRw, base, 0xffff, big);
            if (kind == 0) d = segment(kDataRo, base, uint32_t(below(r, 0x10000)), big);
            if (kind == 1 || kind == 2) d = segment(kDataDown, base, uint32_t(below(r, 0x4000)), 0);
            if (kind == 3) d = segment(kDataDown, uint32_t(base - 0x100000), 0xff, 12);
            if (kind == 4) d = segment(kCodeRx, base, 0xffff, big);
            if (kind == 5) d = segment(kDataRw, base, uint32_t(below(r, 0x3000)), big);
            if (kind == 6) d = segment(kDataRw, 0, 0xfffff, 8 | big);
            b.setGdt(uint16_t(kFirstData + 8 * n), d);
        }
    }
    void enterV86(SystemGuest& b, const CodeSegment& cs, uint64_t ip, Random r) {
        Cpu& c = b.cpu;
        c.setCr4(oneIn(r, 2) ? c.cr4 | cr4::VME : c.cr4 & ~cr4::VME);
        c.tr.limit = 0x68 + 32 + 8192;
        b.put<uint16_t>(SystemGuest::kTssAt + 102, 0x68 + 32);
        auto data = [&] { return uint64_t(realSelector(r)); };
        const uint64_t iopl = oneIn(r, 3) ? below(r, 4) : 3;
        c.gpr[Rsp] = 0x80000;
        b.push<uint32_t>({ip, cs.selector, flag::VM | iopl << 12 | 2 | flag::IF | (r() & flag::Arithmetic),
                          0x1000 + below(r, 0x8000), data(), data(), data(), data(), data()});
        b.code({0xcf});
        c.singleStep();
    }
    // Unless it is so: what was translated is to live on.
    static void restore(SystemGuest& b, uint64_t at, const uint8_t* from, size_t size) {
        if (std::memcmp(b.host(at), from, size)) b.write(at, {from, size});
    }
    void randomState(uint64_t seed, bool fresh) {
        Random which(seed);
        const CodeSegment& cs = codes_[oneIn(which, 3) ? below(which, kCodes) : 0];
        const uint64_t ip = at_ + labels_[below(which, labels_.size())] - cs.base;
        for (SystemGuest* b : both()) {
            Random r(seed);
            Cpu& c = b->cpu;
            c.flags.set(2);
            b->restoreMode();
            c.halted = false;
            c.pendingDebug = 0;
            c.stiShadow = c.movSsShadow = c.nmiBlocked = false;
            c.gdtr.limit = 0x1ff;
            restore(*b, 0, memory_.data(), kCodeArea);
            restore(*b, at_, code_.data(), code_.size());
            restore(*b, kCodeArea, memory_.data(), at_ - kCodeArea);
            restore(*b, at_ + code_.size(), memory_.data(), kDataArea - at_ - code_.size());
            restore(*b, kDataArea + kDataBytes, memory_.data(), GuestBench::kLow - kDataArea - kDataBytes);
            if (fresh)
                for (uint64_t at = kDataArea; at < kDataArea + kDataBytes; at += 8) b->put<uint64_t>(at, r());
            descriptors(*b, r);
            if (kind_ == Kind::V86) enterV86(*b, cs, ip, Random(r()));
            for (unsigned n = 0; n < 8; n++)
                if (n != Rsp) c.gpr.slot[n] = oneIn(r, 3) ? r() & 0xffffffff : below(r, 0x10000);
            if (oneIn(r, 2))  // mostly small, so that sums of two stay within 64 KiB
                for (unsigned n : {Rbx, Rbp, Rsi, Rdi}) c.gpr.slot[n] &= 0x3fff;
            if (oneIn(r, 4)) c.gpr.slot[Rcx] &= 0xff;
            c.fpu = {};
            c.rip = ip;
            if (kind_ == Kind::Real) {
                c.setCr4(cr4::OSFXSR | cr4::OSXMMEXCPT);
                for (SegReg s : {Es, Ss, Ds, Fs, Gs}) c.loadSegment(s, realSelector(r));
                if (oneIn(r, 6)) c.seg[Ds].limit = 0xffffffff;  // "unreal"
                if (oneIn(r, 12)) c.seg[Es].limit = uint32_t(below(r, 0x10000));
                c.seg[Cs].selector = cs.selector;
                c.seg[Cs].base = cs.base;
            } else if (isProtected()) {
                for (SegReg s : {Es, Ss, Ds, Fs, Gs}) {
                    const auto selector = uint16_t(kFirstData + 8 * below(r, kDatas));
                    c.seg[s] = Cpu::unpack(selector, b->gdt(selector));
                    c.seg[s].rights |= 1;
                    if (s == Ss && !c.seg[s].writable())
                        c.seg[s] =
                            Cpu::unpack(selector, segment(kDataRw, 0x68000, 0xffff, oneIn(r, 2) ? 4 : 0));
                    if (s != Ss && oneIn(r, 12)) c.seg[s] = Segment{.selector = 0, .unusable = true};
                }
                c.seg[Cs] = Cpu::unpack(cs.selector, b->gdt(cs.selector));
            }
            c.segmentsChanged();
            if (kind_ != Kind::V86) {
                const bool down = c.seg[Ss].expandDown();
                c.gpr[Rsp] = (down ? 0x5000 : 0x1000) + below(r, oneIn(r, 3) ? 0x8000 : 0x800);
                if (oneIn(r, 16)) c.gpr[Rsp] = below(r, 8);
                c.gpr[Rsp] |= (r() & 0xffff0000) * (!c.seg[Ss].big() && oneIn(r, 3));
                c.flags.set(2 | flag::IF | (r() & flag::Arithmetic) | (oneIn(r, 8) ? flag::DF : 0));
            }
        }
    }

    std::string differences() {
        Differences d;
        Cpu &a = plain_.cpu, &b = translated_.cpu;
        d.equalBasics(a, b);
        d.equal("cpl", a.cpl, b.cpl);
        d.equal("halted", a.halted, b.halted);
        d.equal("sti shadow", a.stiShadow, b.stiShadow);
        d.equal("mov ss shadow", a.movSsShadow, b.movSsShadow);
        static const char* const kSegments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
        for (unsigned n = 0; n < 6; n++) {
            d.equal(kSegments[n], a.seg[n].selector, b.seg[n].selector);
            d.equal(fmt::format("{} base", kSegments[n]), a.seg[n].base, b.seg[n].base);
            d.equal(fmt::format("{} limit", kSegments[n]), a.seg[n].limit, b.seg[n].limit);
            d.equal(fmt::format("{} rights", kSegments[n]), a.seg[n].rights, b.seg[n].rights);
            d.equal(fmt::format("{} unusable", kSegments[n]), a.seg[n].unusable, b.seg[n].unusable);
        }
        for (unsigned n = 0; n < 8; n++) {
            d.equal(fmt::format("xmm{}", n), a.vec[n].q[0], b.vec[n].q[0]);
            d.equal(fmt::format("R{}", n), a.fpu.physical[n].mantissa, b.fpu.physical[n].mantissa);
        }
        d.equal("fpu status", a.fpu.status, b.fpu.status);
        d.equal("fip", a.fpu.instructionPointer, b.fpu.instructionPointer);
        d.equal("fcs", a.fpu.instructionSelector, b.fpu.instructionSelector);
        d.equal("fdp", a.fpu.dataPointer, b.fpu.dataPointer);
        d.equal("fds", a.fpu.dataSelector, b.fpu.dataSelector);
        const uint8_t *x = plain_.host(0), *y = translated_.host(0);
        if (std::memcmp(x, y, GuestBench::kLow))
            for (uint64_t at = 0; at < GuestBench::kLow; at += 8) {
                uint64_t v, w;
                std::memcpy(&v, x + at, 8);
                std::memcpy(&w, y + at, 8);
                d.equal(fmt::format("{:x}", at), v, w);
            }
        return d.text();
    }

    std::string listing() {
        std::string text;
        Cpu& c = plain_.cpu;
        for (size_t start : starts_)
            text += fmt::format("  {:5x}: {}\n", at_ + start, c.disassemble(at_ + start - c.seg[Cs].base));
        return text;
    }

    bool one() {
        make();
        for (SystemGuest* b : both()) b->write(0, memory_);
        for (int start = 0; start < 30; start++) {
            const uint64_t seed = random_();
            const bool fresh = start % 8 == 0;
            if (runs(seed, fresh, 12, 400)) continue;
            // Once more, closely.
            const std::vector<uint8_t> data = data_;
            for (SystemGuest* b : both()) restore(*b, kDataArea, data.data(), data.size());
            runs(seed, fresh, 4000, 1);
            return false;
        }
        return true;
    }
    bool runs(uint64_t seed, bool fresh, int slices, uint64_t longest) {
        data_.assign(plain_.host(kDataArea), plain_.host(kDataArea) + kDataBytes);
        randomState(seed, fresh);
        bool equal = true;
        for (int n = 0; n < slices && equal; n++) {
            const auto slice = int64_t(1 + below(random_, longest > 20 && oneIn(random_, 2) ? 20 : longest));
            const uint64_t from = translated_.cpu.rip;
            const Segment cs = translated_.cpu.seg[Cs];
            const std::string next = longest == 1 ? plain_.cpu.disassemble(from) : "";
            const uint64_t before = plain_.cpu.executed();
            plain_.cpu.run(slice);
            translated_.cpu.run(slice);
            if (std::string d = differences(); !d.empty()) {
                d += fmt::format("    before {:x}, now at {:x}+{:x}\n", before, plain_.cpu.seg[Cs].base,
                                 plain_.cpu.rip);
                equal = false;
                MESSAGE(fmt::format("slice of {} from {:x}+{:x} {}:\n{}\n{}", slice, cs.base, from, next,
                                    listing(), d));
            }
            if (plain_.cpu.halted || !plain_.shutdown.empty()) break;
        }
        plain_.shutdown.clear();
        translated_.shutdown.clear();
        return equal;
    }

    const Kind kind_;
    Random random_;
    SystemGuest plain_, translated_;
    std::unique_ptr<Translator> translator_;
    std::vector<uint8_t> memory_;  // as it was: from kCodeArea on, nothing
    std::vector<uint8_t> data_;    // as the last run found it
    std::vector<uint8_t> code_;
    uint64_t at_ = 0;  // where it lies
    bool addressPrefix_ = false;
    std::vector<size_t> starts_, labels_;
    std::vector<Jump> jumps_;
    struct Far {
        size_t at, label;
        unsigned code;
    };
    std::vector<Far> far_;
    std::vector<CodeSegment> codes_;
};

void fuzz(Kind kind) {
    SegmentFuzz f(kind, environment("KILN_FUZZ_SEED", 1));
    const uint64_t programs = environment("KILN_FUZZ_ITERATIONS", 150);
    CHECK(f.run(programs));
    const Translator::Statistics& s = f.translator().statistics();
    MESSAGE(
        fmt::format("{}: {} programs, {} instructions; {} blocks translated, entered {} times, {} misses, {} "
                    "links, {} look-ups, {} faults",
                    kNames[size_t(kind)], programs, f.executed(), s.blocks, s.entries, s.misses, s.links,
                    s.lookUps, s.faults));
    CHECK(s.blocks > 0);
    CHECK(s.links > 0);
}

}  // namespace

TEST_CASE("fuzz the translator against the interpreter: real mode") { fuzz(Kind::Real); }
TEST_CASE("fuzz the translator against the interpreter: virtual-8086 mode") { fuzz(Kind::V86); }
TEST_CASE("fuzz the translator against the interpreter: 16-bit protected mode") { fuzz(Kind::Protected16); }
TEST_CASE("fuzz the translator against the interpreter: segments with bases and limits") {
    fuzz(Kind::Protected32);
}

}  // namespace kiln::test
