#include "translate/writes_beside.hpp"

#include <bit>
#include <cstddef>

#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

static_assert(sizeof(std::atomic<uint64_t>) == 8 && sizeof(std::atomic<uint32_t>) == 4);
static_assert(std::has_single_bit(sizeof(PageMarks)));

namespace {

constexpr int32_t kPushed = 24;  // the return address, rdx and rbx

struct Emission {
    x86::Assembler& a;
    RamBlock& memory;
    bool threaded;

    x86::Mem ofMarks(size_t offset, uint32_t bytes) const {
        return x86::ptr(x86::rdx, int32_t(offset), bytes);
    }

    // rcx, rax: the first and the last byte. Goes on with the page's marked lines in rdx, or at `no`; rdx and
    // rbx are on the stack then. `stays`: what is found here is to hold until somebody marks the page.
    void marks(const Label& no, bool stays) const {
        a.push(x86::rdx);
        a.push(x86::rbx);
        a.mov(x86::rdx, x86::rcx);
        a.xor_(x86::rdx, x86::rax);
        a.shr(x86::rdx, 12);
        a.jnz(no);  // two pages
        entryIn(x86::edx);
        a.mov(x86::rbx, x86::rcx);
        a.and_(x86::rbx, -4096);
        a.or_(x86::rbx, int32_t(Tlb::kSlow | Tlb::kBeside));
        a.cmp(x86::rbx, entryPart(Tlb::kWriteTag + kPushed, x86::rdx));
        a.jne(no);
        a.mov(x86::rdx, entryPart(Tlb::kAddend + kPushed, x86::rdx));
        a.add(x86::rdx, x86::rcx);
        a.mov(x86::rbx, uint64_t(memory.data()));
        a.sub(x86::rdx, x86::rbx);
        a.shr(x86::rdx, 12);
        a.shl(x86::rdx, std::countr_zero(sizeof(PageMarks)));
        a.mov(x86::rbx, uint64_t(memory.marks()));
        a.add(x86::rdx, x86::rbx);
        a.cmp(ofMarks(offsetof(PageMarks, tables), 4), 0);
        a.jne(no);
        if (threaded || stays)  // see PageMarks
            a.mov(x86::rbx, x86::qword_ptr(x86::rsp, int32_t(offsetof(HostFrame, writer)) + kPushed));
        if (threaded) {
            a.test(ofMarks(offsetof(PageMarks, writers), 8), x86::rbx);
            a.jz(no);
        } else if (stays) {
            a.or_(ofMarks(offsetof(PageMarks, writers), 8), x86::rbx);
        }
        a.mov(x86::rdx, ofMarks(offsetof(PageMarks, lines), 8));
        a.test(x86::rdx, x86::rdx);
        a.jz(no);  // no code is left: Cpu::writeInPage makes the entry a plain one
    }

    // Of the first byte.
    void entryIn(const x86::Gp& to) const {
        a.mov(to, x86::ecx);
        toEntry(a, to);
    }

    void pop() const {
        a.pop(x86::rbx);
        a.pop(x86::rdx);
    }

    // Subroutines that look at the lines of the first and the last byte.
    void ofSizes(std::array<Label, kBesideSizes>& entries, const Label& out) const {
        const Label look = a.newLabel(), no = a.newLabel();
        for (unsigned n = 0; n < kBesideSizes; n++) {
            entries[n] = a.newLabel();
            a.bind(entries[n]);
            a.lea(x86::rax, x86::ptr(x86::rcx, (1 << n) - 1));
            if (n + 1 < kBesideSizes) a.jmp(look);
        }
        a.bind(look);
        marks(no, false);
        a.mov(x86::ebx, x86::ecx);
        a.shr(x86::ebx, 6);
        a.bt(x86::rdx, x86::rbx);
        a.jc(no);
        a.shr(x86::eax, 6);
        a.bt(x86::rdx, x86::rax);
        a.jc(no);
        entryIn(x86::eax);
        pop();
        a.add(x86::qword_ptr(x86::rsp), 4);
        a.ret();
        a.bind(no);
        pop();
        a.jmp(out);
    }

    // One that looks at all lines between them, too.
    Label ofRange() const {
        const Label entry = a.newLabel(), no = a.newLabel();
        a.bind(entry);
        marks(no, true);
        a.mov(x86::rbx, x86::rcx);
        a.shr(x86::ecx, 6);
        a.shr(x86::rdx, x86::cl);  // from bit 0 on
        a.shr(x86::eax, 6);
        a.sub(x86::ecx, x86::eax);
        a.sub(x86::ecx, 1);
        a.shl(x86::rdx, x86::cl);  // up to bit 63
        a.mov(x86::rcx, x86::rbx);
        entryIn(x86::eax);
        a.test(x86::rdx, x86::rdx);
        pop();
        a.ret();
        a.bind(no);
        pop();
        a.test(x86::rsp, x86::rsp);
        a.ret();
        return entry;
    }
};

}  // namespace

// Which pages' tags have kBeside is Cpu::enterInTlb's choice: all of them lie in Cpu::besideCode.
WritesBeside emitWritesBeside(x86::Assembler& a, RamBlock* memory, bool threaded, const Label& out) {
    WritesBeside w;
    if (!memory) return w;
    const Emission e{a, *memory, threaded};
    e.ofSizes(w.sizes, out);
    w.range = e.ofRange();
    return w;
}

}  // namespace kiln
