#include "apic/gate.hpp"

#include <chrono>
#include <random>

namespace kiln {

uint64_t Gate::steadyNanos() {
    auto t = std::chrono::steady_clock::now().time_since_epoch();
    return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(t).count());
}

Nanos Gate::hostTime() { return steadyNanos() - epoch_; }

int64_t Gate::calendarSeconds() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

uint64_t Gate::entropy() {
    std::random_device device;
    return uint64_t(device()) << 32 | device();
}

Gate::Channel Gate::openChannel(std::string name, Handler handler) {
    channels_.emplace_back(std::move(name), std::move(handler));
    return Channel(channels_.size() - 1);
}

void Gate::post(Channel channel, std::span<const uint8_t> message) {
    {
        std::lock_guard lock(mutex_);
        inbox_.push_back({channel, {message.begin(), message.end()}});
    }
    arrived_.notify_one();
}

bool Gate::pending() {
    std::lock_guard lock(mutex_);
    return !inbox_.empty();
}

void Gate::deliver() {
    std::vector<Message> messages;
    {
        std::lock_guard lock(mutex_);
        messages.swap(inbox_);
    }
    for (auto& m : messages) channels_[unsigned(m.channel)].second(m.bytes);
}

void Gate::wait(Nanos atMost) {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, std::chrono::nanoseconds(atMost), [&] { return woken_ || !inbox_.empty(); });
    woken_ = false;
}

void Gate::wake() {
    {
        std::lock_guard lock(mutex_);
        woken_ = true;
    }
    arrived_.notify_one();
}

}  // namespace kiln
