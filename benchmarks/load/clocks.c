/* Time, CPU time, idle cores, and whether two cores share a cache. */
#define _GNU_SOURCE
#include "load.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t read_clock(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) return 0;
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int64_t now_ns(void) { return read_clock(CLOCK_MONOTONIC); }

void pin(int core) {
    cpu_set_t set;
    if (core < 0) return;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* How long each core has been idle since boot: the 4th and 5th number of its line in /proc/stat. */
static void read_idle(int64_t *server, int64_t *client) {
    static char text[65536];
    long long user, nice, system, idle, wait;
    int core;
    FILE *file = fopen("/proc/stat", "r");
    *server = *client = 0;
    if (!file) return;
    while (fgets(text, sizeof text, file)) {
        if (sscanf(text, "cpu%d %lld %lld %lld %lld %lld", &core, &user, &nice, &system, &idle,
                   &wait) != 6)
            continue;
        int64_t ns = (idle + wait) * (1000000000LL / sysconf(_SC_CLK_TCK));
        if (core == opt.server_core) *server = ns;
        if (core == opt.client_core) *client = ns;
    }
    fclose(file);
}

/* How much of the server's CPU time was spent in user mode and how much in the kernel: utime and
 * stime of proc_pid_stat(5), in steps of 10 ms, told apart by where each tick of the kernel's timer
 * found the process. Only their proportion is used. */
static void read_modes(struct clocks *clocks) {
    const int64_t step = 1000000000LL / sysconf(_SC_CLK_TCK);
    char path[32], text[1024];
    clocks->server_user = clocks->server_kernel = 0;
    for (int i = 0; i < opt.pid_count; i++) {
        long long user, kernel;
        snprintf(path, sizeof path, "/proc/%d/stat", opt.pids[i]);
        FILE *file = fopen(path, "r");
        if (!file) continue;
        const char *rest = fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;
        fclose(file);
        if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user,
                            &kernel) != 2)
            continue;
        clocks->server_user += user * step;
        clocks->server_kernel += kernel * step;
    }
}

/* The CPU time of another process, exact to the ns: its clock has the id ~pid << 3 | 2
 * (clock_getcpuclockid(3)). */
void read_clocks(struct clocks *clocks) {
    read_idle(&clocks->server_idle, &clocks->client_idle);
    read_modes(clocks);
    clocks->wall = now_ns();
    clocks->client = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    clocks->server = 0;
    for (int i = 0; i < opt.pid_count; i++)
        clocks->server += read_clock((clockid_t)((~(unsigned)opt.pids[i] << 3) | 2));
}

#define BATCHES 80
#define TURNS 40
static _Alignas(128) atomic_int ball;

static void *pong(void *unused) {
    (void)unused;
    pin(opt.server_core);
    for (int i = 0; i < BATCHES * TURNS; i++) {
        while (atomic_load_explicit(&ball, memory_order_acquire) != 1) {
        }
        atomic_store_explicit(&ball, 0, memory_order_release);
    }
    return NULL;
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The median time (ns) a cache line needs from this core to the server's and back; 0 if unpinned. */
int64_t ping_pong(void) {
    static int64_t took[BATCHES];
    pthread_t thread;
    if (opt.server_core < 0 || opt.server_core == opt.client_core) return 0;
    atomic_store(&ball, 0);
    if (pthread_create(&thread, NULL, pong, NULL)) return 0;
    for (int i = 0; i < BATCHES; i++) {
        int64_t start = now_ns();
        for (int j = 0; j < TURNS; j++) {
            atomic_store_explicit(&ball, 1, memory_order_release);
            while (atomic_load_explicit(&ball, memory_order_acquire) != 0) {
            }
        }
        took[i] = (now_ns() - start) / TURNS;
    }
    pthread_join(thread, NULL);
    qsort(took, BATCHES, sizeof *took, compare);
    return took[BATCHES / 2];
}
