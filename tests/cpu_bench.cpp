#include "tests/cpu_bench.hpp"

#include <cstdlib>
#ifdef KILN_TRANSLATES
#include "translate/translator.hpp"
#endif

namespace kiln::test {

namespace {
bool hasErrorCode(uint8_t v) { return v == kDF || (v >= kTS && v <= kPF) || v == kAC; }

// Selectors of the GDT below: code and data of the mode, and what 64-bit gates go to.
constexpr uint16_t kCode = 0x08, kData = 0x10, kUserCode = 0x1b, kUserData = 0x23, kTssSelector = 0x28,
                   kCode64 = 0x38;

uint64_t descriptor(uint8_t type, unsigned dpl, bool system, bool l, bool db, uint64_t base, uint32_t limit) {
    bool pages = limit > 0xfffff;
    uint64_t lim = pages ? limit >> 12 : limit;
    uint64_t rights = type | (system ? 0u : 0x10u) | dpl << 5 | 0x80u | unsigned(l) << 13 |
                      unsigned(db) << 14 | unsigned(pages) << 15;
    return (lim & 0xffff) | (base & 0xffffff) << 16 | rights << 40 | (lim & 0xf0000) << 32 |
           (base & 0xff000000) << 32;
}
}  // namespace

std::optional<TranslatorOptions> chosenTranslator() {
    const char* how = std::getenv("KILN_JIT");
    if (!kTranslates || !how) return {};
    TranslatorOptions options{.tier1 = 1, .tier2 = 1, .ways = 1, .bufferBytes = 4u << 20};
    options.background = std::string_view(how) == "background";
    return options;
}

static PhysicalMemory& expecting(PhysicalMemory& memory, bool threads) {
    if (threads) memory.threads.expect(1);
    return memory;
}

GuestBench::GuestBench(Mode mode, unsigned cpl, std::shared_ptr<const CpuModel> model, bool threads)
    : apic(clock, apicBus, 0, true, [this] { return cpu.tsc(); }),
      cpu(CpuPorts{expecting(memory, threads),
                   ports,
                   apic,
                   clock,
                   log,
                   code,
                   [this](const std::string& why) { shutdown = why; },
                   {},
                   {},
                   std::move(model)},
          0),
      mode_(mode),
      cpl_(cpl) {
    addRam(0, kLow);
#ifdef KILN_TRANSLATES
    if (auto options = chosenTranslator()) translator = std::make_unique<Translator>(cpu, *options);
#endif
    switch (mode) {
        case Mode::Real16: enterReal(); break;
        case Mode::Protected32: enterProtected(); break;
        case Mode::Compat32:
        case Mode::Long64: enterLong(); break;
    }
    segments_ = cpu.seg;
}

void GuestBench::addRam(uint64_t address, uint64_t size) {
    ram_.push_back(std::make_unique<RamBlock>("bench", size));
    memory.mapRam(PhysAddr(address), size, *ram_.back());
    if (has64BitFrames() && address)
        for (uint64_t page = 0; page < size; page += kPageSize) map(address + page, address + page);
}

Segment GuestBench::flat(uint16_t selector, bool codeSegment, bool wide64) const {
    Segment s;
    s.selector = selector;
    s.limit = 0xffffffff;
    s.rights = uint16_t((codeSegment ? 0x9b : 0x93) | cpl_ << 5 | 0x8000 |
                        (codeSegment && wide64 ? 0x2000 : 0x4000));
    return s;
}

void GuestBench::enterReal() {
    cpu.seg[Cs].selector = 0;
    cpu.seg[Cs].base = 0;
    for (uint64_t v = 0; v < 256; v++) {
        memory.write<uint32_t>(PhysAddr(v * 4), uint32_t(kHandlers + v * 8));
        memory.write<uint8_t>(PhysAddr(kHandlers + v * 8), 0xf4);
    }
    cpu.idtr = {0, 0x3ff};
    cpu.gpr[Rsp] = kStackTop;
    cpu.rip = 0x10000 - 0x1000;
    cpu.segmentsChanged();
}

void GuestBench::writeTables() {
    const bool long64 = has64BitFrames();
    const uint64_t gdt[] = {
        0,
        descriptor(11, 0, false, mode_ == Mode::Long64, mode_ != Mode::Long64, 0, 0xffffffff),
        descriptor(3, 0, false, false, true, 0, 0xffffffff),
        descriptor(11, 3, false, mode_ == Mode::Long64, mode_ != Mode::Long64, 0, 0xffffffff),
        descriptor(3, 3, false, false, true, 0, 0xffffffff),
        descriptor(11, 0, true, false, false, kTss, 0x67),
        0,
        descriptor(11, 0, false, long64, !long64, 0, 0xffffffff)};
    for (size_t n = 0; n < std::size(gdt); n++) memory.write<uint64_t>(PhysAddr(kGdt + n * 8), gdt[n]);
    cpu.gdtr = {kGdt, sizeof gdt - 1};

    for (uint64_t v = 0; v < 256; v++) {
        uint64_t target = kHandlers + v * 8;
        memory.write<uint8_t>(PhysAddr(target), 0xf4);
        uint64_t gate = (target & 0xffff) | uint64_t(kCode64) << 16 | 0xee00ull << 32 | (target >> 16) << 48;
        uint64_t at = kIdt + v * (long64 ? 16 : 8);
        memory.write<uint64_t>(PhysAddr(at), gate);
        if (long64) memory.write<uint64_t>(PhysAddr(at + 8), 0);
    }
    cpu.idtr = {kIdt, uint16_t(256 * (long64 ? 16 : 8) - 1)};

    memory.write<uint64_t>(PhysAddr(kTss + 4), kStackTop);  // RSP0, or ESP0
    if (!long64) memory.write<uint32_t>(PhysAddr(kTss + 8), kData);
    memory.write<uint16_t>(PhysAddr(kTss + 102), 0x68);  // no I/O permission bitmap
    cpu.tr = Segment{.selector = kTssSelector, .rights = 0x8b, .limit = 0x67, .base = kTss};
}

void GuestBench::enterProtected() {
    writeTables();
    cpu.setCr4((cr4::OSFXSR | cr4::OSXMMEXCPT) & cpu.model.cr4Supported());
    cpu.setCr0(cr0::PE | cr0::ET | cr0::NE | cr0::MP);
    cpu.seg[Cs] = flat(cpl_ ? kUserCode : kCode, true, false);
    for (SegReg r : {Es, Ss, Ds, Fs, Gs}) cpu.seg[r] = flat(cpl_ ? kUserData : kData, false, false);
    cpu.gpr[Rsp] = 0x80000;
    cpu.setCpl(cpl_);
}

void GuestBench::enterLong() {
    writeTables();
    memory.write<uint64_t>(PhysAddr(kTables), 0);
    nextTable_ = kTables + kPageSize;
    for (uint64_t page = 0; page < kLow; page += kPageSize) map(page, page, page >= 0x40000);
    cpu.setCr4(cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::PAE);
    cpu.setEfer(efer::LME | efer::SCE | efer::NXE);
    cpu.setCr3(kTables);
    cpu.setCr0(cr0::PE | cr0::PG | cr0::ET | cr0::NE | cr0::MP | cr0::WP);
    cpu.seg[Cs] = flat(cpl_ ? kUserCode : kCode, true, mode_ == Mode::Long64);
    for (SegReg r : {Es, Ss, Ds, Fs, Gs}) cpu.seg[r] = flat(cpl_ ? kUserData : kData, false, false);
    cpu.gpr[Rsp] = 0x80000;
    cpu.setCpl(cpl_);
}

void GuestBench::map(uint64_t linear, uint64_t physical, bool user, bool writable) {
    uint64_t table = kTables;
    for (int level = 3; level > 0; level--) {
        uint64_t at = table + (linear >> (12 + 9 * level) & 511) * 8;
        uint64_t entry = memory.read<uint64_t>(PhysAddr(at));
        if (!(entry & 1)) {
            entry = nextTable_ | 7;
            nextTable_ += kPageSize;
            if (nextTable_ > 0x40000) throw std::runtime_error("bench: out of page tables");
            memory.write<uint64_t>(PhysAddr(at), entry);
        }
        table = entry & ~kPageMask;
    }
    memory.write<uint64_t>(PhysAddr(table + (linear >> 12 & 511) * 8),
                           physical | 1 | unsigned(writable) << 1 | unsigned(user) << 2);
    cpu.flushTlb(true);
}

void GuestBench::setBase(SegReg segment, uint64_t base) {
    cpu.seg[segment].base = segments_[segment].base = base;
    cpu.segmentsChanged();
}

void GuestBench::enableAvx() {
    cpu.cr4 |= cr4::OSXSAVE;
    cpu.xcr0 = xfeature::X87 | xfeature::SSE | xfeature::AVX | (cpu.model.xcr0Supported() & xfeature::AVX512);
    cpu.segmentsChanged();
}

void GuestBench::restoreMode() {
    cpu.seg = segments_;
    cpu.halted = false;
    cpu.setCpl(cpl_);
}

std::optional<Caught> GuestBench::caught() {
    // A handler's HLT is not executed by a single step; by runToHalt() it is.
    uint64_t base = cpu.seg[Cs].base;
    uint64_t at = base + cpu.rip - (cpu.halted ? 1 : 0);
    if (at < kHandlers || at >= kHandlers + 256 * 8 || at % 8) return {};
    Caught c;
    c.vector = uint8_t((at - kHandlers) / 8);
    c.cr2 = cpu.cr2;
    uint64_t sp = cpu.seg[Ss].base + cpu.gpr[Rsp];
    const unsigned word = has64BitFrames() ? 8 : mode_ == Mode::Real16 ? 2 : 4;
    auto pop = [&] {
        uint64_t v = 0;
        memory.read(PhysAddr(sp), &v, word);
        sp += word;
        return v;
    };
    if (mode_ != Mode::Real16 && hasErrorCode(c.vector)) c.error = uint32_t(pop());
    c.rip = pop();
    pop();
    c.rflags = pop();
    if (has64BitFrames() || (mode_ == Mode::Protected32 && cpl_ == 3))
        c.rsp = pop();
    else
        c.rsp = sp - cpu.seg[Ss].base;
    restoreMode();
    cpu.gpr[Rsp] = c.rsp;
    cpu.rip = c.rip;
    cpu.flags.set(c.rflags & ~flag::RF);
    return c;
}

std::optional<Caught> GuestBench::step() {
    uint64_t rip = cpu.rip;
    do cpu.singleStep();
    while (cpu.rip == rip && cpu.gpr[Rcx] && cpu.at && cpu.at->rep != Rep::None && !cpu.halted);
    return caught();
}

std::optional<Caught> GuestBench::runToException(int64_t most) {
    for (int64_t n = 0; n < most && shutdown.empty(); n++) {
        cpu.run(1);
        if (auto c = caught()) return c;
    }
    return {};
}

std::optional<Caught> GuestBench::runToHalt(int64_t most) {
    for (int64_t done = 0; done < most && !cpu.halted && shutdown.empty(); done += 10'000) cpu.run(10'000);
    return caught();
}

}  // namespace kiln::test
