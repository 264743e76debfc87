// What the translator knows of each instruction of the guest, beside what Zydis tells.
#pragma once
#include <Zydis/Zydis.h>
#include <asmjit/x86.h>

namespace kiln {

enum class How : uint8_t {
    Interpret,
    Plain,    // operands replaced, nothing else
    Nothing,  // no effect on a processor without caches
    Lea,
    Shift,  // by CL or an immediate
    Multiply,
    MultiplyWithoutFlags,
    Divide,
    DivideSigned,
    CompareExchange,
    CompareExchangeWide,
    Pause,    // nothing, while nobody waits for this thread
    Convert,  // CBW, CWD and relatives
    LoadAh,
    StoreAh,
    Push,
    Pop,
    Leave,
    LoadFar,  // LES and relatives
    System,
    String,
    Branch,
    Loop,
    Jump,
    Call,
    Return,
};

struct Knowledge {
    How how = How::Interpret;
    asmjit::InstId id = 0;  // the host's instruction of the same name
};

const Knowledge& knowledgeOf(ZydisMnemonic mnemonic);
// Whether this host has what an instruction beyond the first x86-64 processors needs.
bool hostHas(ZydisISASet set);
// Sets of vector instructions whose operands are all that is to be replaced.
bool isVectorSet(ZydisISASet set);
bool isX87(const ZydisDecodedInstruction& z);
// Whether results differ among processors in their last bits.
bool differsAmongHosts(ZydisMnemonic mnemonic);

}  // namespace kiln
