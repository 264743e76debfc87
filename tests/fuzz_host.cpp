// Every instruction body against the host processor: random encodings, operands, flags and memory, one
// instruction at a time, in 64-bit mode and in compatibility mode. Flags that Zydis knows to be undefined are
// left out.
//
//   KILN_FUZZ_ITERATIONS  instructions per mode     KILN_FUZZ_ONLY     mnemonics, comma-separated: "shl,rcr"
//   KILN_FUZZ_SEED        another sequence          KILN_FUZZ_STRICT   compare undefined flags as well
//   KILN_FUZZ_VERBOSE     failures per mnemonic in full, and mnemonics without a row
//   KILN_FUZZ_TRACE       name each instruction before kiln runs it
//   KILN_FUZZ_DIGEST      compare nothing: print a hash of kiln's own results per mnemonic, which must be the
//                         same on every kind of host (tests/cross)
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "tests/cpu_bench.hpp"
#include "tests/fuzz_forms.hpp"
#include "tests/host_oracle.hpp"
#include "tests/random.hpp"
#ifdef KILN_TRANSLATES
#include "translate/translator.hpp"
#endif

namespace kiln::test {
namespace {

bool wantsDigest() { return std::getenv("KILN_FUZZ_DIGEST"); }

struct Outcome {
    UserState state;
    std::optional<HostFault> fault;
};

// What of two outcomes must be equal.
struct Comparison {
    const Instance& insn;
    bool strict;
    bool intel;
    std::string differences;

    template <class T>
    void equal(std::string_view name, T host, T guest) {
        if (host != guest)
            differences += fmt::format("    {:10} host {:016x}  kiln {:016x}\n", name, host, guest);
    }

    bool approximate() const {
        switch (insn.z.mnemonic) {
            case ZYDIS_MNEMONIC_VRCPPS:
            case ZYDIS_MNEMONIC_VRCPSS:
            case ZYDIS_MNEMONIC_VRSQRTPS:
            case ZYDIS_MNEMONIC_VRSQRTSS:
            case ZYDIS_MNEMONIC_RCPPS:
            case ZYDIS_MNEMONIC_RCPSS:
            case ZYDIS_MNEMONIC_RSQRTPS:
            case ZYDIS_MNEMONIC_RSQRTSS: return true;
            default: return false;
        }
    }
    // Transcendental functions: the manual promises less than one unit in the last place, not the same bits.
    bool transcendental() const {
        switch (insn.z.mnemonic) {
            case ZYDIS_MNEMONIC_FSIN:
            case ZYDIS_MNEMONIC_FCOS:
            case ZYDIS_MNEMONIC_FSINCOS:
            case ZYDIS_MNEMONIC_FPTAN:
            case ZYDIS_MNEMONIC_FPATAN:
            case ZYDIS_MNEMONIC_F2XM1:
            case ZYDIS_MNEMONIC_FYL2X:
            case ZYDIS_MNEMONIC_FYL2XP1: return true;
            default: return false;
        }
    }

    void faults(const Outcome& h, const Outcome& g) {
        int hv = h.fault ? h.fault->vector : -1, gv = g.fault ? g.fault->vector : -1;
        if (hv != gv) differences += fmt::format("    fault      host {}  kiln {}\n", hv, gv);
        if (hv != gv || hv < 0) return;
        // In the kernel's half of the host there are pages, and in the guest's first MiB.
        if (hv != kPF || (h.fault->cr2 < 1ull << 63 && h.fault->cr2 >= GuestBench::kLow))
            equal<uint64_t>("error", h.fault->error, g.fault->error);
        // Of a long operand, the processor may touch any part first, and processors differ in which operand
        // they touch first.
        uint64_t mask = longOperand() || maskedMove() || !intel ? ~uint64_t(kPageMask) : ~0ull;
        if (hv == kPF) equal("cr2", h.fault->cr2 & mask, g.fault->cr2 & mask);
    }

    bool longOperand() const {
        // Of a store under a mask, the processor may name any byte.
        if (insn.z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
            insn.z.avx.mask.reg != ZYDIS_REGISTER_NONE && insn.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return true;
        for (unsigned n = 0; n < insn.z.operand_count; n++)
            if (insn.operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY && insn.operands[n].size > 128)
                return true;
        return false;
    }
    bool maskedMove() const {
        switch (insn.z.mnemonic) {
            case ZYDIS_MNEMONIC_VMASKMOVPS:
            case ZYDIS_MNEMONIC_VMASKMOVPD:
            case ZYDIS_MNEMONIC_VPMASKMOVD:
            case ZYDIS_MNEMONIC_VPMASKMOVQ: return true;
            default: return false;
        }
    }
    bool mmx() const {
        for (unsigned n = 0; n < insn.z.operand_count_visible; n++)
            if (insn.operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                ZydisRegisterGetClass(insn.operands[n].reg.value) == ZYDIS_REGCLASS_MMX)
                return true;
        return false;
    }

    void registers(const Outcome& h, const Outcome& g) {
        static const char* const kNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
        for (unsigned n = 0; n < (insn.code64 ? 16 : 8); n++) {
            uint64_t mask = insn.code64 ? ~0ull : 0xffffffff;
            equal(kNames[n], h.state.gpr[n] & mask, g.state.gpr[n] & mask);
        }
        equal("rip", h.state.rip, g.state.rip);
        uint64_t mask = flag::Arithmetic | flag::DF;
        if (!strict && insn.z.cpu_flags && !h.fault) mask &= ~uint64_t(insn.z.cpu_flags->undefined);
        equal("rflags", h.state.rflags & mask, g.state.rflags & mask);
    }

    void vectors(const Outcome& h, const Outcome& g) {
        static const bool zmm = HostOracle::runs(ZYDIS_ISA_SET_AVX512BW_512);
        for (unsigned n = 0; n < (zmm ? 32 : 16); n++)
            for (unsigned word = 0; word < (zmm ? 8 : 4); word++) {
                uint64_t hv = h.state.vectorWord(n, word), gv = g.state.vectorWord(n, word);
                if (approximate() && closeFloats(hv, gv)) continue;
                if (hv != gv) equal(fmt::format("zmm{}[{}]", n, word), hv, gv);
            }
        for (unsigned n = 0; zmm && n < 8; n++)
            equal(fmt::format("k{}", n), h.state.opmask[n], g.state.opmask[n]);
        equal<uint64_t>("mxcsr", h.state.fx.get<uint32_t>(FxImage::kMxcsr),
                        g.state.fx.get<uint32_t>(FxImage::kMxcsr));
    }

    static bool closeFloats(uint64_t a, uint64_t b) {
        for (unsigned shift : {0, 32}) {
            auto x = uint32_t(a >> shift), y = uint32_t(b >> shift);
            if ((x ^ y) >> 31 || (x > y ? x - y : y - x) > 0x2000) return false;  // 1.5 * 2^-12, both errors
        }
        return true;
    }

    void x87(const Outcome& h, const Outcome& g) {
        if (mmx() && h.fault)
            return;  // whether a faulting instruction has already switched to MMX state varies
        equal<uint64_t>("fcw", h.state.fx.get<uint16_t>(FxImage::kControl),
                        g.state.fx.get<uint16_t>(FxImage::kControl));
        uint16_t mask = 0xffff;
        if (!strict && insn.z.fpu_flags) mask = uint16_t(mask & ~conditionBits(insn.z.fpu_flags->undefined));
        if (transcendental()) mask &= uint16_t(~0x220);  // precision and its direction
        equal<uint64_t>("fsw", h.state.fx.get<uint16_t>(FxImage::kStatus) & mask,
                        g.state.fx.get<uint16_t>(FxImage::kStatus) & mask);
        equal<uint64_t>("ftw", h.state.fx.get<uint8_t>(FxImage::kTags),
                        g.state.fx.get<uint8_t>(FxImage::kTags));
        for (unsigned n = 0; n < 8; n++) {
            unsigned at = FxImage::kRegisters + 16 * n;
            auto hm = h.state.fx.get<uint64_t>(at), gm = g.state.fx.get<uint64_t>(at);
            auto he = h.state.fx.get<uint16_t>(at + 8), ge = g.state.fx.get<uint16_t>(at + 8);
            if (transcendental() && n < 2 && closeExtended(he, hm, ge, gm)) continue;
            if (hm == gm && he == ge) continue;
            equal(fmt::format("st{}", n), hm, gm);
            equal<uint64_t>(fmt::format("st{} exp", n), he, ge);
        }
    }
    static bool closeExtended(uint16_t he, uint64_t hm, uint16_t ge, uint64_t gm) {
        __extension__ using Wide = __int128;
        if ((he ^ ge) & 0x8000) return false;
        Wide a = Wide(he & 0x7fff) << 63 | (hm & ~(1ull << 63)),
             b = Wide(ge & 0x7fff) << 63 | (gm & ~(1ull << 63));
        return (a > b ? a - b : b - a) <= 2;
    }
    // Zydis numbers C0..C3 from bit 0; the status word has them in 8, 9, 10 and 14.
    static uint16_t conditionBits(uint32_t m) { return uint16_t((m & 7) << 8 | (m & 8) << 11); }

    void memory(const uint8_t* h, uint8_t* g, bool faulted) {
        if (std::memcmp(h, g, HostOracle::kScratchSize) == 0) return;
        unsigned shown = 0;
        // Some processors store what MOVBE has for the page in front of the one that faults.
        const bool torn = faulted && insn.z.mnemonic == ZYDIS_MNEMONIC_MOVBE;
        const uint64_t end = HostOracle::kScratchSize - (torn ? 7 : 0);
        for (uint64_t at = 0; at < end; at++)
            if (h[at] != g[at] && shown++ < 20)
                differences += fmt::format("    [{:08x}] host {:02x}  kiln {:02x}\n",
                                           HostOracle::kScratch + at, h[at], g[at]);
        std::memcpy(g, h, HostOracle::kScratchSize);
    }
};

// Bytes of a stored x87 environment that hold instruction and data pointers, which kiln does not promise to
// be the host's.
void forgetPointers(const Instance& i, const uint8_t* host, uint8_t* guest, uint64_t ea) {
    uint64_t from = 0, to = 0;
    switch (i.z.mnemonic) {
        case ZYDIS_MNEMONIC_FNSTENV:
        case ZYDIS_MNEMONIC_FNSAVE:
            from = i.z.operand_width == 16 ? 6 : 12;
            to = i.z.operand_width == 16 ? 14 : 28;
            break;
        case ZYDIS_MNEMONIC_FXSAVE:
        case ZYDIS_MNEMONIC_FXSAVE64: from = 6, to = 24; break;
        default: return;
    }
    uint64_t at = ea - HostOracle::kScratch;
    if (at > HostOracle::kScratchSize - 512) return;
    std::memcpy(guest + at + from, host + at + from, to - from);
    if (from == 6 && to == 24)
        std::memcpy(guest + at + 28, host + at + 28, 4);  // MXCSR_MASK: the host's has more
}

uint64_t addressOf(const Instance& i, const UserState& s) {
    const ZydisDecodedOperandMem& m = i.operands[0].mem;
    ZyanU64 v = 0;
    ZydisRegisterContext context{};
    for (unsigned n = 0; n < 16; n++) {
        context.values[ZYDIS_REGISTER_RAX + n] = s.gpr[n];
        context.values[ZYDIS_REGISTER_EAX + n] = s.gpr[n] & 0xffffffff;
    }
    ZydisCalcAbsoluteAddressEx(&i.z, &i.operands[0], s.rip, &context, &v);
    return m.segment == ZYDIS_REGISTER_GS ? v + HostOracle::kGsBase : v;
}

class HostFuzz {
  public:
    explicit HostFuzz(bool code64, [[maybe_unused]] bool translated = false)
        : code64_(code64),
          table_(code64, !wantsDigest()),
          bench_(code64 ? GuestBench::Mode::Long64 : GuestBench::Mode::Compat32, 3),
          random_(environment("KILN_FUZZ_SEED", 1)),
          digesting_(wantsDigest()) {
        if (digesting_) {
            ownScratch_.resize(HostOracle::kScratchSize);
            hostScratch_ = ownScratch_.data();
        } else {
            oracle_.emplace();
            hostScratch_ = oracle_->scratch();
        }
        bench_.addRam(HostOracle::kCode, kPageSize);
        bench_.addRam(HostOracle::kScratch, HostOracle::kScratchSize);
        if (code64) bench_.setBase(Gs, HostOracle::kGsBase);
        bench_.enableAvx();
#ifdef KILN_TRANSLATES
        bench_.translator.reset();
        if (translated)
            bench_.translator = std::make_unique<Translator>(bench_.cpu, TranslatorOptions{.tier1 = 1});
#endif
        guestScratch_ = bench_.host(HostOracle::kScratch);
        chooseMnemonics();
    }

    void run(uint64_t iterations) {
        for (uint64_t at = 0; at < HostOracle::kScratchSize; at += 8) {
            uint64_t v = interesting(random_);
            std::memcpy(hostScratch_ + at, &v, 8);
        }
        std::memcpy(guestScratch_, hostScratch_, HostOracle::kScratchSize);
        for (uint64_t n = 0; n < iterations && !mnemonics_.empty(); n++) {
            const auto& forms = table_.forms().at(mnemonics_[n % mnemonics_.size()]);
            one(forms[below(random_, forms.size())]);
        }
    }

    void report(uint64_t iterations) const {
        for (const auto& [mnemonic, hash] : digests_)
            std::cout << fmt::format("digest {:2} {:12} {:016x}\n", code64_ ? 64 : 32,
                                     ZydisMnemonicGetString(mnemonic), hash);
        const bool verbose = std::getenv("KILN_FUZZ_VERBOSE");
        uint64_t failures = 0;
        for (const auto& [mnemonic, f] : failures_) {
            const char* name = ZydisMnemonicGetString(mnemonic);
            failures += f.count;
            std::cout << fmt::format("{} ({}-bit): {} of {} differ, first:\n{}", name, code64_ ? 64 : 32,
                                     f.count, tried_.at(mnemonic), f.first);
        }
        if (verbose)
            for (const std::string& text : table_.missing()) std::cout << "no row: " << text << "\n";
        MESSAGE(fmt::format("{}-bit: {} instructions of {} mnemonics, {} of them faults, {} differences",
                            code64_ ? 64 : 32, iterations, mnemonics_.size(), faults_, failures));
        CHECK(failures == 0);
    }

  private:
    void chooseMnemonics() {
        std::string only =
            std::getenv("KILN_FUZZ_ONLY") ? fmt::format(",{},", std::getenv("KILN_FUZZ_ONLY")) : "";
        for (const auto& [mnemonic, forms] : table_.forms())
            if (only.empty() ||
                only.find(fmt::format(",{},", ZydisMnemonicGetString(mnemonic))) != std::string::npos)
                mnemonics_.push_back(mnemonic);
    }

    // Writes both sides' memory, as far as it is scratch memory.
    template <class T>
    void put(uint64_t address, T v) {
        uint64_t at = address - HostOracle::kScratch;
        if (at > HostOracle::kScratchSize - sizeof v) return;
        std::memcpy(hostScratch_ + at, &v, sizeof v);
        std::memcpy(guestScratch_ + at, &v, sizeof v);
    }

    // Operands that most random values would not do for.
    void prepareOperand(const Instance& insn, const UserState& start, uint64_t ea) {
        switch (insn.z.mnemonic) {
            case ZYDIS_MNEMONIC_RET: put(start.gpr[Rsp], HostOracle::kTaken); break;
            case ZYDIS_MNEMONIC_POPF:
            case ZYDIS_MNEMONIC_POPFD:
            case ZYDIS_MNEMONIC_POPFQ:
                put(start.gpr[Rsp], random_() & (flag::Arithmetic | flag::DF | flag::ID));
                break;
            case ZYDIS_MNEMONIC_LDMXCSR:
                put(ea, uint32_t(random_() & (oneIn(random_, 8) ? ~0u : 0xffff)));
                break;
            case ZYDIS_MNEMONIC_FXRSTOR:
            case ZYDIS_MNEMONIC_FXRSTOR64: {
                FxImage image = start.fx;
                image.set<uint32_t>(FxImage::kMxcsr,
                                    uint32_t(random_() & (oneIn(random_, 8) ? ~0u : 0xffff)));
                put(ea, image.bytes);
                break;
            }
            default: break;
        }
    }

    // Some fresh values where the instruction will look.
    void stirMemory(const UserState& s) {
        auto refresh = [&](uint64_t address) {
            put(address & ~7ull, oneIn(random_, 2)
                                     ? interesting(random_)
                                     : s.fx.get<uint64_t>(FxImage::kXmm + 8 * below(random_, 32)));
        };
        for (uint64_t g : s.gpr)
            for (uint64_t k = 0; k < 32; k += 8) refresh(g + k);
        for (int k = 0; k < 4; k++) refresh(HostOracle::kScratch + below(random_, HostOracle::kScratchSize));
    }

    void one(const Form& form) {
        const uint64_t at = HostOracle::kTaken - 0x40 + below(random_, 16);
        Instance insn;
        UserState start;
        bool fits = false;
        for (int attempt = 0; attempt < 50 && !fits; attempt++) {
            insn = table_.make(random_, form);
            fits = fitState(random_, table_, insn, at, start);
        }
        if (!fits) return;
        tried_[form.mnemonic]++;
        stirMemory(start);
        uint64_t ea = insn.operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? addressOf(insn, start) : 0;
        for (uint64_t k = 0; k < 32; k += 8)
            put(ea + k, start.fx.get<uint64_t>(FxImage::kXmm + 8 * below(random_, 32)));
        prepareOperand(insn, start, ea);
        if (digesting_) {
            digest(insn, runGuest(insn, at, start));
            return;
        }
        if (outOfRange(insn, start) || (!oracle_->isIntel() && processorsDiffer(insn, start))) return;

        Outcome host{start, {}};
        host.fault = oracle_->run(insn.code(), at, code64_, host.state);
        if (trace_) std::cerr << insn.text(at) << std::endl;
        Outcome guest = runGuest(insn, at, start);
        faults_ += host.fault.has_value();

        Comparison c{insn, std::getenv("KILN_FUZZ_STRICT") != nullptr, oracle_->isIntel(), {}};
        c.faults(host, guest);
        c.registers(host, guest);
        c.vectors(host, guest);
        c.x87(host, guest);
        forgetPointers(insn, hostScratch_, guestScratch_, ea);
        c.memory(hostScratch_, guestScratch_, bool(host.fault));
        if (!c.differences.empty()) failed(insn, at, start, c.differences);
    }

    // All of kiln's results, what the manual leaves undefined included: they are kiln's own, not the host's.
    void digest(const Instance& insn, const Outcome& guest) {
        uint64_t& hash = digests_.try_emplace(insn.z.mnemonic, 0xcbf29ce484222325).first->second;
        auto add = [&](const void* data, size_t bytes) {
            auto* p = static_cast<const uint8_t*>(data);
            for (size_t k = 0; k < bytes; k++) hash = (hash ^ p[k]) * 0x100000001b3;
        };
        add(guest.state.gpr.data(), sizeof guest.state.gpr);
        add(&guest.state.rip, 8);
        add(&guest.state.rflags, 8);
        add(guest.state.fx.bytes.data(), guest.state.fx.bytes.size());
        add(guest.state.ymmHigh.data(), sizeof guest.state.ymmHigh);
        add(guest.state.zmmHigh.data(), sizeof guest.state.zmmHigh);
        add(guest.state.zmm16.data(), sizeof guest.state.zmm16);
        add(guest.state.opmask.data(), sizeof guest.state.opmask);
        const uint64_t fault[3] = {guest.fault ? guest.fault->vector : ~0ull,
                                   guest.fault ? guest.fault->error : 0, guest.fault ? guest.fault->cr2 : 0};
        add(fault, sizeof fault);
        for (uint64_t at = 0; at < HostOracle::kScratchSize; at += 64)
            if (std::memcmp(hostScratch_ + at, guestScratch_ + at, 64))
                add(&at, 8), add(guestScratch_ + at, 64);
        std::memcpy(hostScratch_, guestScratch_, HostOracle::kScratchSize);
    }

    // Either as a single step, or inside a block that begins with some NOPs and ends with HLT, which faults.
    Outcome runGuest(const Instance& insn, uint64_t at, const UserState& start) {
        Outcome guest;
        importState(start, bench_.cpu);
        std::optional<Caught> caught;
        if (oneIn(random_, 2)) {
            bench_.write(at, insn.code());
            caught = bench_.step();
        } else {
            const uint64_t nops = below(random_, 4);
            std::vector<uint8_t> code(nops, 0x90);
            code.insert(code.end(), insn.code().begin(), insn.code().end());
            code.push_back(0xf4);
            bench_.write(at - nops, code);
            bench_.write(HostOracle::kTaken, std::array<uint8_t, 1>{0xf4});
            bench_.cpu.rip = at - nops;
            caught = bench_.runToException();
            if (caught && caught->vector == kGP &&
                (caught->rip == at + insn.z.length || caught->rip == HostOracle::kTaken))
                caught.reset();
        }
        if (caught) guest.fault = HostFault{caught->vector, caught->error, caught->cr2};
        guest.state = exportState(bench_.cpu);
        return guest;
    }

    // What the manuals leave open and only Intel's processors are known to do as kiln does.
    static bool processorsDiffer(const Instance& i, const UserState& s) {
        const bool repeated =
            i.z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
        switch (i.z.mnemonic) {
            case ZYDIS_MNEMONIC_BSWAP:
            case ZYDIS_MNEMONIC_MOVSXD: return i.z.operand_width == 16;
            case ZYDIS_MNEMONIC_SHLD:
            case ZYDIS_MNEMONIC_SHRD:
                return i.z.operand_width == 16 &&
                       (i.operands[2].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? i.operands[2].imm.value.u
                                                                           : s.gpr[Rcx]) %
                               32 >
                           16;
            case ZYDIS_MNEMONIC_CMPXCHG: return i.z.operand_width == 32;
            case ZYDIS_MNEMONIC_VRCP14PS:
            case ZYDIS_MNEMONIC_VRCP14PD:
            case ZYDIS_MNEMONIC_VRCP14SS:
            case ZYDIS_MNEMONIC_VRCP14SD:
            case ZYDIS_MNEMONIC_VRSQRT14PS:
            case ZYDIS_MNEMONIC_VRSQRT14PD:
            case ZYDIS_MNEMONIC_VRSQRT14SS:
            case ZYDIS_MNEMONIC_VRSQRT14SD:
            case ZYDIS_MNEMONIC_VDPBF16PS:
            case ZYDIS_MNEMONIC_FSTPNCE:
            case ZYDIS_MNEMONIC_FPTAN:
            case ZYDIS_MNEMONIC_FPATAN:
            case ZYDIS_MNEMONIC_FSIN:
            case ZYDIS_MNEMONIC_FCOS:
            case ZYDIS_MNEMONIC_FSINCOS:
            case ZYDIS_MNEMONIC_F2XM1:
            case ZYDIS_MNEMONIC_FYL2X:
            case ZYDIS_MNEMONIC_FYL2XP1: return true;
            default: return repeated && i.code64 && i.z.address_width == 32;
        }
    }

    // F2XM1 and FYL2XP1 are undefined outside -1..1 and about -0.29..0.41.
    static bool outOfRange(const Instance& i, const UserState& s) {
        uint16_t exponent = s.fx.get<uint16_t>(FxImage::kRegisters + 8) & 0x7fff;
        if (i.z.mnemonic == ZYDIS_MNEMONIC_F2XM1) return exponent >= 0x3fff;
        return i.z.mnemonic == ZYDIS_MNEMONIC_FYL2XP1 && exponent >= 0x3ffd;
    }

    struct Failure {
        uint64_t count = 0;
        std::string first;
    };

    void failed(const Instance& insn, uint64_t at, const UserState& start, const std::string& differences) {
        Failure& f = failures_[insn.z.mnemonic];
        if (f.count++ >= (std::getenv("KILN_FUZZ_VERBOSE") ? 5 : 1)) return;
        std::string bytes;
        for (uint8_t b : insn.code()) bytes += fmt::format("{:02x} ", b);
        f.first += fmt::format("  {}    {}\n{}", bytes, insn.text(at), differences);
        f.first += "    from:";
        static const char* const kNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
        for (unsigned n = 0; n < (code64_ ? 16 : 8); n++)
            f.first += fmt::format(" {}={:x}", kNames[n], start.gpr[n]);
        f.first += fmt::format(" rflags={:x}\n", start.rflags);
        if (insn.z.meta.isa_set == ZYDIS_ISA_SET_X87 || insn.z.meta.isa_set == ZYDIS_ISA_SET_SSE3X87 ||
            insn.z.meta.isa_set == ZYDIS_ISA_SET_FCMOV) {
            f.first += fmt::format("    fcw={:x} fsw={:x} ftw={:x}", start.fx.get<uint16_t>(0),
                                   start.fx.get<uint16_t>(2), start.fx.get<uint8_t>(4));
            for (unsigned n = 0; n < 8; n++)
                f.first += fmt::format(" st{}={:04x}:{:016x}", n, start.fx.get<uint16_t>(32 + 16 * n + 8),
                                       start.fx.get<uint64_t>(32 + 16 * n));
            f.first += "\n";
        } else {
            describeVectors(insn, start, f.first);
        }
    }
    static void describeVectors(const Instance& insn, const UserState& start, std::string& text) {
        std::string registers;
        for (unsigned n = 0; n < insn.z.operand_count_visible; n++) {
            const ZydisDecodedOperand& op = insn.operands[n];
            ZydisRegister r = op.type == ZYDIS_OPERAND_TYPE_MEMORY ? op.mem.index : op.reg.value;
            auto kind = ZydisRegisterGetClass(r);
            if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
                (kind != ZYDIS_REGCLASS_XMM && kind != ZYDIS_REGCLASS_YMM && kind != ZYDIS_REGCLASS_ZMM &&
                 kind != ZYDIS_REGCLASS_MASK))
                continue;
            auto x = unsigned(ZydisRegisterGetId(r));
            if (kind == ZYDIS_REGCLASS_MASK) {
                registers += fmt::format(" k{}={:x}", x, start.opmask[x]);
                continue;
            }
            registers += fmt::format(" {}mm{}=", kind == ZYDIS_REGCLASS_ZMM ? "z" : "y", x);
            for (unsigned word = kind == ZYDIS_REGCLASS_ZMM ? 8 : 4; word-- > 0;)
                registers += fmt::format("{:016x}{}", start.vectorWord(x, word), word ? ":" : "");
        }
        if (!registers.empty())
            text += fmt::format("    mxcsr={:x}{}\n", start.fx.get<uint32_t>(FxImage::kMxcsr), registers);
    }

    bool code64_;
    FormTable table_;
    std::optional<HostOracle> oracle_;  // not while digesting
    GuestBench bench_;
    Random random_;
    bool digesting_;
    std::vector<uint8_t> ownScratch_;
    uint8_t* hostScratch_;  // the host's side of the scratch memory
    uint8_t* guestScratch_;
    std::vector<ZydisMnemonic> mnemonics_;
    const bool trace_ = std::getenv("KILN_FUZZ_TRACE");
    std::map<ZydisMnemonic, uint64_t> tried_;
    std::map<ZydisMnemonic, Failure> failures_;
    std::map<ZydisMnemonic, uint64_t> digests_;
    uint64_t faults_ = 0;
};

void fuzz(bool code64, bool translated = false) {
    if (!wantsDigest() && !HostOracle::available()) {
        MESSAGE("skipped: the host is not an x86-64 Linux machine with SSE4.2 and POPCNT");
        return;
    }
    const uint64_t iterations = environment("KILN_FUZZ_ITERATIONS", 500'000);
    HostFuzz f(code64, translated);
    f.run(iterations);
    f.report(iterations);
}

}  // namespace

TEST_CASE("fuzz against the host: 64-bit mode") { fuzz(true); }
TEST_CASE("fuzz against the host: 32-bit code") { fuzz(false); }
#ifdef KILN_TRANSLATES
TEST_CASE("fuzz the translator against the host: 64-bit mode") { fuzz(true, true); }
TEST_CASE("fuzz the translator against the host: 32-bit code") { fuzz(false, true); }
#endif

}  // namespace kiln::test
