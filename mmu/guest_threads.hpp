// How processors that run on host threads of their own keep out of each other's way. RAM they share freely
// (guest_ram.hpp); for the rest there are two means:
//
//   DeviceGuard     one lock around everything that is neither a processor nor RAM: ports, registers in memory,
//                   timers, interrupt controllers. Recursive. Who must wait for it steps aside meanwhile.
//   exclusively()   runs something while no other thread is inside guest code: blocks of other processors die,
//                   their TLBs change, memory regions move, a locked access crosses a cache line.
//
// A processor's thread is inside from enter() to exit(), and leaves between slices when `wanted()`; it counts as
// outside while it waits for the device lock or for an exclusive section. Two rules keep this free of deadlock:
// what runs exclusively never takes the device lock (take it first), and nothing that waits while inside holds a
// lock that others need to get outside. Stepping aside happens in the middle of an instruction, so whoever calls
// either means may find blocks dead and TLB entries gone afterwards.
//
// With one thread for all (several() is false) everything here costs a test.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace kiln {

class GuestThreads {
  public:
    GuestThreads() = default;
    GuestThreads(const GuestThreads&) = delete;
    GuestThreads& operator=(const GuestThreads&) = delete;

    // From here on `processors` threads may come. Before the processors are made.
    void expect(unsigned processors);
    bool several() const { return several_; }

    // -- a processor's thread
    void enter(unsigned processor);
    void exit(unsigned processor);
    void vacate(unsigned processor);  // the thread ends
    bool wanted() const { return wanted_.load(std::memory_order_relaxed); }
    // Of processor `n` now: to be on its own thread.
    bool isThreadOf(unsigned n) const { return n < seats_.size() && seats_[n].thread == self(); }

    // -- any thread. `f` may throw.
    template <class F>
    void exclusively(F&& f) {
        if (!several_ || owner_.load(std::memory_order_relaxed) == self()) return f();
        Exclusion section(*this);
        f();
    }

    void lockDevices();
    void unlockDevices();

  private:
    static std::thread::id self() { return std::this_thread::get_id(); }
    struct Seat {
        std::atomic<std::thread::id> thread{};
        bool inside = false;  // the thread's own
    };
    struct Exclusion {
        explicit Exclusion(GuestThreads& threads);
        ~Exclusion();
        GuestThreads& threads;
        Seat* seat;
    };
    Seat* insideSeat();  // of the calling thread, when it is inside guest code
    void waitForTurn(std::unique_lock<std::mutex>& lock) {
        turn_.wait(lock, [this] { return !wanted_.load(std::memory_order_relaxed); });
    }
    void stepOut(Seat& seat);
    void stepIn(Seat& seat);

    bool several_ = false;
    std::vector<Seat> seats_;
    std::mutex mutex_;
    std::condition_variable turn_, quiet_;
    unsigned inside_ = 0;
    std::atomic<bool> wanted_{false};  // an exclusive section runs or waits
    std::atomic<std::thread::id> owner_{};

    std::mutex devices_;
    std::atomic<std::thread::id> devicesOwner_{};
    unsigned devicesDepth_ = 0;
};

class DeviceGuard {
  public:
    explicit DeviceGuard(GuestThreads& threads) : threads_(threads) {
        if (threads_.several()) threads_.lockDevices();
    }
    ~DeviceGuard() {
        if (threads_.several()) threads_.unlockDevices();
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    GuestThreads& threads_;
};

}  // namespace kiln
