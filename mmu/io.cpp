#include "mmu/io.hpp"

#include <algorithm>

namespace kiln {

void PortBus::map(uint16_t first, uint32_t count, IoHandler& handler, uint64_t base) {
    ranges_.push_back({first, std::min<uint32_t>(count, 65536u - first), &handler, base});
    rebuild();
}

void PortBus::unmap(uint16_t first, IoHandler& handler) {
    std::erase_if(ranges_, [&](const Range& r) { return r.first == first && r.handler == &handler; });
    rebuild();
}

void PortBus::rebuild() {
    owner_.fill(0);
    for (size_t i = 0; i < ranges_.size(); i++) {
        auto begin = owner_.begin() + ranges_[i].first;
        std::fill(begin, begin + ranges_[i].count, uint16_t(i + 1));
    }
}

const PortBus::Range* PortBus::find(uint32_t port) const {
    uint16_t index = owner_[port & 0xffff];
    return index ? &ranges_[index - 1] : nullptr;
}

uint32_t PortBus::read(uint16_t port, unsigned size) {
    const Range* r = find(port);
    if (r && port + size <= r->first + r->count && find(port + size - 1) == r)
        return uint32_t(r->handler->ioRead(port - r->first + r->base, size) & openBus(size));
    if (size == 1) return 0xff;
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++) value |= read(uint16_t(port + i), 1) << (i * 8);
    return value;
}

void PortBus::write(uint16_t port, unsigned size, uint32_t value) {
    const Range* r = find(port);
    if (r && port + size <= r->first + r->count && find(port + size - 1) == r) {
        r->handler->ioWrite(port - r->first + r->base, size, value & openBus(size));
        return;
    }
    if (size == 1) return;
    for (unsigned i = 0; i < size; i++) write(uint16_t(port + i), 1, value >> (i * 8) & 0xff);
}

}  // namespace kiln
