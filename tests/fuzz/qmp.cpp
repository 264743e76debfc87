// What a client of the machine protocol sends, in pieces, to a machine that runs a little between them.
#include "frontend/qmp.hpp"

#include "tests/board_bench.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

// What would write files of the host's, and letters in disguise.
bool harmless(std::string_view text) {
    for (std::string_view word : {"dump", "save", "log", "\\u00"})
        if (text.find(word) != text.npos) return false;
    return true;
}

void run(std::span<const uint8_t> input) {
    if (!harmless({reinterpret_cast<const char*>(input.data()), input.size()})) return;
    test::ScratchFile firmware(test::blankFirmware());
    MachineConfig config;
    config.memory = 4 << 20;
    config.firmware = firmware.path();
    config.topology.cores = 2;
    config.icountShift = 0;
    Machine machine(config, {});
    Monitor monitor(machine, {.name = "fuzz"});
    size_t said = 0;
    QmpSession session(monitor, false, [&](const std::string& text) { said += text.size(); });
    machine.onEvent = [&](MachineEvent event, MachineCause cause) { session.happened(event, cause); };
    session.connected();
    session.received("{\"execute\":\"qmp_capabilities\"}");
    machine.begin();
    Input in(input);
    while (!in.empty()) {
        const auto piece = in.bytes(1 + in.below(200));
        session.received({reinterpret_cast<const char*>(piece.data()), piece.size()});
        if (!machine.stopped()) machine.advance(100);
    }
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (std::string_view s :
         {"\xff{\"execute\":\"query-status\"}{\"execute\":\"query-pci\",\"id\":1}{\"execute\":\"query-"
          "commands\"}",
          "\xff{'execute':'stop'}{'execute':'cont'}\n{'execute':'system_reset'} "
          "{'execute':'system_powerdown'}",
          "\xff{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info "
          "registers\",\"cpu-index\":1}}",
          "\xff{\"execute\":\"send-key\",\"arguments\":{\"keys\":[{\"type\":\"qcode\",\"data\":\"ret\"},"
          "{\"type\":\"number\",\"data\":28}],\"hold-time\":7}}",
          "\xff{\"execute\":\"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"btn\",\"data\":{"
          "\"button\":"
          "\"left\",\"down\":true}},{\"type\":\"rel\",\"data\":{\"axis\":\"x\",\"value\":-5}}]}}",
          "\xff{\"execute\":\"set-action\",\"arguments\":{\"reboot\":\"shutdown\",\"shutdown\":\"pause\"}} "
          "[[[}]]] 1.5e300 "
          "{\"execute\":12}\n{\"a\":\"\\ud83d\\ude00\"}\n{\"execute\":\"quit\"}"})
        all.emplace_back(s.begin(), s.end());
    return all;
}

}  // namespace

const Target kQmp{"qmp", run, seeds, 300};

}  // namespace kiln::fuzz
