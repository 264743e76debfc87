#include "mmu/tlb_banks.hpp"

#include <algorithm>

namespace kiln {

namespace {

// Keys whose two bits differ, one bit a key.
uint16_t changedKeys(uint32_t a, uint32_t b) {
    uint32_t differing = (a ^ b) | (a ^ b) >> 1;
    uint16_t keys = 0;
    for (unsigned key = 0; key < 16; key++) keys = uint16_t(keys | (differing >> key * 2 & 1) << key);
    return keys;
}

}  // namespace

TlbBank* TlbBanks::find(uint16_t pcid) {
    for (auto& b : banks_)
        if (b->pcid == pcid) return b.get();
    return nullptr;
}

void TlbBanks::newEpoch(TlbBank& bank) {
    bank.epoch = ++lastEpoch_;
    bank.fetched.reset();
    bank.largeFetched.clear();
}

void TlbBanks::flushBank(TlbBank& bank, Tlb::Scope scope) {
    for (auto& t : bank.modes) t->flush(scope);
    newEpoch(bank);
}

void TlbBanks::select(uint16_t pcid) {
    TlbBank* bank = find(pcid);
    if (!bank && banks_.size() < kBanks) {
        bank = banks_.emplace_back(std::make_unique<TlbBank>()).get();
        newEpoch(*bank);
    } else if (!bank) {
        bank = std::min_element(banks_.begin(), banks_.end(), [](const auto& a, const auto& b) {
                   return a->lastUsed < b->lastUsed;
               })->get();
        flushBank(*bank, Tlb::Scope::All);
    }
    bank->pcid = pcid;
    bank->lastUsed = ++uses_;
    current_ = bank;
}

void TlbBanks::setKeys(uint32_t pkru, uint32_t pkrs) {
    TlbBank& b = *current_;
    if (b.pkru == pkru && b.pkrs == pkrs) return;
    const uint16_t user = changedKeys(b.pkru, pkru), supervisor = changedKeys(b.pkrs, pkrs);
    for (auto& t : b.modes) t->flushKeys(user, supervisor);
    b.pkru = pkru, b.pkrs = pkrs;
}

void TlbBanks::flushAll() {
    for (auto& b : banks_) flushBank(*b, Tlb::Scope::All);
}

void TlbBanks::flushNonGlobal() {
    for (auto& b : banks_) flushBank(*b, Tlb::Scope::NonGlobal);
}

void TlbBanks::flushContext(uint16_t pcid) {
    if (TlbBank* b = find(pcid)) flushBank(*b, Tlb::Scope::NonGlobal);
}

void TlbBanks::flushBankPage(TlbBank& bank, uint64_t linear, Tlb::Scope scope) {
    for (auto& t : bank.modes) t->flushPage(linear, scope);
    if (bank.largeFetched.contains(linear) ||
        (&bank != current_ && bank.fetched.test(TlbBank::filterBit(linear))))
        newEpoch(bank);
}

void TlbBanks::flushPage(uint16_t pcid, uint64_t linear) {
    if (TlbBank* b = find(pcid)) flushBankPage(*b, linear, Tlb::Scope::NonGlobal);
}

void TlbBanks::flushPage(uint64_t linear) {
    for (auto& b : banks_)
        flushBankPage(*b, linear, b.get() == current_ ? Tlb::Scope::All : Tlb::Scope::Global);
}

void TlbBanks::flushFaulted(uint64_t linear) { flushBankPage(*current_, linear, Tlb::Scope::All); }

void TlbBanks::protectPage(PhysAddr page) {
    for (auto& b : banks_)
        for (auto& t : b->modes) t->protectPage(page);
}

}  // namespace kiln
