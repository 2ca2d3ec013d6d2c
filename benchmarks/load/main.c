/* Options, slices of measured time, and the result as one line of JSON. */
#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct options opt = {
    .path = "/echo", .connections = 1, .inflight = 1, .groups = 1, .rate = 1000, .size = 16,
    .slices = 4, .slice_ms = 250, .warmup_ms = 100,
    .patience_ms = 10000, .server_core = -1, .client_core = -1, .near_below = 250,
};

/* What has been measured while the cores were near each other, and while they were far. */
struct sum {
    int slices;
    struct clocks took;
    uint64_t units, rx, tx;
    int64_t ping_pong_min, ping_pong_max;
    struct histogram latency, last_delivery;
};
static struct sum sums[2];
static int moved;
static uint64_t losses;

static const char *const MODES[] = {"echo", "rate", "push", "flood", "broadcast", "publish",
                                    "handshake", "idle", "slow", "hello", "post", "download", "fresh",
                                    "requests"};

static void usage(const char *what) {
    fprintf(stderr, "load: %s\nusage: load MODE --port N|--uds PATH [--path P] [--connections N] "
            "[--inflight N] [--rate N] [--size N] [--binary] [--json] [--deflate] [--tcp] "
            "[--browser] [--hold] [--groups N] [--batch N] [--no-context] [--greeted] [--stuck] [--slices N] [--slice-ms N] [--warmup-ms N] [--server-core N] "
            "[--client-core N] [--near-below NS] [--patience-ms N] [--pids N,N,...]\nmodes:", what);
    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++) fprintf(stderr, " %s", MODES[i]);
    fprintf(stderr, " placement\n");
    exit(2);
}

static void parse(int argc, char **argv) {
    struct { const char *name; bool *flag; } flags[] = {
        {"--binary", &opt.binary}, {"--json", &opt.json}, {"--deflate", &opt.deflate},
        {"--tcp", &opt.tcp}, {"--browser", &opt.browser}, {"--hold", &opt.hold},
        {"--no-context", &opt.no_context}, {"--greeted", &opt.greeted}, {"--stuck", &opt.stuck},
    };
    struct { const char *name; int *number; } numbers[] = {
        {"--port", &opt.port}, {"--connections", &opt.connections}, {"--inflight", &opt.inflight},
        {"--groups", &opt.groups}, {"--batch", &opt.batch}, {"--slices", &opt.slices}, {"--slice-ms", &opt.slice_ms}, {"--warmup-ms", &opt.warmup_ms},
        {"--server-core", &opt.server_core}, {"--client-core", &opt.client_core},
        {"--patience-ms", &opt.patience_ms},
    };
    for (int i = 2; i < argc; i++) {
        bool known = false;
        for (size_t j = 0; j < sizeof flags / sizeof *flags; j++)
            if (!strcmp(argv[i], flags[j].name)) known = *flags[j].flag = true;
        if (known) continue;
        if (i + 1 >= argc) usage(argv[i]);
        const char *name = argv[i], *value = argv[++i];
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++)
            if (!strcmp(name, numbers[j].name)) *numbers[j].number = atoi(value), known = true;
        if (!strcmp(name, "--path")) opt.path = value;
        else if (!strcmp(name, "--uds")) opt.uds = value;
        else if (!strcmp(name, "--rate")) opt.rate = atoll(value);
        else if (!strcmp(name, "--size")) opt.size = (size_t)atoll(value);
        else if (!strcmp(name, "--near-below")) opt.near_below = atoll(value);
        else if (!strcmp(name, "--pids")) {
            for (char *rest = argv[i]; *rest && opt.pid_count < 256; rest += *rest == ',')
                opt.pids[opt.pid_count++] = (int)strtol(rest, &rest, 10);
        } else if (!known) usage(name);
    }
    if (opt.size < 16) usage("--size must be 16 or more");
    if (opt.groups < 1 || opt.connections % opt.groups) usage("--groups must divide --connections");
}

/* Keep the connections busy for `ms`, then let everything under way arrive. */
static void run(int ms) {
    int64_t end = now_ns() + ms * 1000000LL, deadline = end + opt.patience_ms * 1000000LL;
    running = true;
    kick();
    while (!errors && now_ns() < end) poll_once(end);
    running = false;
    while (!errors && outstanding && now_ns() < deadline) poll_once(deadline);
    if (errors || !outstanding) return;
    losses = outstanding;
    fail(NULL, "%llu answers lost", (unsigned long long)outstanding);
}

static void add(struct histogram *to, const struct histogram *from) {
    for (int i = 0; i < BUCKETS; i++) to->count[i] += from->count[i];
    to->total += from->total;
    if (from->max > to->max) to->max = from->max;
}

static void slice(void) {
    static struct histogram empty;
    struct clocks before, after;
    int64_t first = ping_pong();
    units = rx_bytes = tx_bytes = 0;
    latency = last_delivery = empty;
    read_clocks(&before);
    run(opt.slice_ms);
    read_clocks(&after);
    int64_t second = ping_pong();
    if ((first < opt.near_below) != (second < opt.near_below)) {
        moved++;
        return;
    }
    struct sum *sum = &sums[first < opt.near_below];
    int64_t low = first < second ? first : second, high = first < second ? second : first;
    if (!sum->slices || low < sum->ping_pong_min) sum->ping_pong_min = low;
    if (high > sum->ping_pong_max) sum->ping_pong_max = high;
    sum->slices++;
    sum->took.wall += after.wall - before.wall;
    sum->took.server += after.server - before.server;
    sum->took.client += after.client - before.client;
    sum->took.server_idle += after.server_idle - before.server_idle;
    sum->took.client_idle += after.client_idle - before.client_idle;
    sum->took.server_user += after.server_user - before.server_user;
    sum->took.server_kernel += after.server_kernel - before.server_kernel;
    sum->units += units;
    sum->rx += rx_bytes;
    sum->tx += tx_bytes;
    add(&sum->latency, &latency);
    add(&sum->last_delivery, &last_delivery);
}

static double percentile(const struct histogram *h, double share) {
    uint64_t target = (uint64_t)((double)h->total * share), seen = 0;
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->count[i];
        if (seen > target)
            return i < 64 ? i / 1e3 : (double)((uint64_t)(64 + i % 64) << (i / 64 - 1)) / 1e3;
    }
    return (double)h->max / 1e3;
}

static void print_text(const char *name, const char *text) {
    printf(", \"%s\": \"", name);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') putchar('\\');
        if ((unsigned char)*text >= 32) putchar(*text);
    }
    putchar('"');
}

static void print_histogram(const char *name, const struct histogram *h) {
    if (h->total)
        printf(", \"%s\": {\"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"p999\": %.2f, "
               "\"max\": %.2f}", name, percentile(h, .5), percentile(h, .9), percentile(h, .99),
               percentile(h, .999), (double)h->max / 1e3);
}

static void print_sum(const char *name, const struct sum *sum) {
    double wall = (double)sum->took.wall;
    if (!sum->slices) return;
    printf(", \"%s\": {\"slices\": %d, \"wall_s\": %.6f, \"units\": %llu, \"server_cpu_s\": %.6f, "
           "\"server_user_s\": %.2f, \"server_kernel_s\": %.2f, "
           "\"client_cpu_s\": %.6f, \"server_core_idle\": %.4f, \"client_core_idle\": %.4f, "
           "\"rx_bytes\": %llu, \"tx_bytes\": %llu, \"ping_pong_ns\": [%lld, %lld]",
           name, sum->slices, wall / 1e9, (unsigned long long)sum->units,
           (double)sum->took.server / 1e9, (double)sum->took.server_user / 1e9,
           (double)sum->took.server_kernel / 1e9, (double)sum->took.client / 1e9,
           (double)sum->took.server_idle / wall, (double)sum->took.client_idle / wall,
           (unsigned long long)sum->rx, (unsigned long long)sum->tx,
           (long long)sum->ping_pong_min, (long long)sum->ping_pong_max);
    print_histogram("latency_us", &sum->latency);
    print_histogram("last_delivery_us", &sum->last_delivery);
    printf("}");
}

static int print_result(void) {
    printf("{\"mode\": \"%s\", \"errors\": %llu, \"losses\": %llu, \"moved\": %d, \"connections\": %d",
           MODES[opt.mode], (unsigned long long)errors, (unsigned long long)losses, moved,
           opt.connections);
    print_text("first_error", first_error);
    print_text("extensions", extensions);
    print_sum("near", &sums[1]);
    print_sum("far", &sums[0]);
    printf("}\n");
    return errors ? 1 : 0;
}

int main(int argc, char **argv) {
    struct rlimit files;
    bool known = false;
    if (argc < 2) usage("no mode");
    parse(argc, argv);
    pin(opt.client_core);
    if (!strcmp(argv[1], "placement")) {
        printf("%lld\n", (long long)ping_pong());
        return 0;
    }
    for (int i = 0; i < (int)(sizeof MODES / sizeof *MODES); i++)
        if (!strcmp(argv[1], MODES[i])) opt.mode = (enum mode)i, known = true;
    if (!known) usage(argv[1]);
    if (!opt.port == !opt.uds) usage("either --port or --uds");
    if ((opt.mode == HANDSHAKE || opt.mode == FRESH) && opt.uds) usage("connections are made over TCP only");
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    prepare_frames(12);
    prepare_streams();
    open_all();
    if (opt.deflate && !errors && !strstr(extensions, "permessage-deflate"))
        fail(NULL, "permessage-deflate was not agreed");
    if (!errors) run(opt.mode == IDLE ? 0 : opt.warmup_ms);
    if (!errors && opt.hold && !hold("ready")) return print_result();
    measuring = true;
    if (opt.mode != IDLE)
        for (int i = 0; i < opt.slices && !errors; i++) slice();
    if (!errors && opt.hold && opt.mode != IDLE) hold("measured");
    close_all();
    return print_result();
}
