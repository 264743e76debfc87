// A thread that drafts host code of blocks that have become hot, while processors go on interpreting them.
// It sees copies of them alone; what comes of it gets its place from the translator that asked, if its block
// is still the same then.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "translate/drafter.hpp"

namespace kiln {

class DraftingThread {
  public:
    struct Job {
        // -- what is asked for
        std::optional<CodeTerms> terms;
        Block block;  // a copy, with its first instruction's own handler
        std::vector<uint8_t> bytes;
        Surroundings surroundings;
        uint64_t hostFor = 0, rip = 0;
        uint32_t ip = 0;
        // -- what comes of it
        Draft draft;
        bool drafted = false, overwritesFlags = false, beginsHarmlessly = false;
        uint64_t nanoseconds = 0;
        // -- whose it is: the translator's when it is free or done, the thread's in between
        enum class State : uint8_t { Free, Waiting, Working, Done };
        std::atomic<State> state = State::Free;
        // -- the translator's
        Block* wanted = nullptr;  // null: it has changed meanwhile
        unsigned asked = 0;       // how often it was wanted since
    };

    DraftingThread();
    ~DraftingThread();  // when no job waits any more
    DraftingThread(const DraftingThread&) = delete;
    DraftingThread& operator=(const DraftingThread&) = delete;

    void post(Job& job);
    // Another number whenever a job is done.
    uint64_t done() const { return done_.load(std::memory_order_acquire); }
    // Frees a job that the thread has not begun; false: it has.
    bool takeBack(Job& job);
    // Frees a job, whatever it is doing.
    void finish(Job& job);

  private:
    void run();
    Job* next();

    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    std::deque<Job*> waiting_;
    std::atomic<unsigned> posted_ = 0;  // jobs in `waiting_`
    std::atomic<uint64_t> done_ = 0;
    bool sleeps_ = false, stop_ = false;
    Drafter drafter_;
    std::thread thread_;
};

// What comes of a block, on whatever thread.
void draft(DraftingThread::Job& job, Drafter& drafter);

}  // namespace kiln
