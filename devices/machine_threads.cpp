// -accel thread=multi: every processor runs on a host thread of its own, and the machine's thread
// keeps timers, the gate and the picture. mmu/guest_threads.hpp says how they keep out of each other's way.
//
// A processor's thread is active while it runs slices, and rests when its processor waits for an interrupt or
// the machine is paused. Everything the single-threaded machine does between slices (messages of the gate,
// resets, pictures) happens while all of them rest.
#include <unistd.h>

#include <algorithm>

#include "devices/machine.hpp"

namespace kiln {

namespace {
constexpr int64_t kThreadSlice = 4096;  // instructions between two looks at what others want
}

// -- any thread

void Machine::interruptThreads() {
    interrupted_.store(true, std::memory_order_relaxed);
    for (auto& p : processors_)
        if (memory_.threads.isThreadOf(p->cpu->id)) p->cpu->leave();
    gate_.wake();
}

// Something may have become deliverable for processor `n`. A running one looks between its slices, and before
// it rests: then nothing is locked here, so that an interrupt can be posted without waiting for anybody.
void Machine::kick(unsigned n) {
    Processor& p = *processors_[n];
    if (memory_.threads.isThreadOf(n)) return p.cpu->lookAround();
    std::atomic_thread_fence(std::memory_order_seq_cst);  // what it is to look at, then whether it will
    if (!p.resting.load(std::memory_order_relaxed)) return;
    std::lock_guard lock(restMutex_);
    p.wake.notify_one();
}

// -- a processor's thread

void Machine::processorThread(unsigned n) {
    Processor& p = *processors_[n];
    p.hostThread.store(int(gettid()), std::memory_order_relaxed);
    p.hostThread.notify_all();
    // Not a slice more while somebody waits for the machine's thread: it may be for a reset, or for sleep.
    auto mayRun = [this] { return !paused_ && !interrupted_.load(std::memory_order_relaxed); };
    std::unique_lock lock(restMutex_);
    for (;;) {
        p.resting.store(true, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_seq_cst);
        p.wake.wait(lock, [&] { return ending_ || (mayRun() && (!p.cpu->idle() || p.cpu->wakeable())); });
        p.resting.store(false, std::memory_order_relaxed);
        if (ending_) break;
        active_++;
        lock.unlock();
        try {
            runSlices(n);
        } catch (...) {
            DeviceGuard guard(memory_.threads);
            failure_ = std::current_exception();
            interruptThreads();
        }
        lock.lock();
        if (--active_ == 0) rested_.notify_one();
    }
    memory_.threads.vacate(n);
}

void Machine::runSlices(unsigned n) {
    Cpu& c = cpu(n);
    GuestThreads& threads = memory_.threads;
    threads.enter(n);
    try {
        do {
            c.run(kThreadSlice);
            if (threads.wanted()) threads.exit(n), threads.enter(n);
            if (std::exchange(c.spun, false)) std::this_thread::yield();
        } while (!interrupted_.load(std::memory_order_relaxed) && (!c.idle() || c.wakeable()));
    } catch (...) {
        threads.exit(n);
        throw;
    }
    threads.exit(n);
}

// -- the machine's thread

void Machine::startThreads() {
    paused_ = true;
    ending_ = false;
    for (unsigned n = 0; n < cpus(); n++)
        processors_[n]->thread = std::thread([this, n] { processorThread(n); });
    for (auto& p : processors_) p->hostThread.wait(0, std::memory_order_relaxed);  // somebody may ask for it
}

void Machine::endThreads() {
    {
        std::lock_guard lock(restMutex_);
        ending_ = true;
        for (auto& p : processors_) p->wake.notify_one();
    }
    for (auto& p : processors_) p->thread.join();
}

void Machine::pauseThreads() {
    std::unique_lock lock(restMutex_);
    paused_ = true;
    interrupted_.store(true, std::memory_order_relaxed);
    rested_.wait(lock, [this] { return active_ == 0; });
}

void Machine::resumeThreads() {
    std::lock_guard lock(restMutex_);
    paused_ = false;
    interrupted_.store(false, std::memory_order_relaxed);
    for (auto& p : processors_) p->wake.notify_one();
}

// Returns how long there is nothing to do.
Nanos Machine::serveTimers() {
    DeviceGuard guard(memory_.threads);
    clock_.runDue();
    Nanos next = clock_.nextDeadline(), now = clock_.now();
    Nanos wait = next == kNever ? kLongestWait : next > now ? std::min(next - now, kLongestWait) : 0;
    if (outputs_.frame) wait = std::min(wait, kFramePeriod);
    return wait;
}

void Machine::runThreads() {
    startThreads();
    while (true) {
        gate_.deliver();
        serveRequests();
        if (result_ || failure_) break;
        publishDueFrame();
        if (stopped_) {
            gate_.wait(kLongestWait);
            continue;
        }
        if (!suspended_) resumeThreads();
        do
            if (Nanos wait = serveTimers()) gate_.wait(wait);
        while (!interrupted_.load(std::memory_order_relaxed) && !gate_.pending() && !frameIsDue());
        pauseThreads();
    }
    endThreads();
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

}  // namespace kiln
