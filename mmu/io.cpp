#include "mmu/io.hpp"

#include <algorithm>
#include <cstring>

namespace kiln {

uint64_t IoHandler::ioReadBlock(uint64_t offset, unsigned size, uint64_t, bool, void* to) {
    const uint64_t v = ioRead(offset, size);
    std::memcpy(to, &v, size);
    return 1;
}

uint64_t IoHandler::ioWriteBlock(uint64_t offset, unsigned size, uint64_t, bool, const void* from) {
    uint64_t v = 0;
    std::memcpy(&v, from, size);
    ioWrite(offset, size, v);
    return 1;
}

void PortBus::map(uint16_t first, uint32_t count, IoHandler& handler, uint64_t base) {
    ranges_.push_back({first, std::min<uint32_t>(count, 65536u - first), &handler, base});
    rebuild();
}

void PortBus::unmap(uint16_t first, IoHandler& handler) {
    std::erase_if(ranges_, [&](const Range& r) { return r.first == first && r.handler == &handler; });
    rebuild();
}

void PortBus::rebuild() {
    version_++;
    for (auto& listener : onChange) listener();
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

PortBus::Target PortBus::target(uint16_t port, unsigned size) const {
    const Range* r = find(port);
    if (!r || port + size > r->first + r->count || find(port + size - 1) != r) return {};
    return {r->handler, port - r->first + r->base};
}

DirectRegister PortBus::direct(uint16_t port, unsigned size, bool write) const {
    if (const Target t = target(port, size); t.handler) return t.handler->direct(t.offset, size, write);
    for (unsigned i = 0; i < size; i++)
        if (find(port + i)) return {};
    return DirectRegister::always(openBus(size));
}

uint32_t PortBus::read(uint16_t port, unsigned size) {
    if (const Target t = target(port, size); t.handler)
        return uint32_t(t.handler->ioRead(t.offset, size) & openBus(size));
    if (size == 1) return 0xff;
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++) value |= read(uint16_t(port + i), 1) << (i * 8);
    return value;
}

void PortBus::write(uint16_t port, unsigned size, uint32_t value) {
    if (const Target t = target(port, size); t.handler)
        return t.handler->ioWrite(t.offset, size, value & openBus(size));
    if (size == 1) return;
    for (unsigned i = 0; i < size; i++) write(uint16_t(port + i), 1, value >> (i * 8) & 0xff);
}

}  // namespace kiln
