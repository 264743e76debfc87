#include "devices/machine.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "devices/board.hpp"
#ifdef KILN_TRANSLATES
#include "translate/perf_files.hpp"
#include "translate/translator.hpp"
#endif

namespace kiln {

namespace {

// Instructions between two looks at the clock: as many as take so long, but no fewer than the first.
constexpr int64_t kSlice = 20000, kSliceMicros = 25, kLongestSlice = 100'000, kShortestSlice = 500;
constexpr int64_t kSharedSlice = 10000;  // when processors take turns
constexpr unsigned kMostCpus = 64;
// A machine that triple-faults this often within so few instructions of a reset won't get anywhere.
constexpr unsigned kHopelessFaults = 5;
constexpr uint64_t kQuickFault = 10'000'000;

}  // namespace

MachineTime::MachineTime(Gate& gate, std::optional<unsigned> shift, bool oneThread)
    : gate_(gate), shift_(shift) {
    if (!shift && oneThread && CounterClock::usable())
        counter_.emplace([this] { return gate_.hostTime() - offset_; });
}

Nanos MachineTime::now() {
    if (shift_) return last_ = std::max(last_, (executed() << *shift_) + skipped_);
    if (counter_ && !frozen_) return counter_->now();
    return frozen_ ? last_ : gate_.hostTime() - offset_;  // processors ask on threads of their own
}

void MachineTime::freeze() {
    last_ = now();
    frozen_ = true;
}

void MachineTime::thaw() {
    if (!frozen_) return;
    frozen_ = false;
    offset_ = gate_.hostTime() - last_;
    if (counter_) counter_->restart(last_);
}

void MachineTime::skipTo(Nanos time) {
    if (time > now()) skipped_ += time - now();
}

Machine::Machine(const MachineConfig& config, MachineOutputs outputs, std::unique_ptr<Log> log)
    : config_(config), outputs_(std::move(outputs)), log_(log ? std::move(log) : std::make_unique<Log>()) {
    const unsigned cpus = config_.topology.cpus();
    if (!cpus || cpus > kMostCpus)
        throw std::runtime_error("a machine has 1 to " + std::to_string(kMostCpus) + " processors, not " +
                                 std::to_string(cpus));
    if (config_.threads && config_.icountShift)
        throw std::runtime_error(
            "-icount counts the instructions of processors that take turns: it needs thread=single");
    if (config_.threads) memory_.threads.expect(cpus);
#ifdef KILN_TRANSLATES
    if (config_.translator && config_.translator->perfMap)
        config_.translator->listeners.push_back(std::make_shared<PerfMap>());
    if (config_.translator && config_.translator->jitDump)
        config_.translator->listeners.push_back(std::make_shared<JitDump>());
#endif
    time_.executed = [this] { return executed(); };
    processors_.reserve(cpus);
    for (unsigned n = 0; n < cpus; n++) addProcessor(n);
    BoardPorts wires{*log_, gate_, clock_, memory_, ports_, apicBus_};
    wires.reset = [this](const char* why) { requestReset(why); };
    wires.powerOff = [this] { requestPowerOff(); };
    wires.suspend = [this] {
        suspendRequested_ = true;
        interrupt();
    };
    wires.wake = [this] {
        wakeRequested_ = true;
        interrupt();
    };
    wires.exit = [this](int code) { requestExit(code, {}, MachineCause::GuestShutdown); };
    wires.ignne = [this](bool active) {
        for (auto& p : processors_) p->cpu->ignne = active;
    };
    wires.a20 = [this](bool enabled) {
        memory_.threads.exclusively([&] {
            for (auto& p : processors_) p->cpu->a20(enabled);
        });
    };
    wires.smi = [this] {
        for (unsigned n = 0; n < processors_.size(); n++)
            if (config_.threads ? memory_.threads.isThreadOf(n) : n == running_)
                processors_[n]->apic->accept({.mode = DeliveryMode::Smi});
    };
    wires.serial = outputs_.serial;
    wires.serialKeepsBack = bool(outputs_.flush);
    wires.debugConsole = outputs_.debugConsole;
    board_ = std::make_unique<Board>(wires, config_);
    addTranslators();  // which want to know where memory is
    // A timer that comes before the end of the slice must not wait for it.
    clock_.onEarlierDeadline = [this] {
        if (config_.threads)
            gate_.wake();
        else if (time_.counting() || this->cpus() > 1)
            interrupt();
        else
            running().shorten(sliceUntil(clock_.nextDeadline(), kLongestSlice));
    };
    openChannels();
    reset();
}

Machine::~Machine() { clock_.onEarlierDeadline = {}; }

void Machine::addProcessor(unsigned n) {
    Processor& p = *processors_.emplace_back(std::make_unique<Processor>());
    p.code = std::make_unique<CodeCache>(memory_, n, config_.topology.cpus());
    p.apic = std::make_unique<LocalApic>(
        clock_, apicBus_, config_.topology.apicId(n), n == 0, [this, n] { return cpu(n).tsc(); },
        Cpu::kTscHz);
    CpuPorts ports{memory_, ports_, *p.apic, clock_, *log_, *p.code, [this, n](const std::string& why) {
                       DeviceGuard guard(memory_.threads);
                       tripleFault_ = why;
                       faultedCpu_ = n;
                       interrupt();
                   }};
    ports.ferr = [this](bool raised) {
        DeviceGuard guard(memory_.threads);
        board_->coprocessorError(raised);
    };
    ports.topology = config_.topology;
    ports.model = config_.cpu;
    ports.entropy = [this] { return entropy(); };
    if (config_.topology.cpus() == 1) ports.runDueTimers = [this] { return runDueTimers(); };
    p.cpu = std::make_unique<Cpu>(std::move(ports), n);
    p.cpu->pauseLeaves = config_.topology.cpus() > 1;
    // Whoever it is for: the running processor makes room, so that the other one gets its turn at once.
    p.apic->onAttention = [this, n] {
        if (config_.threads)
            kick(n);
        else if (n == running_)
            running().lookAround();
        else
            running().leave();
    };
}

void Machine::addTranslators() {
#ifdef KILN_TRANSLATES
    if (!config_.translator) return;
    TranslatorOptions options = *config_.translator;
    // Not where all has to happen in the same order each time, nor where host processors have enough to do.
    const size_t busy = config_.threads ? processors_.size() : 1;
    options.background &= !time_.counting() && std::thread::hardware_concurrency() > busy;
    try {
        const auto store = Translator::makeStore(options, memory_, processors_.size() > 1);
        for (auto& p : processors_) p->translator = std::make_unique<Translator>(*p->cpu, store);
    } catch (const std::runtime_error&) {
        if (!config_.translator->dispensable) throw;
        config_.translator.reset();
    }
#endif
}

// For RDRAND. With -icount the run is to be repeatable: SplitMix64 from a fixed seed.
uint64_t Machine::entropy() {
    if (!time_.counting()) return gate_.entropy();
    uint64_t v = chance_ += 0x9e3779b97f4a7c15;
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
    v = (v ^ v >> 27) * 0x94d049bb133111eb;
    return v ^ v >> 31;
}

std::string Machine::hostCode([[maybe_unused]] uint64_t rip, [[maybe_unused]] unsigned n) {
#ifdef KILN_TRANSLATES
    if (auto& t = processors_[n]->translator) return static_cast<Translator&>(*t).hostCode(rip);
#endif
    return {};
}

uint64_t Machine::stateHash() {
    StateHash hash;
    state(hash);
    uint64_t sum = hash.value();
    if (RamBlock* ram = memory_.largestRam())
        for (uint64_t at = 0; at < ram->size(); at += sizeof(uint64_t)) {
            uint64_t word;
            std::memcpy(&word, ram->data() + at, sizeof word);
            if (word) sum = (std::rotl(sum, 9) ^ word ^ at) * 0x9e3779b97f4a7c15;
        }
    return sum;
}

std::string Machine::translatorReport() const {
    std::string out;
    for (size_t n = 0; n < processors_.size(); n++)
        if (auto& t = processors_[n]->translator) out += "CPU " + std::to_string(n) + "\n" + t->report();
    return out;
}

std::string Machine::tlbReport() {
    std::string out;
    for (size_t n = 0; n < processors_.size(); n++)
        out += "CPU " + std::to_string(n) + "\n" + processors_[n]->cpu->contexts().report();
    const TableTracking::Statistics s = memory_.tables.statistics();
    return out + "page tables under watch: " + std::to_string(s.now) + "; " + std::to_string(s.tracked) +
           " times begun, " + std::to_string(s.untracked) + " times ended, " + std::to_string(s.written) +
           " of them by writes\n";
}

int Machine::hostThread(unsigned n) const {
    return config_.threads ? processors_[n]->hostThread.load(std::memory_order_relaxed) : int(gettid());
}

uint64_t Machine::executed() const {
    // The first is asked for the time while it is being made.
    if (!processors_[running_]->cpu) return 0;
    if (!config_.threads) return executedByOthers_ + running().executed();
    uint64_t sum = 0;
    for (auto& p : processors_) sum += p->cpu->executed();
    return sum;
}

void Machine::switchTo(unsigned number) {
    executedByOthers_ += running().executed();
    running_ = number;
    executedByOthers_ -= running().executed();
}

// The next processor in turn that has something to do. False: all of them wait. What has come for the one
// whose turn is over it takes first: an NMI that waited for a whole round would be one with the next.
bool Machine::switchToRunnable() {
    if (cpus() > 1 && running().wakeable()) running().run(1);
    for (unsigned i = 1; i <= cpus(); i++) {
        unsigned n = running_ + i < cpus() ? running_ + i : running_ + i - cpus();
        const Cpu& c = *processors_[n]->cpu;
        if (c.idle() && !c.wakeable()) continue;
        if (n != running_) switchTo(n);
        return true;
    }
    return false;
}

void Machine::openChannels() {
    keyChannel_ = gate_.openChannel("keyboard", [this](std::span<const uint8_t> m) {
        for (size_t i = 0; i + 2 <= m.size(); i += 2) board_->key(m[i], m[i + 1]);
    });
    mouseChannel_ = gate_.openChannel("mouse", [this](std::span<const uint8_t> m) {
        int32_t v[4];
        if (m.size() != sizeof v) return;
        std::memcpy(v, m.data(), sizeof v);
        board_->mouse(v[0], v[1], v[2], unsigned(v[3]));
    });
    for (unsigned i = 0; i < serialChannels_.size(); i++)
        serialChannels_[i] =
            gate_.openChannel("serial" + std::to_string(i),
                              [this, i](std::span<const uint8_t> m) { board_->serialInput(i, m); });
}

void Machine::postKey(uint8_t hidUsage, bool down) {
    const uint8_t m[2] = {hidUsage, down};
    gate_.post(keyChannel_, m);
}

void Machine::postMouse(int dx, int dy, int wheel, unsigned buttons) {
    const int32_t v[4] = {dx, dy, wheel, int32_t(buttons)};
    uint8_t m[sizeof v];
    std::memcpy(m, v, sizeof v);
    gate_.post(mouseChannel_, m);
}

void Machine::postSerial(unsigned port, std::span<const uint8_t> bytes) {
    if (port < serialChannels_.size()) gate_.post(serialChannels_[port], bytes);
}

void Machine::interrupt() {
    if (config_.threads)
        interruptThreads();
    else
        running().leave();
}

void Machine::stop(RunState why) {
    if (stopped_) return;
    stopped_ = true;
    whyStopped_ = why;
    time_.freeze();
    interrupt();
    if (why != RunState::Prelaunch) tell(MachineEvent::Stop);
}

// Who asks for a machine that runs already to go on waits for an event, too.
bool Machine::resume() {
    if (stopped_ && whyStopped_ == RunState::Shutdown) return false;
    if (!stopped_) tell(MachineEvent::Stop);
    go();
    return true;
}

void Machine::go() {
    stopped_ = false;
    time_.thaw();
    tell(MachineEvent::Resume);
}

RunState Machine::runState() const {
    if (stopped_) return whyStopped_;
    return suspended_ ? RunState::Suspended : RunState::Running;
}

void Machine::requestReset(std::string why, MachineCause cause) {
    resetRequested_ = std::move(why);
    resetCause_ = cause;
    interrupt();
}

void Machine::requestPowerOff() {
    powerOffRequested_ = true;
    interrupt();
}

void Machine::requestExit(int code, std::string message, MachineCause cause) {
    if (!result_) {
        result_ = RunResult{code, std::move(message), false};
        endCause_ = cause;
    }
    interrupt();
}

void Machine::pressPowerButton() {
    board_->powerButton();
    tell(MachineEvent::Powerdown);
}

void Machine::injectNmi() {
    for (auto& p : processors_) {
        p->apic->lint1().raise();
        p->apic->lint1().lower();
    }
}

void Machine::wake() { board_->wake(); }

void Machine::reset() {
    suspended_ = suspendRequested_ = wakeRequested_ = false;
    board_->reset();
    resetProcessors();
}

void Machine::resetProcessors() {
    for (auto& p : processors_) {
        p->apic->reset();
        p->cpu->reset();
        p->cpu->waitingForSipi = !p->apic->isBsp();
    }
    switchTo(0);
    executedAtReset_ = executed();
}

void Machine::tripleFault() {
    std::string why = *tripleFault_;
    tripleFault_.reset();
    quickFaults_ = executed() - executedAtReset_ < kQuickFault ? quickFaults_ + 1 : 0;
    if (config_.noReboot) {
        giveUp({1, "the guest shut its processor down (" + why + ")", true, faultedCpu_},
               MachineCause::GuestReset);
    } else if (quickFaults_ >= kHopelessFaults) {
        giveUp({1,
                "the guest shuts its processor down right after every reset (" + why +
                    "): firmware or kernel don't work on this machine",
                true, faultedCpu_},
               MachineCause::GuestReset);
    } else {
        (*log_)(LogCategory::Cpu, "{}: reset", why);
        resetRequested_ = why;
        resetCause_ = MachineCause::GuestReset;
    }
}

// The end, or a stop where the user wants to look at what is left.
void Machine::giveUp(RunResult result, MachineCause cause) {
    if (result_) return;
    if (config_.noShutdown) {
        tell(MachineEvent::Shutdown, cause);
        if (!result.message.empty()) (*log_)(LogCategory::Cpu, "{}: stopped", result.message);
        stop(RunState::Shutdown);
    } else {
        result_ = std::move(result);
        endCause_ = cause;
    }
}

void Machine::serveRequests() {
    if (tripleFault_) tripleFault();
    if (powerOffRequested_) {
        powerOffRequested_ = false;
        resetRequested_.reset();
        giveUp({}, MachineCause::GuestShutdown);
    }
    if (std::exchange(suspendRequested_, false)) {
        (*log_)(LogCategory::Cpu, "suspend to RAM");
        suspended_ = true;
        tell(MachineEvent::Suspend);
    }
    if (std::exchange(wakeRequested_, false) && std::exchange(suspended_, false)) {
        (*log_)(LogCategory::Cpu, "wake from suspend to RAM");
        board_->resetForWake();
        resetProcessors();
        tell(MachineEvent::Wakeup);
    }
    if (resetRequested_) {
        resetRequested_.reset();
        if (config_.noReboot) return giveUp({}, resetCause_);
        if (result_) return;
        reset();
        if (stopped_) whyStopped_ = RunState::Prelaunch;
        tell(MachineEvent::Reset, resetCause_);
    }
}

// Instructions that may run before timers and others are looked after, at most so many.
int64_t Machine::sliceUntil(Nanos deadline, int64_t most) {
    const int64_t fast = time_.counting() ? kSlice : std::clamp(speed_ * kSliceMicros, kSlice, kLongestSlice);
    const int64_t longest = std::min(most, cpus() > 1 ? kSharedSlice : fast);
    if (deadline == kNever) return longest;
    const Nanos now = clock_.now(), distance = deadline > now ? deadline - now : 0;
    if (time_.counting()) return std::clamp<int64_t>(int64_t((distance >> time_.shift()) + 1), 1, longest);
    return int64_t(std::clamp<Nanos>(distance / 4, std::min(kShortestSlice, longest), longest));
}

void Machine::runSlice(int64_t most) {
    const Nanos now = clock_.now();
    Cpu& cpu = running();
    const uint64_t before = cpu.executed();
    cpu.run(sliceUntil(clock_.nextDeadline(), most));
    if (time_.counting()) return;
    // Averaged over some slices, so that one in which the host did something else says little.
    if (const Nanos after = clock_.now(); after > now) {
        const auto speed = int64_t((cpu.executed() - before) * 1000 / (after - now));
        speed_ += (std::min(speed, kLongestSlice / kSliceMicros) - speed_) / 16;
    }
}

// In the middle of a slice, for the only processor, which halts.
bool Machine::runDueTimers() {
    constexpr Nanos kMoment = 500;  // about what it takes to get here by advance()
    if (time_.counting()) return false;
    const Nanos next = clock_.nextDeadline();
    Nanos now = clock_.now();
    if (next > now + kMoment) return false;
    while (now < next) now = clock_.now();
    clock_.runDue();
    return true;
}

// All processors wait for an interrupt: so do we, for the next timer or a message.
void Machine::idle() {
    Nanos next = clock_.nextDeadline();
    if (time_.counting() && next != kNever) {
        time_.skipTo(next);
        return;
    }
    Nanos now = clock_.now();
    Nanos wait = next == kNever ? kLongestWait : next > now ? std::min(next - now, kLongestWait) : 0;
    if (outputs_.frame) wait = std::min(wait, kFramePeriod);
    if (wait) gate_.wait(wait);
}

void Machine::state(StateVisitor& visit) {
    visit("suspended", suspended_);
    board_->state(visit);
    for (auto& p : processors_) {
        p->apic->state(visit);
        p->cpu->visitState(visit);
    }
}

bool Machine::publishFrame(bool always) {
    const Frame* frame = board_->render(always);
    if (frame && outputs_.frame) outputs_.frame(*frame);
    return frame;
}

void Machine::publishDueFrame() {
    if (!frameIsDue()) return;
    Nanos now = gate_.hostTime();
    publishFrame(false);
    // A slow renderer never takes more than about half of the time.
    Nanos cost = gate_.hostTime() - now;
    nextFrame_ = now + std::max(kFramePeriod, 2 * cost);
}

void Machine::begin() {
    result_.reset();
    if (config_.startStopped)
        stop(RunState::Prelaunch);
    else
        go();
    config_.startStopped = false;
}

RunResult Machine::run() {
    begin();
    if (config_.threads)
        runThreads();
    else
        while (advance(kLongestSlice)) {}
    time_.freeze();
    tell(MachineEvent::Shutdown, endCause_);
    return *result_;
}

bool Machine::advance(int64_t most) {
    if (outputs_.flush) {
        board_->flushSerial();
        outputs_.flush();
    }
    gate_.deliver();
    serveRequests();
    if (result_) return false;
    publishDueFrame();
    if (stopped_) {
        gate_.wait(kLongestWait);
        return true;
    }
    time_.adjust();
    clock_.runDue();
    if (!suspended_ && switchToRunnable())
        runSlice(most);
    else
        idle();
    return true;
}

}  // namespace kiln
