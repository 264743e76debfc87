// A whole machine: it owns the processors, the board, memory, time and the gate, and runs them on the thread
// that calls run(). Two machines live in one process without knowing of each other.
//
// Several processors take turns: each runs a slice, or less when it halts, spins (PAUSE), or something
// arrives for any of them. Who runs when depends on the guest and on guest time alone, so that with counted
// time every run is the same. With `threads` each has a host thread instead (machine_threads.cpp).
#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "apic/apic_bus.hpp"
#include "apic/clock.hpp"
#include "apic/counter_clock.hpp"
#include "apic/gate.hpp"
#include "apic/local_apic.hpp"
#include "cpu/code_cache.hpp"
#include "cpu/cpu.hpp"
#include "cpu/topology.hpp"
#include "devices/frame.hpp"
#include "devices/linux_loader.hpp"
#include "devices/machine_events.hpp"
#include "devices/pci_config.hpp"
#include "devices/vtd_config.hpp"
#include "mmu/io.hpp"
#include "mmu/log.hpp"
#include "mmu/physical_memory.hpp"
#include "translate/options.hpp"

namespace kiln {

class Board;

enum class DriveKind : uint8_t { Floppy, Disk, Cdrom };

struct DriveConfig {
    std::string file;  // empty: a drive without a medium
    DriveKind kind = DriveKind::Disk;
    unsigned index =
        0;  // floppy 0..1; IDE 0..3: primary master, primary slave, secondary master, secondary slave
    bool readOnly = false;
    bool snapshot = false;
};

struct DebugExitConfig {
    uint16_t port = 0x501, size = 2;
};

// What the user chose. Paths are the host's.
struct MachineConfig {
    uint64_t memory = 512ull << 20;
    CpuTopology topology;                         // 1..64 processors
    bool threads = false;                         // a host thread for each
    std::optional<TranslatorOptions> translator;  // without: the interpreter alone
    std::shared_ptr<const CpuModel> cpu = kilnModel();
    std::string firmware;   // BIOS image
    std::string videoBios;  // "": none
    bool vga = true;
    std::vector<DriveConfig> drives;
    KernelConfig kernel;
    std::string bootOrder = "cad";  // QEMU's letters: a floppy, c disk, d CD-ROM, n network
    bool bootMenu = false;
    bool nographic = false;     // told to the firmware
    unsigned serialPorts = 2;   // 1..4
    bool debugConsole = false;  // ports 0x402 and 0xE9
    std::optional<DebugExitConfig> debugExit;
    bool testdev = false;                     // pc_testdev.hpp
    std::vector<PciDeviceConfig> pciDevices;  // in order: a bridge comes before what is behind it
    std::optional<VtdConfig> iommu;           // vtd.hpp
    bool pit = true, hpet = true;             // timers that may be left out
    std::optional<int64_t> rtcStart;  // seconds since 1970 on the guest's calendar; otherwise the host's
    int64_t rtcOffset = 0;            // seconds added to the host's UTC
    // Deterministic time: an instruction takes 2^shift ns, and an idle processor skips to the next timer.
    std::optional<unsigned> icountShift;
    bool noReboot = false;    // a reset ends the run
    bool noShutdown = false;  // a power-off only stops
    bool startStopped = false;
};

// Where the machine's outputs go. They are called one at a time, on the machine's thread or a processor's;
// empty ones are dropped.
struct MachineOutputs {
    std::array<std::function<void(std::span<const uint8_t>)>, 4> serial;
    std::function<void(uint8_t)> debugConsole;
    // Those above may keep bytes back until this is called, which is after every slice and before waiting; of
    // a machine with one thread.
    std::function<void()> flush;
    std::function<void(const Frame&)> frame;  // a new picture, at most about 60 times a second
};

struct RunResult {
    int exitCode = 0;
    std::string message;         // why, when it was not an orderly end
    bool shutdownState = false;  // a triple fault: the processor's state is worth showing
    unsigned cpu = 0;            // whose
};

// The machine's clock: the host's time without the spans in which the machine was stopped, or counted
// instructions. With one thread the host's time is read off its time-stamp counter where that is possible.
class MachineTime : public TimeSource {
  public:
    MachineTime(Gate& gate, std::optional<unsigned> shift, bool oneThread);

    Nanos now() override;
    const CounterTime* counter() const override { return counter_ ? &counter_->published() : nullptr; }
    void adjust() {
        if (counter_ && !frozen_) counter_->adjust();
    }
    void freeze();
    void thaw();
    bool counting() const { return shift_.has_value(); }
    unsigned shift() const { return *shift_; }
    void skipTo(Nanos time);  // instruction mode: idle time passes at once
    std::function<uint64_t()> executed;

  private:
    Gate& gate_;
    std::optional<unsigned> shift_;
    Nanos skipped_ = 0;  // instruction mode
    Nanos offset_ = 0;   // host mode: host time when the machine's was 0
    Nanos last_ = 0;
    bool frozen_ = true;
    std::optional<CounterClock> counter_;
};

class Machine {
  public:
    // Throws std::runtime_error with a sentence for the user when the configuration can't be had.
    Machine(const MachineConfig& config, MachineOutputs outputs, std::unique_ptr<Log> log = nullptr);
    ~Machine();
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    // Runs until the guest, the user or an error ends it.
    RunResult run();
    // The same in pieces, for processors that take turns: begin(), then one look around and a slice of at
    // most so many instructions after the other. False: there is a result().
    void begin();
    bool advance(int64_t most);
    const std::optional<RunResult>& result() const { return result_; }

    // -- from any thread
    void postKey(uint8_t hidUsage, bool down);
    void postMouse(int dx, int dy, int wheel, unsigned buttons);
    void postSerial(unsigned port, std::span<const uint8_t> bytes);
    Gate& gate() { return gate_; }  // for further channels; open them before run()

    // -- on the machine's thread: from handlers of the gate, or while run() isn't running
    void stop(RunState why = RunState::Paused);
    bool resume();  // false: it is switched off, and needs a reset first
    bool stopped() const { return stopped_; }
    RunState runState() const;
    void requestReset(std::string why = "reset", MachineCause cause = MachineCause::GuestReset);
    void requestPowerOff();
    void wake();  // from S3, suspend to RAM
    bool suspended() const { return suspended_; }
    void requestExit(int code, std::string message = {}, MachineCause cause = MachineCause::HostQuit);
    void pressPowerButton();
    void injectNmi();  // to every processor, by LINT1
    // What happens, as it happens; `cause` is about resets and shutdowns.
    std::function<void(MachineEvent, MachineCause cause)> onEvent;
    void setNoReboot(bool on) { config_.noReboot = on; }
    void setNoShutdown(bool on) { config_.noShutdown = on; }
    Log& log() { return *log_; }
    Clock& clock() { return clock_; }
    PhysicalMemory& memory() { return memory_; }
    PortBus& ports() { return ports_; }
    ApicBus& apicBus() { return apicBus_; }
    unsigned cpus() const { return unsigned(processors_.size()); }
    Cpu& cpu(unsigned n = 0) { return *processors_[n]->cpu; }
    unsigned turn() const { return running_; }  // the processor whose turn it is
    int hostThread(unsigned n) const;           // the host's number of the thread that runs it
    LocalApic& apic(unsigned n = 0) { return *processors_[n]->apic; }
    CodeCache& code(unsigned n = 0) { return *processors_[n]->code; }
    uint64_t executed() const;  // instructions, of all processors
    // The block at an offset in CS as guest and host code; "": it is not translated.
    std::string hostCode(uint64_t rip, unsigned cpu);
    // Over state() and RAM: equal machines have equal hashes. Between slices.
    uint64_t stateHash();
    std::string translatorReport() const;  // what the translators count; "": there are none
    std::string tlbReport();               // what translation contexts and page-table tracking count
    void state(StateVisitor& visit);  // devices, local APICs, and what all processors have in their registers
    Board& board() { return *board_; }
    const MachineConfig& config() const {
        return config_;
    }  // without a translator that could be dispensed with
    bool publishFrame(
        bool always);  // renders, and hands a changed picture out; false without a display adapter

  private:
    // What the machine has of each processor.
    struct Processor {
        std::unique_ptr<CodeCache> code;
        std::unique_ptr<LocalApic> apic;
        std::unique_ptr<Cpu> cpu;
        std::unique_ptr<HotCode> translator;
        std::thread thread;
        std::atomic<int> hostThread{0};    // the host's number of it
        std::condition_variable wake;      // it rests, and may have something to do
        std::atomic<bool> resting{false};  // or is about to: it will look for something to do once more
    };
    void addProcessor(unsigned number);
    void addTranslators();
    uint64_t entropy();
    Cpu& running() const { return *processors_[running_]->cpu; }
    void interrupt();  // ends the slice: there is something to do between slices
    void switchTo(unsigned number);
    bool switchToRunnable();
    bool runDueTimers();
    void reset();
    void resetProcessors();
    void serveRequests();
    void tripleFault();
    void go();
    void giveUp(RunResult result, MachineCause cause);
    void tell(MachineEvent event, MachineCause cause = MachineCause::HostError) {
        if (onEvent) onEvent(event, cause);
    }
    int64_t sliceUntil(Nanos deadline, int64_t most);
    void runSlice(int64_t most);
    int64_t speed_ = 0;  // instructions a microsecond, lately
    void idle();
    bool frameIsDue() { return outputs_.frame && gate_.hostTime() >= nextFrame_; }
    void publishDueFrame();

    void runThreads();
    void startThreads();
    void endThreads();
    void pauseThreads();
    void resumeThreads();
    void processorThread(unsigned n);
    void runSlices(unsigned n);
    Nanos serveTimers();
    void interruptThreads();
    void kick(unsigned n);
    void openChannels();

    MachineConfig config_;
    MachineOutputs outputs_;
    std::unique_ptr<Log> log_;
    Gate gate_;
    MachineTime time_{gate_, config_.icountShift, !config_.threads};
    Clock clock_{time_};
    PhysicalMemory memory_;
    PortBus ports_;
    ApicBus apicBus_;
    std::vector<std::unique_ptr<Processor>> processors_;
    unsigned running_ = 0;           // whose turn it is
    uint64_t executedByOthers_ = 0;  // by all processors but that one
    std::unique_ptr<Board> board_;

    Gate::Channel keyChannel_{}, mouseChannel_{};
    std::array<Gate::Channel, 4> serialChannels_{};
    uint64_t chance_ = 0;  // state of entropy() under -icount
    bool stopped_ = false;
    RunState whyStopped_ = RunState::Paused;
    std::optional<std::string> resetRequested_;
    MachineCause resetCause_{}, endCause_{};
    bool powerOffRequested_ = false;
    bool suspendRequested_ = false, wakeRequested_ = false;
    bool suspended_ = false;  // the guest is in S3: no processor runs, time and timers do
    std::optional<std::string> tripleFault_;
    unsigned faultedCpu_ = 0;
    unsigned quickFaults_ = 0;  // triple faults soon after a reset, one after the other
    uint64_t executedAtReset_ = 0;
    std::optional<RunResult> result_;
    Nanos nextFrame_ = 0;

    static constexpr Nanos kFramePeriod = kSecond / 60, kLongestWait = kSecond / 20;
    std::mutex restMutex_;
    std::condition_variable rested_;
    unsigned active_ = 0;  // threads of processors that run slices
    bool paused_ = true, ending_ = false;
    std::atomic<bool> interrupted_{false};
    std::exception_ptr failure_;
};

}  // namespace kiln
