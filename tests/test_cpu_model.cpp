// Models of processors: what -cpu accepts, and that CPUID, control registers, MSRs and the decoder agree on
// what a model has.
#include <algorithm>
#include <stdexcept>

#include "tests/fuzz_forms.hpp"
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

std::shared_ptr<const CpuModel> choose(const std::string& argument) {
    std::vector<std::string> warnings;
    return chooseCpuModel(argument, warnings);
}
std::string warningOf(const std::string& argument) {
    std::vector<std::string> warnings;
    chooseCpuModel(argument, warnings);
    return warnings.empty() ? "" : warnings[0];
}
std::string refusal(const std::string& argument) {
    try {
        choose(argument);
    } catch (const std::runtime_error& e) { return e.what(); }
    return {};
}
bool mentions(const std::string& text, const std::string& word) {
    return text.find(word) != std::string::npos;
}

// Runs `bytes` with pointers to aligned memory in the registers and everything enabled that the model has.
std::optional<Caught> runs(const std::string& model, Mode mode, std::vector<uint8_t> bytes,
                           uint64_t* rax = nullptr) {
    SystemGuest g(mode, 0, choose(model));
    g.cpu.setCr4(g.cpu.cr4 | (g.cpu.model.cr4Supported() & (cr4::OSXSAVE | cr4::FSGSBASE | cr4::PKE)));
    for (unsigned r : {Rbx, Rsi, Rdi}) g.cpu.gpr.slot[r] = SystemGuest::kDataAt;
    g.cpu.gpr[Rax] = SystemGuest::kDataAt + 0x100;
    g.cpu.gpr[Rcx] = 0;
    if (bytes[0] == 0x0f && bytes[1] == 0x32) g.cpu.gpr[Rcx] = 0x1b;  // RDMSR
    g.cpu.xcr0 = g.cpu.model.xcr0Supported();
    g.cpu.segmentsChanged();
    g.write(SystemGuest::kCodeAt, bytes);
    g.cpu.rip = SystemGuest::kCodeAt;
    auto caught = g.step();
    if (rax) *rax = g.cpu.gpr[Rax];
    return caught;
}
bool undefined(const std::string& model, Mode mode, const std::vector<uint8_t>& bytes) {
    auto caught = runs(model, mode, bytes);
    return caught && caught->vector == kUD;
}

}  // namespace

TEST_CASE("-cpu: models, features in every spelling, properties") {
    CHECK(choose("max")->features == choose("kiln")->features);
    CHECK(choose("max")->has(Feature::SSE4_2));
    for (auto spelling :
         {"max,-sse4.2", "max,-sse4_2", "max,-sse4-2", "max,sse4.2=off", "max,+sse4.2,-sse4_2"})
        CHECK_MESSAGE(!choose(spelling)->has(Feature::SSE4_2), spelling);
    for (auto spelling : {"qemu64,+popcnt", "qemu64,popcnt=on", "qemu64,popcnt", "qemu64,-popcnt,popcnt=on"})
        CHECK_MESSAGE(choose(spelling)->has(Feature::POPCNT), spelling);
    auto m = choose("max,family=23,model=0x31,stepping=2,vendor=AuthenticAMD,phys-bits=36,model-id=A name");
    CHECK(m->signature() == 0x00830f12);
    CHECK(m->isAmd());
    CHECK(m->physicalBits == 36);
    CHECK(m->brand == "A name");
    // What stands on a missing feature goes with it.
    CHECK(!choose("max,-sse")->has(Feature::SSE4_1));
    CHECK(!choose("max,-xsave")->has(Feature::XSAVEOPT));
    CHECK(!choose("max,-lm")->has(Feature::CX16));
    CHECK(choose("x86-64-v1,+smep")->level >= 7);
    for (const std::string& name : cpuModelNames()) {
        CAPTURE(name);
        auto model = choose(name);
        CHECK((model->features - implementedFeatures()).empty());
        CHECK(withoutOrphans(model->features) == model->features);
        CHECK(mentions(cpuModelHelp(), name));
    }
}

TEST_CASE("-cpu: what can't be had is said in a sentence") {
    CHECK(mentions(refusal("host"), "host's processor"));
    CHECK(mentions(refusal("Pentium9"), "no model 'Pentium9'"));
    CHECK(mentions(refusal("max,+sse9"), "no CPU feature 'sse9'"));
    CHECK(mentions(refusal("max,sse2=maybe"), "on or off"));
    CHECK(mentions(refusal("max,family=x"), "not a number"));
    CHECK(mentions(refusal("max,vendor=me"), "12 characters"));
    CHECK(mentions(refusal("max,+svm,enforce"), "does not implement svm"));
    CHECK(mentions(warningOf("max,+svm"), "svm"));
    CHECK(warningOf("max,+svm,check=off").empty());
    CHECK(mentions(warningOf("max,-sse2,+sse4.1"), "sse4.1"));
    for (auto quiet : {"max", "x86-64-v1", "x86-64-v2", "qemu64", "qemu32", "Nehalem", "486,-vme"})
        CHECK_MESSAGE((warningOf(quiet).empty() || mentions(warningOf(quiet), " vme")), quiet);
}

TEST_CASE("a feature that is switched off makes its instructions undefined") {
    const struct {
        const char* feature;
        Mode mode;
        std::vector<uint8_t> bytes;
    } cases[] = {
        {"tsc", Mode::Protected32, {0x0f, 0x31}},
        {"msr", Mode::Protected32, {0x0f, 0x32}},
        {"cx8", Mode::Protected32, {0x0f, 0xc7, 0x0b}},
        {"sep", Mode::Protected32, {0x0f, 0x34}},
        {"cmov", Mode::Protected32, {0x0f, 0x44, 0xc1}},
        {"cmov", Mode::Protected32, {0xda, 0xc1}},  // fcmovb
        {"cmov", Mode::Protected32, {0xdb, 0xf1}},  // fcomi
        {"mmx", Mode::Protected32, {0x0f, 0x6f, 0xc1}},
        {"fxsr", Mode::Protected32, {0x0f, 0xae, 0x03}},
        {"sse", Mode::Protected32, {0x0f, 0x58, 0xc1}},
        {"sse", Mode::Protected32, {0x0f, 0xe0, 0xc1}},  // pavgb mm0, mm1
        {"sse", Mode::Protected32, {0x0f, 0xae, 0x13}},  // ldmxcsr
        {"sse2", Mode::Long64, {0x66, 0x0f, 0x58, 0xc1}},
        {"sse2", Mode::Long64, {0x0f, 0xd4, 0xc1}},  // paddq mm0, mm1
        {"pni", Mode::Long64, {0xf3, 0x0f, 0x12, 0xc1}},
        {"pni", Mode::Long64, {0xdf, 0x0b}},  // fisttp
        {"ssse3", Mode::Long64, {0x66, 0x0f, 0x38, 0x00, 0xc1}},
        {"sse4.1", Mode::Long64, {0x66, 0x0f, 0x38, 0x17, 0xc1}},
        {"sse4.2", Mode::Long64, {0x66, 0x0f, 0x38, 0x37, 0xc1}},
        {"sse4.2", Mode::Long64, {0xf2, 0x0f, 0x38, 0xf1, 0xc1}},
        {"popcnt", Mode::Long64, {0xf3, 0x0f, 0xb8, 0xc1}},
        {"movbe", Mode::Long64, {0x0f, 0x38, 0xf0, 0x03}},
        {"bmi1", Mode::Long64, {0xc4, 0xe2, 0x70, 0xf2, 0xc2}},        // andn
        {"bmi2", Mode::Long64, {0xc4, 0xe3, 0x7b, 0xf0, 0xc1, 0x01}},  // rorx
        {"adx", Mode::Long64, {0x66, 0x0f, 0x38, 0xf6, 0xc1}},
        {"rdrand", Mode::Long64, {0x0f, 0xc7, 0xf0}},
        {"rdseed", Mode::Long64, {0x0f, 0xc7, 0xf8}},
        {"rdtscp", Mode::Long64, {0x0f, 0x01, 0xf9}},
        {"rdpid", Mode::Long64, {0xf3, 0x0f, 0xc7, 0xf8}},
        {"clflush", Mode::Long64, {0x0f, 0xae, 0x3b}},
        {"clflushopt", Mode::Long64, {0x66, 0x0f, 0xae, 0x3b}},
        {"clwb", Mode::Long64, {0x66, 0x0f, 0xae, 0x33}},
        {"xsave", Mode::Long64, {0x0f, 0xae, 0x23}},
        {"xsave", Mode::Long64, {0x0f, 0x01, 0xd0}},  // xgetbv
        {"xsaveopt", Mode::Long64, {0x0f, 0xae, 0x33}},
        {"xsavec", Mode::Long64, {0x0f, 0xc7, 0x23}},
        {"xsaves", Mode::Long64, {0x0f, 0xc7, 0x2b}},
        {"monitor", Mode::Long64, {0x0f, 0x01, 0xc8}},
        {"monitor", Mode::Long64, {0x0f, 0x01, 0xc9}},
        {"fsgsbase", Mode::Long64, {0xf3, 0x0f, 0xae, 0xc0}},
        {"smap", Mode::Long64, {0x0f, 0x01, 0xcb}},
        {"cx16", Mode::Long64, {0x48, 0x0f, 0xc7, 0x0b}},
        {"lahf-lm", Mode::Long64, {0x9f}},
        {"serialize", Mode::Long64, {0x0f, 0x01, 0xe8}},
    };
    for (auto& c : cases) {
        CAPTURE(c.feature);
        CAPTURE(int(c.bytes.back()));
        CHECK(!undefined("max", c.mode, c.bytes));
        CHECK(undefined(std::string("max,-") + c.feature, c.mode, c.bytes));
    }
    // LAHF outside 64-bit mode belongs to the 8086.
    CHECK(!undefined("max,-lahf-lm", Mode::Protected32, {0x9f}));
}

TEST_CASE("encodings that older processors read as something else") {
    const std::vector<uint8_t> tzcnt = {0xf3, 0x0f, 0xbc, 0xc3}, lzcnt = {0xf3, 0x0f, 0xbd, 0xc3};
    uint64_t rax = 0;  // of EBX = 60000h
    runs("max", Mode::Long64, lzcnt, &rax);
    CHECK(rax == 13);
    runs("max,-abm", Mode::Long64, lzcnt, &rax);  // BSR
    CHECK(rax == 18);
    const std::vector<uint8_t> tzcntOfZero = {0xf3, 0x0f, 0xbc, 0xc1};  // of ECX = 0
    runs("max", Mode::Long64, tzcntOfZero, &rax);
    CHECK(rax == 32);
    runs("max,-bmi1", Mode::Long64, tzcntOfZero, &rax);  // BSF leaves the destination alone
    CHECK(rax == SystemGuest::kDataAt + 0x100);
    CHECK(!runs("max,-bmi1", Mode::Long64, tzcnt));
    CHECK(!runs("max,-cldemote", Mode::Long64, {0x0f, 0x1c, 0x03}));
    CHECK(!runs("max,-wbnoinvd", Mode::Long64, {0xf3, 0x0f, 0x09}));
    CHECK(!runs("max", Mode::Long64, {0xf3, 0x0f, 0x1e, 0xfa}));  // ENDBR64 without CET
    CHECK(!runs("x86-64-v1", Mode::Long64, {0x0f, 0x0d, 0x0b}));  // PREFETCHW is a NOP on 64-bit processors
    CHECK(undefined("pentium3", Mode::Protected32, {0x0f, 0x0d, 0x0b}));
    CHECK(undefined("pentium", Mode::Protected32, {0x0f, 0x1f, 0xc0}));  // long NOPs came with the P6
    CHECK(!undefined("pentium3", Mode::Protected32, {0x0f, 0x1f, 0xc0}));
    CHECK(!undefined("pentium3", Mode::Protected32, {0xf3, 0x90}));  // PAUSE
}

TEST_CASE("without an FPU its instructions are ignored, unless CR0 says otherwise") {
    SystemGuest g(Mode::Protected32, 0, choose("486,-fpu"));
    g.cpu.gpr[Rbx] = SystemGuest::kDataAt;
    g.put<uint16_t>(SystemGuest::kDataAt, 0x5a5a);
    CHECK(!g.does({0xdb, 0xe3}));  // fninit
    CHECK(!g.does({0xdd, 0x3b}));  // fnstsw [ebx]
    CHECK(g.get<uint16_t>(SystemGuest::kDataAt) == 0x5a5a);
    g.cpu.setCr0(g.cpu.cr0 | cr0::EM);
    CHECK_RAISES(g.does({0xdb, 0xe3}), kNM, 0);
    CHECK((g.cpu.cpuid(1, 0).edx & 1) == 0);
}

TEST_CASE("what vendors do differently") {
    const std::vector<uint8_t> syscall = {0x0f, 0x05}, sysenter = {0x0f, 0x34};
    for (bool amd : {false, true}) {
        CAPTURE(amd);
        const auto model = choose(amd ? "max,vendor=AuthenticAMD" : "max");
        SystemGuest g(Mode::Compat32, 3, model);
        g.cpu.efer |= efer::SCE;
        g.cpu.msr.star = 0x0008ull << 32;
        g.cpu.msr.cstar = 0x1234'5678;
        g.write(SystemGuest::kCodeAt, syscall);
        g.cpu.rip = SystemGuest::kCodeAt;
        if (amd) {
            CHECK(!g.step());
            CHECK(g.cpu.rip == 0x1234'5678);
            CHECK(g.cpu.code64());
        } else {
            CHECK_RAISES(g.step(), kUD, 0);
        }
        SystemGuest h(Mode::Long64, 0, model);
        h.cpu.msr.sysenterCs = 8;
        h.write(SystemGuest::kCodeAt, sysenter);
        h.cpu.rip = SystemGuest::kCodeAt;
        auto caught = h.step();
        CHECK((caught && caught->vector == kUD) == amd);
        // 66h makes AMD's near branches 16 bits wide in 64-bit mode; Intel's processors ignore it.
        SystemGuest b(Mode::Long64, 0, model);
        b.write(SystemGuest::kCodeAt, std::vector<uint8_t>{0x66, 0xe9, 0x10, 0x00, 0x00, 0x00});
        b.cpu.rip = SystemGuest::kCodeAt;
        CHECK(!b.step());
        CHECK(b.cpu.rip ==
              (amd ? (SystemGuest::kCodeAt + 4 + 0x10) & 0xffff : SystemGuest::kCodeAt + 6 + 0x10));
        CHECK(bool(h.cpu.cpuid(0x80000001, 0).edx & 1) == amd);  // AMD repeats leaf 1
    }
}

TEST_CASE("every mnemonic of the instruction sets that are offered has a row") {
    for (bool code64 : {false, true}) {
        CAPTURE(code64);
        std::vector<std::string> missing = FormTable(code64, false).missing();
        std::erase_if(missing, [](const std::string& m) { return m == "ud0" || m == "ud1" || m == "ud2"; });
        std::string list;
        for (const std::string& m : missing) list += " " + m;
        CHECK(list == "");
    }
}

TEST_CASE("CPUID, CR4, EFER and MSRs agree on every model") {
    struct {
        uint64_t bits;
        uint32_t leaf;
        char reg;
        unsigned bit;
    } crBits[] = {
        {cr4::VME, 1, 'd', 1},         {cr4::PVI, 1, 'd', 1},      {cr4::TSD, 1, 'd', 4},
        {cr4::DE, 1, 'd', 2},          {cr4::PSE, 1, 'd', 3},      {cr4::PAE, 1, 'd', 6},
        {cr4::MCE, 1, 'd', 7},         {cr4::PGE, 1, 'd', 13},     {cr4::OSFXSR, 1, 'd', 24},
        {cr4::OSXMMEXCPT, 1, 'd', 25}, {cr4::UMIP, 7, 'c', 2},     {cr4::LA57, 7, 'c', 16},
        {cr4::VMXE, 1, 'c', 5},        {cr4::FSGSBASE, 7, 'b', 0}, {cr4::PCIDE, 1, 'c', 17},
        {cr4::OSXSAVE, 1, 'c', 26},    {cr4::SMEP, 7, 'b', 7},     {cr4::SMAP, 7, 'b', 20},
        {cr4::PKE, 7, 'c', 3},
    };
    struct {
        uint32_t index, leaf;
        char reg;
        unsigned bit;
    } msrs[] = {{0x10, 1, 'd', 4},   {0x1b, 1, 'd', 9},
                {0x174, 1, 'd', 11}, {0xfe, 1, 'd', 12},
                {0x179, 1, 'd', 14}, {0x277, 1, 'd', 16},
                {0x6e0, 1, 'c', 24}, {0x3b, 7, 'b', 1},
                {0x10a, 7, 'd', 29}, {0xc0000100, 0x80000001, 'd', 29}};
    for (const std::string& name : cpuModelNames()) {
        CAPTURE(name);
        SystemGuest g(Mode::Protected32, 0, choose(name));
        Cpu& c = g.cpu;
        const uint32_t level = c.cpuid(0, 0).eax, xlevel = c.cpuid(0x80000000, 0).eax;
        auto offers = [&](uint32_t leaf, char reg, unsigned bit) {
            if (leaf < 0x80000000 ? leaf > level : !c.model.xlevel || leaf > xlevel) return false;
            auto r = c.cpuid(leaf, 0);
            return bool((reg == 'b' ? r.ebx : reg == 'c' ? r.ecx : r.edx) >> bit & 1);
        };
        auto throws = [&](auto f) {
            try {
                f();
            } catch (const Fault& fault) {
                CHECK(fault.vector == kGP);
                return true;
            }
            return false;
        };
        auto takesEfer = [&](uint64_t v) {
            bool taken = false;
            return !throws([&] { taken = c.writeMsr(0xc0000080, v); }) && taken;
        };
        CHECK(c.gpr[Rdx] == c.model.signature());  // from RESET#
        CHECK(c.cpuid(1, 0).eax == c.model.signature());
        for (auto& b : crBits) {
            CAPTURE(b.bits);
            CHECK(bool(c.model.cr4Supported() & b.bits) == offers(b.leaf, b.reg, b.bit));
            if (b.bits & (cr4::PCIDE | cr4::LA57)) continue;  // need long mode, or its absence
            const uint64_t before = c.cr4;
            CHECK(throws([&] { c.setCr4(before | b.bits); }) == !offers(b.leaf, b.reg, b.bit));
            c.setCr4(before);
        }
        const bool lm = offers(0x80000001, 'd', 29), nx = offers(0x80000001, 'd', 20);
        CHECK(takesEfer(efer::LME) == lm);
        CHECK(takesEfer(efer::NXE) == nx);
        for (auto& m : msrs) {
            CAPTURE(m.index);
            CHECK(c.readMsr(m.index).has_value() == offers(m.leaf, m.reg, m.bit));
        }
        if (level >= 0xd && c.model.has(Feature::XSAVE))
            CHECK((c.cpuid(0xd, 0).eax | uint64_t(c.cpuid(0xd, 0).edx) << 32) == c.model.xcr0Supported());
    }
}
