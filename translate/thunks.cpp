#include "translate/thunks.hpp"

#include <asmjit/x86.h>

#include <algorithm>

#include "translate/ac_switch.hpp"
#include "translate/refusal.hpp"
#include "translate/registers.hpp"
#include "translate/vector_state.hpp"
#include "translate/writes_beside.hpp"

namespace kiln {

using namespace asmjit;

Thunks makeThunks(CodeBuffer& buffer, RamBlock* besideCode, bool threaded, CallOut callOut,
                  CallOut promotedTrap) {
    CodeHolder code;
    Refusal refusal;
    code.init(Environment::host(), uint64_t(buffer.next()));
    code.setErrorHandler(&refusal);
    x86::Assembler a(&code);
    const x86::Gp saved[] = {x86::rbx, x86::rbp, x86::r12, x86::r13, x86::r14, x86::r15};
    auto pinned = [&](bool load) {
        for (unsigned guest = 0; guest < 16; guest++) {
            if (!kStandardMap.pinned(guest)) continue;
            const x86::Mem slot = x86::qword_ptr(x86::rsp, int32_t(HostFrame::gprAt(guest)));
            const x86::Gp host = x86::gpq(uint32_t(kStandardMap.host[guest]));
            load ? a.mov(host, slot) : a.mov(slot, host);
        }
    };
    auto frame = [](size_t offset) { return x86::qword_ptr(x86::rsp, int32_t(offset)); };

    const Label enter = a.newLabel(), exit = a.newLabel(), out = a.newLabel(), promoted = a.newLabel();
    a.bind(enter);  // rdi: the frame, rsi: the code
    for (const x86::Gp& r : saved) a.push(r);
    a.sub(x86::rsp, 8);
    a.mov(x86::qword_ptr(x86::rdi, offsetof(HostFrame, hostStack)), x86::rsp);
    a.mov(x86::rax, x86::rsi);
    a.mov(x86::rsp, x86::rdi);
    pinned(true);
    a.jmp(x86::rax);

    a.bind(exit);
    a.mov(x86::rsp, frame(offsetof(HostFrame, hostStack)));
    a.add(x86::rsp, 8);
    for (size_t n = std::size(saved); n--;) a.pop(saved[n]);
    a.ret();

    VectorCode vectors(a);
    const Label outAt = a.newLabel();
    // eax: the number
    auto callHost = [&](const Label& at, CallOut function) {
        a.bind(at);
        pinned(false);
        a.mov(frame(offsetof(HostFrame, rip)), x86::rdx);
        vectors.store();
        a.mov(x86::rdi, frame(offsetof(HostFrame, owner)));
        a.mov(x86::esi, x86::eax);
        a.mov(x86::rdx, x86::rsp);
        a.mov(x86::rsp, frame(offsetof(HostFrame, hostStack)));
        a.mov(x86::rax, uint64_t(function));
        a.call(x86::rax);
        a.mov(x86::rsp, x86::rdx);  // the frame of perhaps another context
        a.mov(frame(offsetof(HostFrame, resume)), x86::rax);
        vectors.reload();
        pinned(true);
        a.mov(x86::rdx, frame(offsetof(HostFrame, rip)));
        a.mov(x86::eax, x86::dword_ptr(x86::rsp, int32_t(offsetof(HostFrame, flags))));
        a.add(x86::al, 127);
        a.sahf();
        a.jmp(frame(offsetof(HostFrame, resume)));
    };
    a.bind(out);  // called with the number of the site behind the call
    a.pop(x86::rcx);
    a.mov(x86::eax, x86::dword_ptr(x86::rcx));
    callHost(outAt, callOut);
    callHost(promoted, promotedTrap);
    vectors.subroutines(outAt);
    const auto beside = emitWritesBeside(a, besideCode, threaded, out);
    const AcSwitches ac = emitAcSwitches(a, outAt);

    code.flatten();
    const auto& text = code.sectionById(0)->buffer();
    const uint8_t* base = buffer.append({text.data(), text.size()}, {});
    auto place = [&](const Label& l) { return l.isValid() ? base + code.labelOffset(l) : nullptr; };
    Thunks t;
    t.enter = reinterpret_cast<void (*)(HostFrame*, const void*)>(uintptr_t(place(enter)));
    t.exit = place(exit);
    t.callOut = place(out);
    t.callOutAt = place(outAt);
    t.promoted = place(promoted);
    std::transform(vectors.load.begin(), vectors.load.end(), t.load.begin(), place);
    t.loadX87 = place(vectors.loadX87);
    t.stac = place(ac.stac);
    t.clac = place(ac.clac);
    std::transform(beside.sizes.begin(), beside.sizes.end(), t.beside.begin(), place);
    t.besideRange = place(beside.range);
    return t;
}

}  // namespace kiln
