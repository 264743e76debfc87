// What keeps a kernel busy: page faults, system calls, signals, pipes, processes, files in memory, messages
// between many.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"

static void check(int good, const char* why) {
    if (!good) fail(why);
}

static uint64_t faults(void) {
    enum { PAGES = 2048 };
    uint64_t sum = 0;
    for (int round = 0; round < 4; round++) {
        uint8_t* p = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(p != MAP_FAILED, "mmap");
        madvise(p, PAGES * 4096, MADV_NOHUGEPAGE);
        for (int i = 0; i < PAGES; i++) p[i * 4096] = (uint8_t)i;
        for (int i = 0; i < PAGES; i++) sum += p[i * 4096];
        munmap(p, PAGES * 4096);
    }
    return sum;
}

static uint64_t syscalls(void) {
    uint64_t sum = 0, self = getpid();
    for (int i = 0; i < 50000; i++) sum += (uint64_t)syscall(SYS_getpid) == self;
    return sum;
}

static volatile int caught;
static void handler(int number) { caught += number == SIGUSR1; }

static uint64_t signals(void) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, 0);
    caught = 0;
    for (int i = 0; i < 10000; i++) raise(SIGUSR1);
    return caught;
}

static volatile int repaired;
static uint8_t* guardedPage;
static void repair(int number, siginfo_t* info, void* context) {
    (void)number, (void)context;
    check((uint8_t*)info->si_addr == guardedPage, "fault address");
    mprotect(guardedPage, 4096, PROT_READ | PROT_WRITE);
    repaired++;
}

// Protection faults handled by the program, as garbage collectors do.
static uint64_t segfaults(void) {
    struct sigaction action = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, 0);
    guardedPage = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(guardedPage != MAP_FAILED, "mmap");
    repaired = 0;
    for (int i = 0; i < 4000; i++) {
        mprotect(guardedPage, 4096, PROT_NONE);
        *(volatile uint8_t*)guardedPage = (uint8_t)i;
    }
    munmap(guardedPage, 4096);
    signal(SIGSEGV, SIG_DFL);
    return repaired;
}

static void reap(int count) {
    for (int status; count; count--)
        check(wait(&status) > 0 && WIFEXITED(status) && !WEXITSTATUS(status), "child");
}

// 16 MiB from one process to another.
static uint64_t pipes(void) {
    enum { CHUNK = 4096, CHUNKS = 4096 };
    static uint8_t buffer[CHUNK];
    int fd[2];
    check(!pipe(fd), "pipe");
    pid_t child = fork();
    check(child >= 0, "fork");
    if (!child) {
        for (int i = 0; i < CHUNKS; i++) {
            memset(buffer, i, 64);
            if (write(fd[1], buffer, CHUNK) != CHUNK) _exit(1);
        }
        _exit(0);
    }
    close(fd[1]);
    uint64_t sum = 0, total = 0;
    for (ssize_t got; (got = read(fd[0], buffer, CHUNK)) > 0; total += got) sum += buffer[0];
    close(fd[0]);
    reap(1);
    return mix(sum, total);
}

static uint64_t forks(void) {
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (!child) _exit(0);
        reap(1);
    }
    return 200;
}

// This program again and again, with arguments it refuses.
static uint64_t execs(void) {
    static uint64_t sum;
    sum = 0;
    for (int i = 0; i < 60; i++) {
        pid_t child = vfork();
        check(child >= 0, "vfork");
        if (!child) {
            close(2);
            execl("/proc/self/exe", "true", (char*)0);
            execl("/bench/bin/kernel", "true", (char*)0);  // where /proc is not mounted
            _exit(1);
        }
        int status;
        check(waitpid(child, &status, 0) == child, "waitpid");
        sum += WEXITSTATUS(status);
    }
    return sum;
}

// Files made, written, read, renamed, listed by stat, and removed.
static uint64_t files(void) {
    static uint8_t block[16384];
    char name[64], other[64];
    uint64_t sum = 0;
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "/tmp/bench-%d", i & 63);
        snprintf(other, sizeof other, "/tmp/bench-%d.old", i & 63);
        int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
        check(fd >= 0, name);
        memset(block, i, 64);
        check(write(fd, block, sizeof block) == sizeof block, "write");
        check(pread(fd, block, sizeof block, 0) == sizeof block, "read");
        close(fd);
        check(!rename(name, other), "rename");
        struct stat status;
        check(!stat(other, &status), "stat");
        sum += status.st_size + block[5];
        check(!unlink(other), "unlink");
    }
    return sum;
}

// Groups of senders and receivers over sockets, as hackbench has them.
static uint64_t messages(void) {
    enum { PEOPLE = 8, LOOPS = 40, SIZE = 100 };
    int line[PEOPLE][2];
    char message[SIZE] = "message";
    for (int i = 0; i < PEOPLE; i++) check(!socketpair(AF_UNIX, SOCK_STREAM, 0, line[i]), "socketpair");
    for (int i = 0; i < PEOPLE; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child) continue;
        for (int n = 0; n < LOOPS * PEOPLE * SIZE;) {
            ssize_t got = read(line[i][0], message, SIZE);
            if (got <= 0) _exit(1);
            n += got;
        }
        _exit(0);
    }
    for (int i = 0; i < PEOPLE; i++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (child) continue;
        for (int n = 0; n < LOOPS; n++)
            for (int to = 0; to < PEOPLE; to++)
                if (write(line[to][1], message, SIZE) != SIZE) _exit(1);
        _exit(0);
    }
    reap(2 * PEOPLE);
    for (int i = 0; i < PEOPLE; i++) close(line[i][0]), close(line[i][1]);
    return LOOPS * PEOPLE * PEOPLE;
}

// Copy on write: a child changes what it shares with its parent.
static uint64_t copies(void) {
    enum { PAGES = 512 };
    uint8_t* p = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(p != MAP_FAILED, "mmap");
    madvise(p, PAGES * 4096, MADV_NOHUGEPAGE);
    for (int i = 0; i < PAGES; i++) p[i * 4096] = 1;
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        check(child >= 0, "fork");
        if (!child) {
            for (int i = 0; i < PAGES; i++) p[i * 4096]++;
            _exit(0);
        }
        reap(1);
    }
    uint64_t sum = 0;
    for (int i = 0; i < PAGES; i++) sum += p[i * 4096];
    munmap(p, PAGES * 4096);
    return sum;
}

const struct Program programs[] = {
    {"faults", faults},
    {"syscalls", syscalls},
    {"signals", signals},
    {"segfaults", segfaults},
    {"pipes", pipes},
    {"forks", forks},
    {"execs", execs},
    {"files", files},
    {"messages", messages},
    {"copies", copies},
    {0},
};
