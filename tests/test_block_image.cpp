#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "devices/block_image.hpp"

using namespace kiln;

namespace {

// A file in a fresh temporary directory, gone at the end.
struct TempFile {
    explicit TempFile(const std::string& content) {
        char name[] = "/tmp/kiln-test-XXXXXX";
        dir = mkdtemp(name);
        path = dir + "/disk.img";
        std::ofstream(path, std::ios::binary) << content;
    }
    ~TempFile() {
        unlink(path.c_str());
        rmdir(dir.c_str());
    }
    std::string content() const {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    std::string dir, path;
};

}  // namespace

TEST_CASE("block image: reading, writing, an odd tail") {
    std::string content(1024, 'a');
    content += "tail";
    TempFile file(content);
    std::string error;
    auto image = BlockImage::open(file.path, {}, error);
    REQUIRE_MESSAGE(image, error);
    CHECK(image->size() == 1028);
    CHECK(image->sectors() == 3);
    std::array<char, 512> sector;
    sector.fill('x');
    CHECK(image->read(1024, sector.data(), 512));
    CHECK(std::string(sector.data(), 4) == "tail");
    CHECK(sector[4] == 0);
    CHECK(sector[511] == 0);
    CHECK(!image->read(1536, sector.data(), 512));
    CHECK(!image->read(~0ull - 100, sector.data(), 512));
    CHECK(!image->read(1024, sector.data(), ~0ull));
    CHECK(image->write(0, "bb", 2));
    CHECK(image->flush());
    CHECK(file.content().substr(0, 3) == "bba");
    CHECK(file.content().size() == 1028);
}

TEST_CASE("block image: a snapshot never touches the file") {
    std::string before(20000, 'a');
    TempFile file(before);
    std::string error;
    auto image = BlockImage::open(file.path, {.snapshot = true}, error);
    REQUIRE_MESSAGE(image, error);
    CHECK(image->writable());
    std::string text(5000, 'z');
    CHECK(image->write(4000, text.data(), text.size()));
    CHECK(image->write(19968, "end", 3));
    std::string back(20000, 0);
    CHECK(image->read(0, back.data(), back.size()));
    std::string expected = before;
    expected.replace(4000, 5000, text).replace(19968, 3, "end");
    CHECK(back == expected);
    CHECK(image->flush());
    image.reset();
    CHECK(file.content() == before);
}

TEST_CASE("block image: read-only refuses writes") {
    TempFile file(std::string(512, 'a'));
    std::string error;
    auto image = BlockImage::open(file.path, {.readOnly = true}, error);
    REQUIRE(image);
    CHECK(!image->writable());
    CHECK(!image->write(0, "b", 1));
    CHECK(file.content()[0] == 'a');
}

TEST_CASE("block image: one writer, or many readers") {
    TempFile file(std::string(512, 'a'));
    std::string error;
    auto writer = BlockImage::open(file.path, {}, error);
    REQUIRE(writer);
    CHECK(!BlockImage::open(file.path, {}, error));
    CHECK(error.find("in use") != std::string::npos);
    CHECK(!BlockImage::open(file.path, {.snapshot = true}, error));
    writer.reset();
    auto one = BlockImage::open(file.path, {.snapshot = true}, error);
    auto two = BlockImage::open(file.path, {.readOnly = true}, error);
    CHECK(one);
    CHECK(two);
    CHECK(!BlockImage::open(file.path, {}, error));
}

TEST_CASE("block image: what can't be opened says why") {
    std::string error;
    TempFile file("");
    auto refusal = [&](const std::string& path) {
        error.clear();
        CHECK(!BlockImage::open(path, {}, error));
        return error;
    };
    CHECK(refusal("/nonexistent/disk.img").find("there is no disk image") == 0);
    CHECK(refusal(file.dir).find("is a directory") != std::string::npos);
    CHECK(refusal(file.path).find("is empty") != std::string::npos);
    CHECK(refusal("/dev/null").find("neither a file nor") != std::string::npos);
    std::ofstream(file.path, std::ios::binary) << "QFI\xfb" << std::string(600, 0);
    CHECK(refusal(file.path).find("qcow2") != std::string::npos);
    if (geteuid() != 0) {
        chmod(file.path.c_str(), 0);
        CHECK(refusal(file.path).find("no permission") == 0);
    }
}

TEST_CASE("block image: a host that can't store is an error, not a crash") {
    TempFile file(std::string(1 << 20, 'a'));
    std::string error;
    auto image = BlockImage::open(file.path, {}, error);
    REQUIRE(image);
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    auto handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit limited{4096, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limited) == 0);
    bool inside = image->write(0, "x", 1), outside = image->write(8192, "x", 1);
    setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    CHECK(inside);
    CHECK(!outside);
    CHECK(image->lastError().find("can't write") == 0);
    CHECK(image->write(8192, "x", 1));
}

TEST_CASE("block image: dirty from a write to a flush") {
    TempFile file(std::string(1024, 'a'));
    std::string error;
    auto image = BlockImage::open(file.path, {}, error);
    REQUIRE(image);
    CHECK(!image->dirty());
    CHECK(image->write(0, "x", 1));
    CHECK(image->dirty());
    CHECK(file.content()[0] == 'x');  // the host has it: nothing waits in this process
    CHECK(image->flush());
    CHECK(!image->dirty());
}

TEST_CASE("block image: blank ones end where they should") {
    auto blank = BlockImage::blank(4096);
    REQUIRE(blank);
    CHECK(blank->write(0, "x", 1));
    CHECK(!blank->write(4096, "x", 1));
    CHECK(blank->lastError().find("behind the end") != std::string::npos);
}
