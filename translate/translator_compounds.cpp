// Several traps in one entry (compounding): loops of traps (trap_loop.hpp), and repeated string instructions
// whose other end is a device. What comes of an access, such as an interrupt, is met where it would be
// without: the slice, registers, flags and the place in the block are those of the instruction behind that
// access.
#include "cpu/repeat.hpp"
#include "translate/flag_image.hpp"
#include "translate/loop_registers.hpp"
#include "translate/translator.hpp"

namespace kiln {

namespace {

using What = TrapLoop::What;
using Step = TrapLoop::Step;

}  // namespace

// From the site's instruction on, in front of which everything is as it should be; `slice` is what there is
// in front of the block. False: it has not even been done once. Otherwise host code goes on at `code`.
bool Translator::goRound(HostFrame& f, Site& s, std::shared_ptr<const TrapLoop> held, int64_t slice,
                         const uint8_t*& code) {
    Cpu& c = cpu_;
    const TrapLoop& loop = *held;  // devices that move take promoted code with them
    const HostBlock& b = *s.block;
    const auto steps = unsigned(loop.steps.size());
    const int64_t enough = b.count + int64_t(steps);
    if (slice < 4 * enough || s.index >= steps || now_.segmented() || c.flags.test(flag::DF) ||
        !mayUsePort() || c.breakpoints_.data || recording_)
        return false;
    LoopRegisters x;
    for (unsigned n = 0; n < 16; n++) x.r[n] = f.gpr(n);
    x.flags.setArithmetic(arithmeticFlags(f.flags));
    std::array<uint32_t, 32> done{};
    DeviceRange known{1, 0, 0, nullptr};
    PortBus::Target target;
    uint32_t knownPort = 0;
    unsigned knownBytes = 0;
    uint64_t version = c.io.ports.version();
    BeforeAccess before = beforeAccess(slice - b.count);
    const Tlb* tlb = before.tlb;
    DeviceGuard guard(c.threads());
    unsigned at = s.index;
    bool disturbed = false, port = false, rounds = false;
    // Whether there was more to an access than that.
    auto device = [&](auto access) {
        left_ = c.slice_ = before.slice = slice - b.count;
        access();
        done[at]++;
        disturbed = !stillAs(before, f, s);
    };
    auto registersAt = [&](uint64_t linear, unsigned bytes) -> uint64_t {
        const uint64_t physical = (c.dataTlb_->at(linear).page & ~kPageMask) | (linear & kPageMask);
        if (physical - known.begin + bytes <= known.size) return physical;
        if (c.io.apic.ownsPage(PhysAddr(physical).page())) {
            known = {physical & ~kPageMask, kPageSize, physical & ~kPageMask, &c.io.apic};
        } else {
            const PhysicalMemory::Target t = c.io.memory.find(PhysAddr(physical));
            if (!t.region || !t.region->io || t.end.value - physical < bytes) return ~0ull;
            known = {physical, t.end.value - physical, t.region->base.value, t.region->io};
        }
        return physical;
    };
    // Many rounds up to their access to `handler`, which moves nothing but data in them. How many: of the
    // last one the access is done, and it was the same as far as the other steps are concerned.
    std::array<uint8_t, kPageSize> piece;
    auto inBulk = [&](IoHandler& handler, uint64_t offset, uint64_t room) {
        const TrapLoop::Bulk& bulk = *loop.bulk;
        const Step& step = loop.steps[at];
        const unsigned size = step.bytes, other = at == bulk.source ? bulk.sink : bulk.source;
        const bool reads = at == bulk.source, ascending = step.base < 16 && bulk.stride[step.base];
        uint64_t n = handler.plainAccesses(offset, size, !reads);
        if (n < 2) return false;
        n = std::min<uint64_t>({n, x.roundsFrom(loop, at), uint64_t(slice - enough - 1) / steps + 1,
                                piece.size() / size, ascending ? room / size : ~0ull});
        uint8_t* host = nullptr;
        if (other != TrapLoop::kNone) {
            const Step& o = loop.steps[other];
            if (o.base > 15 || !bulk.stride[o.base]) return false;
            const uint64_t linear = x.addressOf(loop, other, at), page = linear & ~kPageMask;
            if ((reads ? tlb->writeTag(linear) : tlb->readTag(linear)) != page) return false;
            host = reinterpret_cast<uint8_t*>(linear + tlb->addend(linear));
            n = std::min(n, (kPageSize - (linear & kPageMask)) / size);
        }
        if (n < 2 || !x.mayAdd(bulk)) return false;
        if (reads) {
            n = handler.ioReadBlock(offset, size, n, ascending, piece.data());
            std::memcpy(host, piece.data(), (n - 1) * size);
        } else {
            fillElements(size, piece.data(), x.data(step), host ? 1 : n);
            if (host) std::memcpy(&piece[size], host + size, (n - 1) * size);
            n = handler.ioWriteBlock(offset, size, n, ascending, piece.data());
        }
        uint64_t last = 0;
        std::memcpy(&last, &piece[(n - 1) * size], size);
        if (other != TrapLoop::kNone) x.set(loop.steps[bulk.source], last);
        x.addRounds(bulk, n - 1);
        slice -= int64_t(n - 1) * steps;
        done[at] += uint32_t(n);
        rounds = true;
        return true;
    };
    auto mayBulk = [&] { return loop.bulk && (at == loop.bulk->source || at == loop.bulk->sink); };
    // False: neither memory nor a register, as far as the TLB knows.
    auto memory = [&](const Step& step, bool write) {
        const uint64_t linear = x.address(step), last = (linear + step.bytes - 1) & ~kPageMask;
        const uint64_t tag = write ? tlb->writeTag(linear) : tlb->readTag(linear);
        if (tag == last) {
            auto* host = reinterpret_cast<void*>(linear + tlb->addend(linear));
            atWidth(step.bytes, [&]<class T>() -> uint64_t {
                if (write)
                    storeGuest(host, T(x.data(step)));
                else
                    x.set(step, loadGuest<T>(host));
                return 0;
            });
            return true;
        }
        if (!(tag & Tlb::kSlow) || (tag & ~kPageMask) != last || (linear & ~kPageMask) != last) return false;
        const uint64_t physical = registersAt(linear, step.bytes);
        if (physical == ~0ull) return false;
        const uint64_t offset = physical - known.base;
        if (mayBulk() &&
            inBulk(*known.handler, offset,
                   std::min(known.size - (physical - known.begin), kPageSize - (linear & kPageMask))))
            return true;
        device([&] {
            if (write)
                known.handler->ioWrite(offset, step.bytes, x.data(step) & openBus(step.bytes));
            else
                x.set(step, known.handler->ioRead(offset, step.bytes) & openBus(step.bytes));
        });
        return true;
    };
    for (bool on = true; on && !disturbed;) {
        const Step& step = loop.steps[at];
        switch (step.what) {
            case What::In:
            case What::Out: {
                const auto number = uint16_t(step.from == TrapLoop::kDx ? x.r[Rdx] : uint64_t(step.constant));
                if (number != knownPort || step.bytes != knownBytes) {
                    target = c.io.ports.target(number, step.bytes);
                    knownPort = number, knownBytes = step.bytes;
                }
                if (mayBulk() && target.handler && inBulk(*target.handler, target.offset, kPageSize)) break;
                device([&] {
                    if (step.what == What::In && target.handler)
                        x.set(step, target.handler->ioRead(target.offset, step.bytes) & openBus(step.bytes));
                    else if (step.what == What::In)
                        x.set(step, c.io.ports.read(number, step.bytes));
                    else if (target.handler)
                        target.handler->ioWrite(target.offset, step.bytes, x.r[Rax] & openBus(step.bytes));
                    else
                        c.io.ports.write(number, step.bytes, uint32_t(x.r[Rax] & openBus(step.bytes)));
                });
                if (c.io.ports.version() != version) knownBytes = 0, version = c.io.ports.version();
                port = disturbed;
                break;
            }
            case What::Load:
            case What::Store:
            case What::StoreConstant:
                on = memory(step, step.what != What::Load);
                if (on) x.advance(step);
                break;
            case What::Move:
            case What::Constant: x.set(step, x.source(step) & openBus(step.bytes)); break;
            case What::Address: x.set(step, x.address(step) & openBus(step.bytes)); break;
            case What::Branch: on = !x.flags.zf(); break;
            case What::BranchIfZero: on = x.flags.zf(); break;
            case What::Loop: {
                const uint64_t mask = openBus(step.width), count = (x.r[Rcx] - 1) & mask;
                on = count != 0;
                if (on) x.r[Rcx] = count;
                break;
            }
            default: x.arithmetic(step); break;
        }
        if (!on) break;
        if (++at < steps) continue;
        at = 0;
        slice -= steps;
        rounds = true;
        if (!disturbed) on = slice > enough;
    }
    uint64_t traps = 0;
    for (unsigned n = 0; n < steps; n++) traps += done[n];
    c.block = nullptr;
    if (!traps) return false;
    noteSequence(f, s, loop, done, traps, rounds);
    for (unsigned n = 0; n < 16; n++) f.gpr(n) = x.r[n];
    f.flags = flagsImage(x.flags.arithmetic());
    f.slice = slice;
    f.page += uint64_t(int64_t(s.pages) * int64_t(kPageSize));
    f.vectorsNext = VectorLevel::None;
    f.x87Next = false;
    if (disturbed) {
        HostFrame& n = followContext(f);
        n.slice = c.slice_ + b.count;
        const uint64_t begin = ripOf(n.page + b.start.pageOffset());
        if (port && (c.slice_ <= 0 || (c.io.apic.smiPending() && !c.smm))) {
            const Step& step = loop.steps[at - 1];
            const auto number = uint16_t(step.from == TrapLoop::kDx ? x.r[Rdx] : uint64_t(step.constant));
            code = behindPort(n, b, at - 1,
                              {begin + b.offsets[at - 1], number, step.bytes, step.what == What::In});
        } else {
            code = b.dead ? leave(n, begin + b.offsets[at], at, Exit::Dead) : leaveAt(n, b, at, Exit::Events);
        }
        return true;
    }
    code = leaveAt(f, b, at, Exit::Instruction);
    return true;
}

// What the sites of a sequence are to be told of it.
void Translator::noteSequence(const HostFrame& f, const Site& s, const TrapLoop& loop,
                              std::span<const uint32_t> done, uint64_t traps, bool rounds) {
    statistics_.deviceEntries++;
    statistics_.sequences++;
    statistics_.sequenceTraps += traps;
    statistics_.sequenceRounds += rounds;
    const HostBlock& b = *s.block;
    const uint64_t begin =
        linearOf(ripOf(f.page + uint64_t(int64_t(s.pages) * int64_t(kPageSize)) + b.start.pageOffset()));
    for (unsigned n = 0; n < loop.steps.size(); n++) {
        if (!done[n]) continue;
        const What what = loop.steps[n].what;
        const TrapKind kind = what == What::In     ? TrapKind::In
                              : what == What::Out  ? TrapKind::Out
                              : what == What::Load ? TrapKind::MemoryRead
                                                   : TrapKind::MemoryWrite;
        cpu_.traps.at(begin + b.offsets[n], kind).promoted += done[n];
    }
}

// -- strings

// A repeated string instruction with a device at one end, as long as `piece` has something to move: up to so
// many elements at once, to how many it moved. Like the interpreter it looks around each kElementsAtOnce
// elements, where it counts as another instruction. Null: nothing was moved.
template <class Piece>
const uint8_t* Translator::inPieces(HostFrame& f, Site& s, TrapKind kind, Piece piece) {
    Cpu& c = cpu_;
    uint64_t& count = f.gpr(Rcx);
    const BeforeAccess before = beforeAccess(f.slice - s.block->count);
    uint64_t budget = kElementsAtOnce, traps = 0;
    int64_t left = before.slice;
    bool disturbed = false;
    {
        DeviceGuard guard(c.threads());
        while (count && !disturbed) {
            if (!budget) {
                if (c.slice_ != left || left <= 1 || f.attention->load(std::memory_order_relaxed)) break;
                left = --c.slice_;
                budget = kElementsAtOnce;
            }
            const uint64_t n = piece(std::min(count, budget));
            if (!n) break;
            traps += n;
            budget -= n;
            count -= n;
            disturbed = !c.block || c.dataTlb_ != before.tlb || before.tlb->generation() != before.generation;
        }
    }
    const bool died = !c.block || store_->isDead(s);
    c.block = nullptr;
    if (!traps) return nullptr;
    statistics_.deviceEntries++;
    statistics_.sequences++;
    statistics_.sequenceTraps += traps;
    TrapSite& t = c.traps.at(ripOf(f, s), kind);
    t.promoted += traps;
    if (t.state == TrapSite::State::Counted) t.state = TrapSite::State::Inline;
    if (kind == TrapKind::In || kind == TrapKind::Out) t.target = uint16_t(f.gpr(Rdx));
    const uint64_t rip = ripOf(f.page + uint64_t(s.target));
    HostFrame& n = followContext(f);
    n.slice = c.slice_ + s.block->count;
    // What has come of it is met behind the block, as ever.
    if (!n.gpr(Rcx) && !disturbed && !died && c.slice_ == left) return resume(n, s);
    if (!n.gpr(Rcx)) return leaveAt(n, *s.block, s.index + 1u, Exit::Events);
    if (budget) return leaveAt(n, *s.block, s.index, Exit::Instruction);  // what is left is the interpreter's
    c.flags.change(flag::RF, true);
    return leave(n, rip, s.index + 1u, Exit::Events);
}

// Where an operand of a string leads: to memory, or to registers there; how far that goes.
struct Translator::StringEnd {
    uint8_t* host = nullptr;
    IoHandler* handler = nullptr;
    uint64_t offset = 0, bytes = 0;
    bool leads() const { return host || handler; }
};

Translator::StringEnd Translator::stringEnd(uint64_t linear, unsigned size, bool write) const {
    Cpu& c = cpu_;
    Tlb& tlb = *c.dataTlb_;
    const uint64_t page = linear & ~kPageMask;
    auto tagOf = [&] { return write ? tlb.writeTag(linear) : tlb.readTag(linear); };
    if (kPageSize - (linear & kPageMask) < size) return {};  // over a page's end
    Fault fault;
    if ((tagOf() & ~kPageMask) != page) c.probe(linear, size, write ? Access::Write : Access::Read, fault);
    const uint64_t tag = tagOf();
    StringEnd e{.bytes = kPageSize - (linear & kPageMask)};
    if (tag == page) {
        e.host = reinterpret_cast<uint8_t*>(linear + tlb.addend(linear));
    } else if ((tag & ~kPageMask) == page && tag & Tlb::kSlow) {
        const PhysAddr at((tlb.at(linear).page & ~kPageMask) | (linear & kPageMask));
        const PhysicalMemory::Target t = c.io.memory.find(at);
        if (c.io.apic.ownsPage(at.page()) || !t.region || !t.region->io) return e;
        e.handler = t.region->io;
        e.offset = at.value - t.region->base.value;
        e.bytes = std::min(e.bytes, t.end.value - at.value);
    }
    return e;
}

// REP STOS and MOVS with registers in memory at one end or both. Null: that can't be had.
const uint8_t* Translator::stringOfRegisters(HostFrame& f, Site& s, bool copies) {
    const Cpu& c = cpu_;
    const unsigned size = s.bytes;
    uint64_t &from = f.gpr(Rsi), &to = f.gpr(Rdi);
    if (!options_.compound || !options_.promote || recording_ || c.breakpoints_.data || c.alignmentChecks_ ||
        c.watchesElements())
        return nullptr;
    return inPieces(f, s, TrapKind::MemoryWrite, [&](uint64_t most) -> uint64_t {
        std::array<uint8_t, kPageSize> same;
        // The source first: when it faults, nobody has looked at the destination.
        const StringEnd o = copies ? stringEnd(from, size, false) : StringEnd{.bytes = kPageSize};
        if (copies && !o.leads()) return 0;
        const StringEnd d = stringEnd(to, size, true);
        uint64_t n = std::min({most, d.bytes / size, o.bytes / size});
        if (!n || !d.leads() || (d.host && (!copies || o.host))) return 0;
        if (!copies) {
            fillElements(size, same.data(), f.gpr(Rax), n);
            n = d.handler->ioWriteBlock(d.offset, size, n, true, same.data());
        } else if (o.host) {
            n = d.handler->ioWriteBlock(d.offset, size, n, true, o.host);
        } else if (d.host) {
            n = o.handler->ioReadBlock(o.offset, size, n, true, d.host);
        } else {
            n = 1;
            d.handler->ioWrite(d.offset, size, o.handler->ioRead(o.offset, size) & openBus(size));
        }
        to += n * size;
        if (copies) from += n * size;
        return n;
    });
}

// REP INS and OUTS in 64-bit mode. Null: it is something else.
const uint8_t* Translator::stringOfPorts(HostFrame& f, Site& s) {
    const Cpu& c = cpu_;
    const unsigned size = s.bytes;
    const bool in = !s.write;
    uint64_t& index = f.gpr(in ? Rdi : Rsi);
    const auto port = uint16_t(f.gpr(Rdx));
    const PortBus::Target target = c.io.ports.target(port, size);
    if (!options_.compound || !mayUsePort() || !target.handler || c.flags.test(flag::DF) ||
        c.breakpoints_.data || c.alignmentChecks_ || c.watchesElements())
        return nullptr;
    return inPieces(f, s, in ? TrapKind::In : TrapKind::Out, [&](uint64_t most) -> uint64_t {
        if (c.io.ports.target(port, size).handler != target.handler) return 0;
        const StringEnd m = stringEnd(index, size, in);
        uint64_t n = std::min(most, m.bytes / size);
        if (!n || !m.host) return 0;
        n = in ? target.handler->ioReadBlock(target.offset, size, n, false, m.host)
               : target.handler->ioWriteBlock(target.offset, size, n, false, m.host);
        index += n * size;
        return n;
    });
}

}  // namespace kiln
