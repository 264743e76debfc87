// Processes that wake each other on one processor, each touching 64 pages of its own before it hands on:
// every hand-over is a move to CR3, and what was looked up of those pages counts only if it is kept.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "bench.h"

enum { PAGES = 64, ROUNDS = 2000 };
static uint8_t pages[PAGES][4096] __attribute__((aligned(4096)));

static void check(int good, const char* why) {
    if (!good) fail(why);
}

static void oneProcessor(void) {
    cpu_set_t set;
    check(!sched_getaffinity(0, sizeof set, &set), "sched_getaffinity");
    for (int cpu = 0, kept = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set) && kept++) CPU_CLR(cpu, &set);
    check(!sched_setaffinity(0, sizeof set, &set), "sched_setaffinity");
}

static void touch(void) {
    for (int i = 0; i < PAGES; i++) pages[i][i * 64]++;
}

static uint64_t touched(void) {
    uint64_t sum = 0;
    for (int i = 0; i < PAGES; i++) sum += pages[i][i * 64], pages[i][i * 64] = 0;
    return sum;
}

static pid_t begin(void) {
    pid_t child = fork();
    check(child >= 0, "fork");
    return child;
}

static void reap(int count) {
    for (int status; count; count--)
        check(wait(&status) > 0 && WIFEXITED(status) && !WEXITSTATUS(status), "child");
}

// What a child must have counted.
static int right(int rounds) { return touched() == (uint64_t)PAGES * (uint8_t)rounds; }

// A token goes round by pipes.
static uint64_t ring(int people, int rounds) {
    int fd[8][2];
    char token = 0;
    oneProcessor();
    for (int i = 0; i < people; i++) check(!pipe(fd[i]), "pipe");
    for (int i = 1; i < people; i++) {
        if (begin()) continue;
        for (int n = 0; n < rounds; n++) {
            if (read(fd[i][0], &token, 1) != 1) _exit(1);
            touch();
            if (write(fd[(i + 1) % people][1], &token, 1) != 1) _exit(1);
        }
        _exit(!right(rounds));
    }
    for (int n = 0; n < rounds; n++) {
        touch();
        check(write(fd[1][1], &token, 1) == 1, "write");
        check(read(fd[0][0], &token, 1) == 1, "read");
    }
    reap(people - 1);
    for (int i = 0; i < people; i++) close(fd[i][0]), close(fd[i][1]);
    return mix(rounds, touched());
}
static uint64_t pipeOfTwo(void) { return ring(2, ROUNDS); }
static uint64_t pipeOfEight(void) { return ring(8, ROUNDS / 4); }

static void await(int* word, int value) {
    for (int now; (now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != value;)
        syscall(SYS_futex, word, FUTEX_WAIT, now, 0, 0, 0);
}
static void set(int* word, int value) {
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0);
}

static uint64_t futex(void) {
    int* turn = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(turn != MAP_FAILED, "mmap");
    oneProcessor();
    if (!begin()) {
        for (int n = 0; n < ROUNDS; n++) {
            await(turn, 2 * n + 1);
            touch();
            set(turn, 2 * n + 2);
        }
        _exit(!right(ROUNDS));
    }
    for (int n = 0; n < ROUNDS; n++) {
        touch();
        set(turn, 2 * n + 1);
        await(turn, 2 * n + 2);
    }
    reap(1);
    munmap(turn, 4096);
    return touched();
}

// Woken by signals, which wait while they are blocked.
static uint64_t signals(void) {
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    check(!sigprocmask(SIG_BLOCK, &set, 0), "sigprocmask");
    oneProcessor();
    pid_t parent = getpid(), child = begin();
    if (!child) {
        for (int n = 0; n < ROUNDS; n++) {
            if (sigwait(&set, &number)) _exit(1);
            touch();
            kill(parent, SIGUSR1);
        }
        _exit(!right(ROUNDS));
    }
    for (int n = 0; n < ROUNDS; n++) {
        touch();
        kill(child, SIGUSR1);
        check(!sigwait(&set, &number), "sigwait");
    }
    reap(1);
    return touched();
}

static uint64_t sockets(void) {
    int line[2];
    char message[64] = "message";
    check(!socketpair(AF_UNIX, SOCK_STREAM, 0, line), "socketpair");
    oneProcessor();
    if (!begin()) {
        for (int n = 0; n < ROUNDS; n++) {
            if (read(line[1], message, sizeof message) != sizeof message) _exit(1);
            touch();
            if (write(line[1], message, sizeof message) != sizeof message) _exit(1);
        }
        _exit(!right(ROUNDS));
    }
    for (int n = 0; n < ROUNDS; n++) {
        touch();
        check(write(line[0], message, sizeof message) == sizeof message, "write");
        check(read(line[0], message, sizeof message) == sizeof message, "read");
    }
    reap(1);
    close(line[0]), close(line[1]);
    return touched();
}

const struct Program programs[] = {
    {"pipe-2", pipeOfTwo}, {"pipe-8", pipeOfEight}, {"futex", futex},
    {"signal", signals},   {"socket", sockets},     {0},
};
