// What the user chooses about PCI functions: the options of -device.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace kiln {

// What every PCI function may be told.
struct PciPlace {
    std::string id{};                  // its name; a bridge's is also that of the bus below
    std::string bus{};                 // a bridge's id; "" and "pcie.0": bus 0
    std::optional<unsigned> device{};  // without: the first free one
    unsigned function = 0;
    bool multiFunction = false;           // of function 0: there are others
    std::optional<unsigned> processor{};  // that its interrupts are dedicated to; without: they are shared
};

struct EduConfig {
    uint64_t dmaMask = (1 << 28) - 1;
};

struct BridgeConfig {
    uint8_t chassis = 0;
};

struct RootPortConfig {
    uint8_t port = 0;
    uint16_t slot = 0;
};

struct IrqTestConfig {
    unsigned messages = 32;      // MSI: 1, 2, 4, ... 32
    unsigned vectors = 64;       // MSI-X: 1..2048
    uint64_t memory = 64 << 10;  // behind its 64-bit BAR
};

struct RelayDeviceConfig {};

struct PciDeviceConfig {
    PciPlace place;
    std::variant<EduConfig, BridgeConfig, RootPortConfig, IrqTestConfig, RelayDeviceConfig> kind;
};

}  // namespace kiln
