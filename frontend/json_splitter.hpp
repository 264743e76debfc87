// Finds the JSON values in a stream of bytes, as QEMU's machine protocol sends them: one behind the other,
// with or without line breaks, several in one packet or one in several. Strings may stand in single quotes,
// too, as people type them; they come out in double ones.
//
// What can't be JSON (brackets that don't match, control characters, a value that is too long or too deep)
// comes out as an error, and reading goes on behind it. Whether a value is right otherwise is for a parser to
// say.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

class JsonSplitter {
  public:
    static constexpr size_t kLongest = 1 << 20, kDeepest = 256;  // bytes; brackets in brackets

    struct Hooks {
        std::function<void(const std::string& text)> value;
        std::function<void(const std::string& why)> error;
    };
    explicit JsonSplitter(Hooks hooks) : hooks_(std::move(hooks)) {}

    void take(std::string_view bytes);
    void restart();  // forgets what has been begun

  private:
    enum class State { Between, Word, Value, String, Escape, Garbage };
    void take(char c);
    void begin(char c);
    void inValue(char c);
    void inString(char c);
    void append(char c);
    void open(char bracket);
    void close(char bracket);
    void finish();
    void fail(const std::string& why);

    const Hooks hooks_;
    State state_ = State::Between;
    char quote_ = 0;
    std::string text_;
    std::vector<char> open_;  // the brackets that are to come
};

}  // namespace kiln
