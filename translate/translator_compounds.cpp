// Several traps in one entry (compounding): loops of traps (trap_loop.hpp), and repeated string instructions
// whose other end is a device. What comes of an access, such as an interrupt, is met where it would be
// without: the slice, registers, flags and the place in the block are those of the instruction behind that
// access.
#include "cpu/repeat.hpp"
#include "translate/flag_image.hpp"
#include "translate/translator.hpp"
#include "translate/trap_loop.hpp"

namespace kiln {

namespace {

using What = TrapLoop::What;
using Step = TrapLoop::Step;

template <class Operation>
uint64_t atWidth(unsigned bytes, Operation operation) {
    switch (bytes) {
        case 1: return operation.template operator()<uint8_t>();
        case 2: return operation.template operator()<uint16_t>();
        case 4: return operation.template operator()<uint32_t>();
        default: return operation.template operator()<uint64_t>();
    }
}

// The general registers and flags on the way round.
struct Registers {
    uint64_t r[16];
    Flags flags;

    // What is stored.
    uint64_t data(const Step& s) const {
        return s.what == What::StoreConstant ? uint64_t(s.constant) : r[s.to] >> (s.high ? 8 : 0);
    }
    void set(const Step& s, uint64_t v) {
        if (s.high) {
            r[s.to] = (r[s.to] & ~0xff00ull) | (v & 0xff) << 8;
            return;
        }
        const uint64_t mask = s.merges ? openBus(s.bytes) : ~0ull;
        r[s.to] = (r[s.to] & ~mask) | (v & mask);
    }
    uint64_t source(const Step& s) const { return s.from < 16 ? r[s.from] : uint64_t(s.constant); }
    uint64_t address(const Step& s) const {
        const uint64_t base = s.base < 16 ? r[s.base] : 0, index = s.index < 16 ? r[s.index] << s.scale : 0;
        const int64_t distance = s.what == What::StoreConstant ? 0 : s.constant;
        return (base + index + uint64_t(distance)) & openBus(s.width);
    }
    void advance(const Step& s) {
        if (s.advance) r[s.base] = (r[s.base] + s.advance) & openBus(s.width);
    }
    void arithmetic(const Step& s) {
        const uint64_t v = atWidth(s.bytes, [&]<class T>() -> uint64_t {
            const T a = T(r[s.to]), b = T(source(s));
            T result = a;
            switch (s.what) {
                case What::Add: flags.add<T>(a, b, result = T(a + b)); break;
                case What::Sub: flags.sub<T>(a, b, result = T(a - b)); break;
                case What::Compare: flags.sub<T>(a, b, T(a - b)); return r[s.to];
                case What::Test: flags.logic<T>(T(a & b)); return r[s.to];
                default: {
                    const bool carry = flags.cf();
                    const T one = 1;
                    s.what == What::Inc ? flags.add<T>(a, one, result = T(a + 1))
                                        : flags.sub<T>(a, one, result = T(a - 1));
                    flags.set<T>(result, carry, flags.of(), flags.af());
                    break;
                }
            }
            return result;
        });
        if (s.what != What::Compare && s.what != What::Test) set(s, v);
    }
};

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
        !mayUsePort(f) || c.breakpoints_.data || recording_)
        return false;
    Registers x;
    for (unsigned n = 0; n < 16; n++) x.r[n] = f.gpr(n);
    x.flags.setArithmetic(arithmeticFlags(f.flags));
    std::array<uint32_t, 32> done{};
    DeviceRange known{1, 0, 0, nullptr};
    PortBus::Target target;
    uint32_t knownPort = 0;
    unsigned knownBytes = 0;
    uint64_t version = c.io.ports.version();
    static constexpr Block kNoBlock{};
    c.block = &kNoBlock;
    const Tlb* tlb = c.dataTlb_;
    const uint64_t generation = tlb->generation();
    DeviceGuard guard(c.threads());
    unsigned at = s.index;
    bool disturbed = false, port = false, rounds = false;
    // Whether there was more to an access than that.
    auto device = [&](auto access) {
        const int64_t left = c.slice_ = slice - b.count;
        left_ = left;
        access();
        done[at]++;
        disturbed = !c.block || c.slice_ != left || c.dataTlb_ != tlb || tlb->generation() != generation ||
                    f.lookupTag != frameTag(c.lookupTag_) || f.globalTag != frameTag(c.globalTag_) ||
                    f.forgotten != c.ways_->forgotten || store_->isDead(s);
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

// REP STOS and MOVS with registers in memory at one end or both: so many elements at once as the interpreter
// does before it looks at interrupts. Null: that can't be had.
const uint8_t* Translator::stringOfRegisters(HostFrame& f, Site& s, bool copies) {
    Cpu& c = cpu_;
    const unsigned size = s.bytes;
    const Tlb& tlb = *c.dataTlb_;
    uint64_t &count = f.gpr(Rcx), &from = f.gpr(Rsi), &to = f.gpr(Rdi);
    if (!options_.compound || !options_.promote || recording_ || c.breakpoints_.data || c.alignmentChecks_ ||
        c.watchesElements())
        return nullptr;
    uint64_t budget = kElementsAtOnce, traps = 0;
    const uint64_t generation = tlb.generation();
    std::array<uint64_t, 64> piece;
    constexpr uint64_t kPiece = sizeof piece;
    const int64_t left = c.slice_ = f.slice - s.block->count;
    static constexpr Block kNoBlock{};
    c.block = &kNoBlock;
    DeviceGuard guard(c.threads());
    // Where an address leads: to memory, or to registers.
    struct End {
        uint8_t* host = nullptr;
        IoHandler* handler = nullptr;
        uint64_t offset = 0, bytes = 0;
    };
    auto find = [&](uint64_t linear, bool write) {
        End e;
        const uint64_t page = linear & ~kPageMask;
        auto tagOf = [&] { return write ? tlb.writeTag(linear) : tlb.readTag(linear); };
        Fault fault;
        if ((tagOf() & ~kPageMask) != page)
            c.probe(linear, size, write ? Access::Write : Access::Read, fault);
        const uint64_t tag = tagOf();
        e.bytes = kPageSize - (linear & kPageMask);
        if (tag == page) {
            e.host = reinterpret_cast<uint8_t*>(linear + tlb.addend(linear));
        } else if ((tag & ~kPageMask) == page && tag & Tlb::kSlow) {
            const PhysAddr at((c.dataTlb_->at(linear).page & ~kPageMask) | (linear & kPageMask));
            const PhysicalMemory::Target t = c.io.memory.find(at);
            if (c.io.apic.ownsPage(at.page()) || !t.region || !t.region->io) return e;
            e.handler = t.region->io;
            e.offset = at.value - t.region->base.value;
            e.bytes = std::min(e.bytes, t.end.value - at.value);
        }
        return e;
    };
    bool disturbed = false;
    while (count && budget && !disturbed) {
        const End d = find(to, true), o = copies ? find(from, false) : End{.bytes = kPageSize};
        uint64_t n = std::min({count, budget, d.bytes / size, o.bytes / size});
        if (!n || (!d.host && !d.handler) || (copies && !o.host && !o.handler) ||
            (d.host && (!copies || o.host)))
            break;
        if (!copies) {
            n = std::min(n, kPiece / size);
            for (uint64_t k = 0; k < n; k++)
                std::memcpy(reinterpret_cast<uint8_t*>(piece.data()) + k * size, &f.gpr(Rax), size);
            n = d.handler->ioWriteBlock(d.offset, size, n, true, piece.data());
        } else if (o.host) {
            n = d.handler->ioWriteBlock(d.offset, size, n, true, o.host);
        } else if (d.host) {
            n = o.handler->ioReadBlock(o.offset, size, n, true, d.host);
        } else {
            n = 1;
            d.handler->ioWrite(d.offset, size, o.handler->ioRead(o.offset, size) & openBus(size));
        }
        traps += n;
        budget -= n;
        count -= n;
        to += n * size;
        if (copies) from += n * size;
        disturbed = !c.block || tlb.generation() != generation || c.dataTlb_ != &tlb;
    }
    const bool died = !c.block;
    c.block = nullptr;
    if (!traps) return nullptr;
    statistics_.deviceEntries++;
    statistics_.sequences++;
    statistics_.sequenceTraps += traps;
    cpu_.traps.at(ripOf(f, s), TrapKind::MemoryWrite).promoted += traps;
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

// REP INS and OUTS in 64-bit mode. Null: it is something else.
const uint8_t* Translator::stringOfPorts(HostFrame& f, Site& s) {
    Cpu& c = cpu_;
    const unsigned size = s.bytes;
    const bool in = !s.write;
    uint64_t &count = f.gpr(Rcx), &index = f.gpr(in ? Rdi : Rsi);
    const auto port = uint16_t(f.gpr(Rdx));
    const PortBus::Target target = c.io.ports.target(port, size);
    if (!options_.compound || !mayUsePort(f) || !target.handler || c.flags.test(flag::DF) ||
        c.breakpoints_.data || c.alignmentChecks_ || c.watchesElements() || !count)
        return nullptr;
    const Tlb& tlb = *c.dataTlb_;
    uint64_t budget = kElementsAtOnce, traps = 0;
    const uint64_t generation = tlb.generation();
    const int64_t left = c.slice_ = f.slice - s.block->count;
    static constexpr Block kNoBlock{};
    c.block = &kNoBlock;
    bool disturbed = false;
    DeviceGuard guard(c.threads());
    while (count && budget && !disturbed) {
        const uint64_t page = index & ~kPageMask,
                       n = std::min({count, budget, (kPageSize - (index & kPageMask)) / size});
        Fault fault;
        if (n && (in ? tlb.writeTag(index) : tlb.readTag(index)) != page)
            c.probe(index, size, in ? Access::Write : Access::Read, fault);
        if (!n || (in ? tlb.writeTag(index) : tlb.readTag(index)) != page) break;
        auto* host = reinterpret_cast<uint8_t*>(index + tlb.addend(index));
        const uint64_t done = in ? target.handler->ioReadBlock(target.offset, size, n, false, host)
                                 : target.handler->ioWriteBlock(target.offset, size, n, false, host);
        traps += done;
        budget -= done;
        count -= done;
        index += done * size;
        disturbed = !c.block || tlb.generation() != generation || c.dataTlb_ != &tlb ||
                    c.io.ports.target(port, size).handler != target.handler;
    }
    const bool died = !c.block;
    c.block = nullptr;
    if (!traps) return nullptr;
    statistics_.deviceEntries++;
    statistics_.sequences++;
    statistics_.sequenceTraps += traps;
    cpu_.traps.at(ripOf(f, s), in ? TrapKind::In : TrapKind::Out).promoted += traps;
    const uint64_t rip = ripOf(f.page + uint64_t(s.target));
    HostFrame& n = followContext(f);
    n.slice = c.slice_ + s.block->count;
    if (!n.gpr(Rcx) && !disturbed && !died && c.slice_ == left && !store_->isDead(s)) return resume(n, s);
    if (!n.gpr(Rcx)) return leaveAt(n, *s.block, s.index + 1u, Exit::Events);
    if (budget) return leaveAt(n, *s.block, s.index, Exit::Instruction);  // what is left is the interpreter's
    c.flags.change(flag::RF, true);
    return leave(n, rip, s.index + 1u, Exit::Events);
}

}  // namespace kiln
