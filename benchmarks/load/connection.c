/* Sockets, sending, and what each mode does next. */
#define _GNU_SOURCE
#include "load.h"
#include "digest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define RING 1024                           /* messages of one connection that may be under way */
#define OPENING_AT_ONCE 64
#define FLOOD_WINDOW 8                      /* batches of FLOOD_CONFIRM under way */
#define PUBLISHED_AT_ONCE 2
#define SLOW_MESSAGES 200000
#define SLOW_READ 16384                     /* bytes in every tenth of a second */
#define SMALL 2048                          /* frames up to this size are copied together */

struct connection *connections;
bool running, measuring;
uint64_t units, outstanding, rx_bytes, tx_bytes, errors;
char first_error[256], extensions[256];
struct histogram latency, last_delivery;

static int epoll_fd = -1, timer_fd = -1, open_count;
static int64_t now, next_tick;
static int next_connection;
static uint64_t requests;
static int *delivered;                      /* by group: of each message under way */
static int heard_by;                        /* how many get a message */
static uint8_t scratch[65536 + SMALL], input[64 * 1024];
static char head[2048];

static bool http(void) { return opt.mode >= HELLO; }
static bool fan_out(void) { return opt.mode == BROADCAST || opt.mode == PUBLISH; }
static bool paced(void) {
    return opt.mode == RATE || opt.mode == REQUESTS || opt.mode == PUBLISH;
}
/* Whether each unit has a connection of its own. */
static bool once(void) { return opt.mode == HANDSHAKE || opt.mode == FRESH; }
static bool slow(const struct connection *c) {
    return opt.mode == SLOW && c->id == opt.connections - 1;
}
static bool stuck(const struct connection *c) {
    return opt.stuck && c->id == opt.connections - 1;
}
bool is_deaf(const struct connection *c) { return stuck(c) && c->phase == OPEN; }
/* Who says what this connection hears. */
static struct connection *speaker_of(const struct connection *c) {
    return &connections[c->id % opt.groups];
}

void fail(struct connection *c, const char *format, ...) {
    if (!errors++) {
        char what[200];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(what, sizeof what, format, arguments);
        va_end(arguments);
        snprintf(first_error, sizeof first_error, "connection %d, message %llu: %s", c ? c->id : -1,
                 c ? (unsigned long long)c->received : 0, what);
    }
}

int variant_of(const struct connection *c, uint64_t message) {
    return (int)((c->salt + message) % (uint64_t)variants);
}

/* ---- sending ---- */

static bool numbered(void) { return !opt.json && opt.mode != FLOOD; }

/* The first bytes of a message's frame, with its number masked into them. */
static size_t frame_head(uint8_t *out, const struct connection *c, uint64_t message,
                         const struct frame *f) {
    uint8_t digits[PREFIX];
    size_t length = f->header + PREFIX;
    memcpy(out, f->bytes, length);
    if (numbered()) {
        number(digits, (uint32_t)(c->salt + message));
        for (int i = 0; i < PREFIX; i++) out[f->header + i] = digits[i] ^ f->key[i & 3];
    }
    return length;
}

void flush(struct connection *c) {
    struct iovec parts[64];
    for (;;) {
        size_t used = 0, total = 0;
        int count = 0;
        if (c->raw_pos < c->raw_length) {
            parts[count].iov_base = c->raw + c->raw_pos;
            parts[count++].iov_len = c->raw_length - c->raw_pos;
        }
        for (uint64_t m = c->out; m < c->queued && count < 62 && used < sizeof scratch - SMALL; m++) {
            const struct frame *f = &frames[variant_of(c, m)];
            size_t skip = m == c->out ? c->out_pos : 0;
            uint8_t *start = scratch + used;
            size_t length = frame_head(start, c, m, f);
            if (f->length <= SMALL) {
                memcpy(start + length, f->bytes + length, f->length - length);
                length = f->length;
            }
            used += length;
            if (skip < length) {
                if (count && (uint8_t *)parts[count - 1].iov_base + parts[count - 1].iov_len ==
                                 start + skip) {
                    parts[count - 1].iov_len += length - skip;
                } else {
                    parts[count].iov_base = start + skip;
                    parts[count++].iov_len = length - skip;
                }
                skip = length;
            }
            if (skip < f->length) {
                parts[count].iov_base = f->bytes + skip;
                parts[count++].iov_len = f->length - skip;
            }
        }
        if (!count) return;
        for (int i = 0; i < count; i++) total += parts[i].iov_len;
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t n = count == 1 ? send(c->fd, parts->iov_base, total, MSG_NOSIGNAL)
                               : sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) fail(c, "send: %s", strerror(errno));
            return;
        }
        tx_bytes += (uint64_t)n;
        bool partial = (size_t)n < total;
        if (c->raw_pos < c->raw_length) {
            size_t piece = c->raw_length - c->raw_pos;
            if ((size_t)n < piece) piece = (size_t)n;
            c->raw_pos += piece;
            n -= (ssize_t)piece;
            if (c->raw_pos == c->raw_length) c->raw_pos = c->raw_length = 0;
        }
        while (n > 0) {
            size_t left = frames[variant_of(c, c->out)].length - c->out_pos;
            if ((size_t)n < left) {
                c->out_pos += (size_t)n;
                break;
            }
            n -= (ssize_t)left;
            c->out++;
            c->out_pos = 0;
        }
        if (partial) return;                /* edge-triggered: EPOLLOUT will come */
    }
}

void send_raw(struct connection *c, const void *data, size_t length) {
    if (c->raw_length + length > c->raw_capacity) {
        c->raw_capacity = (c->raw_length + length) * 2;
        c->raw = realloc(c->raw, c->raw_capacity);
    }
    memcpy(c->raw + c->raw_length, data, length);
    c->raw_length += length;
}

static void send_frame(struct connection *c, uint8_t first, const void *payload, size_t length) {
    uint8_t frame[160];
    send_raw(c, frame, build_frame(frame, first, payload, length));
}

/* One more message on this connection; `flush` follows. */
static void queue(struct connection *c) {
    c->sent_at[c->queued % RING] = now;
    c->queued++;
}

static void ask_for_push(struct connection *c, int count) {
    char text[16];
    send_frame(c, 0x81, text, (size_t)sprintf(text, "%d", count));
    outstanding += (uint64_t)count;
}

/* How many have got this message of `c`, which is a speaker. */
static int *arrived(const struct connection *c, uint64_t message) {
    return &delivered[(size_t)c->id * RING + message % RING];
}

static void publish(struct connection *c) {
    *arrived(c, c->queued) = 0;
    queue(c);
    outstanding += (uint64_t)heard_by;
}

static void flood(struct connection *c) {
    while (running && c->queued < (c->received + FLOOD_WINDOW) * FLOOD_CONFIRM) {
        c->sent_at[c->queued / FLOOD_CONFIRM % RING] = now;
        c->queued += FLOOD_CONFIRM;
        outstanding += FLOOD_CONFIRM;
    }
}

/* Every request's head is one the server has not seen before. */
static void request(struct connection *c) {
    uint64_t r = random64(), s = random64();
    size_t body = opt.mode == POST ? opt.size : 0;
    int n = sprintf(head,
                    "%s %s?n=%llu HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: load/1.%u\r\n"
                    "Accept: */*\r\nX-Request-Id: %016llx%016llx\r\n",
                    opt.mode == POST ? "POST" : "GET", opt.path, (unsigned long long)requests++,
                    opt.port, (unsigned)(r & 1023), (unsigned long long)r, (unsigned long long)s);
    if (body)
        n += sprintf(head + n, "Content-Type: text/plain\r\nContent-Length: %zu\r\n", body);
    if (opt.mode == FRESH) n += sprintf(head + n, "Connection: close\r\n");
    n += sprintf(head + n, "\r\n");
    send_raw(c, head, (size_t)n);
    if (body) {
        uint8_t digits[PREFIX];
        number(digits, (uint32_t)(c->salt + c->received));
        send_raw(c, digits, PREFIX);
        send_raw(c, frames[variant_of(c, c->received)].plain + PREFIX, body - PREFIX);
    }
    if (paced() || once()) return;           /* counted when it was due, or with its connection */
    c->sent_at[c->received % RING] = now;
    outstanding++;
}

/* RFC 6455 section 4.1; with `browser`, what a current browser sends, cookies included. */
static void upgrade(struct connection *c) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint64_t r = random64(), s = random64(), t = random64();
    uint8_t nonce[16], digest[20], text[64];
    char key[32], group[16] = "";
    if (opt.groups > 1) sprintf(group, "/%d", c->id % opt.groups);
    memcpy(nonce, &r, 8);
    memcpy(nonce + 8, &s, 8);
    base64(key, nonce, 16);
    memcpy(text, key, 24);
    memcpy(text + 24, guid, 36);
    sha1(digest, text, 60);
    base64(c->accept, digest, 20);
    int n = sprintf(head,
                    "GET %s%s?session=%llu HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
                    slow(c) ? "/push" : stuck(c) ? "/stuck" : opt.path, group,
                    (unsigned long long)requests++, opt.port, key);
    if (opt.browser)
        n += sprintf(head + n,
                     "Pragma: no-cache\r\nCache-Control: no-cache\r\n"
                     "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like "
                     "Gecko) Chrome/%u.0.%u.0 Safari/537.36\r\nOrigin: https://app%u.example.com\r\n"
                     "Sec-Fetch-Dest: websocket\r\nSec-Fetch-Mode: websocket\r\n"
                     "Sec-Fetch-Site: same-origin\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
                     "Accept-Language: en-GB,en;q=0.9,de;q=0.%u\r\n"
                     "Cookie: session=%016llx%016llx; _ga=GA1.1.%llu.%llu; theme=dark; "
                     "csrftoken=%016llx%016llx; last_seen=%llu\r\n",
                     (unsigned)(120 + t % 30), (unsigned)(t >> 8 & 8191), (unsigned)(t >> 24 & 4095),
                     (unsigned)(t >> 40 & 7) + 1, (unsigned long long)r, (unsigned long long)t,
                     (unsigned long long)(s & 0x7fffffff), (unsigned long long)(t & 0x7fffffff),
                     (unsigned long long)s, (unsigned long long)(r ^ t),
                     (unsigned long long)(s >> 24));
    if (opt.deflate)
        n += sprintf(head + n, "Sec-WebSocket-Extensions: permessage-deflate; "
                               "server_max_window_bits=12; client_max_window_bits=12%s\r\n",
                     opt.no_context ? "; server_no_context_takeover" : "");
    n += sprintf(head + n, "\r\n");
    send_raw(c, head, (size_t)n);
}

/* ---- opening and closing ---- */

/* A socket that connects to `opt.port`, or -1. */
static int connect_tcp(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    int one = 1, small = 16384, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (slow(c) || stuck(c)) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (opt.mode == HANDSHAKE) {
        /* 2,000 connections from each of many addresses: closed ones keep their port for a minute */
        static unsigned count;
        address.sin_port = 0;
        address.sin_addr.s_addr = htonl(0x7f010002u + count++ / 2000);
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&address, sizeof address))
            fail(c, "bind: %s", strerror(errno));
        address.sin_port = htons((uint16_t)opt.port);
    }
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail(c, "connect: %s", strerror(errno));
    return fd;
}

/* The same for `opt.uds`. It waits for its place in the backlog, where a socket that does not
 * block would be turned away. */
static int connect_uds(struct connection *c) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    strncpy(address.sun_path, opt.uds, sizeof address.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        fail(c, "connect: %s", strerror(errno));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void start_connection(struct connection *c) {
    int64_t *ring = c->sent_at;
    uint8_t *raw = c->raw;
    size_t capacity = c->raw_capacity;
    int id = (int)(c - connections);
    memset(c, 0, sizeof *c);
    c->id = id;
    c->raw = raw;
    c->raw_capacity = capacity;
    c->sent_at = ring ? ring : malloc(RING * sizeof *ring);
    c->salt = random64() & 0xffffff;
    c->opened_at = now = now_ns();
    c->fd = opt.uds ? connect_uds(c) : connect_tcp(c);
    if (c->fd < 0) {
        fail(c, "socket: %s", strerror(errno));
        return;
    }
    c->phase = CONNECTING;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) fail(c, "epoll: %s", strerror(errno));
}

static void end_connection(struct connection *c) {
    if (c->phase == UNUSED) return;
    close(c->fd);
    free(c->text);
    c->text = NULL;
    if (c->inflate) {
        inflateEnd(c->inflate);
        free(c->inflate);
        c->inflate = NULL;
    }
    c->phase = UNUSED;
}

static void connected(struct connection *c) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        fail(c, "connect: %s", strerror(error));
    } else if (http() || (opt.tcp && !fan_out())) {
        c->phase = OPEN;
        opened(c);
    } else {
        c->phase = OPENING;
        if (opt.tcp) return;                /* a byte will say that the server knows it */
        upgrade(c);
        flush(c);
    }
}

void opened(struct connection *c) {
    open_count++;
    if (opt.mode == HANDSHAKE) queue(c);
    if (opt.mode == FRESH) request(c);
    /* the timer reads it, or nobody does */
    if (slow(c) || stuck(c)) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
}

static void set_timer(int64_t first, int64_t interval) {
    struct itimerspec spec = {
        .it_value = {first / 1000000000, first % 1000000000},
        .it_interval = {interval / 1000000000, interval % 1000000000},
    };
    timerfd_settime(timer_fd, 0, &spec, NULL);
}

void open_all(void) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event);
    connections = calloc((size_t)opt.connections, sizeof *connections);
    delivered = calloc((size_t)opt.groups * RING, sizeof *delivered);
    heard_by = opt.connections / opt.groups - opt.stuck;
    if (once()) return;
    int64_t deadline = now_ns() + 60000000000LL;
    for (int started = 0; open_count < opt.connections && !errors;) {
        while (started < opt.connections && started - open_count < OPENING_AT_ONCE)
            start_connection(&connections[started++]);
        poll_once(now_ns() + 100000000);
        if (now_ns() > deadline) fail(NULL, "%d connections opened in 60 s", open_count);
    }
    if (slow(&connections[opt.connections - 1]))
        set_timer(100000000, 100000000);
}

void close_all(void) {
    for (int i = 0; i < opt.connections; i++) end_connection(&connections[i]);
}

/* ---- what each mode does next ---- */

void kick(void) {
    now = now_ns();
    for (int i = 0; i < opt.connections && !errors; i++) {
        struct connection *c = &connections[i];
        switch (opt.mode) {
        case ECHO:
        case IDLE:
        case SLOW:
            if (slow(c)) {
                if (measuring && !c->queued) {
                    uint64_t before = outstanding;
                    ask_for_push(c, SLOW_MESSAGES);
                    outstanding = before;       /* nobody waits for these */
                    c->queued = c->out = 1;
                }
                break;
            }
            for (int j = 0; j < opt.inflight; j++) queue(c);
            outstanding += (uint64_t)opt.inflight;
            break;
        case PUSH:
            ask_for_push(c, PUSH_BATCH);
            ask_for_push(c, PUSH_BATCH);
            break;
        case FLOOD:
            flood(c);
            break;
        case BROADCAST:
            if (i < opt.groups)
                for (int j = 0; j < (opt.batch ? opt.batch : PUBLISHED_AT_ONCE); j++) publish(c);
            break;
        case HANDSHAKE:
        case FRESH:
            start_connection(c);
            outstanding++;
            continue;
        case RATE:
        case REQUESTS:
        case PUBLISH:
            break;
        default:
            for (int j = 0; j < opt.inflight; j++) request(c);
        }
        flush(c);
    }
    if (paced()) {
        next_tick = now + 1000000000 / opt.rate;
        set_timer(next_tick - now, 1000000000 / opt.rate);
    }
}

/* RATE, REQUESTS, PUBLISH: send what is due, to one connection after another. The latency counts
 * from the moment it was due: what waits behind a slow answer, or for this program, is late. */
static void tick(void) {
    while (running && next_tick <= now) {
        int turns = opt.mode == PUBLISH ? opt.groups : opt.connections;
        struct connection *c = &connections[next_connection++ % turns];
        uint64_t *last = http() ? &c->due : &c->queued;
        if (*last - c->received >= RING) {
            fail(c, "the server is a thousand messages behind");
            return;
        }
        if (opt.mode == PUBLISH) *arrived(c, *last) = 0;
        c->sent_at[(*last)++ % RING] = next_tick;
        if (http() && c->due - c->received == 1) request(c);
        outstanding += opt.mode == PUBLISH ? (uint64_t)heard_by : 1;
        flush(c);
        next_tick += 1000000000 / opt.rate;
    }
}

void expect_next(struct connection *c) {
    const struct connection *speaker = fan_out() ? speaker_of(c) : c;
    const struct frame *f;
    c->message_pos = 0;
    c->expect_head_length = 0;
    if (c->phase == GREETED) {
        c->expect = (const uint8_t *)"ready";
        c->expect_length = 5;
    } else if (opt.mode == PUSH || slow(c)) {
        c->expect = push_messages[c->received % 64];
        c->expect_length = PUSH_SIZE;
    } else if (opt.mode == FLOOD) {
        unsigned long long count = (c->received + 1) * FLOOD_CONFIRM;
        c->expect_length = (size_t)sprintf(c->expect_text, "%llu %llu", count, count * opt.size);
        c->expect = (uint8_t *)c->expect_text;
    } else if (opt.mode == HELLO || opt.mode == FRESH || opt.mode == REQUESTS) {
        const char *hello = opt.json ? "{\"message\":\"Hello, world!\"}" : "Hello, world!";
        c->expect = (const uint8_t *)hello;
        c->expect_length = strlen(hello);
    } else if (opt.mode == DOWNLOAD) {
        c->expect = download;
        c->expect_length = download_length;
    } else {
        f = &frames[variant_of(speaker, c->received)];
        if (opt.mode != POST && c->received >= speaker->queued) {
            fail(c, "an answer to nothing");
            return;
        }
        if (opt.tcp) {
            c->expect = f->bytes;
            c->expect_length = f->length;
            c->expect_head_length = frame_head(c->expect_head, speaker, c->received, f);
        } else {
            c->expect = f->plain;
            c->expect_length = f->plain_length;
            if (numbered()) {
                number(c->expect_head, (uint32_t)(speaker->salt + c->received));
                c->expect_head_length = PREFIX;
            }
        }
    }
}

void answered(struct connection *c) {
    if (c->phase == GREETED) {
        c->phase = OPEN;
        opened(c);
        return;
    }
    if (slow(c)) {
        c->received++;
        return;
    }
    units += opt.mode == FLOOD ? FLOOD_CONFIRM : !once();
    outstanding -= opt.mode == FLOOD ? FLOOD_CONFIRM : !once();
    if (fan_out()) {
        struct connection *speaker = speaker_of(c);
        int64_t took = now - speaker->sent_at[c->received % RING];
        record(&latency, took);
        if (++*arrived(speaker, c->received) == heard_by) {
            record(&last_delivery, took);
            bool due = !opt.batch || c->received + 1 == speaker->queued;
            if (opt.mode == BROADCAST && running && due) {
                for (int j = 0; j < (opt.batch ? opt.batch : 1); j++) publish(speaker);
                flush(speaker);
            }
        }
    } else if (opt.mode == HANDSHAKE) {
        record(&latency, now - c->opened_at);
        send_frame(c, 0x88, "\x03\xe8", 2);
        c->phase = CLOSING;
    } else if (opt.mode == FRESH) {
        record(&latency, now - c->opened_at);
        c->phase = CLOSING;
    } else if (opt.mode != PUSH) {
        record(&latency, now - c->sent_at[c->received % RING]);
    }
    c->received++;
    if (opt.mode == REQUESTS && c->due > c->received) request(c);
    if (!running || opt.mode == FRESH || opt.mode == REQUESTS) return;
    if (opt.mode == ECHO || opt.mode == SLOW) {
        queue(c);
        outstanding++;
    } else if (opt.mode == FLOOD) {
        flood(c);
    } else if (opt.mode == PUSH && c->received % PUSH_BATCH == 0) {
        ask_for_push(c, PUSH_BATCH);
    } else if (http()) {
        request(c);
    }
}

/* Section 7.1.1: the server closes the TCP connection first; it is waited for. */
void closed(struct connection *c) {
    unsigned code = c->control_length >= 2 ? (unsigned)(c->control[0] << 8 | c->control[1]) : 1005;
    if (opt.mode != HANDSHAKE || c->phase != CLOSING || code != 1000)
        fail(c, "closed by the server with code %u", code);
}

static void ended(struct connection *c) {
    bool whole = opt.mode == FRESH || (opt.mode == HANDSHAKE && !c->in_frame && c->control_length);
    if (whole && c->phase == CLOSING) {
        end_connection(c);
        units++;
        outstanding--;
        if (running) {
            start_connection(c);
            outstanding++;
        }
    } else {
        fail(c, "connection cut by the server");
    }
}

/* ---- events ---- */

static void on_input(struct connection *c) {
    for (;;) {
        ssize_t n = recv(c->fd, input, sizeof input, 0);
        if (n < 0) {
            if (errno == ECONNRESET && once() && c->phase == CLOSING) {
                ended(c);
            } else if (errno != EAGAIN && errno != EINTR) {
                fail(c, "recv: %s", strerror(errno));
            }
            return;
        }
        if (n == 0) {
            ended(c);
            return;
        }
        now = now_ns();
        rx_bytes += (uint64_t)n;
        take(c, input, (size_t)n);
        if (errors || is_deaf(c)) return;
        flush(c);
        if ((size_t)n < sizeof input) return;   /* edge-triggered, and the socket is empty */
    }
}

/* The slow client takes a little, now and then, and checks it like everybody else. */
static void read_slowly(void) {
    struct connection *c = &connections[opt.connections - 1];
    ssize_t n = recv(c->fd, input, SLOW_READ, MSG_DONTWAIT);
    if (n > 0) take(c, input, (size_t)n);
    if (n == 0) fail(c, "the slow client was cut off");
}

void poll_once(int64_t until) {
    struct epoll_event events[256];
    int64_t left = until - now_ns();
    int count = epoll_wait(epoll_fd, events, 256, left > 0 ? (int)((left + 999999) / 1000000) : 0);
    now = now_ns();
    for (int i = 0; i < count && !errors; i++) {
        struct connection *c = events[i].data.ptr;
        if (!c) {
            uint64_t expirations;
            if (read(timer_fd, &expirations, sizeof expirations) > 0) {
                if (paced()) tick();
                else if (opt.mode == SLOW) read_slowly();
            }
            continue;
        }
        if (c->phase == CONNECTING) connected(c);
        if (events[i].events & EPOLLOUT) flush(c);
        if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
            if (c->phase == UNUSED) continue;
            int fd = c->fd;
            on_input(c);
            /* the end may have come together with the last bytes, and is not told twice */
            if ((events[i].events & (EPOLLRDHUP | EPOLLHUP)) && !errors && c->phase != UNUSED &&
                c->fd == fd && c->phase != CONNECTING)
                on_input(c);
        }
    }
}

bool hold(const char *word) {
    struct pollfd input_line = {.fd = 0, .events = POLLIN};
    char c = 0;
    printf("%s\n", word);
    fflush(stdout);
    while (!errors) {
        poll_once(now_ns() + 20000000);
        if (poll(&input_line, 1, 0) > 0) {
            while (read(0, &c, 1) == 1 && c != '\n') {
            }
            return c == '\n';
        }
    }
    return false;
}
