// The kernels that meson.build makes of boot_kernel.asm.
#pragma once
#include <cstdint>
#include <span>

namespace kiln {

extern const std::span<const uint8_t> kBootKernel1, kBootKernel2, kBootKernel3, kBootKernel4, kBootKernel5,
    kBootKernel6, kBootKernel7, kBootKernel8, kBootKernel9, kBootKernel2Graphics, kBootKernel5Graphics;

inline std::span<const uint8_t> bootKernel(unsigned kind, bool graphics) {
    if (graphics) return kind == 2 ? kBootKernel2Graphics : kBootKernel5Graphics;
    static constexpr const std::span<const uint8_t>* kAll[] = {&kBootKernel1, &kBootKernel2, &kBootKernel3,
                                                               &kBootKernel4, &kBootKernel5, &kBootKernel6,
                                                               &kBootKernel7, &kBootKernel8, &kBootKernel9};
    return *kAll[kind - 1];
}

}  // namespace kiln
