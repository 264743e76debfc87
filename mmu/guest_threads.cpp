#include "mmu/guest_threads.hpp"

#include <cassert>

namespace kiln {

void GuestThreads::expect(unsigned processors) {
    several_ = true;
    seats_ = std::vector<Seat>(processors);
}

GuestThreads::Seat* GuestThreads::insideSeat() {
    for (Seat& s : seats_)
        if (s.thread.load(std::memory_order_relaxed) == self()) return s.inside ? &s : nullptr;
    return nullptr;
}

void GuestThreads::stepIn(Seat& seat) {
    std::unique_lock lock(mutex_);
    waitForTurn(lock);
    inside_++;
    seat.inside = true;
}

void GuestThreads::stepOut(Seat& seat) {
    std::lock_guard lock(mutex_);
    seat.inside = false;
    if (--inside_ == 0) quiet_.notify_all();
}

void GuestThreads::enter(unsigned processor) {
    seats_[processor].thread.store(self(), std::memory_order_relaxed);
    stepIn(seats_[processor]);
}

void GuestThreads::exit(unsigned processor) { stepOut(seats_[processor]); }

void GuestThreads::vacate(unsigned processor) { seats_[processor].thread.store({}); }

GuestThreads::Exclusion::Exclusion(GuestThreads& t) : threads(t), seat(t.insideSeat()) {
    std::unique_lock lock(t.mutex_);
    if (seat) {
        seat->inside = false;
        if (--t.inside_ == 0) t.quiet_.notify_all();
    }
    t.waitForTurn(lock);
    t.wanted_.store(true, std::memory_order_relaxed);
    t.quiet_.wait(lock, [&] { return t.inside_ == 0; });
    t.owner_.store(self(), std::memory_order_relaxed);
}

GuestThreads::Exclusion::~Exclusion() {
    std::lock_guard lock(threads.mutex_);
    threads.owner_.store({}, std::memory_order_relaxed);
    threads.wanted_.store(false, std::memory_order_relaxed);
    if (seat) {
        threads.inside_++;
        seat->inside = true;
    }
    threads.turn_.notify_all();
}

void GuestThreads::lockDevices() {
    if (devicesOwner_.load(std::memory_order_relaxed) == self()) {
        devicesDepth_++;
        return;
    }
    assert(owner_.load(std::memory_order_relaxed) != self());
    if (!devices_.try_lock()) {
        Seat* seat = insideSeat();
        if (seat) stepOut(*seat);
        devices_.lock();
        if (seat) stepIn(*seat);
    }
    devicesOwner_.store(self(), std::memory_order_relaxed);
    devicesDepth_ = 1;
}

void GuestThreads::unlockDevices() {
    if (--devicesDepth_) return;
    devicesOwner_.store({}, std::memory_order_relaxed);
    devices_.unlock();
}

}  // namespace kiln
