/* The load generator: one thread, one epoll, many connections.
 *
 *   main.c     options, slices of measured time, the result as JSON
 *   connection.c  sockets, sending, what each mode does next
 *   answer.c   what comes back: WebSocket frames and HTTP responses, all of it checked
 *   payload.c  what is sent and what is expected, prepared before the clock starts
 *   digest.c   the two codes of a Sec-WebSocket-Accept
 *   clocks.c   time, CPU time, idle cores, and whether two cores share a cache
 *
 * A run is a row of slices. At the end of a slice nothing is in flight: the counts
 * of messages and of CPU time belong together exactly, and the server's core is
 * free for the few milliseconds of the ping-pong that tells where the host has put
 * the two cores.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

enum mode { ECHO, RATE, PUSH, FLOOD, BROADCAST, PUBLISH, HANDSHAKE, IDLE, SLOW, HELLO, POST,
            DOWNLOAD, FRESH, REQUESTS };

struct options {
    enum mode mode;
    const char *path;
    int port;
    const char *uds;       /* the path of a Unix socket, in place of the port */
    int connections;
    int inflight;
    int64_t rate;          /* RATE, REQUESTS, PUBLISH: how many per second over all connections */
    int groups;            /* BROADCAST, PUBLISH: connection i hears what connection i % groups says */
    int batch;             /* BROADCAST: so many at once, and the next when all have come */
    size_t size;
    bool binary, json, deflate, tcp, browser, hold;
    bool no_context;       /* with deflate: the server may not refer to earlier messages */
    bool greeted;          /* a connection is open when the server has said "ready" */
    bool stuck;            /* BROADCAST, PUBLISH: the last connection reads nothing */
    int slices, slice_ms, warmup_ms;
    int patience_ms;       /* how long answers are waited for after the last was sent */
    int server_core, client_core;
    int64_t near_below;    /* ns of a round trip between cores that share a cache */
    int pids[256];
    int pid_count;
};
extern struct options opt;

/* ---- clocks.c ---- */
struct clocks {
    int64_t wall, server, client;          /* ns */
    int64_t server_idle, client_idle;      /* ns, of the two cores, in steps of 10 ms */
    int64_t server_user, server_kernel;    /* ns, how `server` divides: see read_modes() */
};
int64_t now_ns(void);
void read_clocks(struct clocks *clocks);
int64_t ping_pong(void);
void pin(int core);

/* ---- payload.c ---- */
#define FLOOD_CONFIRM 1000
#define PUSH_BATCH 2000
#define PREFIX 8                            /* every uncompressed message begins with its number */
#define HEAD_MAX (14 + PREFIX)

struct frame {                              /* a masked frame, ready to be sent */
    uint8_t *bytes;
    size_t length, header;                  /* header: including the masking key */
    uint8_t *plain;                         /* the same payload as the server sends it back */
    size_t plain_length;
    const uint8_t *key;
};
extern struct frame *frames;
extern int variants;
extern uint8_t *push_messages[64];
extern uint8_t *download;
extern size_t download_length;
#define PUSH_SIZE 125

void prepare_frames(int client_window_bits);
void prepare_streams(void);
size_t build_frame(uint8_t *out, uint8_t first, const void *payload, size_t length);
void number(uint8_t *out, uint32_t value);  /* eight hexadecimal digits */
uint64_t random64(void);

/* ---- connection.c ---- */
enum phase { UNUSED, CONNECTING, OPENING, GREETED, OPEN, CLOSING };

struct connection {
    int fd;
    int id;
    enum phase phase;
    /* out: messages below `queued` are to be sent, those below `out` have been */
    uint64_t queued, out;
    size_t out_pos;
    uint8_t *raw;                           /* goes out before the messages */
    size_t raw_length, raw_pos, raw_capacity;
    uint64_t salt;                          /* makes this connection's messages its own */
    int64_t opened_at;
    uint64_t due;                           /* REQUESTS: how many should have been sent by now */
    int64_t *sent_at;                       /* a ring */
    /* in */
    uint64_t received;
    uint8_t head[14];
    int head_length;
    bool in_frame, in_message, fin, rsv1, inflating;
    uint8_t opcode, message_opcode;
    uint64_t frame_left;
    size_t message_pos;
    uint8_t control[125];
    int control_length;
    char *text;                             /* an HTTP head that came in pieces */
    size_t text_length;
    int chunk_state;                        /* HTTP: see answer.c */
    bool chunked, in_body;
    int64_t body_left;
    /* the answer that is expected next: `expect_head`, then `expect` from there on */
    uint8_t expect_head[HEAD_MAX];
    size_t expect_head_length, expect_length;
    const uint8_t *expect;
    char expect_text[64];
    z_stream *inflate;
    char accept[32];                        /* the Sec-WebSocket-Accept that is right */
};

extern struct connection *connections;
extern bool running;                        /* in a slice: keep sending */
extern bool measuring;                      /* the warm-up is over */
extern uint64_t units, outstanding, rx_bytes, tx_bytes;
extern uint64_t errors;
extern char first_error[256];
extern char extensions[256];

void fail(struct connection *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void open_all(void);
void close_all(void);
void kick(void);                            /* start a slice */
void poll_once(int64_t until);              /* one round of events, at the latest at `until` */
bool hold(const char *word);                /* print `word`, serve events until a line comes */
bool is_deaf(const struct connection *c);   /* it reads nothing any more */
void expect_next(struct connection *c);
void answered(struct connection *c);        /* a whole, right answer has arrived */
void opened(struct connection *c);
void closed(struct connection *c);          /* the peer's close frame has arrived */
void send_raw(struct connection *c, const void *data, size_t length);
void flush(struct connection *c);
int variant_of(const struct connection *c, uint64_t message);

/* ---- answer.c ---- */
void take(struct connection *c, const uint8_t *data, size_t length);

/* ---- histogram (ns, buckets 1.6 % wide) ---- */
#define BUCKETS (64 * 40)
struct histogram {
    uint64_t count[BUCKETS], total;
    int64_t max;
};
extern struct histogram latency, last_delivery;
static inline void record(struct histogram *h, int64_t value) {
    uint64_t v = value < 0 ? 0 : (uint64_t)value;
    int index;
    if (v < 64) {
        index = (int)v;
    } else {
        int high = 63 - __builtin_clzll(v);
        index = (high - 5) * 64 + (int)((v >> (high - 6)) & 63);
    }
    h->count[index < BUCKETS ? index : BUCKETS - 1]++;
    h->total++;
    if (value > h->max) h->max = value;
}

#endif
