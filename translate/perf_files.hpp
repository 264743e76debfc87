// What Linux's perf needs to name translated code: /tmp/perf-PID.map, a line for each piece of code, and
// jitdump files (tools/perf/Documentation/jitdump-specification.txt), which have the code's bytes as well and
// know when what was where: perf record -k mono, then perf inject --jit.
//
// Not there: debug information in jitdump files.
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <span>
#include <string>

namespace kiln {

// Who wants to be told of code. Translators of several processors share one, and may call at the same time.
class CodeListener {
  public:
    virtual ~CodeListener() = default;
    virtual void translated(const std::string& name, std::span<const uint8_t> code) = 0;
};

// "/tmp/perf-PID.map", or another file. Throws std::runtime_error when it can't be written.
class PerfMap final : public CodeListener {
  public:
    explicit PerfMap(const std::string& path = defaultPath());
    ~PerfMap() override;
    static std::string defaultPath();
    void translated(const std::string& name, std::span<const uint8_t> code) override;

  private:
    std::mutex mutex_;
    std::FILE* file_;
};

// "jit-PID.dump" in the working directory, or another file whose name perf knows by its pattern.
class JitDump final : public CodeListener {
  public:
    explicit JitDump(const std::string& path = defaultPath());
    ~JitDump() override;
    static std::string defaultPath();
    void translated(const std::string& name, std::span<const uint8_t> code) override;

  private:
    template <class T>
    void put(const T& v) {
        std::fwrite(&v, sizeof v, 1, file_);
    }
    std::mutex mutex_;
    std::FILE* file_;
    void* marker_;  // a mapping of the file: how perf learns of it
    uint64_t pieces_ = 0;
};

}  // namespace kiln
