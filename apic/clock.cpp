#include "apic/clock.hpp"

#include <algorithm>
#include <utility>

namespace kiln {

Timer::Timer(Clock& clock, std::function<void()> callback) : clock_(clock), callback_(std::move(callback)) {
    clock_.timers_.push_back(this);
}

Timer::~Timer() {
    std::erase(clock_.timers_, this);
    clock_.update();
}

void Timer::arm(Nanos deadline) {
    const Nanos before = clock_.next_, old = std::exchange(deadline_, deadline);
    if (deadline < before)
        clock_.next_ = deadline;
    else if (old == before)
        clock_.update();
    if (clock_.next_ < before && clock_.onEarlierDeadline) clock_.onEarlierDeadline();
}

void Clock::update() {
    next_ = kNever;
    for (const Timer* t : timers_) next_ = std::min(next_, t->deadline_);
}

void Clock::runDue() {
    Nanos t = now();
    while (next_ <= t) {
        Timer* due = *std::min_element(timers_.begin(), timers_.end(), [](const Timer* a, const Timer* b) {
            return a->deadline_ < b->deadline_;
        });
        due->deadline_ = kNever;
        update();
        due->callback_();
    }
}

}  // namespace kiln
