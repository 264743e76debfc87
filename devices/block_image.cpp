#include "devices/block_image.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace kiln {

namespace {

constexpr uint64_t kCluster = 4096;  // granularity of the snapshot overlay

// Reads until `bytes` or end of file; what lies behind the end is zeros.
bool readAll(int fd, uint64_t offset, void* out, uint64_t bytes) {
    auto* to = static_cast<uint8_t*>(out);
    while (bytes) {
        ssize_t n = pread(fd, to, bytes, off_t(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        if (n == 0) {
            std::memset(to, 0, bytes);
            return true;
        }
        to += n, offset += uint64_t(n), bytes -= uint64_t(n);
    }
    return true;
}

bool writeAll(int fd, uint64_t offset, const void* in, uint64_t bytes) {
    auto* from = static_cast<const uint8_t*>(in);
    while (bytes) {
        ssize_t n = pwrite(fd, from, bytes, off_t(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return false;
        from += n, offset += uint64_t(n), bytes -= uint64_t(n);
    }
    return true;
}

// The name of an image format this is not, by its magic, or null.
const char* foreignFormat(int fd) {
    struct Magic {
        const char* bytes;
        size_t size;
        const char* name;
    };
    static constexpr std::array<Magic, 5> kMagics = {{{"QFI\xfb", 4, "qcow2"},
                                                      {"KDMV", 4, "VMDK"},
                                                      {"conectix", 8, "VHD"},
                                                      {"vhdxfile", 8, "VHDX"},
                                                      {"<<< Oracle VM VirtualBox", 24, "VDI"}}};
    std::array<char, 32> head{};
    if (!readAll(fd, 0, head.data(), head.size())) return nullptr;
    for (const Magic& m : kMagics)
        if (!std::memcmp(head.data(), m.bytes, m.size)) return m.name;
    return nullptr;
}

std::string openFailure(const std::string& path, bool writing) {
    int e = errno;
    if (e == ENOENT) return "there is no disk image '" + path + "': check the path";
    if (e == EISDIR) return "'" + path + "' is a directory, not a disk image: name a file";
    if (e == EACCES || e == EPERM || e == EROFS)
        return writing ? "no permission to write disk image '" + path +
                             "': change its mode, or use snapshot=on or readonly=on"
                       : "no permission to read disk image '" + path + "': change its mode or owner";
    return "can't open disk image '" + path + "': " + std::strerror(e);
}

}  // namespace

std::unique_ptr<BlockImage> BlockImage::open(const std::string& path, BlockOptions options,
                                             std::string& error) {
    std::unique_ptr<BlockImage> image(new BlockImage);
    bool writeFile = !options.readOnly && !options.snapshot;
    image->path_ = path;
    image->writable_ = !options.readOnly;
    // O_NONBLOCK: a FIFO must not hang us before it is refused.
    image->fd_ = ::open(path.c_str(), (writeFile ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
    struct stat st {};
    if (image->fd_ < 0 || fstat(image->fd_, &st) < 0) {
        error = openFailure(path, writeFile);
        return nullptr;
    }
    if (S_ISDIR(st.st_mode)) {
        error = "'" + path + "' is a directory, not a disk image: name a file";
        return nullptr;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        error = "'" + path + "' is neither a file nor a block device: name a disk image";
        return nullptr;
    }
    off_t end = lseek(image->fd_, 0, SEEK_END);
    if (end <= 0) {
        error =
            "disk image '" + path + "' is empty: make one with, for example, 'truncate -s 1G " + path + "'";
        return nullptr;
    }
    image->size_ = uint64_t(end);
    if (const char* format = foreignFormat(image->fd_)) {
        error = "'" + path + "' is a " + format +
                " image and only raw ones are supported: convert it with 'qemu-img convert -O raw'";
        return nullptr;
    }
    if (!image->lock(error)) return nullptr;
    if (options.snapshot && !options.readOnly && !image->makeOverlay(error)) return nullptr;
    return image;
}

std::unique_ptr<BlockImage> BlockImage::blank(uint64_t size) {
    std::unique_ptr<BlockImage> image(new BlockImage);
    image->path_ = "(blank)";
    image->fd_ = memfd_create("kiln-blank", MFD_CLOEXEC);
    if (image->fd_ < 0 || ftruncate(image->fd_, off_t(size)) < 0) return nullptr;
    image->size_ = size;
    image->writable_ = true;
    return image;
}

BlockImage::~BlockImage() {
    if (fd_ >= 0) close(fd_);
    if (overlay_ >= 0) close(overlay_);
}

// One writer, or any number of readers. A file system that knows no locks doesn't keep anybody out.
bool BlockImage::lock(std::string& error) {
    bool writer = (fcntl(fd_, F_GETFL) & O_ACCMODE) == O_RDWR;
    struct flock range {};
    range.l_type = writer ? F_WRLCK : F_RDLCK;
    range.l_whence = SEEK_SET;
    if (fcntl(fd_, F_OFD_SETLK, &range) == 0 || (errno != EAGAIN && errno != EACCES)) return true;
    error = "disk image '" + path_ + "' is in use by another machine: stop that one, or use a copy";
    if (writer) error += " (snapshot=on shares an image that nobody writes)";
    return false;
}

bool BlockImage::makeOverlay(std::string& error) {
    const char* dir = std::getenv("TMPDIR");
    for (std::string place : {std::string(dir ? dir : "/var/tmp"), std::string("/tmp")}) {
        overlay_ = ::open(place.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (overlay_ >= 0) break;
        std::string name = place + "/kiln-snapshot-XXXXXX";
        overlay_ = mkostemp(name.data(), O_CLOEXEC);
        if (overlay_ >= 0) unlink(name.c_str());
        if (overlay_ >= 0) break;
    }
    if (overlay_ < 0) overlay_ = memfd_create("kiln-snapshot", MFD_CLOEXEC);
    if (overlay_ < 0) {
        error = std::string("no room for the temporary file of snapshot=on (") + std::strerror(errno) +
                "): set TMPDIR to a directory with space";
        return false;
    }
    overlayMap_.resize((size_ / kCluster + 64) / 64);
    return true;
}

bool BlockImage::fail(const char* what) {
    lastError_ = std::string(what) + " '" + path_ + "': " + std::strerror(errno);
    return false;
}

bool BlockImage::inRange(uint64_t offset, uint64_t bytes) {
    uint64_t limit = sectors() * 512;
    if (offset <= limit && bytes <= limit - offset) return true;
    lastError_ = "access behind the end of '" + path_ + "'";
    return false;
}

bool BlockImage::readBase(uint64_t offset, void* out, uint64_t bytes) {
    return readAll(fd_, offset, out, bytes) || fail("can't read");
}

bool BlockImage::read(uint64_t offset, void* out, uint64_t bytes) {
    if (!inRange(offset, bytes)) return false;
    if (overlay_ < 0) return readBase(offset, out, bytes);
    auto* to = static_cast<uint8_t*>(out);
    while (bytes) {
        uint64_t n = std::min(bytes, kCluster - offset % kCluster);
        bool ok = overlaid(offset / kCluster)
                      ? readAll(overlay_, offset, to, n) || fail("can't read overlay of")
                      : readBase(offset, to, n);
        if (!ok) return false;
        to += n, offset += n, bytes -= n;
    }
    return true;
}

// The first write to a cluster copies the whole of it, so that one bit says where all its bytes are.
bool BlockImage::writeOverlay(uint64_t offset, const void* in, uint64_t bytes) {
    auto* from = static_cast<const uint8_t*>(in);
    while (bytes) {
        uint64_t cluster = offset / kCluster, inside = offset % kCluster;
        uint64_t n = std::min(bytes, kCluster - inside);
        if (overlaid(cluster)) {
            if (!writeAll(overlay_, offset, from, n)) return fail("can't write overlay of");
        } else {
            std::array<uint8_t, kCluster> copy;
            if (n != kCluster && !readBase(cluster * kCluster, copy.data(), kCluster)) return false;
            std::memcpy(copy.data() + inside, from, n);
            if (!writeAll(overlay_, cluster * kCluster, copy.data(), kCluster))
                return fail("can't write overlay of");
            overlayMap_[cluster / 64] |= 1ull << (cluster % 64);
        }
        from += n, offset += n, bytes -= n;
    }
    return true;
}

bool BlockImage::write(uint64_t offset, const void* in, uint64_t bytes) {
    if (!inRange(offset, bytes)) return false;
    if (!writable_) {
        errno = EROFS;
        return fail("can't write");
    }
    if (overlay_ >= 0) return writeOverlay(offset, in, bytes);
    dirty_ = true;
    return writeAll(fd_, offset, in, bytes) || fail("can't write");
}

bool BlockImage::flush() {
    // The host forgets what it could not store, and its next fdatasync would succeed.
    if (lost_) return false;
    if (!dirty_) return true;  // an overlay never is: it needn't outlive us
    while (fdatasync(fd_) < 0) {
        if (errno == EINTR) continue;
        if (errno == EINVAL || errno == ENOSYS) break;  // nothing to flush on this file system
        lost_ = true;
        return fail("can't flush");
    }
    dirty_ = false;
    return true;
}

}  // namespace kiln
