#include "devices/lockstep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "devices/board.hpp"

namespace kiln {

namespace {

constexpr uint64_t kTop = 1ull << 40;  // no memory above
constexpr size_t kMostPages = 16;      // that are followed, or told of
constexpr int64_t kOneBlock = 1;       // as a slice

// What a processor has in its registers, by name.
class Fields final : public StateVisitor {
  public:
    void bytes(std::string_view name, void* data, size_t size) override {
        const auto* p = static_cast<const uint8_t*>(data);
        fields.emplace_back(name, std::vector<uint8_t>(p, p + size));
    }
    std::vector<std::pair<std::string, std::vector<uint8_t>>> fields;
};

std::string hex(const std::vector<uint8_t>& bytes) {
    std::string out;
    for (size_t n = bytes.size(); n--;) {
        out += fmt::format("{:02x}", bytes[n]);
        if (n && n % 8 == 0) out += "_";
    }
    return out;
}

uint64_t stateOf(Machine& m) {
    StateHash hash;
    for (unsigned n = 0; n < m.cpus(); n++) m.cpu(n).visitState(hash);
    return hash.value();
}

}  // namespace

Lockstep::Lockstep(MachineConfig config, MachineOutputs outputs, LockstepOptions options)
    : config_(std::move(config)), outputs_(std::move(outputs)), options_(options) {
    if (!config_.translator) config_.translator.emplace();
    config_.translator->portable = true;  // both are to compute the same
    config_.translator->dispensable = false;
    if (!config_.icountShift) config_.icountShift = 0;
    if (!config_.rtcStart)
        config_.rtcStart = std::chrono::duration_cast<std::chrono::seconds>(
                               std::chrono::system_clock::now().time_since_epoch())
                               .count() +
                           config_.rtcOffset;
    config_.threads = false;
    config_.startStopped = false;
    for (DriveConfig& d : config_.drives) d.snapshot = true;
}

Lockstep::Pair Lockstep::build(bool quiet) {
    Pair p;
    MachineConfig plain = config_;
    plain.translator.reset();
    p.plain = std::make_unique<Machine>(plain, quiet ? MachineOutputs{} : outputs_);
    p.translated = std::make_unique<Machine>(config_, MachineOutputs{});
    p.plain->begin();
    p.translated->begin();
    return p;
}

void Lockstep::postSerial(unsigned port, std::span<const uint8_t> bytes) {
    std::lock_guard lock(mutex_);
    input_.push_back({kNever, port, {bytes.begin(), bytes.end()}});
}

void Lockstep::quit() {
    std::lock_guard lock(mutex_);
    quit_ = true;
}

// What has come, or at the times of the first run what came then. False: nobody wants to know more closely.
bool Lockstep::passInput(Pair& pair, bool again) {
    std::lock_guard lock(mutex_);
    const Nanos now = pair.plain->clock().now();
    for (; passed_ < input_.size() && (!again || input_[passed_].time <= now); passed_++) {
        Input& i = input_[passed_];
        if (!again) i.time = now;
        for (Machine* m : {pair.plain.get(), pair.translated.get()}) m->postSerial(i.port, i.bytes);
    }
    if (!again && std::exchange(quit_, false))
        for (Machine* m : {pair.plain.get(), pair.translated.get()}) m->requestExit(0);
    return !again || !quit_;
}

bool Lockstep::differ(Pair& pair) {
    comparisons_++;
    return pair.plain->executed() != pair.translated->executed() ||
           pair.plain->result().has_value() != pair.translated->result().has_value() ||
           stateOf(*pair.plain) != stateOf(*pair.translated);
}

// Pages of RAM that differ, the first ones; of all, or among these.
std::vector<uint64_t> Lockstep::differentPages(Pair& pair, const std::vector<uint64_t>& among) {
    std::vector<uint64_t> pages;
    PhysicalMemory &a = pair.plain->memory(), &b = pair.translated->memory();
    auto look = [&](uint64_t at) {
        const auto x = a.find(PhysAddr(at)), y = b.find(PhysAddr(at));
        if (x.host && y.host && std::memcmp(x.host, y.host, kPageSize)) pages.push_back(at);
    };
    if (!among.empty()) {
        for (uint64_t at : among) look(at);
        return pages;
    }
    for (uint64_t at = 0; at < kTop && pages.size() < kMostPages;) {
        const auto x = a.find(PhysAddr(at)), y = b.find(PhysAddr(at));
        const uint64_t end = std::min({x.end.value, y.end.value, kTop});
        if (end <= at) break;
        if (x.host && y.host && std::memcmp(x.host, y.host, end - at))
            for (uint64_t page = at & ~kPageMask; page < end && pages.size() < kMostPages; page += kPageSize)
                look(page);
        at = end;
    }
    return pages;
}

// Both run from where they are to the end of the window, and are compared from its begin on. What comes back
// is the window of the first difference, if there is one.
std::optional<Lockstep::Window> Lockstep::look(Pair& pair, const Window& w, int64_t slice,
                                               uint64_t memoryEvery, bool again) {
    passed_ = 0;
    uint64_t same = w.from, compared = w.from;
    std::vector<uint64_t> none;
    const bool follows = !w.pages.empty();
    for (;;) {
        const uint64_t before = pair.plain->executed();
        if (before >= options_.most) break;
        if (!passInput(pair, again)) return {};
        const bool close = before >= w.from;
        blockBegan_ = pair.plain->cpu(pair.plain->turn()).rip;
        // In front of the window the slices are those of the run that found it.
        const int64_t now = close ? slice : options_.slice;
        const bool plain = pair.plain->advance(now);
        if (disturb) disturb(*pair.translated);
        const bool translated = pair.translated->advance(now);
        const uint64_t after = pair.plain->executed();
        if (close) {
            if (differ(pair)) return Window{before, after, differentPages(pair, none)};
            if (follows || after - compared >= memoryEvery) {
                auto pages = differentPages(pair, w.pages);
                if (!pages.empty()) return Window{follows ? before : same, after, pages};
                compared = same = after;
            }
        }
        if (!plain || !translated) {
            end_ = pair.plain->result();
            break;
        }
        if (after > w.to) break;
    }
    if (auto pages = differentPages(pair, none); !pages.empty())
        return Window{same, pair.plain->executed(), pages};
    return {};
}

std::string Lockstep::describe(Pair& pair, const Window& w, uint64_t rip) {
    Machine &a = *pair.plain, &b = *pair.translated;
    std::string out = fmt::format(
        "interpreter and translator differ: instruction {} to {}, from {:x} on\n"
        "executed: {} and {}\n",
        w.from, w.to, rip, a.executed(), b.executed());
    for (unsigned n = 0; n < a.cpus(); n++) {
        Fields x, y;
        a.cpu(n).visitState(x);
        b.cpu(n).visitState(y);
        for (size_t k = 0; k < x.fields.size(); k++)
            if (x.fields[k].second != y.fields[k].second)
                out += fmt::format("  cpu {} {:16} interpreted {}\n{:>29} {}\n", n, x.fields[k].first,
                                   hex(x.fields[k].second), "translated", hex(y.fields[k].second));
    }
    for (uint64_t page : w.pages) {
        const uint8_t *x = a.memory().find(PhysAddr(page)).host, *y = b.memory().find(PhysAddr(page)).host;
        if (!x || !y) continue;
        const size_t at = size_t(std::mismatch(x, x + kPageSize, y).first - x);
        if (at == kPageSize) continue;
        out += fmt::format("  memory {:x}: interpreted {:02x}, translated {:02x}\n", page + at, x[at], y[at]);
    }
    for (auto [m, name] : {std::pair{&a, "interpreted"}, {&b, "translated"}}) {
        const Cpu& c = m->cpu(m->turn());
        out += fmt::format("\nstate of the {} machine:\n", name);
        static constexpr const char* kNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                                 "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
        for (unsigned n = 0; n < 16; n++)
            out += fmt::format("  {:4}{:016x}{}", kNames[n], c.gpr.slot[n], n % 4 == 3 ? "\n" : "");
        out += fmt::format("  rip {:016x}  rflags {:x}  cs {:04x}  cpl {}  cr0 {:x}  cr2 {:x}  cr3 {:x}\n",
                           c.rip, c.flags.value(), c.seg[Cs].selector, c.cpl, c.cr0, c.cr2, c.cr3);
    }
    out += "\nthe code, as the guest has it and as the host ran it:\n";
    const std::string host = b.hostCode(rip, b.turn());
    out += host.empty() ? fmt::format("  {}\n  (not translated)\n", a.cpu(a.turn()).disassemble(rip)) : host;
    return out;
}

Lockstep::Result Lockstep::run() {
    Pair pair = build(false);
    std::optional<Window> found = look(pair, {}, options_.slice, options_.memoryEvery, false);
    Result r;
    r.run = end_.value_or(RunResult{});
    r.executed = pair.plain->executed();
    if (!end_) r.screen = pair.plain->board().screenText();
    uint64_t rip = blockBegan_;
    // Closer and closer, until it is a block, or comes no more.
    uint64_t every = options_.memoryEvery;
    while (found) {
        const bool registers = found->to - found->from <= uint64_t(options_.slice) * 2;
        const bool finest = found->to - found->from <= 256;
        if (finest) break;
        const int64_t slice = registers ? kOneBlock : options_.slice;
        Window closer = *found;
        if (!registers) every = std::max<uint64_t>(every / 16, uint64_t(options_.slice));
        if (!registers) closer.pages.clear();
        Pair again = build(true);
        std::optional<Window> next = look(again, closer, slice, every, true);
        if (!next) break;
        const bool narrower = next->to - next->from < found->to - found->from;
        pair = std::move(again);
        found = next;
        rip = blockBegan_;
        if (!narrower) break;
    }
    if (found) r.report = describe(pair, *found, rip);
    r.comparisons = comparisons_;
    return r;
}

}  // namespace kiln
