// The translator's code as text, and who is told of it.
#include <fmt/format.h>

#include "translate/host_listing.hpp"
#include "translate/perf_files.hpp"
#include "translate/translator.hpp"

namespace kiln {

void Translator::tell(uint64_t rip) {
    for (const auto& listener : options_.listeners) {
        listener->translated(fmt::format("guest {:x}", rip), last_.main);
        if (!last_.cold.empty()) listener->translated(fmt::format("guest {:x} (cold)", rip), last_.cold);
    }
}

std::string Translator::hostCode(uint64_t rip) {
    Cpu& c = cpu_;
    PhysAddr at;
    const uint64_t linear = (c.fast_[Cs].base + rip) & c.linearMask_;
    if (!c.translate(linear, at)) return {};
    const auto held = store_->lock();
    const Block* own = c.io.code.find(at, c.codeMode_, false);
    const HostBlock* found = own && own->hostBlock ? own->hostBlock : store_->at(at, c.codeMode_);
    if (!found) return {};
    const Thunks& thunks = store_->thunks;
    HostListing listing;
    auto name = [&](const void* place, std::string text) {
        if (place) listing.names.emplace(uint64_t(uintptr_t(place)), std::move(text));
    };
    static constexpr std::array<const char*, kVectorLevels> kLoads = {"", "load SSE", "load AVX", "",
                                                                      "load AVX-512"};
    for (size_t n = 0; n < kVectorLevels; n++) name(thunks.load[n], kLoads[n]);
    name(thunks.loadX87, "load x87");
    name(thunks.stac, "STAC");
    name(thunks.clac, "CLAC");
    name(thunks.besideRange, "beside code");
    const ProcessorPlaces& p = places_;
    name(p.base, "cpu");
    name(p.cpl, "cpu.cpl");
    name(p.flags, "cpu.flags");
    name(p.cr0, "cpu.cr0");
    name(p.cr2, "cpu.cr2");
    name(p.cr3, "cpu.cr3");
    name(p.cr4, "cpu.cr4");
    name(p.kernelGsBase, "cpu.kernelGsBase");
    static constexpr const char* kSegments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (unsigned n = 0; n < 6; n++) {
        const Segment* s = p.segment[n];
        name(&s->selector, fmt::format("cpu.{}.selector", kSegments[n]));
        name(&s->rights, fmt::format("cpu.{}.rights", kSegments[n]));
        name(&s->base, fmt::format("cpu.{}.base", kSegments[n]));
        name(&s->unusable, fmt::format("cpu.{}.unusable", kSegments[n]));
        name(p.fastBase[n], fmt::format("cpu.{}.fastBase", kSegments[n]));
    }
    name(p.pendingDebug, "cpu.pendingDebug");
    name(p.pkru, "cpu.pkru");
    listing.processor = uint64_t(uintptr_t(p.base));
    listing.processorSize = sizeof(Cpu);
    listing.callOut = uint64_t(uintptr_t(thunks.callOut));
    for (const uint8_t* place : thunks.beside) listing.writesBeside.push_back(uint64_t(uintptr_t(place)));
    listing.site = [&](uint32_t number) -> std::string {
        static constexpr const char* kKinds[] = {"interpret", "trap", "system",     "miss",    "before",
                                                 "change AC", "link", "other page", "look-up", "over",
                                                 "vectors",   "dead", "second",     "careful"};
        static_assert(std::size(kKinds) == Site::kKinds);
        return store_->sites.has(number) ? kKinds[size_t(store_->sites[number].kind)] : "?";
    };
    const uint64_t begin = rip - (at.value - found->start.value);
    auto text = [&](const EmittedCode& code, std::span<const uint16_t> starts,
                    const std::function<std::string(unsigned)>& guest) {
        return listing.text({{uint64_t(uintptr_t(code.main.data())), code.main},
                             {uint64_t(uintptr_t(code.cold.data())), code.cold},
                             {starts.begin(), starts.end()}},
                            guest);
    };
    std::string out = text(found->code, found->starts(),
                           [&](unsigned n) { return c.disassemble(begin + found->offsets[n]) + "\n"; });
    store_->eachTrace([&](const Trace& t) {
        if (t.head != found) return;
        std::vector<uint64_t> places;
        for (const CodeStep& s : t.steps)
            for (unsigned n = 0; n < s.count; n++)
                places.push_back((begin & ~kPageMask) + uint64_t(s.page) + s.block->start.pageOffset() +
                                 s.hostBlock->offsets[n]);
        out += fmt::format("\n{} from here on:\n", t.loop ? "A loop, one round and again," : "A trace");
        out += text(t.code, t.starts,
                    [&](unsigned n) { return c.disassemble(places[n % places.size()]) + "\n"; });
    });
    return out;
}

}  // namespace kiln
