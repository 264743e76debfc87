// The models -cpu knows by name, as QEMU defines them (486 to EPYC) or as the x86-64 psABI defines its
// levels. Their features may include some that kiln does not implement; chooseCpuModel leaves those out.
#pragma once
#include <span>

#include "cpu/cpu_model.hpp"

namespace kiln {

std::span<const CpuModel> namedModels();

}  // namespace kiln
