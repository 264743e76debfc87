// How processors are grouped into packages, cores and threads, and the APIC ids that say so (SDM vol. 3, 9.9):
// each level has a field of the id, as wide as its largest number needs.
#pragma once
#include <bit>
#include <cstdint>

namespace kiln {

struct CpuTopology {
    unsigned sockets = 1, cores = 1, threads = 1;  // cores of a socket, threads of a core

    unsigned cpus() const { return sockets * cores * threads; }
    unsigned perSocket() const { return cores * threads; }
    unsigned threadBits() const { return unsigned(std::bit_width(threads - 1)); }
    unsigned socketShift() const { return threadBits() + unsigned(std::bit_width(cores - 1)); }
    // Of processor `n`, counted through threads first, then cores.
    uint32_t apicId(unsigned n) const {
        return n / perSocket() << socketShift() | n / threads % cores << threadBits() | n % threads;
    }
};

}  // namespace kiln
