// The monitor's commands, one a line, on a machine that has not run.
#include "frontend/monitor.hpp"

#include "tests/board_bench.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

// What would write files of the host's.
bool harmless(const std::string& line) {
    for (const char* word : {"dump", "save", "log"})
        if (line.find(word) != line.npos) return false;
    return true;
}

void run(std::span<const uint8_t> input) {
    test::ScratchFile firmware(test::blankFirmware());
    MachineConfig config;
    config.memory = 4 << 20;
    config.firmware = firmware.path();
    config.topology.cores = 2;
    config.icountShift = 0;
    Machine machine(config, {});
    Monitor monitor(machine);
    Input in(input);
    while (!in.empty()) {
        std::string line;
        for (char c; !in.empty() && (c = char(in.byte())) != '\n';) line += c;
        if (harmless(line)) monitor.execute(line);
    }
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (std::string_view s :
         {"help\nhelp info\ninfo\ninfo registers -a\ninfo cpus\ninfo status\ninfo pic\ninfo pci\ninfo "
          "devices\ninfo device mc146818\ninfo blocks\ninfo screen",
          "x /16xb 0xfffffff0\nxp/4xg 0xfee00000\nx /3dh 0\nxp /9cb 0xa0000\nx 99999999999999999999\nxp /4xg "
          "0xfffffffffffffff8\nxp /2xb 0xffffffffffffffff",
          "x /5i $pc\nx/3i 0xf0000\np ($rax+8*2)&~7\np/c 'a'\np 1/0\ninfo mem\ninfo mappings 0x1000\ni /b "
          "0x71\no /b 0x70 3\ni/w "
          "0xcfc\nsum 0 4096\ngva2gpa 0x1000\ninfo lapic 0\ninfo ioapic\ninfo irq\ninfo qtree\ninfo "
          "mtree\nnmi\nhelp info mem",
          "print $rip\nprint 0x10\nprint $cr0\ncpu 1\ncpu 5",
          "sendkey ctrl-alt-delete\nsendkey a\nsendkey shift-\ntype Hello\\n\\\\\ntype",
          "mouse_move 1 2 3\nmouse_move -99999 2147483647\nmouse_button 7\nmouse_button -1",
          "stop\ncont\nsystem_reset\nsystem_powerdown\nquit"})
        all.emplace_back(s.begin(), s.end());
    return all;
}

}  // namespace

const Target kMonitor{"monitor", run, seeds, 300};

}  // namespace kiln::fuzz
