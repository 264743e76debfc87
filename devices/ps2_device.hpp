// What keyboard and mouse have in common on their PS/2 wires: replies to commands go out before data, and the
// last byte can be asked for again.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string_view>

#include "mmu/state.hpp"

namespace kiln {

template <size_t N>
class ByteQueue {
  public:
    size_t size() const { return count_; }
    size_t room() const { return N - count_; }
    void push(uint8_t value) {
        if (count_ < N) bytes_[(first_ + count_++) % N] = value;
    }
    uint8_t pop() {
        uint8_t value = bytes_[first_];
        first_ = uint16_t((first_ + 1) % N);
        count_--;
        return value;
    }
    void clear() { first_ = count_ = 0; }
    void state(StateVisitor& visit, std::string_view name) {
        visit(name, bytes_);
        visit("first", first_);
        visit("count", count_);
    }

  private:
    std::array<uint8_t, N> bytes_{};
    uint16_t first_ = 0, count_ = 0;
};

class Ps2Device {
  public:
    static constexpr uint8_t kAck = 0xFA, kResend = 0xFE, kTestPassed = 0xAA;

    virtual ~Ps2Device() = default;
    virtual void write(uint8_t value) = 0;  // a byte from the controller

    bool hasByte() const { return replies_.size() || data_.size(); }
    uint8_t take() {
        last_ = replies_.size() ? replies_.pop() : data_.pop();
        taken();
        return last_;
    }
    std::function<void()> onByte;  // there is something to take

  protected:
    virtual void taken() {}
    void reply(std::initializer_list<uint8_t> bytes) {
        for (uint8_t b : bytes) replies_.push(b);
        if (onByte) onByte();
    }
    // All of a sequence or nothing.
    bool send(std::span<const uint8_t> bytes) {
        if (data_.room() < bytes.size()) return false;
        for (uint8_t b : bytes) data_.push(b);
        if (onByte) onByte();
        return true;
    }
    size_t dataWaiting() const { return data_.size(); }
    size_t dataRoom() const { return data_.room(); }
    void clearQueues() { replies_.clear(), data_.clear(); }
    void clearData() { data_.clear(); }
    uint8_t last() const { return last_; }
    void queueState(StateVisitor& visit) {
        replies_.state(visit, "replies");
        data_.state(visit, "data");
        visit("last", last_);
    }

  private:
    ByteQueue<32> replies_;
    ByteQueue<256> data_;
    uint8_t last_ = 0;
};

}  // namespace kiln
