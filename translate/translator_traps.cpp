// Trapping instructions that host code calls for: what they do without the interpreter, and how they are
// promoted (promotions.hpp). cpu/io.cpp, cpu/system.cpp and cpu/memory.cpp tell what they do; what may fault,
// or is watched by a debugger, is left to them.
#include "translate/code_store.hpp"
#include "translate/device_operation.hpp"
#include "translate/flag_image.hpp"
#include "translate/promoted_code.hpp"
#include "translate/translator.hpp"
#include "translate/trap_loop.hpp"
#include "translate/vector_state.hpp"

namespace kiln {

namespace {

constexpr uint64_t kPromotedAfter = 32;  // traps of a site
constexpr unsigned kMostDemotions = 6;   // each makes the next promotion wait four times as long

void setLow(uint64_t& r, unsigned bytes, uint64_t v) {
    const uint64_t mask = bytes >= 4 ? ~0ull : openBus(bytes);
    r = (r & ~mask) | (v & openBus(bytes));
}

TrapKind kindOf(const Site& s) {
    switch (s.mnemonic) {
        case ZYDIS_MNEMONIC_IN: return TrapKind::In;
        case ZYDIS_MNEMONIC_OUT: return TrapKind::Out;
        case ZYDIS_MNEMONIC_INSB:
        case ZYDIS_MNEMONIC_INSW:
        case ZYDIS_MNEMONIC_INSD:
        case ZYDIS_MNEMONIC_OUTSB:
        case ZYDIS_MNEMONIC_OUTSW:
        case ZYDIS_MNEMONIC_OUTSD: return s.write ? TrapKind::Out : TrapKind::In;
        case ZYDIS_MNEMONIC_CPUID: return TrapKind::Cpuid;
        case ZYDIS_MNEMONIC_RDMSR: return TrapKind::Rdmsr;
        default: return TrapKind::Wrmsr;
    }
}

}  // namespace

// Whoever held on to a handler lets go of it. (All processors share the store: once is enough, more does no
// harm.)
void Translator::forgetPromotionsWhereDevicesMove() {
    if (!options_.promote) return;
    auto forget = [store = std::weak_ptr(store_)] {
        if (const auto s = store.lock(); s && s->promotions.count())
            s->exclusively([&] { s->promotions.demoteAll(s->sites, s->thunks.callOut); });
    };
    cpu_.io.ports.onChange.push_back(forget);
    cpu_.io.memory.onChange.push_back(forget);
}

// -- calls

const uint8_t* Translator::trap(HostFrame& f, Site& s, uint32_t number) {
    auto interpreted = [&] {
        interpreted_[s.mnemonic]++;
        return interpret(f, s);
    };
    if (!options_.promote || recording_) return interpreted();
    TrapSite& t = cpu_.traps.at(ripOf(f, s), kindOf(s));
    const bool hot = wantsPromotion(t, number);
    const auto ecx = uint32_t(f.gpr(Rcx));
    switch (t.kind) {
        case TrapKind::In:
        case TrapKind::Out: {
            if (s.mnemonic != ZYDIS_MNEMONIC_IN && s.mnemonic != ZYDIS_MNEMONIC_OUT) {
                const uint8_t* host = stringOfPorts(f, s);
                return host ? host : interpreted();
            }
            const uint16_t port = s.port == Site::kInDx ? uint16_t(f.gpr(Rdx)) : uint16_t(s.port);
            const PortBus::Target to = cpu_.io.ports.target(port, s.bytes);
            if (!mayUsePort() || !to.handler) {
                if (deniesPort(port, s.bytes)) return raised(f, s, {kGP, true, 0});
                if (hot && mayUsePort()) promotePort(number, t, port, s.bytes, s.write);
                return interpreted();
            }
            if (hot) promotePort(number, t, port, s.bytes, s.write);
            TrapScope scope(t, port);
            return access(f, s, {to.handler, to.offset, s.bytes, s.write, true});
        }
        case TrapKind::Cpuid:
            if (hot) promoteCpuid(number, t, uint32_t(f.gpr(Rax)), ecx);
            return interpreted();
        default:
            if (hot && !cpu_.cpl) promoteMsr(number, t, ecx, t.kind == TrapKind::Wrmsr);
            return interpreted();
    }
}

bool Translator::mayUsePort() const {
    const Cpu& c = cpu_;
    return (c.real() || c.cpl <= c.flags.iopl()) && !c.v86() && !c.breakpoints_.io;
}

Continuation Translator::callPromoted(Translator& self, uint32_t number, HostFrame* frame) {
    HostFrame& f = *frame;
    const Promotion& p = self.store_->promotions[number];
    Site& s = self.store_->sites[p.site];
    self.frame_ = frame;
    f.slice += std::exchange(self.withheld_, 0);
    TrapSite& profile = *p.profile;  // which stays where it is, unlike p
    DeviceAccess a = p.access;
    if (!a.port) a.offset += (self.cpu_.dataTlb_->at(f.operand).page & ~kPageMask) | (f.operand & kPageMask);
    const int64_t slice = f.slice - s.executed + (s.limited ? f.beyond : 0);
    const uint8_t* code = nullptr;
    if (p.loop && self.goRound(f, s, p.loop, slice, code)) return {code, self.frame_};
    profile.promoted++;
    const bool simple = !s.x87 && !s.x87Page && !self.recording_;
    if (self.reach(f, s, a, slice) && simple) [[likely]] {
        f.vectorsNext = s.level;
        f.x87Next = false;
        return {self.at(s.resume), frame};
    }
    f.slice = slice;
    f.page += uint64_t(int64_t(s.pages) * int64_t(kPageSize));
    f.vectorsNext = VectorLevel::None;
    f.x87Next = false;
    code = self.behindAccess(f, s, a);
    if (self.recording_ && code != self.exit_) self.withholdSlice(*self.frame_);
    return {code, self.frame_};
}

// Has the device do what the site is about; nothing of it can fault. `slice`: what there is in front of the
// block. True: nothing else has come of it but perhaps another slice, and host code can go on at once.
bool Translator::reach(HostFrame& f, const Site& s, const DeviceAccess& a, int64_t slice) {
    statistics_.deviceEntries++;
    const BeforeAccess before = beforeAccess(slice - s.block->count);
    {
        DeviceGuard guard(cpu_.threads());
        if (!a.port && !s.moves())
            operateOnDevice(f, s, *a.handler, a.offset, a.size, cpu_.flags.test(flag::DF));
        else
            a.write ? writeDevice(f, s, a) : readDevice(f, s, a);
    }
    bool same = sameAround(before, f, s) && !(a.port && before.slice <= 0);
    if (same && cpu_.slice_ != before.slice) {
        same = !a.port && !s.trace;
        if (same) f.slice += cpu_.slice_ - before.slice;
    }
    cpu_.block = nullptr;
    return same;
}

// In front of accesses to devices, with so much of the slice.
Translator::BeforeAccess Translator::beforeAccess(int64_t slice) {
    static constexpr Block kNoBlock{};
    left_ = cpu_.slice_ = slice;
    cpu_.block = &kNoBlock;  // blocks that die take it away
    return {slice, cpu_.dataTlb_, cpu_.dataTlb_->generation()};
}

// Whether nothing has come of them for the processor.
bool Translator::stillAs(const BeforeAccess& before, const HostFrame& f, const Site& s) const {
    return cpu_.slice_ == before.slice && sameAround(before, f, s);
}

// But perhaps that less or more is left of the slice.
bool Translator::sameAround(const BeforeAccess& before, const HostFrame& f, const Site& s) const {
    const Cpu& c = cpu_;
    return c.block && c.dataTlb_ == before.tlb && before.tlb->generation() == before.generation &&
           f.lookupTag == frameTag(c.lookupTag_) && f.globalTag == frameTag(c.globalTag_) &&
           f.forgotten == c.ways_->forgotten && !store_->isDead(s);
}

void Translator::readDevice(HostFrame& f, const Site& s, const DeviceAccess& a) {
    const uint64_t v = a.handler->ioRead(a.offset, a.size);
    uint64_t& r = f.gpr(a.port ? unsigned(Rax) : s.guest & Site::Move::kRegister);
    if (!a.port && s.guest & Site::Move::kHighByte)
        r = (r & ~0xff00ull) | (v & 0xff) << 8;
    else if (a.port || s.guest & Site::Move::kMerges)
        setLow(r, a.size, v);
    else
        r = v & openBus(a.size);
}

void Translator::writeDevice(HostFrame& f, const Site& s, const DeviceAccess& a) {
    uint64_t v = f.gpr(a.port ? unsigned(Rax) : s.guest & Site::Move::kRegister);
    if (!a.port && s.guest & Site::Move::kConstant) v = uint64_t(int64_t(int32_t(s.constant)));
    if (!a.port && s.guest & Site::Move::kHighByte) v >>= 8;
    a.handler->ioWrite(a.offset, a.size, v & openBus(a.size));
}

const uint8_t* Translator::access(HostFrame& f, Site& s, const DeviceAccess& a) {
    return reach(f, s, a, f.slice) ? resume(f, s) : behindAccess(f, s, a);
}

// Something may have changed: what slices, translations and code are now.
const uint8_t* Translator::behindAccess(HostFrame& f, Site& s, const DeviceAccess& a) {
    Cpu& c = cpu_;
    const HostBlock& b = *s.block;
    const uint64_t rip = ripOf(f.page + uint64_t(s.target)), tag = f.lookupTag, forgotten = f.forgotten;
    HostFrame& n = followContext(f);
    n.slice = c.slice_ + b.count;
    if (a.port && (c.slice_ <= 0 || (c.io.apic.smiPending() && !c.smm)))
        return behindPort(
            n, b, s.index,
            {rip, s.port == Site::kInDx ? uint16_t(f.gpr(Rdx)) : uint16_t(s.port), a.size, !a.write});
    if (b.dead)
        return leave(n, rip + (b.offsets[s.index + 1] - b.offsets[s.index]), s.index + 1u, Exit::Dead);
    if (store_->isDead(s)) return leaveInBlock(n, s, Exit::Dead, 1);
    const bool same = &n == &f && n.lookupTag == tag && n.forgotten == forgotten && c.codeMode_ == b.mode;
    if (!same || (s.trace && c.slice_ < left_)) return leaveInBlock(n, s, Exit::Events, 1);
    if (refuses(n, s)) return leaveInBlock(n, s, Exit::Vectors, 1);
    if (s.spanned) return withoutHandles(n, s, s.index + 1u);
    return resume(n, s);
}

// As the interpreter's portAccess(): the slice is over behind it, or an SMI comes. It was the block's
// instruction `index`.
const uint8_t* Translator::behindPort(HostFrame& f, const HostBlock& b, unsigned index,
                                      const Cpu::LastIo& access) {
    Cpu& c = cpu_;
    const bool smi = c.io.apic.smiPending() && !c.smm;
    if (smi) c.lastIo_ = access;
    const bool over = c.slice_ <= 0;
    c.slice_ += b.count - int64_t(index) - 1;
    if (over && !smi && c.slice_ > 0) c.leave();
    c.rip = (access.rip + (b.offsets[index + 1] - b.offsets[index])) & c.ipMask();
    return goOn(f);
}

// An instruction of registers in memory and what the processor has at hand; null: it is something else.
const uint8_t* Translator::registersInMemory(HostFrame& f, Site& s, uint32_t number) {
    Cpu& c = cpu_;
    if (!(s.guest & Site::Move::kIs) || !options_.promote || recording_) return nullptr;
    const uint64_t linear = f.operand;
    if ((linear & kPageMask) + s.bytes > kPageSize || c.breakpoints_.data || c.alignmentChecks_)
        return nullptr;
    const Tlb::Entry& e = c.dataTlb_->at(linear);
    const uint64_t entryTag = s.write ? e.writeTag : e.readTag;
    if ((entryTag & ~kPageMask) != (linear & ~kPageMask) || !(entryTag & Tlb::kSlow) ||
        entryTag & Tlb::kBeside)
        return nullptr;
    const PhysAddr phys((e.page & ~kPageMask) | (linear & kPageMask));
    DeviceRange range{phys.page().value, kPageSize, phys.page().value, &c.io.apic};
    if (!c.io.apic.ownsPage(phys.page())) {
        const PhysicalMemory::Target t = c.io.memory.find(phys);
        if (!t.region || !t.region->io || t.end.value - phys.value < s.bytes) return nullptr;
        constexpr uint64_t kMost = 1u << 29;
        const uint64_t begin = phys.value - t.begin.value < kMost ? t.begin.value : phys.page().value,
                       end = std::min(t.end.value, phys.page().value + kMost);
        range = {begin, end - begin, t.region->base.value, t.region->io};
    }
    const DeviceAccess a{range.handler, phys.value - range.base, s.bytes, s.write, false};
    TrapSite& t = c.traps.at(ripOf(f, s), s.write ? TrapKind::MemoryWrite : TrapKind::MemoryRead);
    if (wantsPromotion(t, number)) promoteRegister(number, t, e, range, a);
    TrapScope scope(t, phys.value);
    return access(f, s, a);
}

// -- promotion

// Whether a device's register is to be had without the device: not where that was refused too often.
bool Translator::wantsDirect(uint32_t number, const TrapSite& t, uint64_t key, uint64_t whole) const {
    for (const Promotion* p : store_->promotions.of(number))
        if ((p->key == key || p->key == whole) && p->inlined) return t.refused * 8 < t.promoted;
    return true;
}

// Whether there is to be code for what the site is about this time.
bool Translator::wantsPromotion(TrapSite& t, uint32_t number) {
    if (t.state == TrapSite::State::Promoted && store_->sites[number].promotion) t.refused++;
    return t.handled >= t.nextPromotion;
}

// False: there can't be such code.
bool Translator::promote(uint32_t number, TrapSite& t, const Promotion& wanted,
                         const std::function<bool(PromotedCode&)>& how) {
    t.nextPromotion = t.handled + kPromotedAfter;
    bool possible = true;
    store_->exclusively([&] {
        CodeStore& store = *store_;
        const Site& s = store.sites[number];
        if (store.isDead(s) || !s.call) return;
        const auto others = store.promotions.of(number);
        for (const Promotion* p : others)
            if (p->key == wanted.key && p->inlined == wanted.inlined)
                return void(t.nextPromotion = 2 * t.handled);  // it is refused for other reasons
        if (others.size() >= Promotions::kMostVariants) {
            store.demote(number);
            t.nextPromotion = t.handled + (kPromotedAfter << 2 * std::min(t.demotions, kMostDemotions));
            return;
        }
        if (!store.promotions.next()) store.promotions.sweep(store.sites, store.thunks.callOut);
        const uint8_t* place = store.promotions.next();
        if (!place) return;
        PromotedCode code(
            {places_, store.thunks, place, number, store.buffer.at(s.resume), store.promotions.headOf(s)});
        if (!(possible = how(code))) return;
        const auto bytes = code.finish(Promotions::kSlot);
        if (!(possible = !bytes.empty())) return;
        Promotion p = wanted;
        p.site = number;
        p.profile = &t;
        store.promotions.add(store.sites, p, bytes);
    });
    return possible;
}

std::shared_ptr<const TrapLoop> Translator::loopOf(const HostBlock& block) const {
    if (!options_.compound || block.users.empty()) return nullptr;
    const Block& b = *block.users[0];
    return TrapLoop::of(cpu_.decoder().zydis(b.mode), b, bytesOf(b));
}

// What can be had without the lock that several processors' accesses to devices take: what only looks.
DirectRegister Translator::unlocked(DirectRegister direct, bool write) const {
    const bool changes = write || (direct.steps && direct.steps->stores());
    return cpu_.threaded && changes ? DirectRegister{} : direct;
}

void Translator::promotePort(uint32_t number, TrapSite& t, uint16_t port, unsigned size, bool write) {
    const PortBus& ports = cpu_.io.ports;
    const Site site = store_->sites[number];
    auto loop = loopOf(*site.block);
    const bool wants = !(loop && loop->bulk) && wantsDirect(number, t, port, port);
    const DirectRegister direct = wants ? unlocked(ports.direct(port, size, write), write) : DirectRegister{};
    const PortBus::Target to = ports.target(port, size);
    if (!direct && !to.handler) return;
    auto guards = [&](PromotedCode& code) {
        code.requirePort(site, port);
        code.requirePortRights();
    };
    auto called = [&](std::shared_ptr<const TrapLoop> inLoop) {
        const DeviceAccess access{to.handler, to.offset, uint8_t(size), write, true};
        promote(number, t, {.key = port, .access = access, .loop = std::move(inLoop)},
                [&](PromotedCode& code) {
                    guards(code);
                    code.callHandler(store_->promotions.nextNumber());
                    return true;
                });
    };
    auto inlined = [&](PromotedCode& code) {
        guards(code);
        code.requireSlice(site, site.block->count);
        code.loadOffset(to.offset, false);
        if (write) code.loadRegister(Rax);
        if (!(write ? code.write(direct, size) : code.read(direct, size))) return false;
        if (!write) code.storeRegister(Rax, size);
        code.resume(t, false);
        return true;
    };
    if (direct) {
        if (direct.mayRefuse() && to.handler) called(nullptr);  // behind it
        if (promote(number, t, {.key = port, .access = {}, .inlined = true}, inlined)) return;
    }
    if (to.handler) called(std::move(loop));
}

void Translator::promoteCpuid(uint32_t number, TrapSite& t, uint32_t leaf, uint32_t subleaf) {
    Promotion p{.key = uint64_t(subleaf) << 32 | leaf, .access = {}, .inlined = true};
    promote(number, t, p, [&](PromotedCode& code) {
        const Cpu::CpuidResult r = cpu_.cpuid(leaf, subleaf), other = cpu_.cpuid(leaf, ~subleaf);
        const bool sub = leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd || leaf > cpu_.model.level ||
                         other.eax != r.eax;
        code.requireRegister(Rax, leaf);
        if (sub) code.requireRegister(Rcx, subleaf);
        code.requireWord(places_.cpuidState, cpu_.cpuidState_);
        if (cpu_.threaded) code.fence();
        code.storeConstant(Rax, r.eax);
        code.storeConstant(Rbx, r.ebx);
        code.storeConstant(Rcx, r.ecx);
        code.storeConstant(Rdx, r.edx);
        code.resume(t, false);
        return true;
    });
}

void Translator::promoteMsr(uint32_t number, TrapSite& t, uint32_t index, bool write) {
    const MsrPlace place = cpu_.msrPlace(index, write);
    if (place.where == MsrPlace::Where::None) return;
    promote(number, t, {.key = index, .access = {}, .inlined = true}, [&](PromotedCode& code) {
        code.requireCpl0();
        code.requireRegister(Rcx, index);
        if (write && cpu_.threaded) code.fence();  // it serializes
        write ? code.writeMsr(place) : code.readMsr(place);
        code.resume(t, false);
        return true;
    });
}

void Translator::promoteRegister(uint32_t number, TrapSite& t, const Tlb::Entry& e, const DeviceRange& range,
                                 const DeviceAccess& a) {
    const Site site = store_->sites[number];
    const uint64_t at = frame_->operand & kPageMask;
    // A local APIC is one processor's, and so is what is known of it.
    const bool own = a.handler == &cpu_.io.apic, high = site.guest & Site::Move::kHighByte;
    const uint64_t cpu = own ? uint64_t(cpu_.id) << 52 : 0, place = ((e.page & ~kPageMask) | at) | cpu,
                   whole = range.begin | cpu | 1ull << 63;
    const unsigned guest = site.guest & Site::Move::kRegister;
    auto loop = loopOf(*site.block);
    const bool wants = site.moves() && !(loop && loop->bulk) && wantsDirect(number, t, place, whole);
    const DirectRegister direct =
        wants ? unlocked(a.handler->direct(a.offset, a.size, a.write), a.write) : DirectRegister{};
    const bool anywhere = direct.form == DirectRegister::Form::Steps && direct.steps->anywhere;
    auto called = [&](std::shared_ptr<const TrapLoop> inLoop) {
        const DeviceAccess access{a.handler, 0 - range.base, a.size, a.write, false};
        promote(number, t, {.key = whole, .access = access, .loop = std::move(inLoop)},
                [&](PromotedCode& code) {
                    if (own && store_->shared) code.requireProcessor(&cpu_);
                    code.requireRange(a.write, e, a.size, range.begin, range.size);
                    code.callHandler(store_->promotions.nextNumber());
                    return true;
                });
    };
    auto inlined = [&](PromotedCode& code) {
        if (own && store_->shared) code.requireProcessor(&cpu_);
        if (anywhere) {
            code.requireRange(a.write, e, a.size, range.begin, range.size);
            code.loadOffset(range.begin - range.base, true);
        } else {
            code.requirePage(a.write, e, at);
        }
        if (a.write && site.guest & Site::Move::kConstant)
            code.loadConstant(uint64_t(int64_t(int32_t(site.constant))) & openBus(a.size));
        else if (a.write)
            code.loadRegister(guest, high);
        if (!(a.write ? code.write(direct, a.size) : code.read(direct, a.size))) return false;
        if (!a.write && high)
            code.storeHigh(guest);
        else if (!a.write)
            code.storeRegister(guest, a.size, !(site.guest & Site::Move::kMerges));
        code.resume(t, true);
        return true;
    };
    if (direct) {
        if (direct.mayRefuse()) called(nullptr);  // behind it
        if (promote(number, t, {.key = anywhere ? whole : place, .access = {}, .inlined = true}, inlined))
            return;
    }
    called(std::move(loop));
}

}  // namespace kiln
