#include "translate/ac_switch.hpp"

#include <cstddef>

#include "cpu/flags.hpp"
#include "translate/frame_words.hpp"

namespace kiln {

using namespace asmjit;

namespace {

void emitSwitch(x86::Assembler& a, const Label& outAt, bool sets) {
    const Label here = a.newLabel(), slow = a.newLabel();
    constexpr int32_t kPushed = 8;  // the return address
    auto frame = [](size_t offset) { return x86::qword_ptr(x86::rsp, int32_t(offset) + kPushed); };
    auto other = [](size_t offset) { return x86::qword_ptr(x86::rdx, int32_t(offset)); };
    auto setFlag = [&] {
        const x86::Mem flags = x86::dword_ptr(x86::rcx);
        sets ? a.or_(flags, uint32_t(flag::AC)) : a.and_(flags, ~uint32_t(flag::AC));
    };
    a.mov(x86::rcx, frame(offsetof(HostFrame, cpl)));
    a.cmp(x86::dword_ptr(x86::rcx), 0);
    a.jne(slow);
    a.mov(x86::rdx, frame(sets ? offsetof(HostFrame, withAc) : offsetof(HostFrame, withoutAc)));
    a.lea(x86::rcx, frame(0));
    a.cmp(x86::rcx, x86::rdx);
    a.je(here);
    a.cmp(x86::byte_ptr(x86::rsp, int32_t(offsetof(HostFrame, x87)) + kPushed), unsigned(X87Place::InCpu));
    a.jne(slow);
    for (const size_t tag : {offsetof(HostFrame, lookupTag), offsetof(HostFrame, globalTag),
                             offsetof(HostFrame, forgotten), offsetof(HostFrame, generation)}) {
        a.mov(x86::rcx, frame(tag));
        a.cmp(x86::rcx, other(tag));
        a.jne(slow);
    }
    eachMovingWord([&](size_t at) {
        a.mov(x86::rcx, frame(at));
        a.mov(other(at), x86::rcx);
    });
    a.mov(x86::rcx, frame(offsetof(HostFrame, dataTlb)));
    a.mov(x86::rax, other(offsetof(HostFrame, tlb)));
    a.mov(x86::qword_ptr(x86::rcx), x86::rax);
    a.mov(x86::rcx, frame(offsetof(HostFrame, otherFlags)));
    setFlag();
    a.pop(x86::rcx);
    a.lea(x86::rsp, x86::ptr(x86::rdx, -8));
    a.mov(x86::qword_ptr(x86::rsp), x86::rcx);
    a.ret();
    a.bind(here);  // no SMAP, or nothing new
    a.mov(x86::rcx, frame(offsetof(HostFrame, otherFlags)));
    setFlag();
    a.ret();
    a.bind(slow);
    a.pop(x86::rcx);
    a.jmp(outAt);
}

}  // namespace

AcSwitches emitAcSwitches(x86::Assembler& a, const Label& outAt) {
    const AcSwitches switches{a.newLabel(), a.newLabel()};
    a.bind(switches.stac);
    emitSwitch(a, outAt, true);
    a.bind(switches.clac);
    emitSwitch(a, outAt, false);
    return switches;
}

}  // namespace kiln
