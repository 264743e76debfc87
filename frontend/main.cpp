// kiln's main program: joins a machine to the terminal, a window and files.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <optional>
#include <thread>

#include "devices/board.hpp"
#include "devices/lockstep.hpp"
#include "devices/machine.hpp"
#include "frontend/display.hpp"
#include "frontend/line_session.hpp"
#include "frontend/monitor.hpp"
#include "frontend/monitor_port.hpp"
#include "frontend/options.hpp"
#include "frontend/qmp.hpp"
#include "frontend/screenshot.hpp"
#include "frontend/terminal.hpp"

namespace kiln {

namespace {

void complain(const std::string& sentence) { fmt::print(stderr, "kiln: {}\n", sentence); }

class Session : DisplayHost {
  public:
    explicit Session(Options options) : o_(std::move(options)) {}

    int run() {
        if (o_.lockstep) return runLockstep();
        chooseDisplay();
        buildMachine();
        buildMonitor();
        buildTerminal();
        waitForClients();
        RunResult result = display_ ? runWithWindow() : machine_->run();
        terminal_.reset();
        ports_.clear();
        if (!result.message.empty()) complain(result.message);
        if (result.shutdownState) fmt::print(stderr, "{}", describeRegisters(machine_->cpu(result.cpu)));
        if (o_.statistics)
            fmt::print(stderr, "{} instructions in {:.3f} s of guest time, state hash {:016x}\n{}{}",
                       machine_->executed(), double(machine_->clock().now()) / 1e9, machine_->stateHash(),
                       machine_->translatorReport(), machine_->tlbReport());
        return result.exitCode;
    }

  private:
    // The serial ports are the terminal's; there is neither a picture nor a monitor.
    int runLockstep() {
        MachineOutputs outputs;
        std::optional<unsigned> port;
        if (!o_.serialGiven) o_.serial = {{StreamTarget::Stdio, {}, false}};
        for (size_t i = 0; i < o_.serial.size(); i++) {
            outputs.serial[i] = openSink("-serial", o_.serial[i]);
            if (o_.serial[i].kind == StreamTarget::Stdio) port = unsigned(i);
        }
        if (auto sink = openSink("-debugcon", o_.debugConsole))
            outputs.debugConsole = [sink](uint8_t byte) { sink({&byte, 1}); };
        outputs.flush = [this] { flushOutputs(); };
        Lockstep lockstep(o_.machine, std::move(outputs), *o_.lockstep);
        Terminal::Hooks hooks;
        hooks.toGuest = [&](std::span<const uint8_t> bytes) { lockstep.postSerial(*port, bytes); };
        hooks.toMonitor = [](const std::string&) {};
        hooks.quit = [&](const std::string&) { lockstep.quit(); };
        terminal_.emplace(port ? Terminal::Mode::Guest : Terminal::Mode::Off, std::move(hooks));
        terminal_->start();
        const Lockstep::Result result = lockstep.run();
        terminal_.reset();
        if (!result.run.message.empty()) complain(result.run.message);
        if (!result.report.empty()) {
            fmt::print(stderr, "{}", result.report);
            return 1;
        }
        fmt::print(stderr, "{}{} instructions were the same, compared {} times\n", result.screen,
                   result.executed, result.comparisons);
        return result.run.exitCode;
    }

    // A window where one can be had; without, and without other wishes, the terminal.
    void chooseDisplay() {
        if (!o_.machine.vga && o_.display == DisplayChoice::Auto) o_.display = DisplayChoice::None;
        bool wanted = o_.display == DisplayChoice::Sdl;
        bool possible =
            std::getenv("DISPLAY") || std::getenv("WAYLAND_DISPLAY") || std::getenv("SDL_VIDEODRIVER");
        if (wanted || (o_.display == DisplayChoice::Auto && possible)) {
            std::string error;
            display_ = openSdlDisplay(*this, o_.name.empty() ? "kiln" : o_.name + " - kiln", error);
            if (!display_ && wanted) throw std::runtime_error("-display sdl: " + error);
            if (!display_) complain("no window: " + error);
        }
        if (o_.display == DisplayChoice::Auto && !display_ && !o_.serialGiven) {
            o_.serial = {{StreamTarget::Stdio, {}, !o_.monitorGiven}};
            if (o_.monitor.kind == StreamTarget::Stdio || controlsTerminal()) o_.serial.clear();
        }
    }

    std::function<void(std::span<const uint8_t>)> openSink(const std::string& option,
                                                           const StreamTarget& target) {
        if (target.kind == StreamTarget::File) {
            auto& file = files_.emplace_back(std::make_unique<FileSink>(option, target.path));
            return [&sink = *file](std::span<const uint8_t> bytes) { sink.put(bytes); };
        }
        if (target.kind == StreamTarget::Stdio)
            return [this](std::span<const uint8_t> bytes) {
                if (terminal_) terminal_->guestOutput(bytes);
            };
        return {};
    }

    void buildMachine() {
        auto log = std::make_unique<Log>();
        if (!o_.logFile.empty() && !log->openFile(o_.logFile))
            throw std::runtime_error("-D: can't write to '" + o_.logFile + "'");
        std::string unknown = log->enable(o_.logCategories);
        if (!unknown.empty())
            throw std::runtime_error("-d: there is no category '" + unknown + "'; there are " +
                                     Log::categoryNames());
        MachineOutputs outputs;
        for (size_t i = 0; i < o_.serial.size(); i++) outputs.serial[i] = openSink("-serial", o_.serial[i]);
        if (auto sink = openSink("-debugcon", o_.debugConsole))
            outputs.debugConsole = [sink](uint8_t byte) { sink({&byte, 1}); };
        if (!o_.machine.threads) outputs.flush = [this] { flushOutputs(); };
        if (display_) outputs.frame = [this](const Frame& frame) { publisher_.publish(frame); };
        for (auto& file : files_) file->keepsBack = bool(outputs.flush);
        machine_.emplace(o_.machine, std::move(outputs), std::move(log));
        if (o_.machine.translator && !machine_->config().translator)
            complain("the host gives no memory for translated code: kiln interprets");
        if (o_.machine.startStopped && display_) machine_->publishFrame(true);
    }

    // A system call for each byte would cost more than everything else about it.
    void flushOutputs() {
        if (terminal_) terminal_->flush();
        for (auto& file : files_) file->flush();
    }

    bool controlsTerminal() const {
        return std::any_of(o_.monitors.begin(), o_.monitors.end(),
                           [](auto& m) { return m.target.kind == StreamTarget::Stdio; });
    }

    MonitorFacts facts() const {
        MonitorFacts facts{.name = o_.name};
        for (size_t i = 0; i < o_.serial.size(); i++)
            facts.streams.push_back(
                {o_.serial[i].chardev.empty() ? fmt::format("serial{}", i) : o_.serial[i].chardev,
                 describe(o_.serial[i])});
        if (o_.debugConsole.kind != StreamTarget::None)
            facts.streams.push_back({"debugcon", describe(o_.debugConsole)});
        for (const MonitorRequest& m : o_.monitors) facts.streams.push_back({m.label, describe(m.target)});
        return facts;
    }

    void buildMonitor() {
        monitor_.emplace(*machine_, facts());
        terminalLines_ = machine_->gate().openChannel("monitor", [this](std::span<const uint8_t> line) {
            std::string answer = monitor_->execute({line.begin(), line.end()});
            if (terminal_) terminal_->monitorOutput(answer);
        });
        requests_ = machine_->gate().openChannel("requests", [this](std::span<const uint8_t> m) {
            if (!m.empty() && m[0] == kScreenshot)
                saveScreenshot();
            else
                machine_->requestExit(0, {m.begin(), m.end()},
                                      m.empty() ? MachineCause::HostWindow : MachineCause::HostSignal);
        });
        for (const MonitorRequest& m : o_.monitors) addMonitor(m);
        machine_->onEvent = [this](MachineEvent event, MachineCause cause) {
            if (control_) control_->happened(event, cause);
            for (auto& port : ports_) port->happened(event, cause);
        };
    }

    void addMonitor(const MonitorRequest& m) {
        auto session = [&](MonitorSession::Send send) -> std::unique_ptr<MonitorSession> {
            if (!m.control) return std::make_unique<LineSession>(*monitor_, std::move(send));
            return std::make_unique<QmpSession>(*monitor_, m.pretty, std::move(send));
        };
        if (m.target.kind == StreamTarget::Socket) {
            ports_.push_back(std::make_unique<MonitorPort>(m.option, m.target.socket, *machine_, session));
            return;
        }
        control_ = session([this](const std::string& text) {
            if (terminal_) terminal_->controlOutput(text);
        });
        controlBytes_ = machine_->gate().openChannel(m.option, [this](std::span<const uint8_t> bytes) {
            control_->received({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        });
    }

    // wait=on: before the machine starts.
    void waitForClients() {
        size_t at = 0;
        for (const MonitorRequest& m : o_.monitors) {
            if (m.target.kind != StreamTarget::Socket) continue;
            MonitorPort& port = *ports_[at++];
            if (!m.target.wait) continue;
            complain(m.option + " waits for a client at " + m.target.socket.text());
            if (!port.waitForClient()) return;
        }
    }

    void buildTerminal() {
        bool monitor = o_.monitor.kind == StreamTarget::Stdio;
        std::optional<unsigned> port;
        bool both = false;
        for (unsigned i = 0; i < o_.serial.size(); i++)
            if (o_.serial[i].kind == StreamTarget::Stdio) port = i, both = o_.serial[i].withMonitor;
        auto mode = both       ? Terminal::Mode::Both
                    : port     ? Terminal::Mode::Guest
                    : monitor  ? Terminal::Mode::Monitor
                    : control_ ? Terminal::Mode::Control
                               : Terminal::Mode::Off;
        Terminal::Hooks hooks;
        hooks.toGuest = [this, port](std::span<const uint8_t> bytes) { machine_->postSerial(*port, bytes); };
        hooks.toMonitor = [this](const std::string& line) { post(terminalLines_, line); };
        hooks.toControl = [this](std::span<const uint8_t> bytes) {
            machine_->gate().post(controlBytes_, bytes);
        };
        hooks.quit = [this](const std::string& why) {
            post(requests_, why);
            for (auto& p : ports_) p->cancelWait();
        };
        terminal_.emplace(mode, std::move(hooks));
        if (control_) control_->connected();
        if (!o_.machine.threads) terminal_->keepBack();
        terminal_->start();
    }

    // The window has the main thread, as some hosts demand; the machine gets its own.
    RunResult runWithWindow() {
        RunResult result;
        std::exception_ptr failure;
        std::thread thread([&] {
            try {
                result = machine_->run();
            } catch (...) { failure = std::current_exception(); }
            display_->quit();
        });
        display_->run();
        post(requests_, {});  // the window may have gone first
        thread.join();
        display_.reset();
        if (failure) std::rethrow_exception(failure);
        return result;
    }

    void post(Gate::Channel channel, const std::string& text) {
        machine_->gate().post(channel, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    }

    void saveScreenshot() {
        const Frame* frame = machine_->board().render(true);
        if (!frame) return;
        std::string path, error;
        for (unsigned n = 1; path.empty() || access(path.c_str(), F_OK) == 0; n++)
            path = fmt::format("kiln-{}.png", n);
        if (writePng(path, *frame, error))
            fmt::print(stderr, "kiln: the screen is in {}\n", path);
        else
            complain(error);
    }

    // -- DisplayHost
    bool readFrame(Frame& out, uint64_t& serial) override { return publisher_.read(out, serial); }
    void key(uint8_t hidUsage, bool down) override { machine_->postKey(hidUsage, down); }
    void mouse(int dx, int dy, int wheel, unsigned buttons) override {
        machine_->postMouse(dx, dy, wheel, buttons);
    }
    void closeRequested() override { post(requests_, {}); }
    void screenshot() override { post(requests_, std::string(1, char(kScreenshot))); }

    static constexpr uint8_t kScreenshot = 1;

    Options o_;
    FramePublisher publisher_;
    std::optional<Machine> machine_;
    std::optional<Monitor> monitor_;
    std::unique_ptr<MonitorSession> control_;  // on the terminal
    std::vector<std::unique_ptr<MonitorPort>> ports_;
    std::optional<Terminal> terminal_;
    std::vector<std::unique_ptr<FileSink>> files_;
    std::unique_ptr<Display> display_;
    Gate::Channel terminalLines_{}, controlBytes_{}, requests_{};
};

int mainProgram(int argc, char** argv) {
    ParsedCommandLine parsed = parseCommandLine({argv + 1, argv + argc});
    fmt::print("{}", parsed.output);
    for (const std::string& warning : parsed.warnings) complain(warning);
    if (!parsed.error.empty()) complain(parsed.error);
    if (!parsed.options) return parsed.exitCode;
    try {
        return Session(std::move(*parsed.options)).run();
    } catch (const std::exception& e) {
        complain(e.what());
        return 1;
    }
}

}  // namespace

}  // namespace kiln

int main(int argc, char** argv) { return kiln::mainProgram(argc, argv); }
