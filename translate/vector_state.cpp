#include "translate/vector_state.hpp"

#include "cpu/x87.hpp"

namespace kiln {

using namespace asmjit;

namespace {

constexpr uint32_t kMxcsrMasks = 0x1f80;

// While a subroutine runs, rdx is the frame and rcx what is to be moved.
x86::Mem frame(size_t offset, uint32_t bytes) { return x86::ptr(x86::rdx, int32_t(offset), bytes); }
#define KILN_AT_RDX(member) frame(offsetof(HostFrame, member), sizeof(HostFrame::member))

x86::Mem slot(unsigned n, unsigned byte = 0) {
    return x86::ptr(x86::rcx, int32_t(n * sizeof(Vector) + byte));
}

// An image of XSAVE (SDM vol. 1, 13.4).
constexpr unsigned kControl = 0, kStatus = 2, kTags = 4, kRegisters = 32, kComponents = 512;

template <class T>
void put(HostFrame& f, unsigned at, T v) {
    std::memcpy(f.x87Image + at, &v, sizeof v);
}
template <class T>
T get(const HostFrame& f, unsigned at) {
    T v;
    std::memcpy(&v, f.x87Image + at, sizeof v);
    return v;
}

}  // namespace

bool VectorState::hostHasAvx() {
    static const bool has = CpuInfo::host().features().x86().hasAVX();
    return has;
}

bool VectorState::hostHasAvx512() {
    static const bool has = [] {
        const auto& x = CpuInfo::host().features().x86();
        return x.hasAVX512_F() && x.hasAVX512_BW() && x.hasAVX512_DQ() && x.hasAVX512_VL();
    }();
    return has;
}

bool VectorState::hostHasXsave() {
    static const bool has = CpuInfo::host().features().x86().hasOSXSAVE();
    return has;
}

uint8_t VectorState::refused(const Cpu& c, const FpuTraps& traps) {
    const bool unmasked = (c.mxcsr & kMxcsrMasks) != kMxcsrMasks;
    auto bit = [](VectorLevel level, bool set) { return unsigned(set) << unsigned(level); };
    unsigned bits = bit(VectorLevel::Sse, unmasked || traps.sse);
    bits |= bit(VectorLevel::Avx, unmasked || traps.avx);
    bits |= bit(VectorLevel::Avx512, unmasked || traps.avx512);
    const bool raises = ~c.fpu.control & float80::kExceptions || c.fpu.status & float80::kErrorSummary;
    if (raises || traps.x87) bits |= kX87;
    return uint8_t(bits);
}

bool VectorState::beyondYmm(const Cpu& c) {
    uint64_t upper = 0;
    for (unsigned n = 0; n < 16; n++)
        for (unsigned word = 4; word < 8; word++) upper |= c.vec[n].q[word];
    return upper;
}

void VectorState::x87ToImage(HostFrame& f, const Cpu& c) {
    if (f.x87 != X87Place::InCpu) return;
    put<uint16_t>(f, kControl, c.fpu.control);
    put<uint16_t>(f, kStatus, c.fpu.status);
    put<uint8_t>(f, kTags, uint8_t(~c.fpu.empty));
    for (unsigned n = 0; n < 8; n++) {
        const Float80 v = x87::get(c, n);
        put<uint64_t>(f, kRegisters + 16 * n, v.mantissa);
        put<uint16_t>(f, kRegisters + 16 * n + 8, v.signExponent);
    }
    put<uint64_t>(f, kComponents, xfeature::X87);
    f.x87Offset = HostFrame::kNoOffset;
    f.x87DataSegment = HostFrame::kNoSegment;
    f.x87 = X87Place::InImage;
}

void VectorState::pointersToCpu(HostFrame& f, Cpu& c) {
    if (f.x87Offset != HostFrame::kNoOffset) {
        c.fpu.instructionPointer = (f.x87Page + uint64_t(f.x87Offset)) & c.ipMask();
        c.fpu.instructionSelector = c.seg[Cs].selector;
        f.x87Offset = HostFrame::kNoOffset;
    }
    if (f.x87DataSegment != HostFrame::kNoSegment) {
        c.fpu.dataPointer = f.x87Data;
        c.fpu.dataSelector = f.x87DataSegment == HostFrame::kGivenSelector ? f.x87DataSelector
                                                                           : c.seg[f.x87DataSegment].selector;
        f.x87DataSegment = HostFrame::kNoSegment;
    }
}

void VectorState::x87ToCpu(HostFrame& f, Cpu& c) {
    if (f.x87 != X87Place::InImage) return;
    c.fpu.control = get<uint16_t>(f, kControl);
    c.fpu.status = get<uint16_t>(f, kStatus);
    c.fpu.empty = uint8_t(~get<uint8_t>(f, kTags));
    for (unsigned n = 0; n < 8; n++)
        c.fpu.physical[x87::physical(c, n)] = {get<uint64_t>(f, kRegisters + 16 * n),
                                               get<uint16_t>(f, kRegisters + 16 * n + 8)};
    pointersToCpu(f, c);
    f.x87 = X87Place::InCpu;
}

// -- host code

VectorCode::VectorCode(x86::Assembler& assembler) : a_(assembler), store_(assembler.newLabel()) {
    load[size_t(VectorLevel::Sse)] = a_.newLabel();
    if (VectorState::hostHasAvx()) load[size_t(VectorLevel::Avx)] = a_.newLabel();
    if (VectorState::hostHasAvx512()) load[size_t(VectorLevel::Avx512)] = a_.newLabel();
    if (VectorState::hostHasXsave()) loadX87 = a_.newLabel();
}

void VectorCode::store() {
    const Label noX87 = a_.newLabel(), noVectors = a_.newLabel();
    a_.lea(x86::rdx, x86::ptr(x86::rsp));
    if (VectorState::hostHasXsave()) {
        a_.cmp(KILN_AT_RDX(x87), uint8_t(X87Place::InHost));
        a_.jne(noX87);
        a_.mov(KILN_AT_RDX(x87), uint8_t(X87Place::InImage));
        a_.mov(x86::ecx, x86::eax);
        a_.mov(x86::eax, uint32_t(xfeature::X87));
        a_.xor_(x86::edx, x86::edx);
        a_.xsave64(x86::ptr(x86::rsp, int32_t(offsetof(HostFrame, x87Image))), x86::edx, x86::eax);
        a_.mov(x86::eax, x86::ecx);
        a_.lea(x86::rdx, x86::ptr(x86::rsp));
        // What C++ expects: an empty stack and its own control word.
        a_.emms();
        a_.fldcw(KILN_AT_RDX(hostX87Control));
        a_.bind(noX87);
    }
    a_.cmp(KILN_AT_RDX(vectors), uint8_t(VectorLevel::None));
    a_.je(noVectors);
    a_.call(store_);
    a_.bind(noVectors);
}

void VectorCode::reload() {
    const Label loaded = a_.newLabel(), done = a_.newLabel();
    auto next = x86::ptr(x86::rsp, int32_t(offsetof(HostFrame, vectorsNext)), 1);
    a_.cmp(next, uint8_t(VectorLevel::None));
    a_.je(loaded);
    for (VectorLevel level : {VectorLevel::Avx512, VectorLevel::Avx, VectorLevel::Sse}) {
        if (!load[size_t(level)].isValid()) continue;
        const Label other = a_.newLabel();
        a_.cmp(next, uint8_t(level));
        a_.jne(other);
        a_.call(load[size_t(level)]);
        a_.jmp(loaded);
        a_.bind(other);
    }
    a_.bind(loaded);
    if (!loadX87.isValid()) return;
    a_.cmp(x86::ptr(x86::rsp, int32_t(offsetof(HostFrame, x87Next)), 1), 0);
    a_.je(done);
    a_.call(loadX87);
    a_.bind(done);
}

// What every load begins with; behind it nothing is loaded.
void VectorCode::begin(VectorLevel level, const Label& out) {
    const Label fresh = a_.newLabel(), want = a_.newLabel();
    a_.bind(load[size_t(level)]);
    a_.lea(x86::rdx, x86::ptr(x86::rsp, 8));
    a_.test(KILN_AT_RDX(refused), uint8_t(1u << unsigned(level)));
    a_.jnz(out);
    a_.cmp(KILN_AT_RDX(vectors), uint8_t(level));
    a_.jb(want);
    a_.ret();
    a_.bind(want);
    a_.cmp(KILN_AT_RDX(vectors), uint8_t(VectorLevel::None));
    a_.je(fresh);
    a_.call(store_);
    a_.bind(fresh);
    a_.mov(x86::rcx, KILN_AT_RDX(vectorState));
}

void VectorCode::end(VectorLevel level) {
    a_.ldmxcsr(KILN_AT_RDX(mxcsr));
    a_.mov(KILN_AT_RDX(vectors), uint8_t(level));
    a_.ret();
}

// To `wide` when bits 511:256 of a register are not zero, else to `dirty` when bits 255:128 are not: host
// code that is told so by VZEROUPPER is faster.
void VectorCode::testUpper(const Label& wide, const Label& dirty) {
    for (unsigned n = 0; n < 2; n++) a_.vmovdqu(x86::ymm(n), slot(n, 32));
    for (unsigned n = 2; n < 16; n++) a_.vorps(x86::ymm(n & 1), x86::ymm(n & 1), slot(n, 32));
    a_.vorps(x86::ymm0, x86::ymm0, x86::ymm1);
    a_.vptest(x86::ymm0, x86::ymm0);
    a_.jnz(wide);
    for (unsigned n = 0; n < 2; n++) a_.vmovdqu(x86::xmm(n), slot(n, 16));
    for (unsigned n = 2; n < 16; n++) a_.vorps(x86::xmm(n & 1), x86::xmm(n & 1), slot(n, 16));
    a_.vorps(x86::xmm0, x86::xmm0, x86::xmm1);
    a_.vptest(x86::xmm0, x86::xmm0);
    a_.jnz(dirty);
}

// Registers 0 to 15. What needs 512 bits goes to `wide`, or is loaded here.
void VectorCode::loadLow(const Label& wide, bool wideHere) {
    const Label dirty = a_.newLabel(), done = a_.newLabel();
    testUpper(wide, dirty);
    a_.vzeroupper();
    for (unsigned n = 0; n < 16; n++) a_.movups(x86::xmm(n), slot(n));
    a_.jmp(done);
    if (wideHere) {
        a_.bind(wide);
        for (unsigned n = 0; n < 16; n++) a_.vmovups(x86::zmm(n), slot(n));
        a_.jmp(done);
    }
    a_.bind(dirty);
    for (unsigned n = 0; n < 16; n++) a_.vmovups(x86::ymm(n), slot(n));
    a_.bind(done);
}

void VectorCode::subroutines(const Label& callOut) {
    const bool avx = VectorState::hostHasAvx(), avx512 = VectorState::hostHasAvx512();
    const Label out = a_.newLabel();
    a_.bind(out);
    a_.add(x86::rsp, 8);
    a_.jmp(callOut);

    begin(VectorLevel::Sse, out);
    if (avx) a_.vzeroupper();  // legacy instructions are slow beside upper halves
    for (unsigned n = 0; n < 16; n++) a_.movups(x86::xmm(n), slot(n));
    end(VectorLevel::Sse);

    const Label wide = a_.newLabel();
    if (avx) {
        begin(VectorLevel::Avx, out);
        loadLow(avx512 ? wide : out, false);
        end(VectorLevel::Avx);
    }
    if (avx512) {
        a_.bind(wide);
        for (unsigned n = 0; n < 16; n++) a_.vmovups(x86::zmm(n), slot(n));
        end(VectorLevel::AvxWide);

        begin(VectorLevel::Avx512, out);
        const Label wideToo = a_.newLabel();
        loadLow(wideToo, true);
        for (unsigned n = 16; n < 32; n++) a_.vmovups(x86::zmm(n), slot(n));
        a_.mov(x86::rcx, KILN_AT_RDX(opmasks));
        for (unsigned n = 0; n < 8; n++) a_.kmovq(x86::k(n), x86::qword_ptr(x86::rcx, int32_t(8 * n)));
        end(VectorLevel::Avx512);
    }

    // Nothing else runs until they are stored: registers 0 to 15 keep what they had.
    a_.bind(store_);
    const Label sse = a_.newLabel(), ymm = a_.newLabel(), zmm = a_.newLabel(), clean = a_.newLabel(),
                stored = a_.newLabel();
    a_.mov(x86::rcx, KILN_AT_RDX(vectorState));
    if (avx) {
        a_.cmp(KILN_AT_RDX(vectors), uint8_t(VectorLevel::Avx));
        a_.jb(sse);
        a_.je(ymm);
    }
    if (avx512) {
        a_.cmp(KILN_AT_RDX(vectors), uint8_t(VectorLevel::AvxWide));
        a_.je(zmm);
        for (unsigned n = 16; n < 32; n++) a_.vmovups(slot(n), x86::zmm(n));
        a_.mov(x86::rcx, KILN_AT_RDX(opmasks));
        for (unsigned n = 0; n < 8; n++) a_.kmovq(x86::qword_ptr(x86::rcx, int32_t(8 * n)), x86::k(n));
        a_.mov(x86::rcx, KILN_AT_RDX(vectorState));
        a_.bind(zmm);
        for (unsigned n = 0; n < 16; n++) a_.vmovups(slot(n), x86::zmm(n));
        a_.jmp(clean);
    }
    if (avx) {
        a_.bind(ymm);
        for (unsigned n = 0; n < 16; n++) a_.vmovups(slot(n), x86::ymm(n));
        a_.bind(clean);
        a_.vzeroupper();
        a_.jmp(stored);
    }
    a_.bind(sse);
    for (unsigned n = 0; n < 16; n++) a_.movups(slot(n), x86::xmm(n));
    a_.bind(stored);
    a_.stmxcsr(KILN_AT_RDX(mxcsr));
    a_.ldmxcsr(KILN_AT_RDX(hostMxcsr));
    a_.mov(KILN_AT_RDX(vectors), uint8_t(VectorLevel::None));
    a_.ret();

    if (!VectorState::hostHasXsave()) return;
    const Label imaged = a_.newLabel(), loaded = a_.newLabel();
    a_.bind(loadX87);
    a_.lea(x86::rdx, x86::ptr(x86::rsp, 8));
    a_.cmp(KILN_AT_RDX(x87), uint8_t(X87Place::InImage));
    a_.je(imaged);
    a_.jb(out);
    a_.bind(loaded);
    a_.ret();
    a_.bind(imaged);
    a_.test(KILN_AT_RDX(refused), VectorState::kX87);
    a_.jnz(out);
    a_.mov(KILN_AT_RDX(x87), uint8_t(X87Place::InHost));
    a_.mov(x86::rcx, x86::rdx);
    a_.mov(x86::eax, uint32_t(xfeature::X87));
    a_.xor_(x86::edx, x86::edx);
    a_.xrstor64(x86::ptr(x86::rcx, int32_t(offsetof(HostFrame, x87Image))), x86::edx, x86::eax);
    a_.ret();
}

}  // namespace kiln
