/* What is sent and what is expected, prepared before the clock starts. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct frame *frames;
int variants;
uint8_t *push_messages[64];
uint8_t *download;
size_t download_length;

uint64_t random64(void) {                   /* splitmix64: the same numbers in every run */
    static uint64_t state = 0x5eed;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void number(uint8_t *out, uint32_t value) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 7; i >= 0; i--, value >>= 4) out[i] = (uint8_t)digits[value & 15];
}

/* The twin of pattern() in apps.py. */
static void pattern(uint8_t *out, int index, size_t size) {
    uint8_t digits[8];
    number(digits, (uint32_t)index);
    for (size_t i = 0; i < size; i++)
        out[i] = i < 8 ? digits[i] : (uint8_t)('a' + (i + (size_t)index * 7) % 26);
}

/* Records as an API would send them, cut to `size` within the last string. */
static void json_text(uint8_t *out, size_t size) {
    static const char *names[] = {"Ada", "Grace", "Edsger", "Barbara", "Donald", "Leslie"};
    static const char *rooms[] = {"general", "random", "operations", "support"};
    size_t length = 0;
    char record[256];
    out[length++] = '[';
    while (length < size) {
        uint64_t r = random64();
        int n = snprintf(record, sizeof record,
                         "%s{\"id\":%u,\"user\":\"%s\",\"room\":\"%s\",\"price\":%u.%02u,"
                         "\"time\":\"2026-11-%02uT%02u:%02u:%02uZ\",\"read\":%s,\"tag\":\"%08x\"}",
                         length == 1 ? "" : ",", (unsigned)(r % 100000), names[(r >> 20) % 6],
                         rooms[(r >> 24) % 4], (unsigned)((r >> 28) % 1000),
                         (unsigned)((r >> 40) % 100), (unsigned)((r >> 8) % 28 + 1),
                         (unsigned)((r >> 12) % 24), (unsigned)((r >> 16) % 60),
                         (unsigned)((r >> 33) % 60), (r >> 50) % 2 ? "true" : "false",
                         (unsigned)(r >> 32));
        size_t piece = (size_t)n < size - length ? (size_t)n : size - length;
        memcpy(out + length, record, piece);
        length += piece;
    }
}

/* One masked frame (RFC 6455 section 5.2); `out` must have room for 14 bytes more than `length`. */
size_t build_frame(uint8_t *out, uint8_t first, const void *payload, size_t length) {
    size_t pos = 2;
    uint32_t key = (uint32_t)random64() | 1;
    out[0] = first;
    if (length < 126) {
        out[1] = (uint8_t)(0x80 | length);
    } else if (length < 65536) {
        out[1] = 0x80 | 126;
        out[pos++] = (uint8_t)(length >> 8);
        out[pos++] = (uint8_t)length;
    } else {
        out[1] = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) out[pos++] = (uint8_t)(length >> shift);
    }
    memcpy(out + pos, &key, 4);
    for (size_t i = 0; i < length; i++)
        out[pos + 4 + i] = ((const uint8_t *)payload)[i] ^ out[pos + (i & 3)];
    return pos + 4 + length;
}

/* RFC 7692 section 7.2.1, each message by itself: a sender may always forget its window. */
static size_t compress_message(uint8_t *out, size_t room, uint8_t *in, size_t length, int bits) {
    z_stream z = {0};
    /* zlib cannot make raw streams with a window of 8 bits */
    deflateInit2(&z, 6, Z_DEFLATED, -(bits < 9 ? 9 : bits), 8, Z_DEFAULT_STRATEGY);
    z.next_in = in;
    z.avail_in = (uInt)length;
    z.next_out = out;
    z.avail_out = (uInt)room;
    deflate(&z, Z_SYNC_FLUSH);
    deflateEnd(&z);
    return room - z.avail_out - 4;
}

/* As many different messages as stay in the cache, from 2 to 64. */
void prepare_frames(int client_window_bits) {
    uint8_t opcode = opt.binary ? 0x82 : 0x81;
    variants = opt.size * 64 <= (256 << 10) ? 64 : (int)((256 << 10) / opt.size);
    if (variants < 2) variants = 2;
    frames = calloc((size_t)variants, sizeof *frames);
    for (int i = 0; i < variants; i++) {
        struct frame *f = &frames[i];
        f->plain = malloc(opt.size + 1);
        f->plain_length = opt.size;
        if (opt.json) {
            json_text(f->plain, opt.size);
        } else if (opt.binary) {
            for (size_t j = 0; j < opt.size; j++) f->plain[j] = (uint8_t)random64();
        } else {
            pattern(f->plain, i, opt.size);
        }
        if (opt.deflate) {
            size_t room = opt.size + opt.size / 1000 + 128;
            uint8_t *small = malloc(room);
            size_t length = compress_message(small, room, f->plain, opt.size, client_window_bits);
            f->bytes = malloc(length + 14);
            f->length = build_frame(f->bytes, opcode | 0x40, small, length);
            f->header = f->length - length;
            free(small);
        } else {
            f->bytes = malloc(opt.size + 14);
            f->length = build_frame(f->bytes, opcode, f->plain, opt.size);
            f->header = f->length - opt.size;
        }
        f->key = f->bytes + f->header - 4;
    }
}

void prepare_streams(void) {
    const size_t chunk = 16 * 1024, chunks = 64;
    for (int i = 0; i < 64; i++) {
        push_messages[i] = malloc(PUSH_SIZE);
        pattern(push_messages[i], i, PUSH_SIZE);
    }
    download_length = chunk * chunks;
    if (opt.mode == DOWNLOAD && opt.size < download_length) download_length = opt.size;
    download = malloc(chunk * chunks);
    for (size_t i = 0; i < chunks; i++) pattern(download + i * chunk, (int)i, chunk);
}
