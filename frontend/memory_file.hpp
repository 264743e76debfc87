// Guest memory, read as tools read it: nothing changes by it. Registers are not read, since that could change
// them; all ones stand for them, and for what nobody answers.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "devices/machine.hpp"

namespace kiln {

// Reads some bytes, all in one page. False: there is nothing at the address.
using ReadGuest = std::function<bool(uint64_t address, void* out, uint64_t size)>;
ReadGuest linearReader(Machine& machine, unsigned cpu);  // by the processor's page tables
ReadGuest physicalReader(Machine& machine);

// Bytes that may lie in several pages.
bool readGuest(const ReadGuest& read, uint64_t address, void* out, uint64_t size);

// Writes a piece of memory to a file. Returns a sentence when that fails, or "".
std::string writeMemoryFile(const std::string& path, uint64_t address, uint64_t size, const ReadGuest& read);

}  // namespace kiln
