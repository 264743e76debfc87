// The machine protocol's core without a socket: finding JSON in a stream, negotiation, checks of requests,
// events.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "frontend/qmp.hpp"
#include "frontend/qmp_tables.hpp"
#include "pci/pci_bus.hpp"
#include "tests/board_bench.hpp"

using namespace kiln;
using test::ScratchFile;

namespace {

// What a splitter makes of a stream, one a line; errors begin with "!".
std::string split(std::string_view stream, size_t atOnce = 1000) {
    std::string out;
    JsonSplitter splitter({[&](const std::string& value) { out += value + "\n"; },
                           [&](const std::string& why) { out += "!" + why.substr(0, 7) + "\n"; }});
    for (size_t at = 0; at < stream.size(); at += atOnce) splitter.take(stream.substr(at, atOnce));
    return out;
}

struct Session {
    explicit Session(std::vector<PciDeviceConfig> pciDevices = {})
        : machine(configFor(firmware, std::move(pciDevices)), {}),
          monitor(machine, {.name = "test"}),
          qmp(monitor, false, sender()) {
        machine.onEvent = [this](MachineEvent e, MachineCause c) { qmp.happened(e, c); };
        qmp.connected();
    }
    static MachineConfig configFor(const ScratchFile& firmware, std::vector<PciDeviceConfig> pciDevices) {
        MachineConfig config;
        config.pciDevices = std::move(pciDevices);
        config.memory = 4 << 20;
        config.firmware = firmware.path();
        config.topology.cores = 2;
        config.icountShift = 0;
        config.drives = {{"", DriveKind::Cdrom, 2}};
        return config;
    }
    MonitorSession::Send sender() {
        return [this](const std::string& text) { said += text; };
    }
    // All lines that come back, parsed.
    std::vector<Json> ask(const std::string& text) {
        said.clear();
        qmp.received(text);
        std::vector<Json> lines;
        std::istringstream in(said);
        for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
        return lines;
    }
    Json call(const std::string& command, const Json& arguments = Json::object()) {
        const Json request = {{"execute", command}, {"arguments", arguments}};
        const auto lines = ask(request.dump());
        REQUIRE(!lines.empty());
        return lines.back();
    }
    std::string refusal(const std::string& text) {
        const auto lines = ask(text);
        REQUIRE(lines.size() == 1);
        REQUIRE(lines[0].contains("error"));
        return lines[0]["error"]["class"].get<std::string>() + ": " +
               lines[0]["error"]["desc"].get<std::string>();
    }
    void negotiate() { CHECK(call("qmp_capabilities") == Json{{"return", Json::object()}}); }

    ScratchFile firmware{test::blankFirmware()};
    Machine machine;
    Monitor monitor;
    std::string said;
    QmpSession qmp;
};

std::string contentsOf(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("qmp: JSON values are found in a stream") {
    for (size_t atOnce : {1, 3, 1000}) {
        CAPTURE(atOnce);
        CHECK(split("{\"a\":1}{\"b\":[{},2]}\r\n [3]\ntrue \"x\"", atOnce) ==
              "{\"a\":1}\n{\"b\":[{},2]}\n[3]\ntrue\n\"x\"\n");
        CHECK(split("{\"a\": \"}\\\"{\",\n\"b\": '}\"'}", atOnce) ==
              "{\"a\": \"}\\\"{\", \"b\": \"}\\\"\"}\n");
        CHECK(split("{'it\\'s': 'a\\\\'}", atOnce) == "{\"it's\": \"a\\\\\"}\n");
    }
    CHECK(split("") == "");
    CHECK(split("{\"a\"") == "");
}

TEST_CASE("qmp: what is no JSON is skipped up to the line's end") {
    CHECK(split("}{}\n{\"a\":1}") == "}{}\n{\"a\":1}\n");  // a word, which a parser refuses
    CHECK(split("{\"a\":[}]}\n{\"b\":1}") == "!Invalid\n{\"b\":1}\n");
    CHECK(split("{\"a\n{\"b\":1}") == "!Invalid\n{\"b\":1}\n");
    CHECK(split("{\xff more\n[1]") == "!Invalid\n[1]\n");
    CHECK(split(std::string_view("\0\0\n[1]", 6)) == "!Invalid\n[1]\n");
    const std::string deep(JsonSplitter::kDeepest, '[');
    CHECK(split(deep + "[\n[1]") == "!JSON va\n[1]\n");
    CHECK(split(deep + std::string(deep.size(), ']')).size() == 2 * deep.size() + 1);
    const std::string longOne = "\"" + std::string(JsonSplitter::kLongest, 'x') + "\"\n[1]";
    CHECK(split(longOne, 4096) == "!JSON va\n[1]\n");
    CHECK(split("{'a':'" + std::string(JsonSplitter::kLongest, '"') + "'}\n[1]", 4096) == "!JSON va\n[1]\n");
}

TEST_CASE("qmp: greeting and negotiation") {
    Session s;
    const Json greeting = Json::parse(s.said);
    CHECK(greeting["QMP"]["version"]["qemu"]["major"].is_number());
    CHECK(greeting["QMP"]["version"]["package"] == "kiln 0.1");
    CHECK(greeting["QMP"]["capabilities"] == Json::array());
    CHECK(s.refusal("{\"execute\":\"query-status\"}").starts_with("CommandNotFound: Expecting capabilities"));
    s.machine.stop();  // and nobody is told
    CHECK(s.refusal("{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}") ==
          "GenericError: Capability 'oob' is not available");
    s.negotiate();
    CHECK(s.refusal("{\"execute\":\"qmp_capabilities\"}")
              .starts_with("CommandNotFound: Capabilities negotiation is"));
    s.qmp.connected();  // somebody else
    CHECK(s.refusal("{\"execute\":\"query-status\"}").starts_with("CommandNotFound: Expecting"));
}

TEST_CASE("qmp: requests are checked") {
    Session s;
    s.negotiate();
    struct Row {
        const char *request, *refusal;
    };
    static constexpr Row kRows[] = {
        {"[1]", "GenericError: QMP input must be a JSON object"},
        {"nonsense ", "GenericError: Invalid JSON syntax"},
        {"{\"a\" 1}", "GenericError: Invalid JSON syntax"},
        {"{\"execute\":\"\xc3\"}", "GenericError: Invalid JSON syntax"},
        {"{\"execute\":\"\\ud800\"}", "GenericError: Invalid JSON syntax"},
        {"{}", "GenericError: QMP input lacks member 'execute'"},
        {"{\"execute\":1}", "GenericError: QMP input member 'execute' must be a string"},
        {"{\"execute\":\"stop\",\"arguments\":[]}",
         "GenericError: QMP input member 'arguments' must be an object"},
        {"{\"execute\":\"stop\",\"x\":0}", "GenericError: QMP input member 'x' is unexpected"},
        {"{\"exec-oob\":\"stop\"}", "GenericError: QMP input member 'exec-oob' is unexpected"},
        {"{\"execute\":\"nonsense\"}", "CommandNotFound: The command nonsense has not been found"},
        {"{\"execute\":\"stop\",\"arguments\":{\"x\":0}}", "GenericError: Parameter 'x' is unexpected"},
        {"{\"execute\":\"screendump\"}", "GenericError: Parameter 'filename' is missing"},
        {"{\"execute\":\"screendump\",\"arguments\":{\"filename\":1}}",
         "GenericError: Invalid parameter type for 'filename', expected: string"},
        {"{\"execute\":\"screendump\",\"arguments\":{\"filename\":\"x\",\"format\":\"gif\"}}",
         "GenericError: Parameter 'format' does not accept value 'gif'"},
        {"{\"execute\":\"pmemsave\",\"arguments\":{\"val\":-1,\"size\":1,\"filename\":\"x\"}}",
         "GenericError: Parameter 'val' expects a number that is not negative"},
        {"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"help\",\"cpu-index\":2}}",
         "GenericError: Parameter 'cpu-index' expects a CPU number"},
        {"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"help\",\"cpu-index\":-1}}",
         "GenericError: Parameter 'cpu-index' expects a CPU number"},
        {"{\"execute\":\"send-key\",\"arguments\":{\"keys\":[{\"type\":\"qcode\"}]}}",
         "GenericError: Parameter 'data' is missing"},
        {"{\"execute\":\"send-key\",\"arguments\":{\"keys\":[{\"type\":\"qcode\",\"data\":\"nonsense\"}]}}",
         "GenericError: Parameter 'data' does not accept value 'nonsense'"},
        {"{\"execute\":\"send-key\",\"arguments\":{\"keys\":[7]}}",
         "GenericError: Parameter 'type' is missing"},
        {"{\"execute\":\"input-send-event\",\"arguments\":{\"events\":[{\"type\":\"abs\",\"data\":{}}]}}",
         "GenericError: Input handler not found for event type abs"},
        {"{\"execute\":\"system_wakeup\"}",
         "GenericError: Unable to wake up: guest is not in suspended state"},
    };
    for (const Row& row : kRows) {
        CAPTURE(row.request);
        CHECK(s.refusal(row.request) == row.refusal);
    }
}

TEST_CASE("qmp: id comes back, with errors, too") {
    Session s;
    s.negotiate();
    auto lines =
        s.ask("{\"execute\":\"query-name\",\"id\":{\"a\":[1,\"\\u00e4\"]}} {\"execute\":\"no\",\"id\":7}");
    REQUIRE(lines.size() == 2);
    CHECK(lines[0]["id"] == Json{{"a", {1, "\u00e4"}}});
    CHECK(lines[0]["return"]["name"] == "test");
    CHECK(lines[1]["id"] == 7);
}

TEST_CASE("qmp: query-pci shows what is behind bridges there") {
    Session s({{{.id = "port", .device = 5}, RootPortConfig{}},
               {{.id = "bridge", .bus = "port"}, BridgeConfig{}},
               {{.id = "below", .bus = "bridge", .device = 3}, EduConfig{}}});
    s.negotiate();
    s.machine.stop();
    auto functions = [](const Json& of, const std::string& id) {
        Json found;
        for (const Json& f : of["devices"])
            if (f["qdev_id"] == id) found = f;
        return found;
    };
    const Json unset = s.call("query-pci")["return"];
    CHECK(unset.size() == 1);
    CHECK(!functions(unset[0], "port")["pci_bridge"].contains("devices"));  // no bus number yet
    PciBus& pci = s.machine.board().pci();
    pci.configWrite({0, 5, 0}, 0x18, 4, 0x020100);
    pci.configWrite({1, 0, 0}, 0x18, 4, 0x020201);
    pci.configWrite({0, 5, 0}, 0x1c, 2, 0x2010);
    pci.configWrite({0, 5, 0}, 0x20, 4, 0xe110e000);
    pci.configWrite({0, 5, 0}, 0x24, 4, 0x00110000);
    pci.configWrite({0, 5, 0}, 0x28, 4, 8);
    pci.configWrite({0, 5, 0}, 0x2c, 4, 9);
    const Json port = functions(s.call("query-pci")["return"][0], "port");
    CHECK(port["class_info"]["class"] == 0x604);
    CHECK(!port["id"].contains("subsystem"));
    const Json bus = port["pci_bridge"]["bus"];
    CHECK(bus == Json{{"number", 0},
                      {"secondary", 1},
                      {"subordinate", 2},
                      {"io_range", {{"base", 0x1000}, {"limit", 0x2fff}}},
                      {"memory_range", {{"base", 0xe0000000}, {"limit", 0xe11fffff}}},
                      {"prefetchable_range", {{"base", 8ull << 32}, {"limit", 0x9001fffffull}}}});
    const Json below = functions(functions(port["pci_bridge"], "bridge")["pci_bridge"], "below");
    CHECK(below["bus"] == 2);
    CHECK(below["slot"] == 3);
    CHECK(below["regions"][0]["size"] == 1 << 20);
    CHECK(below["id"]["vendor"] == 0x1234);
}

TEST_CASE("qmp: every command answers") {
    Session s;
    s.negotiate();
    s.machine.stop();
    const Json list = s.call("query-commands")["return"];
    CHECK(list.size() > 30);
    for (const Json& entry : list) {
        const std::string name = entry["name"];
        CAPTURE(name);
        CHECK(qmpArguments(*findQmpCommand(name)).size() < 10);
        if (name.starts_with("query-")) CHECK(s.call(name).contains("return"));
    }
    CHECK(s.call("query-status")["return"] ==
          Json{{"running", false}, {"singlestep", false}, {"status", "paused"}});
    const Json schema = s.call("query-qmp-schema")["return"];
    for (const char* known : {"stop", "RESET", "screendump"})
        CHECK(std::any_of(schema.begin(), schema.end(), [&](const Json& e) { return e["name"] == known; }));
    CHECK(s.call("query-cpus-fast")["return"].size() == 2);
    CHECK(s.call("query-block")["return"][0]["device"] == "ide1-cd0");
    CHECK(s.call("human-monitor-command", {{"command-line", "info status"}})["return"]
              .get<std::string>()
              .starts_with("VM status: paused\n"));
    CHECK(s.call("human-monitor-command", {{"command-line", "info cpus"}, {"cpu-index", 1}})["return"]
              .get<std::string>()
              .find("* CPU  1") != std::string::npos);
    CHECK(s.monitor.selected == 0);
    const Json keys = {{{"type", "qcode"}, {"data", "ctrl"}}, {{"type", "number"}, {"data", 0x9c}}};
    CHECK(s.call("send-key", {{"keys", keys}, {"hold-time", 5}}).contains("return"));
    CHECK(s.call("inject-nmi").contains("return"));
}

TEST_CASE("qmp: events") {
    Session s;
    s.negotiate();
    auto events = [&](const std::string& command) {
        std::string names;
        for (const Json& line : s.ask("{\"execute\":\"" + command + "\"}"))
            if (line.contains("event")) {
                CHECK(line["timestamp"]["seconds"].get<int64_t>() > 1'600'000'000);
                CHECK(line["timestamp"]["microseconds"].get<int64_t>() < 1'000'000);
                names += line["event"].get<std::string>() + " ";
            }
        return names;
    };
    CHECK(events("stop") == "STOP ");
    CHECK(events("stop") == "");
    CHECK(events("cont") == "RESUME ");
    CHECK(events("cont") == "STOP RESUME ");
    CHECK(events("system_powerdown") == "POWERDOWN ");
    CHECK(events("system_reset") == "");  // it comes between slices
    s.machine.begin();
    s.said.clear();
    CHECK(s.machine.advance(1));
    CHECK(
        s.said.find("\"event\":\"RESET\",\"data\":{\"guest\":false,\"reason\":\"host-qmp-system-reset\"}") !=
        std::string::npos);
    CHECK(s.call("set-action", {{"shutdown", "pause"}}).contains("return"));
    s.said.clear();
    s.machine.requestPowerOff();
    CHECK(s.machine.advance(1));
    CHECK(s.said.find("\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}") !=
          std::string::npos);
    CHECK(s.said.find("\"STOP\"") != std::string::npos);
    CHECK(s.call("query-status")["return"]["status"] == "shutdown");
    CHECK(s.refusal("{\"execute\":\"cont\"}") == "GenericError: Resetting the Virtual Machine is required");
    s.call("system_reset");
    CHECK(s.machine.advance(1));
    CHECK(s.call("query-status")["return"]["status"] == "prelaunch");
    CHECK(events("cont") == "RESUME ");
    CHECK(s.call("set-action", {{"reboot", "shutdown"}, {"shutdown", "poweroff"}}).contains("return"));
    s.machine.requestReset();
    s.said.clear();
    CHECK(s.machine.run().exitCode == 0);
    CHECK(s.said.find("\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}") !=
          std::string::npos);
}

TEST_CASE("qmp: memory and screen as files") {
    Session s;
    s.negotiate();
    s.machine.memory().write(PhysAddr(0x1ffe), uint32_t(0x64636261));
    ScratchFile out;
    const Json piece = {{"val", 0x1ffe}, {"size", 4}, {"filename", out.path()}};
    for (const char* command : {"memsave", "pmemsave"}) {
        CHECK(s.call(command, piece).contains("return"));
        CHECK(contentsOf(out.path()) == "abcd");
    }
    CHECK(s.call("pmemsave",
                 {{"val", 0x200000000}, {"size", 1ull << 62}, {"filename", out.path()}})["error"]["desc"] ==
          "there is no memory at 0x200000000");
    CHECK(s.call("pmemsave", {{"val", 0}, {"size", 1}, {"filename", "/nonexistent/x"}}).contains("error"));
}
