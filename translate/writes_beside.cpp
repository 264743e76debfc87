#include "translate/writes_beside.hpp"

#include <bit>
#include <cstddef>

namespace kiln {

using namespace asmjit;

static_assert(sizeof(std::atomic<uint64_t>) == 8 && sizeof(std::atomic<uint32_t>) == 4);
static_assert(std::has_single_bit(sizeof(PageMarks)));

// Which pages' tags have kBeside is Cpu::enterInTlb's choice: all of them lie in Cpu::besideCode.
std::array<Label, kBesideSizes> emitWritesBeside(x86::Assembler& a, RamBlock* memory, bool threaded,
                                                 const Label& out) {
    std::array<Label, kBesideSizes> entries;
    if (!memory) return entries;
    constexpr int32_t kPushed = 24;  // the return address, rdx and rbx
    auto inFrame = [](int32_t offset, const x86::Gp& index) {
        return x86::qword_ptr(x86::rsp, index, 3, offset + kPushed);
    };
    auto ofMarks = [](size_t offset, uint32_t bytes) { return x86::ptr(x86::rdx, int32_t(offset), bytes); };
    const Label look = a.newLabel(), no = a.newLabel();
    for (unsigned n = 0; n < kBesideSizes; n++) {
        entries[n] = a.newLabel();
        a.bind(entries[n]);
        a.lea(x86::rax, x86::ptr(x86::rcx, (1 << n) - 1));
        if (n + 1 < kBesideSizes) a.jmp(look);
    }
    a.bind(look);  // rax: the last byte
    a.push(x86::rdx);
    a.push(x86::rbx);
    a.mov(x86::rdx, x86::rcx);
    a.xor_(x86::rdx, x86::rax);
    a.shr(x86::rdx, 12);
    a.jnz(no);  // two pages
    a.mov(x86::edx, x86::ecx);
    a.shr(x86::edx, 12);
    a.mov(x86::rbx, x86::rcx);
    a.and_(x86::rbx, -4096);
    a.or_(x86::rbx, int32_t(Tlb::kSlow | Tlb::kBeside));
    a.cmp(x86::rbx, inFrame(Tlb::kWriteTags, x86::rdx));
    a.jne(no);
    a.mov(x86::rdx, inFrame(Tlb::kAddends, x86::rdx));
    a.add(x86::rdx, x86::rcx);
    a.mov(x86::rbx, uint64_t(memory->data()));
    a.sub(x86::rdx, x86::rbx);
    a.shr(x86::rdx, 12);
    a.shl(x86::rdx, std::countr_zero(sizeof(PageMarks)));
    a.mov(x86::rbx, uint64_t(memory->marks()));
    a.add(x86::rdx, x86::rbx);
    a.cmp(ofMarks(offsetof(PageMarks, tables), 4), 0);
    a.jne(no);
    if (threaded) {  // see PageMarks
        a.mov(x86::rbx, x86::qword_ptr(x86::rsp, int32_t(offsetof(HostFrame, writer)) + kPushed));
        a.test(ofMarks(offsetof(PageMarks, writers), 8), x86::rbx);
        a.jz(no);
    }
    a.mov(x86::rdx, ofMarks(offsetof(PageMarks, lines), 8));
    a.mov(x86::ebx, x86::ecx);
    a.shr(x86::ebx, 6);
    a.bt(x86::rdx, x86::rbx);
    a.jc(no);
    a.shr(x86::eax, 6);
    a.bt(x86::rdx, x86::rax);
    a.jc(no);
    a.mov(x86::eax, x86::ecx);
    a.shr(x86::eax, 12);
    a.pop(x86::rbx);
    a.pop(x86::rdx);
    a.add(x86::qword_ptr(x86::rsp), 4);
    a.ret();
    a.bind(no);
    a.pop(x86::rbx);
    a.pop(x86::rdx);
    a.jmp(out);
    return entries;
}

}  // namespace kiln
