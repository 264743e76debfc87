// HostAssembler's own encodings beside asmjit's, for every instruction it knows with all kinds of operands;
// and its labels, parts and distances.
#include <asmjit/x86.h>
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "translate/host_assembler.hpp"

using namespace kiln;
using namespace asmjit;
namespace I = x86::Inst;

namespace {

using Bytes = std::vector<uint8_t>;

std::string hex(const std::optional<Bytes>& bytes) {
    if (!bytes) return "refused";
    std::string out;
    for (const uint8_t b : *bytes) out += fmt::format("{:02x}", b);
    return out;
}

struct Asmjit {
    Asmjit() {
        code.init(Environment::host());
        code.attach(&assembler);
    }
    std::optional<Bytes> encode(InstId id, const std::vector<Operand>& ops) {
        assembler.setOffset(0);
        if (assembler.emitOpArray(id, ops.data(), ops.size()) != kErrorOk) return {};
        return Bytes(assembler.bufferData(), assembler.bufferData() + assembler.offset());
    }
    CodeHolder code;
    x86::Assembler assembler;
};

std::optional<Bytes> encode(HostAssembler& a, InstId id, const std::vector<Operand>& ops) {
    a.reset();
    try {
        a.emitOpArray(id, ops.data(), ops.size());
    } catch (const std::runtime_error&) { return {}; }
    const auto bytes = a.bytes(HostAssembler::Part::Main);
    return Bytes(bytes.begin(), bytes.end());
}

std::vector<Operand> registers() {
    std::vector<Operand> all;
    for (uint32_t id : {0, 1, 3, 4, 5, 6, 7, 8, 12, 13, 15}) {
        all.push_back(x86::gpb(id));
        all.push_back(x86::gpw(id));
        all.push_back(x86::gpd(id));
        all.push_back(x86::gpq(id));
    }
    all.push_back(x86::ah);
    all.push_back(x86::bh);
    all.push_back(x86::xmm3);
    all.push_back(x86::xmm11);
    return all;
}

std::vector<Operand> memories() {
    std::vector<Operand> all;
    for (const uint32_t bytes : {0, 1, 2, 4, 8, 16})
        for (const int32_t disp : {0, 1, -128, 128, 0x12345678}) {
            for (const uint32_t base : {0, 4, 5, 12, 13, 14})
                all.push_back(x86::ptr(x86::gpq(base), disp, bytes));
            for (const uint32_t index : {0, 3, 5, 9, 13}) {
                all.push_back(x86::ptr(x86::rsp, x86::gpq(index), index & 3, disp, bytes));
                all.push_back(x86::ptr(x86::r13, x86::gpq(index), index & 3, disp, bytes));
                all.push_back(x86::ptr(x86::rax, x86::gpq(index), index & 3, disp, bytes));
            }
        }
    for (const uint32_t bytes : {4, 8}) {  // what others must encode
        all.push_back(x86::ptr(x86::ecx, 5, bytes));
        x86::Mem far = x86::ptr(x86::rcx, 5, bytes);
        far.setSegment(x86::gs);
        all.push_back(far);
        all.push_back(x86::ptr(uint64_t(0x1234), bytes));
    }
    return all;
}

std::vector<Operand> immediates() {
    std::vector<Operand> all;
    for (const int64_t v :
         {int64_t(0), int64_t(1), int64_t(5), int64_t(63), int64_t(-1), int64_t(127), int64_t(-128),
          int64_t(128), int64_t(255), int64_t(0x7fff), int64_t(-0x8000), int64_t(0xffff), int64_t(0x7fffffff),
          int64_t(-0x80000000ll), int64_t(0x80000000ll), int64_t(0xffffffffll), int64_t(0x123456789abcdef)})
        all.push_back(Imm(v));
    return all;
}

std::string describe(InstId id, const std::vector<Operand>& ops) {
    String out;
    InstAPI::instIdToString(Arch::kX64, id, out);
    std::string text = out.data();
    for (const Operand& o : ops) {
        if (o.isImm()) text += fmt::format(" imm {:x}", o.as<Imm>().value());
        if (o.isReg()) text += fmt::format(" reg{} {}", o.size(), o.id());
        if (o.isMem()) {
            const auto& m = o.as<x86::Mem>();
            text += fmt::format(" mem{} [{}+{}*{}+{:x}]", m.size(), m.baseId(), m.indexId(), 1 << m.shift(),
                                m.offsetLo32());
        }
    }
    return text;
}

}  // namespace

TEST_CASE("the host's instructions are encoded as by asmjit") {
    Asmjit other;
    HostAssembler own;
    const auto regs = registers(), mems = memories(), imms = immediates();
    size_t compared = 0, differences = 0;
    auto compare = [&](InstId id, const std::vector<Operand>& ops) {
        const auto a = encode(own, id, ops), b = other.encode(id, ops);
        compared++;
        if (a == b) return;
        if (differences++ < 20) FAIL_CHECK(describe(id, ops) << ": " << hex(a) << ", by asmjit " << hex(b));
    };
    const InstId one[] = {I::kIdNot,  I::kIdNeg,   I::kIdInc, I::kIdDec, I::kIdSetz, I::kIdSeto,
                          I::kIdSetg, I::kIdSetae, I::kIdMul, I::kIdDiv, I::kIdBswap};
    for (const InstId id : one) {
        for (const Operand& a : regs) compare(id, {a});
        for (const Operand& a : mems) compare(id, {a});
    }
    const InstId two[] = {I::kIdAdd,    I::kIdOr,     I::kIdAdc, I::kIdSbb,  I::kIdAnd,   I::kIdSub,
                          I::kIdXor,    I::kIdCmp,    I::kIdMov, I::kIdTest, I::kIdLea,   I::kIdMovzx,
                          I::kIdMovsx,  I::kIdMovsxd, I::kIdRol, I::kIdRor,  I::kIdRcl,   I::kIdRcr,
                          I::kIdShl,    I::kIdShr,    I::kIdSar, I::kIdImul, I::kIdCmovb, I::kIdCmovg,
                          I::kIdCmovnp, I::kIdXchg};
    for (const InstId id : two) {
        for (const Operand& a : regs) {
            for (const Operand& b : regs) compare(id, {a, b});
            for (const Operand& b : mems) compare(id, {a, b});
            for (const Operand& b : imms) compare(id, {a, b});
        }
        for (const Operand& a : mems) {
            for (const Operand& b : regs) compare(id, {a, b});
            for (const Operand& b : imms) compare(id, {a, b});
        }
    }
    for (const InstId id : {I::kIdLahf, I::kIdSahf, I::kIdRet, I::kIdCwde, I::kIdCdq, I::kIdCdqe, I::kIdCqo})
        compare(id, {});
    for (const InstId id : {I::kIdJmp, I::kIdCall})
        for (const auto* list : {&regs, &mems})
            for (const Operand& a : *list)
                if (a.isMem() || a.as<x86::Reg>().isGpq()) compare(id, {a});
    MESSAGE(compared << " compared");
    CHECK(differences == 0);
}

TEST_CASE("prefixes stand before the host's instructions") {
    HostAssembler a;
    a.lock().add(x86::dword_ptr(x86::rbx), x86::ecx);
    a.add(x86::ebx, x86::ecx);
    a.k(x86::k1).z().vpaddd(x86::zmm1, x86::zmm2, x86::zmm3);
    a.vpaddd(x86::zmm1, x86::zmm2, x86::zmm3);
    const auto bytes = a.bytes(HostAssembler::Part::Main);
    CHECK(hex(Bytes(bytes.begin(), bytes.end())) == "f0010b01cb62f16dc9fecb62f16d48fecb");
}

TEST_CASE("host code reaches its labels, apart and not") {
    HostAssembler a;
    using Part = HostAssembler::Part;
    const Label back = a.newLabel(), ahead = a.newLabel(), apart = a.newLabel();
    a.bind(back);
    a.jz(back);             // 74 fe
    a.long_().jmp(back);    // e9, -7
    a.jnz(ahead);           // 0f 85
    a.short_().jmp(ahead);  // eb
    a.jecxz(x86::ecx, ahead);
    a.jmp(apart);
    a.call(Imm(uint64_t(0x200000)));
    a.section(Part::Cold);
    a.bind(apart);
    a.jmp(back);
    a.section(Part::Main);
    a.bind(ahead);
    a.ret();
    const auto at = [](uint64_t n) { return reinterpret_cast<const uint8_t*>(n); };
    a.resolve(at(0x100000), at(0x180000));
    const auto main = a.bytes(Part::Main), cold = a.bytes(Part::Cold);
    CHECK(hex(Bytes(main.begin(), main.end())) ==
          "74fee9f9ffffff0f850f000000eb0d67e30ae9e9ff0700e8e4ff0f00c3");
    CHECK(hex(Bytes(cold.begin(), cold.end())) == "e9fbfff7ff");
    CHECK(a.distanceTo(back) == 0);
    CHECK(a.distanceTo(ahead) == 28);
    CHECK(a.distanceTo(apart) == 0x80000);
    CHECK_THROWS_AS(a.resolve(at(0x100000), at(0x800000000)), std::runtime_error);
}

TEST_CASE("long host code and its padding") {
    HostAssembler a;
    for (unsigned n = 0; n < 100'000; n++) a.nop();
    CHECK(a.offset() == 100'000);
    for (unsigned n = 1; n <= 16; n++) {
        a.reset();
        for (unsigned k = 0; k < n; k++) a.nop();
        a.align16();
        CHECK(a.offset() == 16);
    }
}

TEST_CASE("what host rax holds is known until it is named") {
    HostAssembler a;
    const auto holds = [&](auto emit) {
        a.nowRaxHolds(3);
        emit();
        return a.raxHolds() == 3;
    };
    CHECK(holds([&] { a.mov(x86::ecx, x86::ptr(x86::rax)); }));
    CHECK(holds([&] { a.mov(x86::ptr(x86::rax, x86::rbx), x86::ecx); }));
    CHECK_FALSE(holds([&] { a.mov(x86::eax, x86::ecx); }));
    CHECK_FALSE(holds([&] { a.mov(x86::cl, x86::al); }));
    CHECK_FALSE(holds([&] { a.rorx(x86::ecx, x86::eax, 3); }));
    CHECK_FALSE(holds([&] { a.cdqe(); }));
    CHECK_FALSE(holds([&] { a.lahf(); }));
    CHECK_FALSE(holds([&] { a.call(Imm(uint64_t(0x1000))); }));
}
