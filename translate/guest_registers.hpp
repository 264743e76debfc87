// Numbers of the guest's general registers (SDM vol. 2, 3.1.1.1) by Zydis's names.
#pragma once
#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>

namespace kiln {

using RegisterNumbers = std::array<int8_t, ZYDIS_REGISTER_MAX_VALUE + 1>;

inline constexpr RegisterNumbers kGeneralRegisters = [] {
    RegisterNumbers all{};
    for (int8_t& n : all) n = -1;
    for (int8_t n = 0; n < 16; n++)
        for (const int first : {ZYDIS_REGISTER_AX, ZYDIS_REGISTER_EAX, ZYDIS_REGISTER_RAX})
            all[size_t(first + n)] = n;
    for (int8_t n = 0; n < 4; n++) all[size_t(ZYDIS_REGISTER_AL + n)] = n;
    for (int8_t n = 4; n < 16; n++) all[size_t(ZYDIS_REGISTER_SPL + n - 4)] = n;
    return all;
}();
static_assert(kGeneralRegisters[ZYDIS_REGISTER_DIL] == 7 && kGeneralRegisters[ZYDIS_REGISTER_R15B] == 15 &&
              kGeneralRegisters[ZYDIS_REGISTER_R15W] == 15 && kGeneralRegisters[ZYDIS_REGISTER_R15D] == 15 &&
              kGeneralRegisters[ZYDIS_REGISTER_R15] == 15 && kGeneralRegisters[ZYDIS_REGISTER_BH] == -1);

// Of a general register of any size; -1: it is none, or a high byte.
constexpr int generalRegister(ZydisRegister r) { return kGeneralRegisters[size_t(r)]; }
// The register whose bits 8 to 15 AH, CH, DH or BH is; -1: none of them.
constexpr int highByteOf(ZydisRegister r) {
    return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH ? r - ZYDIS_REGISTER_AH : -1;
}
// The general register that one is, or is a part of.
constexpr int generalOrPart(ZydisRegister r) {
    const int high = highByteOf(r);
    return high >= 0 ? high : generalRegister(r);
}

}  // namespace kiln
