// Traps that host code does by itself. Where a trapping instruction calls the translator often enough, the
// call becomes a jump to code of its own in an area apart from all other host code: it makes sure that the
// trap is what it was bound to (the same port and rights, CPUID leaf, MSR, page of registers), does it, and
// goes on behind the instruction. What is not, goes on to the next such code of the same place, if the place
// has several, and at last to the call that was there.
//
//         call  callOut  ------>  jmp variant 2 --> variant 1 --> callOut, as ever
//         (resume)       <-----------'-------------'
//
// A register that a device lets anybody have (mmu/direct_register.hpp) is read and written there; for the
// others its handler is called straight away. Code never returns into the area, so what is taken from there
// can be written over as soon as no processor is inside guest code.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cpu/trap_profile.hpp"
#include "mmu/io.hpp"
#include "translate/code_buffer.hpp"
#include "translate/site_table.hpp"

namespace kiln {

// What a device's register is bound to. The handler is called with these.
struct DeviceAccess {
    IoHandler* handler = nullptr;
    uint64_t offset = 0;
    uint8_t size = 0;
    bool write = false;
    bool port = false;
};

// A range of registers in memory: the handler sees distances from `base`.
struct DeviceRange {
    uint64_t begin, size, base;
    IoHandler* handler;
};

struct TrapLoop;

struct Promotion {
    uint32_t site = 0;  // number
    TrapSite* profile = nullptr;
    uint64_t key = 0;     // what it was bound to
    DeviceAccess access;  // if code calls it
    bool inlined = false;
    std::shared_ptr<const TrapLoop> loop{};  // that the trap is in, if code calls the handler
    uint64_t seen = 0;                       // TrapSite::promoted, when somebody looked for cold ones
};

class Promotions {
  public:
    static constexpr size_t kSlot = 384;
    static constexpr unsigned kMostVariants = 8;  // of a site: for what is direct perhaps two

    // Takes so many bytes of the buffer, for good.
    Promotions(CodeBuffer& buffer, size_t bytes);

    // -- all under the store's lock, while no other thread is inside guest code
    // Where the next one's code is to lie; null: first somebody has to make room.
    const uint8_t* next() const { return free_.empty() ? nullptr : codeOf(free_.back()); }
    uint32_t nextNumber() const { return free_.back(); }
    // Puts it in front of what its site leads to already.
    void add(SiteTable& sites, const Promotion& promotion, std::span<const uint8_t> code);
    // What a variant goes on to that is not the right one: the last added of the same site, or null.
    const uint8_t* headOf(const Site& site) const {
        return site.promotion ? codeOf(site.promotion - 1) : nullptr;
    }
    // Those of a site, the newest first.
    std::vector<const Promotion*> of(uint32_t site) const;
    // The site calls again. `callOut` is whom.
    void demote(SiteTable& sites, uint32_t site, const uint8_t* callOut);
    void demoteAll(SiteTable& sites, const uint8_t* callOut);
    // Takes back those of dead sites, and then, if there is still no room, those that nobody has come to
    // since the last time.
    void sweep(SiteTable& sites, const uint8_t* callOut);

    // -- any time, of one that is in use
    const Promotion& operator[](uint32_t number) const { return *slots_[number]; }

    size_t used() const { return bytes_; }  // by code
    size_t budget() const { return slots_.size() * kSlot; }
    size_t count() const { return slots_.size() - free_.size(); }
    uint64_t made() const { return made_; }

  private:
    const uint8_t* codeOf(uint32_t slot) const { return area_ + slot * kSlot; }
    bool lives(SiteTable& sites, const Promotion& p) const;
    void release(uint32_t slot);

    CodeBuffer& buffer_;
    const uint8_t* area_;
    std::vector<std::unique_ptr<Promotion>> slots_;
    std::vector<uint32_t> nextOf_;  // the slot that this one goes on to, plus 1
    std::vector<uint16_t> sizes_;
    std::vector<uint32_t> free_;
    size_t bytes_ = 0;
    uint64_t made_ = 0;
};

}  // namespace kiln
