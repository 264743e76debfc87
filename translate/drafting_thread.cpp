#include "translate/drafting_thread.hpp"

#include <algorithm>
#include <chrono>

#include "translate/emitter.hpp"

namespace kiln {

namespace {

using Clock = std::chrono::steady_clock;

// Blocks become hot one soon after the other: waking a thread for each costs more than it saves.
constexpr auto kStaysAwake = std::chrono::microseconds(100);

}  // namespace

void draft(DraftingThread::Job& job, Drafter& drafter) {
    const auto began = Clock::now();
    const CodeStep step{&job.block, job.block.count, 0, job.bytes, nullptr};
    job.drafted = drafter.write(job.draft, *job.terms, job.surroundings, {&step, 1}, 0, job.ip,
                                [&](BlockEmitter& emitter) {
                                    emitter.emit();
                                    job.overwritesFlags = emitter.overwritesFlagsFirst();
                                    job.beginsHarmlessly = emitter.beginsHarmlessly();
                                });
    job.nanoseconds = uint64_t(std::chrono::nanoseconds(Clock::now() - began).count());
}

DraftingThread::DraftingThread() : thread_([this] { run(); }) {}

DraftingThread::~DraftingThread() {
    {
        const std::lock_guard held(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

void DraftingThread::post(Job& job) {
    bool wakes;
    {
        const std::lock_guard held(mutex_);
        job.state.store(Job::State::Waiting, std::memory_order_relaxed);
        waiting_.push_back(&job);
        posted_.store(unsigned(waiting_.size()), std::memory_order_release);
        wakes = std::exchange(sleeps_, false);
    }
    if (wakes) wake_.notify_one();
}

bool DraftingThread::takeBack(Job& job) {
    const std::lock_guard held(mutex_);
    if (job.state.load(std::memory_order_relaxed) != Job::State::Waiting) return false;
    std::erase(waiting_, &job);
    posted_.store(unsigned(waiting_.size()), std::memory_order_relaxed);
    job.state.store(Job::State::Free, std::memory_order_relaxed);
    return true;
}

void DraftingThread::finish(Job& job) {
    if (takeBack(job)) return;
    std::unique_lock held(mutex_);
    finished_.wait(held, [&] { return job.state.load(std::memory_order_relaxed) != Job::State::Working; });
    job.state.store(Job::State::Free, std::memory_order_relaxed);
}

// Null: there will be none.
DraftingThread::Job* DraftingThread::next() {
    const auto until = Clock::now() + kStaysAwake;
    while (!posted_.load(std::memory_order_acquire) && Clock::now() < until) std::this_thread::yield();
    std::unique_lock held(mutex_);
    while (waiting_.empty() && !stop_) {
        sleeps_ = true;
        wake_.wait(held);
    }
    if (waiting_.empty()) return nullptr;
    Job* job = waiting_.front();
    waiting_.pop_front();
    posted_.store(unsigned(waiting_.size()), std::memory_order_relaxed);
    job->state.store(Job::State::Working, std::memory_order_relaxed);
    return job;
}

void DraftingThread::run() {
    while (Job* job = next()) {
        draft(*job, drafter_);
        {
            const std::lock_guard held(mutex_);
            job->state.store(Job::State::Done, std::memory_order_release);
        }
        done_.fetch_add(1, std::memory_order_release);
        finished_.notify_all();
    }
}

}  // namespace kiln
