#include "frontend/qmp.hpp"

#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "frontend/qmp_tables.hpp"

namespace kiln {

namespace {

Json timeStamp() {
    using namespace std::chrono;
    const auto now = duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
    return {{"seconds", now / 1'000'000}, {"microseconds", now % 1'000'000}};
}

Json errorText(const QmpError& error) { return {{"error", {{"class", error.kind}, {"desc", error.text}}}}; }

// What a request may consist of. Returns the command's name.
std::string checkRequest(const Json& request) {
    if (!request.is_object()) throw QmpError{"QMP input must be a JSON object"};
    for (const auto& [key, value] : request.items()) {
        if (key != "execute" && key != "arguments" && key != "id")
            throw QmpError{fmt::format("QMP input member '{}' is unexpected", key)};
        if (key == "execute" && !value.is_string())
            throw QmpError{"QMP input member 'execute' must be a string"};
        if (key == "arguments" && !value.is_object())
            throw QmpError{"QMP input member 'arguments' must be an object"};
    }
    if (!request.contains("execute")) throw QmpError{"QMP input lacks member 'execute'"};
    return request["execute"];
}

}  // namespace

std::span<const char* const> qmpEvents() {
    static constexpr const char* kNames[] = {"RESET",  "SHUTDOWN", "POWERDOWN", "STOP",
                                             "RESUME", "SUSPEND",  "WAKEUP"};
    return kNames;
}

std::span<const char* const> qmpCauses() {
    static constexpr const char* kNames[] = {"host-error",  "host-qmp-quit", "host-qmp-system-reset",
                                             "host-signal", "host-ui",       "guest-shutdown",
                                             "guest-reset"};
    return kNames;
}

QmpSession::QmpSession(Monitor& monitor, bool pretty, Send send)
    : monitor_(monitor),
      pretty_(pretty),
      send_(std::move(send)),
      splitter_({[this](const std::string& text) { execute(text); },
                 [this](const std::string& why) { this->send(errorText({why})); }}) {}

void QmpSession::connected() {
    negotiated_ = false;
    splitter_.restart();
    send({{"QMP", {{"version", qmpVersion()}, {"capabilities", Json::array()}}}});
}

void QmpSession::received(std::string_view bytes) { splitter_.take(bytes); }

void QmpSession::happened(MachineEvent event, MachineCause cause) {
    if (!negotiated_) return;
    Json message = {{"timestamp", timeStamp()}, {"event", qmpEvents()[unsigned(event)]}};
    if (event == MachineEvent::Reset || event == MachineEvent::Shutdown)
        message["data"] = {{"guest", cause >= MachineCause::GuestShutdown},
                           {"reason", qmpCauses()[unsigned(cause)]}};
    send(message);
}

void QmpSession::execute(const std::string& text) {
    Json request = Json::parse(text, nullptr, false);
    if (request.is_discarded()) return send(errorText({"Invalid JSON syntax"}));
    Json reply = answer(request);
    if (request.is_object() && request.contains("id")) reply["id"] = std::move(request["id"]);
    send(reply);
}

QmpSession::Json QmpSession::answer(const Json& request) {
    try {
        return {{"return", run(request)}};
    } catch (const QmpError& error) { return errorText(error); }
}

QmpSession::Json QmpSession::run(const Json& request) {
    const std::string name = checkRequest(request);
    const Json arguments = request.value("arguments", Json::object());
    if (name == "qmp_capabilities") return negotiate(arguments);
    if (!negotiated_)
        throw QmpError{"Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound"};
    const QmpCommand* command = findQmpCommand(name);
    if (!command) throw QmpError{fmt::format("The command {} has not been found", name), "CommandNotFound"};
    checkQmpArguments(*command, arguments);
    return command->run(monitor_, arguments);
}

QmpSession::Json QmpSession::negotiate(const Json& arguments) {
    if (negotiated_)
        throw QmpError{"Capabilities negotiation is already complete, command ignored", "CommandNotFound"};
    checkQmpArguments(*findQmpCommand("qmp_capabilities"), arguments);
    for (const Json& capability : arguments.value("enable", Json::array())) {
        if (!capability.is_string()) throw QmpError{"Invalid parameter type for 'enable', expected: string"};
        throw QmpError{fmt::format("Capability '{}' is not available", capability.get<std::string>())};
    }
    negotiated_ = true;
    return Json::object();
}

// Everything is ASCII, and what a command says that is no UTF-8 (names of files) doesn't spoil the rest.
void QmpSession::send(const Json& message) {
    send_(message.dump(pretty_ ? 4 : -1, ' ', true, Json::error_handler_t::replace) + "\r\n");
}

}  // namespace kiln
