// Which host register holds which guest register while host code runs. Host rax, rcx and rdx, which
// instructions name by themselves, are free for every instruction's own use; rsp points at the HostFrame; the
// other twelve are pinned, and four guest registers stay in the frame.
#pragma once
#include <array>
#include <cstdint>

namespace kiln {

struct RegisterMap {
    static constexpr int8_t kInFrame = -1;
    std::array<int8_t, 16> host;  // by guest register number (SDM vol. 2, 3.1.1.1)

    constexpr bool pinned(unsigned guest) const { return host[guest] >= 0; }
    bool operator==(const RegisterMap&) const = default;
};

//                                      rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15
constexpr RegisterMap kStandardMap{{10, 11, 14, 3, 15, 5, 6, 7, 8, 9, -1, -1, 12, 13, -1, -1}};
constexpr unsigned kRegistersInFrame = [] {
    unsigned n = 0;
    for (const int8_t host : kStandardMap.host) n += host == RegisterMap::kInFrame;
    return n;
}();

}  // namespace kiln
