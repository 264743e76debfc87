#include "apic/interrupt_relay.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <numeric>
#include <utility>

#include "apic/apic_bus.hpp"
#include "apic/local_apic.hpp"

namespace kiln {

std::string describe(InterruptId id) {
    switch (id.kind) {
        case InterruptId::Intx: return std::string("INT") + char('A' + id.number);
        case InterruptId::Msi: return "MSI " + std::to_string(id.number);
        case InterruptId::Msix: return "MSI-X " + std::to_string(id.number);
    }
    return {};
}

void LatencyHistogram::add(Nanos span) {
    counts[std::min<unsigned>(unsigned(std::bit_width(span)), kBuckets - 1)]++;
}

uint64_t LatencyHistogram::total() const {
    return std::accumulate(counts.begin(), counts.end(), uint64_t(0));
}

// -- a function's side

void InterruptRelay::Port::intx(bool level) {
    Identifier& i = relay_.identifiers_[first_];
    if (i.asserted == level) return;
    restoreIntx(level);
    i.waiting = false;
    if (!level || interrupts() != kShared) return;
    i.since = relay_.clock_.now();
    i.waiting = true;
    relay_.intercept(*this, first_);
    relay_.joinPending(*this);
}

void InterruptRelay::Port::restoreIntx(bool level) {
    bool& asserted = relay_.identifiers_[first_].asserted;
    if (asserted != level) relay_.asserted_ += level ? 1u : ~0u;
    asserted = level;
}

void InterruptRelay::Port::wanted(InterruptId id) {
    Identifier& i = relay_.identifiers_[identifierOf(id)];
    if (i.waiting) return;
    i.since = relay_.clock_.now();
    i.waiting = true;
}

bool InterruptRelay::Port::dedicated(const Msi& msi, uint16_t requester) {
    const int cpu = interrupts();
    if (cpu == kShared || !ApicBus::inWindow(msi.address)) return false;
    relay_.bus_.post(unsigned(cpu), msi, requester);
    return true;
}

void InterruptRelay::Port::setInterrupts(int cpu) {
    assert(cpu == kShared || unsigned(cpu) < relay_.bus_.locals().size());
    cpu_.store(cpu, std::memory_order_release);
}

void InterruptRelay::Port::state(StateVisitor& visit) {
    int32_t cpu = interrupts();
    visit("interrupts", cpu);
    if (cpu < 0 || size_t(cpu) >= relay_.bus_.locals().size()) cpu = kShared;
    cpu_.store(cpu, std::memory_order_release);
}

// -- passing

InterruptRelay::Passage::Passage(Port* port, InterruptId id) : relay_(port ? &port->relay_ : nullptr) {
    if (!port) return;
    const uint32_t identifier = port->identifierOf(id);
    Identifier& i = relay_->identifiers_[identifier];
    if (!i.waiting) i.since = relay_->clock_.now();
    i.waiting = true;
    relay_->intercept(*port, identifier);
    relay_->passing_ = {.identifiers = {identifier}, .count = 1};
}

InterruptRelay::Passage::Passage(InterruptRelay& relay, unsigned pin) : relay_(&relay) {
    Passing& p = relay.passing_;
    p.count = 0;
    p.pin = uint8_t(pin);
    if (!relay.asserted_) return;
    for (const auto& port : relay.ports_) {
        if (port->interrupts() != kShared || !relay.holds(*port, pin)) continue;
        if (p.count < Passing::kMost)
            p.identifiers[p.count++] = port->first_;
        else
            relay.untracked_++;
    }
}

InterruptRelay::Passage::~Passage() {
    if (!relay_) return;
    // What nobody took is over, but for a level that the I/O APIC will send again.
    const Passing& p = relay_->passing_;
    for (unsigned n = 0; n < p.count && p.pin == InterruptTrack::kNoPin; n++)
        relay_->identifiers_[p.identifiers[n]].waiting = false;
    relay_->passing_.count = 0;
    relay_->passing_.pin = InterruptTrack::kNoPin;
}

void InterruptRelay::intercept(Port& port, uint32_t identifier) {
    Identifier& i = identifiers_[identifier];
    i.raised++;
    indicate(identifier);
    if (onIntercept) onIntercept(port.source_, i.id);
    if (!log_.on(LogCategory::Int)) return;
    const Bdf bdf = port.source_.bdf();
    log_(LogCategory::Int, "relay: {:02x}:{:02x}.{:x} {}", bdf.bus(), bdf.device(), bdf.function(),
         describe(i.id));
}

void InterruptRelay::indicate(uint32_t identifier) {
    uint32_t& indicator = identifiers_[identifier].indicator;
    if (indicator != ~0u) indicator++;
    indicated_[identifier / 64] |= 1ull << identifier % 64;
}

// A function that joins others on a line whose interrupt waits in an IRR will be served by it.
void InterruptRelay::joinPending(const Port& port) {
    for (LocalApic* apic : bus_.locals()) {
        InterruptTrack& t = apic->track();
        for (uint32_t n = 0, count = t.count; n < count; n++) {
            const InterruptTrack::Entry e = t.entries[n];
            if (e.inService || e.pin == InterruptTrack::kNoPin || !holds(port, e.pin)) continue;
            return track(t, port.first_, e.vector, e.pin);
        }
    }
}

bool InterruptRelay::holds(const Port& port, unsigned pin) const {
    return port.wire_ >= 0 && identifiers_[port.first_].asserted && wireLeadsTo &&
           wireLeadsTo(unsigned(port.wire_), pin);
}

std::optional<unsigned> InterruptRelay::dedicatedPin(unsigned pin) const {
    if (!asserted_) return {};
    int cpu = kShared;
    for (const auto& port : ports_) {
        if (!holds(*port, pin)) continue;
        const int its = port->interrupts();
        if (its == kShared || (cpu != kShared && cpu != its)) return {};
        cpu = its;
    }
    return cpu == kShared ? std::nullopt : std::optional(unsigned(cpu));
}

// -- local APICs

void InterruptRelay::enteredIrr(InterruptTrack& t, uint8_t vector) {
    for (unsigned n = 0; n < passing_.count; n++) track(t, passing_.identifiers[n], vector, passing_.pin);
}

void InterruptRelay::track(InterruptTrack& t, uint32_t identifier, uint8_t vector, uint8_t pin) {
    Identifier& i = identifiers_[identifier];
    const Nanos now = clock_.now();
    if (i.waiting) i.latency[RaisedToIrr].add(now - i.since);
    i.waiting = false;
    const auto end = t.entries.begin() + t.count;
    const bool pending = std::any_of(t.entries.begin(), end, [&](const InterruptTrack::Entry& e) {
        return e.identifier == identifier && e.vector == vector && !e.inService;
    });
    if (pending)
        i.coalesced++;
    else if (t.count < InterruptTrack::kMost)
        t.entries[t.count++] = {now, identifier, vector, pin, 0, 0};
    else
        untracked_++;
}

void InterruptRelay::acknowledged(InterruptTrack& t, uint8_t vector) {
    const Nanos now = clock_.now();
    for (uint32_t n = 0; n < t.count; n++) {
        InterruptTrack::Entry& e = t.entries[n];
        if (e.vector != vector || e.inService) continue;
        identifiers_[e.identifier].latency[IrrToHandler].add(now - e.since);
        e.since = now;
        e.inService = 1;
    }
}

void InterruptRelay::finished(InterruptTrack& t, uint8_t vector) {
    const Nanos now = clock_.now();
    uint32_t kept = 0;
    for (uint32_t n = 0; n < t.count; n++) {
        const InterruptTrack::Entry e = t.entries[n];
        if (e.vector == vector && e.inService)
            identifiers_[e.identifier].latency[HandlerToEoi].add(now - e.since);
        else
            t.entries[kept++] = e;
    }
    t.count = kept;
}

// -- what was recorded

InterruptRelay::InterruptRelay(Clock& clock, ApicBus& bus, Log& log) : clock_(clock), bus_(bus), log_(log) {
    bus.relay = this;
}

InterruptRelay::~InterruptRelay() { bus_.relay = nullptr; }

InterruptRelay::Port& InterruptRelay::add(const InterruptSource& source, int wire, unsigned pin, unsigned msi,
                                          unsigned msix) {
    const auto first = unsigned(identifiers_.size());
    ports_.emplace_back(new Port(*this, source, wire, first));
    Port& port = *ports_.back();
    identifiers_.push_back({.id = {InterruptId::Intx, uint16_t(pin)}});
    for (auto [kind, count] : {std::pair(InterruptId::Msi, msi), std::pair(InterruptId::Msix, msix)}) {
        port.base_[kind] = uint32_t(identifiers_.size()) - first;
        for (unsigned n = 0; n < count; n++) identifiers_.push_back({.id = {kind, uint16_t(n)}});
    }
    port.count_ = unsigned(identifiers_.size()) - first;
    indicated_.resize(identifiers_.size() / 64 + 1);
    return port;
}

InterruptRelay::Port* InterruptRelay::find(Bdf bdf) const {
    for (const auto& port : ports_)
        if (port->source_.bdf() == bdf) return port.get();
    return nullptr;
}

const InterruptRelay::Port& InterruptRelay::portOf(uint32_t identifier) const {
    auto behind = [](uint32_t i, const std::unique_ptr<Port>& p) { return i < p->first_; };
    return **std::prev(std::upper_bound(ports_.begin(), ports_.end(), identifier, behind));
}

std::optional<uint32_t> InterruptRelay::find(Bdf bdf, InterruptId id) const {
    const Port* port = find(bdf);
    if (!port || id.kind > InterruptId::Msix) return {};
    const uint32_t n = port->identifierOf(id);
    return n < port->first_ + port->count_ && identifiers_[n].id == id ? std::optional(n) : std::nullopt;
}

std::optional<uint32_t> InterruptRelay::nextIndicated() {
    const size_t words = indicated_.size(), from = next_ / 64;
    for (size_t n = 0; n <= words; n++) {
        const size_t at = (from + n) % words;
        uint64_t word = indicated_[at];
        if (n == 0) word &= ~0ull << next_ % 64;
        if (!word) continue;
        const auto found = uint32_t(at * 64) + unsigned(std::countr_zero(word));
        next_ = found + 1 < words * 64 ? found + 1 : 0;
        return found;
    }
    return {};
}

uint32_t InterruptRelay::take(uint32_t identifier) {
    indicated_[identifier / 64] &= ~(1ull << identifier % 64);
    return std::exchange(identifiers_[identifier].indicator, 0);
}

void InterruptRelay::clear(Port* port) {
    const uint32_t first = port ? port->first_ : 0;
    const uint32_t end = port ? first + port->count_ : uint32_t(identifiers_.size());
    for (uint32_t n = first; n < end; n++) take(n);
}

// Who holds its line goes on holding it: the function itself has to let go.
void InterruptRelay::reset() {
    for (Identifier& i : identifiers_) i = {.id = i.id, .asserted = i.asserted};
    std::fill(indicated_.begin(), indicated_.end(), 0);
    next_ = 0;
    untracked_ = 0;
}

void InterruptRelay::state(StateVisitor& visit) {
    for (Identifier& i : identifiers_) {
        visit("indicator", i.indicator);
        visit("raised", i.raised);
        visit("coalesced", i.coalesced);
        visit("latency", i.latency);
        visit("since", i.since);
        visit("waiting", i.waiting);
    }
    visit("indicated", indicated_);
    visit("next", next_);
    visit("untracked", untracked_);
}

}  // namespace kiln
