#include "apic/apic_bus.hpp"

#include "apic/io_apic.hpp"
#include "apic/local_apic.hpp"

namespace kiln {

ApicMessage ApicBus::decode(const Msi& msi) {
    ApicMessage m;
    m.destination = msi.address >> 12 & 0xFF;
    m.logical = msi.address >> 2 & 1;  // also without the redirection hint, as chipsets do
    m.vector = uint8_t(msi.data);
    m.mode = DeliveryMode(msi.data >> 8 & 7);
    m.level = msi.data >> 15 & 1;
    return m;
}

std::optional<ApicMessage> ApicBus::decodeAsserted(const Msi& msi) {
    const bool deasserts = (msi.data >> 15 & 1) && !(msi.data >> 14 & 1);
    return deasserts ? std::nullopt : std::optional(decode(msi));
}

bool ApicBus::deliverMsi(const Msi& msi) {
    auto message = decodeAsserted(msi);
    if (message) message->relayed = true;
    return message && deliver(*message);
}

std::optional<ApicMessage> ApicBus::resolve(const Msi& msi, std::optional<uint16_t> source) {
    return remapping ? remapping->resolve(msi, source) : decodeAsserted(msi);
}

bool ApicBus::request(const Msi& msi, std::optional<uint16_t> source) {
    auto message = resolve(msi, source);
    if (message) message->relayed = true;
    return message && deliver(*message);
}

static bool hasVector(const ApicMessage& m) {
    return m.mode == DeliveryMode::Fixed || m.mode == DeliveryMode::LowestPriority;
}

bool ApicBus::requestFor(unsigned cpu, const Msi& msi) {
    const auto message = resolve(msi, {});
    if (!message) return false;
    return hasVector(*message) ? locals_[cpu]->accept(*message) : deliver(*message);
}

void ApicBus::post(unsigned cpu, const Msi& msi, std::optional<uint16_t> source) {
    const auto message = resolve(msi, source);
    if (!message) return;
    if (hasVector(*message))
        locals_[cpu]->postVector(message->vector);
    else
        deliver(*message);
}

bool ApicBus::deliver(const ApicMessage& message) { return send(message, Shorthand::None, nullptr); }

bool ApicBus::deliver(const ApicMessage& message, Shorthand shorthand, LocalApic& sender) {
    return send(message, shorthand, &sender);
}

static bool addressed(const LocalApic& apic, const ApicMessage& message, Shorthand shorthand,
                      const LocalApic* sender) {
    switch (shorthand) {
        case Shorthand::None: return apic.matches(message);
        case Shorthand::Self: return &apic == sender;
        case Shorthand::AllIncludingSelf: return true;
        case Shorthand::AllExcludingSelf: return &apic != sender;
    }
    return false;
}

bool ApicBus::send(const ApicMessage& message, Shorthand shorthand, LocalApic* sender) {
    if (message.mode == DeliveryMode::LowestPriority) {
        LocalApic* target = lowestPriority(message, shorthand, sender);
        return target && target->accept(message);
    }
    bool accepted = false;
    for (LocalApic* apic : locals_)
        if (addressed(*apic, message, shorthand, sender)) accepted |= apic->accept(message);
    return accepted;
}

LocalApic* ApicBus::lowestPriority(const ApicMessage& message, Shorthand shorthand, LocalApic* sender) {
    LocalApic* best = nullptr;
    size_t bestIndex = 0;
    for (size_t i = 1; i <= locals_.size(); i++) {
        size_t index = (lastLowest_ + i) % locals_.size();
        LocalApic* apic = locals_[index];
        if (!apic->acceptsFixed() || !addressed(*apic, message, shorthand, sender)) continue;
        if (apic->isFocus(message.vector)) return apic;
        if (best && apic->arbitrationPriority() >= best->arbitrationPriority()) continue;
        best = apic;
        bestIndex = index;
    }
    if (best) lastLowest_ = bestIndex;
    return best;
}

void ApicBus::broadcastEoi(uint8_t vector) {
    for (IoApic* io : ioApics_) io->eoi(vector);
}

void ApicBus::setIntr(bool level) {
    if (level == intr_) return;
    intr_ = level;
    for (LocalApic* apic : locals_) apic->lint0Changed(level);
}

uint64_t ApicBus::ioRead(uint64_t, unsigned size) { return openBus(size); }

void ApicBus::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (size == 4) deliverMsi({kWindowBase + offset, uint32_t(value)});
}

}  // namespace kiln
