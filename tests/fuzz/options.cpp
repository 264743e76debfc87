// The command line, an argument a line.
#include "frontend/options.hpp"

#include <stdexcept>

#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

void run(std::span<const uint8_t> input) {
    std::vector<std::string> arguments(1);
    for (uint8_t c : input)
        if (c == '\n')
            arguments.emplace_back();
        else
            arguments.back() += char(c);
    ParsedCommandLine p = parseCommandLine(arguments);
    if (!p.options && p.output.empty() && p.error.empty()) __builtin_trap();  // neither options nor a word
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (std::string_view s :
         {"-m\n512M\n-smp\n4,sockets=2,cores=2\n-cpu\nmax,+avx,-sse4.2",
          "-drive\nfile=a,,b,format=raw,if=ide,index=1,media=cdrom,snapshot=on,readonly=on",
          "-hda\na\n-hdb\nb\n-cdrom\nc\n-fda\nd\n-boot\norder=cad,menu=on\n-snapshot",
          "-serial\nmon:stdio\n-serial\nfile:x\n-monitor\nunix:/tmp/x,server,nowait\n-debugcon\nnull",
          "-kernel\nk\n-initrd\ni a,j b\n-append\nconsole=ttyS0\n-nographic",
          "-rtc\nbase=2020-02-29T23:59:59,clock=vm\n-icount\nshift=3\n-device\nisa-debug-exit,iobase=0xf4,"
          "iosize=4",
          "--help\ndrives",
          "-d\nint,exec,cpu\n-D\nlog\n-name\nx\n-display\nnone\n-vga\nnone\n-no-reboot\n-no-shutdown\n-S",
          "-M\nq35\n-accel\ntcg,thread=multi\n-global\na.b=c", "disk.img"})
        all.emplace_back(s.begin(), s.end());
    return all;
}

}  // namespace

const Target kOptions{"options", run, seeds, 300};

}  // namespace kiln::fuzz
